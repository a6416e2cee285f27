//! What the norm of all gradients does to a step, in one way for all groups.

use crate::error::Error;

/// What the norm of the gradients does: it clips them, and may have the step left out.
///
/// ```
/// use torchpace::batch::Clip;
/// let clip = Clip { max_norm: Some(1.0), skip_norm: Some(10.0), ..Clip::OFF };
/// assert_eq!(clip.factor(0.5), Ok(Some(1.0)));
/// assert!((clip.factor(4.0).unwrap().unwrap() - 0.25).abs() < 1e-6);
/// assert_eq!(clip.factor(11.0), Ok(None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// The largest norm that the gradients keep; `None` for any.
    pub max_norm: Option<f64>,
    /// The largest norm of a step that is taken; `None` for any.
    pub skip_norm: Option<f64>,
    /// What an infinite norm or NaN does.
    pub nonfinite: Nonfinite,
}

/// What an infinite or NaN norm of the gradients does.
///
/// ```
/// use torchpace::batch::{Clip, Nonfinite};
/// let factor = |nonfinite| Clip { max_norm: Some(1.0), nonfinite, ..Clip::OFF }.factor(f64::INFINITY);
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
    pub const OFF: Self = Self { max_norm: None, skip_norm: None, nonfinite: Nonfinite::Propagate };

    /// Whether anything depends on the norm.
    pub fn wants_norm(self) -> bool {
        self.max_norm.is_some() || self.may_skip() || self.may_raise()
    }

    /// Whether the norm may have the step left out.
    pub fn may_skip(self) -> bool {
        self.skip_norm.is_some() || self.nonfinite == Nonfinite::Skip
    }

    /// Whether the norm may be an error.
    pub fn may_raise(self) -> bool {
        self.nonfinite == Nonfinite::Raise
    }

    /// That another group at `place` asks for the same.
    pub fn check(self, other: Self, place: &str) -> Result<(), Error> {
        let bound = |norm: Option<f64>| norm.map_or_else(|| "None".to_owned(), |norm| norm.to_string());
        let texts = |clip: Self| {
            [
                ("max_grad_norm", bound(clip.max_norm)),
                ("skip_grad_norm", bound(clip.skip_norm)),
                ("nonfinite_norm", format!("{:?}", clip.nonfinite).to_lowercase()),
            ]
        };
        if self == other {
            return Ok(());
        }
        match texts(self).into_iter().zip(texts(other)).find(|(own, other)| own != other) {
            Some(((name, expected), (_, found))) => {
                Err(Error::GroupsDiffer { place: place.to_owned(), name, found, expected })
            }
            None => Ok(()),
        }
    }

    /// What the gradients are multiplied by where their norm is this, as in `torch.nn.utils.clip_grad_norm_`; a NaN
    /// stays. `None` if the step is to be left out, as [`reason`](Self::reason) then says.
    ///
    /// # Errors
    ///
    /// The norm is not finite, and that is to be one.
    pub fn factor(self, norm: f64) -> Result<Option<f64>, Error> {
        if !norm.is_finite() && self.may_raise() {
            return Err(Error::NonFiniteNorm { norm, clips: self.max_norm.is_some() });
        }
        if self.leaves_out(norm) {
            return Ok(None);
        }
        let Some(max_norm) = self.max_norm else { return Ok(Some(1.0)) };
        let factor = max_norm / (norm + 1e-6);
        Ok(Some(if factor > 1.0 { 1.0 } else { factor }))
    }

    fn leaves_out(self, norm: f64) -> bool {
        // Nobody who wants no large step wants a NaN.
        let is_large = self.skip_norm.is_some_and(|most| norm > most || norm.is_nan());
        is_large || !norm.is_finite() && self.nonfinite == Nonfinite::Skip
    }

    /// Why a step with this norm is left out.
    pub fn reason(self, norm: f64) -> String {
        match self.skip_norm {
            Some(most) if norm.is_finite() => {
                format!("the norm of the gradients is {norm}, above skip_grad_norm ({most})")
            }
            _ => format!("the norm of the gradients is {norm}"),
        }
    }
}
