//! That the coefficients of a step are finite, before it writes what comes of them.

use crate::error::{Error, Fault};
use crate::rule::{Origin, Rule};

/// That all coefficients are finite.
///
/// # Errors
///
/// One is not, with `place()` as the parameter's name.
pub fn check<R: Rule<C, S>, const C: usize, const S: usize>(
    rule: &R,
    lr: f64,
    step: f64,
    coeffs: &[f64; C],
    place: impl Fn() -> String,
) -> Result<(), Error> {
    if coeffs.iter().all(|coeff| coeff.is_finite()) {
        return Ok(());
    }
    // Without the learning rate, of whose doing the others might be.
    let others = if lr.is_finite() { rule.coeffs(1.0, step) } else { [1.0; C] };
    let bad = || (0..C).filter(|&k| !others[k].is_finite());
    let plain = bad().find(|&k| matches!(R::ORIGINS[k], Origin::Value(_)));
    let (option, k, found, fault) = match plain.or_else(|| bad().next()) {
        Some(k) => {
            let (option, fault) = match R::ORIGINS[k] {
                Origin::Quotient(option) | Origin::Root(option) if others[k].is_infinite() => (option, Fault::Division),
                Origin::Root(option) => (option, Fault::Root),
                Origin::Quotient(option) | Origin::Value(option) => (option, Fault::Option),
            };
            (option, k, others[k], fault)
        }
        None => {
            let k = (0..C).find(|&k| !coeffs[k].is_finite()).unwrap_or_default();
            ("lr", k, coeffs[k], Fault::Option)
        }
    };
    Err(Error::Coefficient { place: place(), option, coeff: R::COEFFS[k], found, step, fault })
}
