//! Learning rates as functions of the step: one file a curve, [`compose`] and [`change`] for those made of others,
//! and [`Plateau`], which follows a metric.
//!
//! Curves are plain structs. A [`Schedule`] is a curve whose arguments have been checked, cheap to clone, and composes:
//!
//! ```
//! use torchpace::schedule::{Cosine, Ramp, Schedule, Warmup};
//! let warmup = Schedule::new(Warmup { steps: 10.0, start: 0.0, shape: Ramp::Linear })?;
//! let cosine = Schedule::new(Cosine { steps: 90.0, floor: 0.0 })?;
//! let both = warmup.then(&cosine, None)?;
//! assert_eq!(both.lr(0.1, 5.0), 0.05);
//! assert_eq!(both.lr(0.1, 10.0), cosine.lr(0.1, 0.0));
//! assert_eq!(Schedule::from_json(&both.to_json()?)?, both);
//! # Ok::<(), torchpace::error::Error>(())
//! ```

pub mod change;

pub mod compose;
mod constant;
mod cosine;
mod curve;
mod cyclic;
mod exponential;
mod function;
mod inverse_sqrt;
mod inverse_time;
mod json;
mod linear;
mod multi_step;
mod noam;
mod one_cycle;
mod operators;
mod piecewise;
mod plateau;
mod polynomial;
mod shape;
mod step;
mod tree;
mod warm_restarts;
mod warmup;
mod warmup_stable_decay;

pub use constant::Constant;
pub use cosine::Cosine;
pub use curve::Curve;
pub use cyclic::{Cyclic, Wave};
pub use exponential::Exponential;
pub use function::{Call, Function};
pub use inverse_sqrt::InverseSqrt;
pub use inverse_time::InverseTime;
pub use linear::Linear;
pub use multi_step::MultiStep;
pub use noam::Noam;
pub use one_cycle::{Anneal, OneCycle};
pub use piecewise::Piecewise;
pub use plateau::{Memory, Mode, Plateau, ThresholdMode};
pub use polynomial::Polynomial;
pub use step::Step;
pub use tree::{MAX_DEPTH, MAX_SIZE, Node, Schedule};
pub use warm_restarts::WarmRestarts;
pub use warmup::{Ramp, Warmup};
pub use warmup_stable_decay::{Fall, WarmupStableDecay};
