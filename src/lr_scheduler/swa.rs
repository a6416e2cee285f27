//! To a rate of its own, for stochastic weight averaging.

use core::f64::consts::PI;

use super::{cosine, divide};

/// `SWALR` at a step: the share of the way done before it, and after.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Swa {
    before: f64,
    after: f64,
}

impl Swa {
    /// At step `count` of `epochs`, along a cosine or in a straight line.
    pub fn at(count: f64, epochs: f64, along_cosine: bool) -> Option<Self> {
        let count = if epochs == 0.0 { f64::max(1.0, count) } else { count };
        let share = |count: f64| {
            let share = (count / f64::max(1.0, epochs)).clamp(0.0, 1.0);
            if along_cosine { Some((1.0 - cosine(PI * share)?) / 2.0) } else { Some(share) }
        };
        Some(Self { before: share(count - 1.0)?, after: share(count)? })
    }

    /// The learning rate after `lr`.
    pub fn next(self, lr: f64, swa_lr: f64) -> Option<f64> {
        let first = if self.before == 1.0 { swa_lr } else { divide(lr - self.before * swa_lr, 1.0 - self.before)? };
        Some(swa_lr * self.after + first * (1.0 - self.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrives_and_stays() {
        for along_cosine in [true, false] {
            let mut lr = 1.0;
            for count in 1..=6 {
                lr = Swa::at(f64::from(count), 4.0, along_cosine).unwrap().next(lr, 0.5).unwrap();
                if count == 2 {
                    assert!((lr - 0.75).abs() < 1e-15);
                }
            }
            assert_eq!(lr, 0.5);
        }
    }
}
