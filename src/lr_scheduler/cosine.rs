//! Cosines, once down or with restarts.

use core::f64::consts::PI;

use super::{Change, cosine, divide};

/// `CosineAnnealingLR`: a cosine of period `2 * t_max`.
pub fn annealing(epoch: i64, t_max: i64, eta_min: f64) -> Option<Change> {
    if t_max <= 0 {
        return None;
    }
    let (at, length) = (epoch as f64, t_max as f64);
    if (epoch - 1 - t_max).rem_euclid(2 * t_max) == 0 {
        // One step after the lowest point, where the ratio has nothing to start from.
        return Some(Change::Rise { twice: 1.0 - cosine(PI / length)?, floor: eta_min });
    }
    let factor = divide(1.0 + cosine(PI * at / length)?, 1.0 + cosine(PI * (at - 1.0) / length)?)?;
    Some(Change::TimesAbove { factor, floor: eta_min })
}

/// Where `CosineAnnealingWarmRestarts` is between two restarts: steps since the last one, and from it to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restarts {
    /// Steps since the last restart.
    pub since: f64,
    /// Steps from the last restart to the next.
    pub period: f64,
}

impl Restarts {
    /// One step on; periods grow by the factor `growth`.
    pub fn next(self, growth: f64) -> Option<Self> {
        let since = self.since + 1.0;
        if since < self.period {
            return Some(Self { since, ..self });
        }
        (self.period > 0.0).then(|| Self { since: since % self.period, period: self.period * growth })
    }

    /// The part of all rates that the step decides: `1 + cos`.
    pub fn height(self) -> Option<f64> {
        Some(1.0 + cosine(divide(PI * self.since, self.period)?)?)
    }
}

/// The learning rate at a height from [`Restarts::height`].
pub fn restarts(base: f64, eta_min: f64, height: f64) -> f64 {
    eta_min + (base - eta_min) * height / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn down_and_up_again() {
        let mut lr = 1.0;
        for epoch in 1..=40 {
            lr = annealing(epoch, 10, 0.1).unwrap().apply(lr, 1.0);
            let closed = 0.1 + 0.9 * (1.0 + (PI * epoch as f64 / 10.0).cos()) / 2.0;
            assert!((lr - closed).abs() < 1e-13, "{epoch}: {lr} {closed}");
        }
        assert_eq!(annealing(1, 0, 0.0), None);
    }

    #[test]
    fn periods_grow() {
        let mut now = Restarts { since: 0.0, period: 2.0 };
        let mut seen = Vec::new();
        for _ in 0..7 {
            now = now.next(2.0).unwrap();
            seen.push((now.since, now.period));
        }
        assert_eq!(seen, [(1.0, 2.0), (0.0, 4.0), (1.0, 4.0), (2.0, 4.0), (3.0, 4.0), (0.0, 8.0), (1.0, 8.0)]);
        assert_eq!(restarts(3.0, 1.0, now.height().unwrap() * 0.0 + 2.0), 3.0);
        assert_eq!(Restarts { since: 0.0, period: 0.0 }.next(1.0), None);
    }
}
