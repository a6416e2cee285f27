//! The Rust face: the optimizers over [`tch::Tensor`], with schedules and checkpoints (feature `tch`).
//!
//! They take the place of `tch::nn`'s: `Adam::default().build(&store, 1e-3)`, then `backward_step(&loss)`. What differs:
//! errors are returned; options have torch's names; clipping is in the step; any [`Schedule`](crate::schedule::Schedule)
//! drives any option; and the state is saved, in files that the Python face reads too.
//!
//! ```
//! use tch::{Device, Kind, nn};
//! use torchpace::schedule::{Cosine, Ramp, Schedule, Warmup};
//! use torchpace::tch::AdamW;
//!
//! let store = nn::VarStore::new(Device::Cpu);
//! let weight = store.root().ones("weight", &[2]);
//! let mut optimizer = AdamW { max_grad_norm: Some(1.0), ..AdamW::default() }.build(&store, 0.1)?;
//! let warmup = Schedule::new(Warmup { steps: 10.0, start: 0.0, shape: Ramp::Linear })?;
//! let rate = warmup.then(&Schedule::new(Cosine { steps: 90.0, floor: 0.01 })?, None)?;
//! optimizer.set_schedule(&rate)?;
//! for _ in 0..100 {
//!     optimizer.backward_step(&weight.square().sum(Kind::Float))?;
//!     optimizer.advance()?;
//! }
//! assert!(weight.double_value(&[0]).abs() < 0.01);
//! # Ok::<(), torchpace::tch::Error>(())
//! ```

mod checkpoint;
mod config;
mod drive;
mod error;
mod group;
mod memory;
mod optimizer;
mod options;
mod parameters;
mod schedules;
mod settings;
mod state;
mod steps;
mod threads;
mod version;

pub use crate::batch::Nonfinite;
pub use config::{
    AdEMAMix, Adadelta, Adagrad, Adam, AdamW, Adamax, Asgd, Lamb, Lars, Lion, NAdam, Prodigy, RAdam, RmsProp, Rprop,
    ScheduleFreeAdamW, ScheduleFreeSgd, Sgd,
};
pub use error::Error;
pub use group::{Config, Group};
pub use optimizer::Optimizer;
pub use steps::Outcome;
