//! From one factor to another over the first steps.

use super::{Change, divide, power};

/// `ConstantLR`: times `factor` until `total_iters`.
pub fn constant(epoch: f64, factor: f64, total_iters: f64) -> Option<Change> {
    if epoch == 0.0 {
        Some(Change::Times(factor))
    } else if epoch != total_iters {
        Some(Change::Keep)
    } else {
        divide(1.0, factor).map(Change::Times)
    }
}

/// `LinearLR`: the factor goes from `start` to `end` in a straight line.
pub fn linear(epoch: f64, start: f64, end: f64, total_iters: f64) -> Option<Change> {
    if epoch == 0.0 {
        return Some(Change::Times(start));
    }
    if epoch > total_iters {
        return Some(Change::Keep);
    }
    let more = divide(end - start, total_iters * start + (epoch - 1.0) * (end - start))?;
    Some(Change::Times(1.0 + more))
}

/// `PolynomialLR`: the share of the way left, to a power.
pub fn polynomial(epoch: f64, total_iters: f64, exponent: f64) -> Option<Change> {
    if epoch > total_iters {
        return Some(Change::Keep);
    }
    let left = 1.0 - divide(epoch, total_iters)?;
    let left_before = 1.0 - divide(epoch - 1.0, total_iters)?;
    power(divide(left, left_before)?, exponent).map(Change::Times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(change: impl Fn(f64) -> Option<Change>, begin: u32) -> Vec<f64> {
        let mut lr = 1.0;
        (begin..7)
            .map(|epoch| {
                lr = change(f64::from(epoch)).unwrap().apply(lr, 1.0);
                (lr * 1e9).round() / 1e9
            })
            .collect()
    }

    #[test]
    fn ramps() {
        assert_eq!(run(|epoch| constant(epoch, 0.5, 3.0), 0), [0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(run(|epoch| linear(epoch, 0.2, 1.0, 4.0), 0), [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0]);
        assert_eq!(run(|epoch| polynomial(epoch, 4.0, 2.0), 1), [0.5625, 0.25, 0.0625, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn divisions_by_zero() {
        assert_eq!(constant(3.0, 0.0, 3.0), None);
        assert_eq!(polynomial(0.0, 0.0, 1.0), None);
        assert_eq!(linear(3.0, 0.5, 0.0, 2.0), Some(Change::Keep));
        assert_eq!(linear(3.0, 0.5, 0.25, 4.0), Some(Change::Times(1.0 - 0.25 / 1.5)));
    }
}
