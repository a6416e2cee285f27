//! The arithmetic of torch's schedulers, in torch's order, so that results are the same bits.
//!
//! The classes of `torch.optim.lr_scheduler` work out the next learning rate from the one before, for all groups alike:
//! a [`Change`]. Those that know the whole curve work it out from the step.
//!
//! `None` stands for what raises in Python (a division by zero, a power that overflows or is complex, the cosine of
//! infinity): torch then says so itself.

pub mod cosine;
pub mod cycle;
pub mod plateau;
pub mod ramp;
pub mod steps;
pub mod swa;

/// What a step does to the learning rate of each group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// Multiplies it.
    Times(f64),
    /// Multiplies what it has above a floor.
    TimesAbove {
        /// The factor.
        factor: f64,
        /// The floor.
        floor: f64,
    },
    /// Adds a share of what the group's first learning rate has above a floor.
    Rise {
        /// Twice the share.
        twice: f64,
        /// The floor.
        floor: f64,
    },
}

impl Change {
    /// The learning rate after `lr` of a group that began with `base`.
    #[inline]
    pub fn apply(self, lr: f64, base: f64) -> f64 {
        match self {
            Self::Keep => lr,
            Self::Times(factor) => lr * factor,
            Self::TimesAbove { factor, floor } => factor * (lr - floor) + floor,
            Self::Rise { twice, floor } => lr + (base - floor) * twice / 2.0,
        }
    }
}

/// `left / right`, unless that raises.
#[inline]
pub(crate) fn divide(left: f64, right: f64) -> Option<f64> {
    (right != 0.0).then(|| left / right)
}

/// `base` to the power `exponent` by the C library, unless that raises, is complex, or might be either.
#[inline]
pub(crate) fn power(base: f64, exponent: f64) -> Option<f64> {
    let plain = base.is_finite() && exponent.is_finite() && (base > 0.0 || (base == 0.0 && exponent >= 0.0));
    // Never `powi`, which multiplies and rounds otherwise.
    plain.then(|| base.powf(exponent)).filter(|value| value.is_finite())
}

/// The cosine by the C library, unless that raises.
#[inline]
pub(crate) fn cosine(angle: f64) -> Option<f64> {
    angle.is_finite().then(|| angle.cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_raises_in_python_is_none() {
        assert_eq!(divide(1.0, 0.0), None);
        assert_eq!(divide(1.0, -0.0), None);
        assert_eq!(divide(1.0, 4.0), Some(0.25));
        assert_eq!(power(-8.0, 1.0 / 3.0), None);
        assert_eq!(power(0.0, -1.0), None);
        assert_eq!(power(2.0, 5000.0), None);
        assert_eq!(power(0.0, 0.0), Some(1.0));
        assert_eq!(power(2.0, 10.0), Some(1024.0));
        assert_eq!(cosine(f64::INFINITY), None);
        assert_eq!(cosine(0.0), Some(1.0));
    }

    #[test]
    fn changes() {
        assert_eq!(Change::Keep.apply(0.1, 9.0), 0.1);
        assert_eq!(Change::Times(0.5).apply(0.1, 9.0), 0.05);
        assert_eq!(Change::TimesAbove { factor: 0.5, floor: 1.0 }.apply(3.0, 9.0), 2.0);
        assert_eq!(Change::Rise { twice: 0.5, floor: 1.0 }.apply(3.0, 9.0), 5.0);
    }
}
