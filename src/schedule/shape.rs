//! Forms that several schedules share.

use std::f64::consts::PI;

/// The way from `from` to `to`, at a share of it; exact at both ends.
pub fn between(from: f64, to: f64, share: f64) -> f64 {
    from * (1.0 - share) + to * share
}

/// How much of a length has passed: 0 before its start, 1 after its end.
#[expect(clippy::manual_clamp, reason = "it would keep a NaN")]
pub fn progress(step: f64, length: f64) -> f64 {
    // The smaller of NaN and 1 is 1: 0 of nothing is all of it.
    (step / length).min(1.0).max(0.0)
}

/// Half a cosine wave down, from 1 to 0; exact at both ends.
pub fn cosine_down(share: f64) -> f64 {
    0.5 * (1.0 + (PI * share).cos())
}

/// `factor^exponent`, kept finite, so that a base of 0 stays 0.
pub fn power(factor: f64, exponent: f64) -> f64 {
    factor.powf(exponent).min(f64::MAX)
}
