//! Cycles: many, or one.

use core::f64::consts::PI;

use super::{cosine, divide, power};

/// How `CyclicLR` shrinks a cycle's height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Not at all.
    Triangular,
    /// By half from cycle to cycle.
    Triangular2,
    /// By this factor for each step.
    ExpRange(f64),
}

impl Scale {
    /// The height at a cycle or step, as a share of the full one.
    pub fn at(self, x: f64) -> Option<f64> {
        match self {
            Self::Triangular => Some(1.0),
            Self::Triangular2 => divide(1.0, power(2.0, x - 1.0)?),
            Self::ExpRange(gamma) => power(gamma, x),
        }
    }
}

/// `CyclicLR` at a step: the number of the cycle, and the height in it between 0 and 1.
pub fn cyclic(epoch: f64, total_size: f64, step_ratio: f64) -> Option<(f64, f64)> {
    let through = divide(epoch, total_size)?;
    let cycle = (1.0 + through).floor();
    if !cycle.is_finite() {
        return None;
    }
    let x = 1.0 + through - cycle;
    let height = if x <= step_ratio { divide(x, step_ratio)? } else { divide(x - 1.0, step_ratio - 1.0)? };
    Some((cycle, height))
}

/// How `OneCycleLR` goes from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Anneal {
    /// Along a cosine; here is `1 + cos` at the step.
    Cos(f64),
    /// In a straight line; here is the share of the way.
    Linear(f64),
}

impl Anneal {
    /// At a share of the way.
    pub fn cos(share: f64) -> Option<Self> {
        Some(Self::Cos(cosine(PI * share)? + 1.0))
    }

    /// The value between `start` and `end`.
    pub fn between(self, start: f64, end: f64) -> f64 {
        match self {
            Self::Cos(height) => end + (start - end) / 2.0 * height,
            Self::Linear(share) => (end - start) * share + start,
        }
    }
}

/// The phase of `OneCycleLR` at a step, out of the ends of all, and the share of it that is over.
pub fn phase(epoch: f64, ends: &[f64]) -> Option<(usize, f64)> {
    let last = ends.len().checked_sub(1)?;
    let index = ends.iter().position(|&end| epoch <= end).unwrap_or(last);
    let start = if index == 0 { 0.0 } else { ends[index - 1] };
    Some((index, divide(epoch - start, ends[index] - start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_and_down() {
        let heights: Vec<_> = (0..9).map(|epoch| cyclic(f64::from(epoch), 8.0, 0.5).unwrap()).collect();
        assert_eq!(heights.iter().map(|at| at.0).collect::<Vec<_>>(), [1., 1., 1., 1., 1., 1., 1., 1., 2.]);
        assert_eq!(heights.iter().map(|at| at.1).collect::<Vec<_>>(), [0., 0.25, 0.5, 0.75, 1., 0.75, 0.5, 0.25, 0.]);
        assert_eq!(cyclic(0.0, 8.0, 0.0), None);
        assert_eq!(Scale::Triangular2.at(3.0), Some(0.25));
        assert_eq!(Scale::ExpRange(0.5).at(2.0), Some(0.25));
        assert_eq!(Scale::Triangular.at(7.0), Some(1.0));
    }

    #[test]
    fn phases() {
        assert_eq!(phase(1.0, &[2.0, 9.0]), Some((0, 0.5)));
        assert_eq!(phase(2.0, &[2.0, 9.0]), Some((0, 1.0)));
        assert_eq!(phase(10.0, &[2.0, 6.0]), Some((1, 2.0)));
        assert_eq!(phase(0.0, &[0.0, 6.0]), None);
        assert_eq!(phase(0.0, &[]), None);
        assert_eq!(Anneal::Linear(0.25).between(1.0, 5.0), 2.0);
        assert_eq!(Anneal::cos(0.0).unwrap().between(1.0, 5.0), 1.0);
        assert_eq!(Anneal::cos(1.0).unwrap().between(1.0, 5.0), 5.0);
    }
}
