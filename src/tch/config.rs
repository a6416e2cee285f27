//! The optimizers by their options: torch's names and defaults, and the clipping that all have.

mod further;

use ::tch::nn::VarStore;

use super::error::Error;
use super::group::{Config, Group};
use super::optimizer::Optimizer;
use super::options::Value;
use crate::batch::Nonfinite;
use crate::rule::Rule;
use crate::rules;

pub use further::{AdEMAMix, Lamb, Lars, Lion, Prodigy, ScheduleFreeAdamW, ScheduleFreeSgd};

macro_rules! config {
    (
        $(#[$doc:meta])*
        $name:ident: $rule:ty $(, $fixed:ident = $value:expr)*;
        $($(#[$field_doc:meta])* $field:ident: $kind:ty = $default:expr,)+
    ) => {
        $(#[$doc])*
        ///
        /// To be written with `..Default::default()` at the end: later versions may have more options.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)+
            /// Step up the gradient (default: false).
            pub maximize: bool,
            /// Clip the gradients of all groups together to this 2-norm, as `torch.nn.utils.clip_grad_norm_`, here in
            /// the step: the gradients themselves stay. One for all groups (default: none).
            pub max_grad_norm: Option<f64>,
            /// Clip each element of the gradient to this absolute value, after the norm (default: none).
            pub clip_value: Option<f64>,
            /// Skip a step whose gradients have a 2-norm above this, or NaN, before clipping; above 0, and one for all
            /// groups (default: none).
            pub skip_grad_norm: Option<f64>,
            /// What an infinite or NaN norm does (default: as in torch).
            pub nonfinite_norm: Nonfinite,
            // Not `#[non_exhaustive]`, under which `..Default::default()` could not be written.
            #[doc(hidden)]
            pub __later: (),
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $default,)+
                    maximize: false,
                    max_grad_norm: None,
                    clip_value: None,
                    skip_grad_norm: None,
                    nonfinite_norm: Nonfinite::Propagate,
                    __later: (),
                }
            }
        }

        impl Config for $name {
            const RULE: &'static str = <$rule as Rule<_, _>>::NAME;

            fn entries(&self) -> Vec<(&'static str, Value)> {
                vec![
                    $((stringify!($field), self.$field.into()),)+
                    $((stringify!($fixed), ($value as fn(&Self) -> _)(self).into()),)*
                    ("maximize", self.maximize.into()),
                    ("max_grad_norm", self.max_grad_norm.into()),
                    ("clip_value", self.clip_value.into()),
                    ("skip_grad_norm", self.skip_grad_norm.into()),
                    ("nonfinite_norm", self.nonfinite_norm.into()),
                ]
            }
        }

        impl $name {
            #[doc = concat!(
                "An optimizer of all trainable variables of a store, also of those that come later, by their groups; ",
                "`lr` at least 0.\n\n",
                "```\n",
                "use tch::{Device, nn};\n",
                "let store = nn::VarStore::new(Device::Cpu);\n",
                "let _layer = nn::linear(store.root(), 8, 1, Default::default());\n",
                "let mut optimizer = torchpace::tch::", stringify!($name), "::default().build(&store, 1e-3)?;\n",
                "optimizer.step()?;\n",
                "# Ok::<(), torchpace::tch::Error>(())\n",
                "```\n\n",
                "# Errors\n\nAn option is out of its range."
            )]
            pub fn build(&self, store: &VarStore, lr: f64) -> Result<Optimizer, Error> {
                Optimizer::of_store(self, store, lr)
            }

            #[doc = concat!(
                "An optimizer of named parameters, each group with its own options.\n\n",
                "```\n",
                "use tch::{Device, Kind, Tensor};\n",
                "use torchpace::tch::{Group, ", stringify!($name), "};\n",
                "let weight = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);\n",
                "let group = Group::new([(\"weight\", weight.shallow_clone())], 0.1, ", stringify!($name), "::default());\n",
                "let mut optimizer = ", stringify!($name), "::build_groups(vec![group])?;\n",
                "optimizer.backward_step(&weight.square().sum(tch::Kind::Float))?;\n",
                "assert!(weight.double_value(&[0]) < 1.0);\n",
                "# Ok::<(), torchpace::tch::Error>(())\n",
                "```\n\n",
                "# Errors\n\nAn option is out of its range; a name or a tensor is there twice; a tensor is no leaf, or ",
                "requires no gradient; there is none at all."
            )]
            pub fn build_groups(groups: Vec<Group<Self>>) -> Result<Optimizer, Error> {
                Optimizer::of_groups(groups)
            }
        }
    };
}

use config;

config! {
    /// Gradient descent with momentum, as `torch.optim.SGD`; the formula is in [`rules::Sgd`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Sgd;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Sgd { momentum: 0.9, ..Sgd::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.8).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Sgd: rules::Sgd;
    /// At least 0, usually below 1 (default: 0, no momentum buffer).
    momentum: f64 = 0.0,
    /// What is held back of the gradient on its way into the momentum (default: 0).
    dampening: f64 = 0.0,
    /// At least 0, added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
    /// Look ahead along the momentum; needs a momentum and no dampening (default: false).
    nesterov: bool = false,
    /// The momentum is an average from zero; needs a momentum and no dampening. torch lacks it (default: false).
    averaged: bool = false,
}

config! {
    /// RMSprop, as `torch.optim.RMSprop`; the formula is in [`rules::RmsProp`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::RmsProp;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = RmsProp { centered: true, ..RmsProp::default() }.build(&store, 0.01)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!(weight.double_value(&[0]) < 1.0);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    RmsProp: rules::RmsProp;
    /// The share of the average of squares that a step keeps, at least 0, usually below 1 (default: 0.99).
    alpha: f64 = 0.99,
    /// At least 0, gradient units (default: 1e-8).
    eps: f64 = 1e-8,
    /// At least 0, added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
    /// At least 0 (default: 0, no momentum buffer).
    momentum: f64 = 0.0,
    /// Divide by the standard deviation instead of the root mean square (default: false).
    centered: bool = false,
    /// Add `eps` under the root. torch lacks it (default: false).
    eps_inside: bool = false,
}

config! {
    /// Adagrad, as `torch.optim.Adagrad`; the formula is in [`rules::Adagrad`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Adagrad;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Adagrad::default().build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.9).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Adagrad: rules::Adagrad;
    /// At least 0, per step (default: 0).
    lr_decay: f64 = 0.0,
    /// At least 0, added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
    /// What the sum of squares begins at, at least 0 (default: 0).
    initial_accumulator_value: f64 = 0.0,
    /// At least 0, gradient units (default: 1e-10).
    eps: f64 = 1e-10,
    /// Divide by the root of the mean, not of the sum. torch lacks it (default: false).
    mean: bool = false,
    /// Add `eps` under the root. torch lacks it (default: false).
    eps_inside: bool = false,
}

config! {
    /// Adam, as `torch.optim.Adam`; the formula is in [`rules::Adam`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Adam;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Adam { betas: [0.9, 0.95], ..Adam::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.9).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Adam: rules::Adam;
    /// The shares of the averages of gradients and squares that a step keeps, in [0, 1) (default: 0.9 and 0.999).
    betas: [f64; 2] = [0.9, 0.999],
    /// At least 0, gradient units (default: 1e-8).
    eps: f64 = 1e-8,
    /// At least 0, added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
    /// Divide by the largest second moment so far (default: false).
    amsgrad: bool = false,
    /// Decay as [`AdamW`] does (default: false).
    decoupled_weight_decay: bool = false,
    /// Where decay is decoupled, decay only where the update moves the parameter towards 0 as well (default: false).
    cautious_weight_decay: bool = false,
    /// Leave out what of an update and the gradient are of unlike signs, and enlarge the rest (default: false).
    cautious: bool = false,
}

config! {
    /// Adam with decoupled weight decay, as `torch.optim.AdamW`; the formula is in [`rules::Adam`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::AdamW;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = AdamW { weight_decay: 0.5, ..AdamW::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.85).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    AdamW: rules::Adam, decoupled_weight_decay = |_| true;
    /// The shares of the averages of gradients and squares that a step keeps, in [0, 1) (default: 0.9 and 0.999).
    betas: [f64; 2] = [0.9, 0.999],
    /// At least 0, gradient units (default: 1e-8).
    eps: f64 = 1e-8,
    /// The share of a parameter lost each step at `lr` 1, at least 0 (default: 0.01).
    weight_decay: f64 = 0.01,
    /// Divide by the largest second moment so far (default: false).
    amsgrad: bool = false,
    /// Decay only where the update moves the parameter towards 0 as well (default: false).
    cautious_weight_decay: bool = false,
    /// Leave out what of an update and the gradient are of unlike signs, and enlarge the rest (default: false).
    cautious: bool = false,
}

config! {
    /// Adadelta, as `torch.optim.Adadelta`, whose `lr` is 1; the formula is in [`rules::Adadelta`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Adadelta;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Adadelta { rho: 0.95, ..Adadelta::default() }.build(&store, 1.0)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!(weight.double_value(&[0]) < 1.0);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Adadelta: rules::Adadelta;
    /// The share of both averages that a step keeps, in [0, 1] (default: 0.9).
    rho: f64 = 0.9,
    /// At least 0, added to squares of gradients and of updates (default: 1e-6).
    eps: f64 = 1e-6,
    /// At least 0, added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
}

config! {
    /// Adamax, as `torch.optim.Adamax`; the formula is in [`rules::Adamax`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Adamax;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Adamax { betas: [0.9, 0.99], ..Adamax::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.9).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Adamax: rules::Adamax;
    /// The shares of the average of gradients and of the largest that a step keeps, in [0, 1) (default: 0.9 and 0.999).
    betas: [f64; 2] = [0.9, 0.999],
    /// At least 0, gradient units (default: 1e-8).
    eps: f64 = 1e-8,
    /// At least 0, added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
}

config! {
    /// RAdam, as `torch.optim.RAdam`; the formula is in [`rules::RAdam`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::RAdam;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = RAdam { betas: [0.9, 0.99], ..RAdam::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.8).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    RAdam: rules::RAdam;
    /// The shares of the averages of gradients and squares that a step keeps, in [0, 1) (default: 0.9 and 0.999).
    betas: [f64; 2] = [0.9, 0.999],
    /// At least 0, gradient units (default: 1e-8).
    eps: f64 = 1e-8,
    /// At least 0, added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
    /// Decay as [`AdamW`] does (default: false).
    decoupled_weight_decay: bool = false,
    /// Where decay is decoupled, decay only where the update moves the parameter towards 0 as well (default: false).
    cautious_weight_decay: bool = false,
}

config! {
    /// Rprop, as `torch.optim.Rprop`; the formula is in [`rules::Rprop`]. The rate is where the step sizes begin, and
    /// what it becomes later, by a schedule too, changes nothing.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Rprop;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Rprop { etas: [0.4, 1.3], ..Rprop::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.9).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Rprop: rules::Rprop;
    /// What a step size is multiplied by where the gradient turns, above 0 and below 1, and where it does not, above 1
    /// (default: 0.5 and 1.2).
    etas: [f64; 2] = [0.5, 1.2],
    /// At least 0, the smallest step size and the largest (default: 1e-6 and 50).
    step_sizes: [f64; 2] = [1e-6, 50.0],
}

config! {
    /// Adam with Nesterov's momentum, as `torch.optim.NAdam`; the formula is in [`rules::NAdam`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::NAdam;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = NAdam { momentum_decay: 1e-2, ..NAdam::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!(weight.double_value(&[0]) < 0.95);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    NAdam: rules::NAdam;
    /// The shares of the averages of gradients and squares that a step keeps, in [0, 1) (default: 0.9 and 0.999).
    betas: [f64; 2] = [0.9, 0.999],
    /// At least 0, gradient units (default: 1e-8).
    eps: f64 = 1e-8,
    /// At least 0, added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
    /// How fast the momentum rises to `betas[0]`, at least 0, per step (default: 0.004).
    momentum_decay: f64 = 4e-3,
    /// Decay as [`AdamW`] does (default: false).
    decoupled_weight_decay: bool = false,
    /// Where decay is decoupled, decay only where the update moves the parameter towards 0 as well (default: false).
    cautious_weight_decay: bool = false,
}

config! {
    /// Gradient descent with an average of the parameters, as `torch.optim.ASGD`; the formula is in [`rules::Asgd`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Asgd;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Asgd { t0: 1000.0, ..Asgd::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.8).abs() < 1e-4);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Asgd: rules::Asgd;
    /// How fast the parameters and the rate decay, at least 0 (default: 1e-4).
    lambd: f64 = 1e-4,
    /// The power of the rate's decay, at least 0 (default: 0.75).
    alpha: f64 = 0.75,
    /// The step after which parameters are averaged, at least 0 (default: a million).
    t0: f64 = 1e6,
    /// At least 0, added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
}
