//! That the coefficients of a step, and the scalars they are made of, are finite, before it writes what comes of them.

use super::scalar::Known;
use crate::error::{Error, Fault};
use crate::rule::{Origin, Rule};

/// That all coefficients are finite, and all scalars before and after the step.
///
/// # Errors
///
/// One is not, with `place()` as the parameter's name.
pub fn check<R: Rule<C, S>, const C: usize, const S: usize>(
    rule: &R,
    lr: f64,
    (step, scalars): (f64, &Known<S>),
    coeffs: &[f64; C],
    place: impl Fn() -> String,
) -> Result<(), Error> {
    if R::HAS_SCALARS {
        if let Some(k) = (0..S).find(|&k| !scalars.numbers[k].is_finite()) {
            return Err(Error::StateValue { place: place(), name: R::SLOTS[k], found: scalars.numbers[k], step });
        }
        // What comes of the options alone: some of it goes into the scalars.
        check_coeffs::<R, C, S>(lr, step, &rule.coeffs(lr, step), |lr| rule.coeffs(lr, step), &place)?;
    }
    check_coeffs::<R, C, S>(lr, step, coeffs, |lr| rule.begin(lr, step, scalars.numbers, scalars.single).0, &place)
}

/// The same of these coefficients; `of` makes them at another learning rate.
#[inline]
fn check_coeffs<R: Rule<C, S>, const C: usize, const S: usize>(
    lr: f64,
    step: f64,
    coeffs: &[f64; C],
    of: impl Fn(f64) -> [f64; C],
    place: &impl Fn() -> String,
) -> Result<(), Error> {
    if coeffs.iter().all(|coeff| coeff.is_finite()) {
        return Ok(());
    }
    // Without the learning rate, of whose doing the others might be.
    let others = if lr.is_finite() { of(1.0) } else { [1.0; C] };
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
