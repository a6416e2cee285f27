//! `ReduceLROnPlateau`: how long no metric was better.

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
    fn counts() {
        let now = Counts { bad: 2, cooldown: 0 };
        assert_eq!(now.next(false), Counts { bad: 3, cooldown: 0 });
        assert_eq!(now.next(true), Counts { bad: 0, cooldown: 0 });
        assert_eq!(Counts { bad: 2, cooldown: 1 }.next(false), Counts { bad: 0, cooldown: 0 });
    }
}
