//! Factors at certain steps, or at each.

use super::{Change, power};

/// `StepLR`: times `gamma` every `step_size` steps.
pub fn step(epoch: i64, step_size: i64, gamma: f64) -> Option<Change> {
    if step_size <= 0 {
        return None;
    }
    Some(if epoch == 0 || epoch.rem_euclid(step_size) != 0 { Change::Keep } else { Change::Times(gamma) })
}

/// `MultiStepLR`: times `gamma` for each of the `count` milestones at this step.
pub fn multi_step(count: Option<i64>, gamma: f64) -> Option<Change> {
    let Some(count) = count else { return Some(Change::Keep) };
    power(gamma, count as f64).map(Change::Times)
}

/// `ExponentialLR`: times `gamma` at each step.
pub fn exponential(gamma: f64) -> Change {
    Change::Times(gamma)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_at_their_steps() {
        let at: Vec<_> = (0..7).filter(|&epoch| step(epoch, 3, 0.1) == Some(Change::Times(0.1))).collect();
        assert_eq!(at, [3, 6]);
        assert_eq!(step(3, 0, 0.1), None);
        assert_eq!(multi_step(None, 0.1), Some(Change::Keep));
        assert_eq!(multi_step(Some(2), 0.5), Some(Change::Times(0.25)));
        assert_eq!(multi_step(Some(1), -0.5), None);
        assert_eq!(exponential(0.9), Change::Times(0.9));
    }
}
