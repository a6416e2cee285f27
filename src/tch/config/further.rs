//! The optimizers that torch lacks.

use ::tch::nn::VarStore;

use super::config;
use crate::batch::Nonfinite;
use crate::rule::Rule;
use crate::rules;
use crate::tch::error::Error;
use crate::tch::group::{Config, Group};
use crate::tch::optimizer::Optimizer;
use crate::tch::options::Value;

config! {
    /// Lion (Chen et al., 2023), which torch lacks, with its authors' option names; the formula is in [`rules::Lion`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Lion;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Lion { weight_decay: 0.5, ..Lion::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.85).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Lion: rules::Lion;
    /// The shares of the average that a step sees and keeps, in [0, 1) (default: 0.9 and 0.99).
    betas: [f64; 2] = [0.9, 0.99],
    /// The share of a parameter lost each step at `lr` 1, at least 0 (default: 0).
    weight_decay: f64 = 0.0,
    /// Decay only where the update moves the parameter towards 0 as well (default: false).
    cautious_weight_decay: bool = false,
    /// Leave out what of an update and the gradient are of unlike signs, and enlarge the rest (default: false).
    cautious: bool = false,
}

config! {
    /// AdEMAMix (Pagliardini et al., 2024), which torch lacks, with its authors' option names; the formula is in
    /// [`rules::AdEMAMix`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::AdEMAMix;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = AdEMAMix { alpha_warmup: Some(100.0), ..AdEMAMix::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.9).abs() < 1e-5);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    AdEMAMix: rules::AdEMAMix;
    /// The shares that a step keeps of the fast average of gradients, of that of squares and of the slow one of
    /// gradients, in [0, 1) (default: 0.9, 0.999 and 0.9999).
    betas: [f64; 3] = [0.9, 0.999, 0.9999],
    /// The weight of the slow average beside the fast one, at least 0 (default: 2).
    alpha: f64 = 2.0,
    /// The steps over which `betas[2]` rises from `betas[0]` (default: none).
    beta3_warmup: Option<f64> = None,
    /// The steps over which `alpha` rises from 0 (default: none).
    alpha_warmup: Option<f64> = None,
    /// At least 0, gradient units (default: 1e-8).
    eps: f64 = 1e-8,
    /// The share of a parameter lost each step at `lr` 1, at least 0 (default: 0).
    weight_decay: f64 = 0.0,
    /// Decay only where the update moves the parameter towards 0 as well (default: false).
    cautious_weight_decay: bool = false,
    /// Leave out what of an update and the gradient are of unlike signs, and enlarge the rest (default: false).
    cautious: bool = false,
}

config! {
    /// LAMB (You et al., 2020), which torch lacks, with timm's option names; the formula is in [`rules::Lamb`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Lamb;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Lamb { weight_decay: 0.1, ..Lamb::default() }.build(&store, 0.1)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.9).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Lamb: rules::Lamb;
    /// The shares of the averages of gradients and squares that a step keeps, in [0, 1) (default: 0.9 and 0.999).
    betas: [f64; 2] = [0.9, 0.999],
    /// At least 0, gradient units (default: 1e-6).
    eps: f64 = 1e-6,
    /// At least 0, times the parameter added to the update before it is scaled (default: 0.01).
    weight_decay: f64 = 0.01,
    /// Correct the averages for beginning at 0 (default: true).
    bias_correction: bool = true,
    /// Only ever shorten an update (default: false).
    trust_clip: bool = false,
}

config! {
    /// Schedule-free AdamW (Defazio et al., 2024), which torch lacks, with its authors' option names; the formula is in
    /// [`rules::ScheduleFreeAdamW`]. It begins in train mode: [`Optimizer::eval`] puts the averages, which are the
    /// result, into the parameters, and [`Optimizer::train`] goes back.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::ScheduleFreeAdamW;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = ScheduleFreeAdamW { warmup_steps: 2.0, ..Default::default() }.build(&store, 0.1)?;
    /// for _ in 0..3 {
    ///     optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// }
    /// optimizer.eval()?;
    /// assert!(optimizer.step().is_err());
    /// assert!(weight.double_value(&[0]) < 1.0);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ScheduleFreeAdamW: rules::ScheduleFreeAdamW, train_mode = |_| true;
    /// The share of the average in the point where gradients are taken, in (0, 1), and of the average of squares that a
    /// step keeps, in [0, 1) (default: 0.9 and 0.999).
    betas: [f64; 2] = [0.9, 0.999],
    /// At least 0, gradient units (default: 1e-8).
    eps: f64 = 1e-8,
    /// The share of a parameter lost each step at `lr` 1, at least 0 (default: 0).
    weight_decay: f64 = 0.0,
    /// The steps over which the rate rises from 0, at least 0 (default: 0).
    warmup_steps: f64 = 0.0,
    /// The power of the step in a step's weight, at least 0 (default: 0).
    r: f64 = 0.0,
    /// The power of the largest rate in a step's weight, at least 0 (default: 2).
    weight_lr_power: f64 = 2.0,
}

config! {
    /// Schedule-free gradient descent (Defazio et al., 2024), which torch lacks, with its authors' option names; the
    /// formula is in [`rules::ScheduleFreeSgd`]. It begins in train mode: [`Optimizer::eval`] puts the averages, which
    /// are the result, into the parameters, and [`Optimizer::train`] goes back.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::ScheduleFreeSgd;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = ScheduleFreeSgd::default().build(&store, 0.25)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert_eq!(weight.double_value(&[0]), 0.5);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    ScheduleFreeSgd: rules::ScheduleFreeSgd, train_mode = |_| true;
    /// The share of the average in the point where gradients are taken, in (0, 1) (default: 0.9).
    momentum: f64 = 0.9,
    /// At least 0, times the parameter added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
    /// The steps over which the rate rises from 0, at least 0 (default: 0).
    warmup_steps: f64 = 0.0,
    /// The power of the step in a step's weight, at least 0 (default: 0).
    r: f64 = 0.0,
    /// The power of the largest rate in a step's weight, at least 0 (default: 2).
    weight_lr_power: f64 = 2.0,
}

config! {
    /// Prodigy (Mishchenko and Defazio, 2024), which torch lacks, with its authors' option names; the formula is in
    /// [`rules::Prodigy`]. `lr` is to be 1, or a schedule that begins there: the estimate `d` multiplies it.
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Prodigy;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Prodigy::default().build(&store, 1.0)?;
    /// for _ in 0..200 {
    ///     optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// }
    /// assert!(optimizer.option(0, "d")? > 0.01);
    /// assert!(weight.double_value(&[0]).abs() < 0.1);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Prodigy: rules::Prodigy, d = |of| of.d0, d_max = |of| of.d0, d_numerator = |_| 0.0, k = |_| 0.0;
    /// The shares of the averages of gradients and squares that a step keeps, in [0, 1) (default: 0.9 and 0.999).
    betas: [f64; 2] = [0.9, 0.999],
    /// The share that a step keeps of the sums behind the estimate, in [0, 1] (default: the root of `betas[1]`).
    beta3: Option<f64> = None,
    /// At least 0, gradient units times `d` (default: 1e-8).
    eps: f64 = 1e-8,
    /// The share of a parameter lost each step where `d` times `lr` is 1, at least 0 (default: 0).
    weight_decay: f64 = 0.0,
    /// Decay the parameter, not the gradient (default: true).
    decouple: bool = true,
    /// Decay only where the update moves the parameter towards 0 as well (default: false).
    cautious_weight_decay: bool = false,
    /// Correct the averages for beginning at 0 (default: false).
    use_bias_correction: bool = false,
    /// Keep `lr` out of what the estimate is divided by, for a warmup (default: false).
    safeguard_warmup: bool = false,
    /// The estimate at the beginning, above 0, parameter units (default: 1e-6).
    d0: f64 = 1e-6,
    /// What multiplies the estimate, at least 0 (default: 1).
    d_coef: f64 = 1.0,
    /// What the estimate may grow by in a step, at least 1 (default: infinity).
    growth_rate: f64 = f64::INFINITY,
}

config! {
    /// LARS (You, Gitman and Ginsburg, 2017), which torch lacks; the formula is in [`rules::Lars`].
    ///
    /// ```
    /// use tch::{Device, Kind, nn};
    /// use torchpace::tch::Lars;
    ///
    /// let store = nn::VarStore::new(Device::Cpu);
    /// let weight = store.root().ones("weight", &[2]);
    /// let mut optimizer = Lars { momentum: 0.9, ..Lars::default() }.build(&store, 10.0)?;
    /// optimizer.backward_step(&weight.square().sum(Kind::Float))?;
    /// assert!((weight.double_value(&[0]) - 0.99).abs() < 1e-6);
    /// # Ok::<(), torchpace::tch::Error>(())
    /// ```
    Lars: rules::Lars;
    /// What a step keeps of the velocity, at least 0 (default: 0, and then there is none).
    momentum: f64 = 0.0,
    /// The share of the gradient that stays out of the velocity (default: 0).
    dampening: f64 = 0.0,
    /// At least 0, times the parameter added to the gradient (default: 0).
    weight_decay: f64 = 0.0,
    /// Nesterov's momentum (default: false).
    nesterov: bool = false,
    /// The length of an update beside that of the parameter at `lr` 1, at least 0; none for biases and norms, which is
    /// plain gradient descent (default: 0.001).
    trust_coefficient: Option<f64> = Some(1e-3),
    /// At least 0, added to what the quotient divides by (default: 1e-8).
    eps: f64 = 1e-8,
}
