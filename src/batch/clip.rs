//! Clipping of the gradients by their norm, in one way for all groups.

use crate::error::Error;

/// Clipping of the gradients by their norm.
///
/// ```
/// use torchpace::batch::{Clip, Nonfinite};
/// let clip = Clip { max_norm: Some(1.0), nonfinite: Nonfinite::Propagate };
/// assert_eq!(clip.factor(0.5), Ok(Some(1.0)));
/// assert!((clip.factor(4.0).unwrap().unwrap() - 0.25).abs() < 1e-6);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// The largest norm; `None` for any.
    pub max_norm: Option<f64>,
    /// What an infinite norm or NaN does.
    pub nonfinite: Nonfinite,
}

/// What an infinite or NaN norm of the gradients does.
///
/// ```
/// use torchpace::batch::{Clip, Nonfinite};
/// let factor = |nonfinite| Clip { max_norm: Some(1.0), nonfinite }.factor(f64::INFINITY);
/// assert_eq!(factor(Nonfinite::Propagate), Ok(Some(0.0)));
/// assert_eq!(factor(Nonfinite::Skip), Ok(None));
/// assert!(factor(Nonfinite::Raise).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Nonfinite {
    /// As in `torch.nn.utils.clip_grad_norm_`: gradients become 0 or NaN.
    Propagate,
    /// Nothing is stepped on.
    Skip,
    /// An error.
    Raise,
}

impl Clip {
    /// None.
    pub const OFF: Self = Self { max_norm: None, nonfinite: Nonfinite::Propagate };

    /// That another group at `place` asks for the same.
    pub fn check(self, other: Self, place: &str) -> Result<(), Error> {
        let differ = |name, found: String, expected: String| {
            Err(Error::GroupsDiffer { place: place.to_owned(), name, found, expected })
        };
        let text = |norm: Option<f64>| norm.map_or_else(|| "None".to_owned(), |norm| norm.to_string());
        if other.max_norm != self.max_norm {
            return differ("max_grad_norm", text(other.max_norm), text(self.max_norm));
        }
        if self.max_norm.is_some() && other.nonfinite != self.nonfinite {
            let text = |nonfinite| format!("{nonfinite:?}").to_lowercase();
            return differ("nonfinite_norm", text(other.nonfinite), text(self.nonfinite));
        }
        Ok(())
    }

    /// What the gradients are multiplied by where their norm is this; `None` if the step is to be skipped. As in
    /// `torch.nn.utils.clip_grad_norm_`; a NaN stays.
    ///
    /// # Errors
    ///
    /// The norm is not finite, and that is to be one.
    pub fn factor(self, norm: f64) -> Result<Option<f64>, Error> {
        let Some(max_norm) = self.max_norm else { return Ok(Some(1.0)) };
        match self.nonfinite {
            Nonfinite::Skip if !norm.is_finite() => Ok(None),
            Nonfinite::Raise if !norm.is_finite() => Err(Error::NonFiniteNorm { norm }),
            _ => {
                let factor = max_norm / (norm + 1e-6);
                Ok(Some(if factor > 1.0 { 1.0 } else { factor }))
            }
        }
    }
}
