//! What an optimizer is made of: groups of parameters, each with its options.

use ::tch::Tensor;

use super::options::Value;

/// Parameters with options of their own.
///
/// ```
/// use tch::{Device, Kind, Tensor};
/// use torchpace::tch::{AdamW, Group};
///
/// let tensor = |size: i64| Tensor::zeros([size], (Kind::Float, Device::Cpu)).set_requires_grad(true);
/// let decayed = AdamW { weight_decay: 0.1, ..AdamW::default() };
/// let plain = AdamW { weight_decay: 0.0, ..decayed };
/// let optimizer = AdamW::build_groups(vec![
///     Group::new([("weight", tensor(8))], 1e-3, decayed),
///     Group::new([("bias", tensor(2))], 2e-3, plain),
/// ])?;
/// assert_eq!(optimizer.option(1, "weight_decay")?, 0.0);
/// # Ok::<(), torchpace::tch::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Group<O> {
    /// The parameters, each a leaf of the graph that requires a gradient, with names that are theirs alone.
    pub params: Vec<(String, Tensor)>,
    /// The learning rate, at least 0.
    pub lr: f64,
    /// All other options.
    pub options: O,
}

impl<O> Group<O> {
    /// A group of named parameters.
    ///
    /// ```
    /// use tch::{Device, Kind, Tensor};
    /// use torchpace::tch::{Group, Sgd};
    ///
    /// let weight = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    /// let group = Group::new([("weight", weight)], 0.1, Sgd::default());
    /// assert_eq!(group.params[0].0, "weight");
    /// ```
    pub fn new<N: Into<String>>(params: impl IntoIterator<Item = (N, Tensor)>, lr: f64, options: O) -> Self {
        Self { params: params.into_iter().map(|(name, param)| (name.into(), param)).collect(), lr, options }
    }
}

/// The options of an optimizer, such as [`Sgd`](super::Sgd) or [`AdamW`](super::AdamW): those of [`torchpace::tch`](super),
/// and no other type.
///
/// ```
/// use torchpace::tch::{Adam, AdamW, Config};
/// assert_eq!(AdamW::RULE, Adam::RULE);
/// ```
pub trait Config {
    /// The name of its update rule, as checkpoints have it.
    const RULE: &'static str;

    /// All options but `lr`, by torch's names.
    #[doc(hidden)]
    fn entries(&self) -> Vec<(&'static str, Value)>;
}
