//! `ReduceLROnPlateau`: whether a metric is better, and how long none was.

/// When a metric counts as better than another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Better {
    /// Whether a smaller one is better.
    pub least: bool,
    /// Whether the threshold is a share of the best.
    pub relative: bool,
    /// By how much it has to be.
    pub threshold: f64,
}

impl Better {
    /// Whether `metric` is better than `best`.
    pub fn than(self, metric: f64, best: f64) -> bool {
        match (self.least, self.relative) {
            (true, true) => metric < best * (1.0 - self.threshold),
            (true, false) => metric < best - self.threshold,
            (false, true) => metric > best * (self.threshold + 1.0),
            (false, false) => metric > best + self.threshold,
        }
    }
}

/// Steps without a better metric, and steps left in which none is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Without a better one.
    pub bad: i64,
    /// Uncounted.
    pub cooldown: i64,
}

impl Counts {
    /// After one more metric.
    pub fn next(self, better: bool) -> Self {
        let bad = if better { 0 } else { self.bad + 1 };
        if self.cooldown > 0 { Self { bad: 0, cooldown: self.cooldown - 1 } } else { Self { bad, ..self } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better() {
        let better = |least, relative| Better { least, relative, threshold: 0.1 };
        assert!(better(true, true).than(8.9, 10.0) && !better(true, true).than(9.1, 10.0));
        assert!(better(true, false).than(9.8, 10.0) && !better(true, false).than(9.95, 10.0));
        assert!(better(false, true).than(11.1, 10.0) && !better(false, true).than(10.9, 10.0));
        assert!(better(false, false).than(10.2, 10.0) && !better(false, false).than(10.05, 10.0));
        assert!(!better(true, true).than(f64::NAN, 1.0));
    }

    #[test]
    fn counts() {
        let now = Counts { bad: 2, cooldown: 0 };
        assert_eq!(now.next(false), Counts { bad: 3, cooldown: 0 });
        assert_eq!(now.next(true), Counts { bad: 0, cooldown: 0 });
        assert_eq!(Counts { bad: 2, cooldown: 1 }.next(false), Counts { bad: 0, cooldown: 0 });
    }
}
