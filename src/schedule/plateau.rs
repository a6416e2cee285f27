//! Performance scheduling, the one schedule with a memory: the rate follows a metric.

use serde::{Deserialize, Serialize};

use super::curve::{Curve, named, reads_as_call};
use crate::check::Check;
use crate::error::Error;

named! {
    /// Which metrics are good.
    Mode, "plateau", "mode", "'min' or 'max'", {
        /// Small ones.
        Min = "min",
        /// Large ones.
        Max = "max",
    }
}

named! {
    /// What the threshold is measured in.
    ThresholdMode, "plateau", "threshold_mode", "'rel' or 'abs'", {
        /// The best metric.
        Relative = "rel",
        /// Units of the metric.
        Absolute = "abs",
    }
}

impl Mode {
    /// Whether a metric beats the best by more than a threshold.
    pub fn beats(self, metric: f64, best: f64, threshold: f64, measured_in: ThresholdMode) -> bool {
        match (self, measured_in) {
            (Self::Min, ThresholdMode::Relative) => metric < best * (1.0 - threshold),
            (Self::Min, ThresholdMode::Absolute) => metric < best - threshold,
            (Self::Max, ThresholdMode::Relative) => metric > best * (1.0 + threshold),
            (Self::Max, ThresholdMode::Absolute) => metric > best + threshold,
        }
    }
}

/// `lr = base * scale`, where the scale begins at 1 and follows a metric in one or both directions.
///
/// An evaluation is better if it beats the best by more than the threshold, else worse. More than `patience` worse ones
/// since the last better one multiply the scale by `factor`; with `raises`, more than `patience` better ones in a row
/// divide it by `factor`; it stays between `floor` and `ceiling`. Evaluations in the `cooldown` after a change of the
/// scale are not counted, though they move the best.
///
/// With `raises` off these are the counts of torch's `ReduceLROnPlateau`.
///
/// ```
/// use torchpace::schedule::{Memory, Plateau};
/// let plateau = Plateau { factor: 0.5, patience: 1.0, floor: 0.1, ..Plateau::default() };
/// let mut memory = Memory::new(&plateau);
/// for metric in [1.0, 2.0, 2.0] {
///     plateau.observe(&mut memory, metric);
/// }
/// assert_eq!(memory.scale, 0.5);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    /// What worse metrics multiply the scale by, and better ones divide it by, between 0 and 1 (default: 0.1).
    pub factor: f64,
    /// The evaluations that change nothing yet, whole, not negative (default: 10).
    pub patience: f64,
    /// Which metrics are good (default: small ones).
    pub mode: Mode,
    /// By how much an evaluation has to beat the best, not negative (default: 1e-4).
    pub threshold: f64,
    /// What the threshold is measured in (default: the best metric).
    pub threshold_mode: ThresholdMode,
    /// The evaluations after a change that do not count, whole, not negative (default: 0).
    pub cooldown: f64,
    /// The least scale, from 0 to 1 (default: 0).
    pub floor: f64,
    /// The greatest scale, at least 1 (default: 1).
    pub ceiling: f64,
    /// Whether better metrics raise the rate (default: false).
    pub raises: bool,
}

impl Default for Plateau {
    /// As `torch.optim.lr_scheduler.ReduceLROnPlateau` has it.
    fn default() -> Self {
        Self {
            factor: 0.1,
            patience: 10.0,
            mode: Mode::Min,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Relative,
            cooldown: 0.0,
            floor: 0.0,
            ceiling: 1.0,
            raises: false,
        }
    }
}

reads_as_call!(Plateau, factor, patience, mode, threshold, threshold_mode, cooldown, floor, ceiling, raises);

/// What a plateau remembers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// The rate, in units of the base.
    pub scale: f64,
    /// The best metric; infinite, of the worse sign, before the first.
    pub best: f64,
    /// The worse evaluations since the last better one.
    pub worse: f64,
    /// The better evaluations in a row.
    pub better: f64,
    /// The evaluations yet to come that do not count.
    pub cooldown: f64,
}

impl Memory {
    /// Before the first evaluation.
    pub fn new(plateau: &Plateau) -> Self {
        let best = match plateau.mode {
            Mode::Min => f64::INFINITY,
            Mode::Max => f64::NEG_INFINITY,
        };
        Self { scale: 1.0, best, worse: 0.0, better: 0.0, cooldown: 0.0 }
    }
}

impl Plateau {
    /// Takes an evaluation to heart. A NaN is worse than any number.
    pub fn observe(&self, memory: &mut Memory, metric: f64) {
        if self.mode.beats(metric, memory.best, self.threshold, self.threshold_mode) {
            memory.best = metric;
            memory.worse = 0.0;
            memory.better += 1.0;
        } else {
            memory.better = 0.0;
            memory.worse += 1.0;
        }
        if memory.cooldown > 0.0 {
            memory.cooldown -= 1.0;
            (memory.worse, memory.better) = (0.0, 0.0);
        }
        if memory.worse > self.patience {
            self.rescale(memory, memory.scale * self.factor);
        } else if self.raises && memory.better > self.patience {
            self.rescale(memory, memory.scale / self.factor);
        }
    }

    fn rescale(&self, memory: &mut Memory, scale: f64) {
        memory.scale = scale.max(self.floor).min(self.ceiling);
        memory.cooldown = self.cooldown;
        (memory.worse, memory.better) = (0.0, 0.0);
    }
}

impl Curve for Plateau {
    const NAME: &'static str = "plateau";

    fn check(&self) -> Result<(), Error> {
        let check = Check(Self::NAME);
        let whole =
            |name, value: f64| check.that(value >= 0.0 && value.fract() == 0.0, name, &value, "a whole number >= 0");
        check.that(self.factor > 0.0 && self.factor < 1.0, "factor", &self.factor, "a number > 0 and < 1")?;
        whole("patience", self.patience)?;
        check.not_negative("threshold", self.threshold)?;
        let good = self.threshold < 1.0 || self.threshold_mode == ThresholdMode::Absolute;
        check.that(good, "threshold", &self.threshold, "a number < 1 where threshold_mode is 'rel'")?;
        whole("cooldown", self.cooldown)?;
        check.share("floor", self.floor)?;
        let good = self.ceiling >= 1.0 && self.ceiling.is_finite();
        check.that(good, "ceiling", &self.ceiling, "a finite number >= 1")
    }

    /// The rate without a metric, which is the base.
    fn lr(&self, base: f64, _step: f64) -> f64 {
        base
    }

    fn length(&self) -> Option<f64> {
        None
    }

    fn lr_scaled(&self, base: f64, _step: f64, scales: &[f64]) -> f64 {
        base * scales.first().copied().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_has_to_be_passed() {
        let beats = |mode: Mode, metric, measured_in| mode.beats(metric, 10.0, 0.1, measured_in);
        assert!(beats(Mode::Min, 8.9, ThresholdMode::Relative) && !beats(Mode::Min, 9.1, ThresholdMode::Relative));
        assert!(beats(Mode::Min, 9.8, ThresholdMode::Absolute) && !beats(Mode::Min, 9.95, ThresholdMode::Absolute));
        assert!(beats(Mode::Max, 11.1, ThresholdMode::Relative) && !beats(Mode::Max, 10.9, ThresholdMode::Relative));
        assert!(beats(Mode::Max, 10.2, ThresholdMode::Absolute) && !beats(Mode::Max, 10.05, ThresholdMode::Absolute));
        assert!(!beats(Mode::Min, f64::NAN, ThresholdMode::Relative));
    }
}
