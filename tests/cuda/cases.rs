//! The rules under options that give them each structure, and the types of their tensors.

use std::collections::HashMap;

use torchpace::cuda::source::{self, Counts, Kernel, Variant};
use torchpace::cuda::sums;
use torchpace::error::Error;
use torchpace::rule::{Options, Rule};
use torchpace::rules::{self, Visitor};
use torchpace::tensor::{Dtype, Dtypes};

/// Options from a table; a flag is a number that is not 0, and what is not there is 0.
#[derive(Debug, Clone)]
pub struct Table(HashMap<&'static str, f64>);

impl Options for Table {
    fn number(&self, name: &'static str) -> Result<f64, Error> {
        Ok(self.0.get(name).copied().unwrap_or(0.0))
    }

    fn optional(&self, name: &'static str) -> Result<Option<f64>, Error> {
        Ok(self.0.get(name).copied())
    }

    fn numbers(&self, name: &'static str, into: &mut [f64]) -> Result<(), Error> {
        let mut value = self.number(name)?;
        for place in into {
            *place = value;
            value = (1.0 + value) / 2.0;
        }
        Ok(())
    }

    fn flag(&self, name: &'static str) -> Result<bool, Error> {
        Ok(self.number(name)? != 0.0)
    }

    fn extra(&self, name: &'static str) -> Result<bool, Error> {
        self.flag(name)
    }
}

impl Table {
    /// Other values that give the same structure.
    pub fn change(&mut self) {
        for value in self.0.values_mut().filter(|value| **value != 0.0 && **value != 1.0) {
            *value *= 0.97;
        }
    }

    pub fn set(&mut self, name: &'static str, value: f64) {
        self.0.insert(name, value);
    }
}

/// A rule under some options.
#[derive(Debug, Clone)]
pub struct Case {
    pub rule: &'static str,
    pub name: &'static str,
    pub options: Table,
}

/// The estimate of Prodigy.
const DISTANCE: [(&str, f64); 3] = [("d0", 0.01), ("d", 0.3), ("d_max", 0.4)];

/// Every rule, with every flag on and off in some case.
pub fn cases() -> Vec<Case> {
    let case = |rule, name, options: &[(&'static str, f64)]| {
        let common = [("eps", 1e-3), ("betas", 0.9), ("alpha", 0.99), ("rho", 0.9), ("etas", 0.5)];
        let common = common.into_iter().chain([("momentum_decay", 4e-3), ("t0", 3.0)]);
        Case { rule, name, options: Table(common.into_iter().chain(options.iter().copied()).collect()) }
    };
    vec![
        case("sgd", "plain", &[]),
        case("sgd", "momentum", &[("momentum", 0.9), ("dampening", 0.1)]),
        case("sgd", "nesterov_decay", &[("momentum", 0.9), ("nesterov", 1.0), ("weight_decay", 0.1)]),
        case("sgd", "averaged", &[("momentum", 0.9), ("averaged", 1.0)]),
        case("rmsprop", "plain", &[]),
        case("rmsprop", "centered_momentum", &[("centered", 1.0), ("momentum", 0.9)]),
        case(
            "rmsprop",
            "low_eps_inside_decay",
            &[("alpha", 0.3), ("centered", 1.0), ("eps_inside", 1.0), ("weight_decay", 0.1)],
        ),
        case("adagrad", "plain", &[("lr_decay", 0.1)]),
        case("adagrad", "mean_eps_inside_decay", &[("mean", 1.0), ("eps_inside", 1.0), ("weight_decay", 0.1)]),
        case("adam", "plain", &[]),
        case("adam", "amsgrad_decay", &[("amsgrad", 1.0), ("weight_decay", 0.1)]),
        case("adam", "decoupled", &[("weight_decay", 0.1), ("decoupled_weight_decay", 1.0)]),
        case(
            "adam",
            "cautious",
            &[("weight_decay", 0.1), ("decoupled_weight_decay", 1.0), ("cautious_weight_decay", 1.0)],
        ),
        case("adam", "low_betas", &[("betas", 0.3)]),
        case("adam", "cautious_update", &[("betas", 0.3), ("weight_decay", 0.1), ("cautious", 1.0)]),
        case("adadelta", "plain", &[]),
        case("adadelta", "decay", &[("weight_decay", 0.1)]),
        case("adamax", "plain", &[]),
        case("adamax", "low_betas_decay", &[("betas", 0.3), ("weight_decay", 0.1)]),
        case("radam", "plain", &[]),
        case("radam", "decay", &[("weight_decay", 0.1)]),
        case("radam", "low_betas_decoupled", &[("betas", 0.5), ("weight_decay", 0.1), ("decoupled_weight_decay", 1.0)]),
        case("rprop", "plain", &[("step_sizes", 0.01)]),
        case("ademamix", "plain", &[]),
        case("ademamix", "low_betas_decay", &[("betas", 0.2), ("weight_decay", 0.1), ("cautious_weight_decay", 1.0)]),
        case("ademamix", "warmups", &[("beta3_warmup", 5.0), ("alpha_warmup", 3.0)]),
        case("ademamix", "cautious_update", &[("cautious", 1.0)]),
        case("lamb", "plain", &[("bias_correction", 1.0)]),
        case("lamb", "decay_clip", &[("weight_decay", 0.1), ("trust_clip", 1.0)]),
        case("lars", "plain", &[("trust_coefficient", 0.02)]),
        case(
            "lars",
            "nesterov_decay",
            &[("trust_coefficient", 0.02), ("momentum", 0.9), ("nesterov", 1.0), ("weight_decay", 0.1)],
        ),
        case("lars", "without_trust", &[("momentum", 0.9), ("weight_decay", 0.1)]),
        case("lion", "plain", &[]),
        case("lion", "cautious_update", &[("weight_decay", 0.1), ("cautious", 1.0)]),
        case("lion", "low_betas_decay", &[("betas", 0.3), ("weight_decay", 0.1)]),
        case("prodigy", "plain", &DISTANCE),
        case("prodigy", "decay", &[("decouple", 1.0), ("weight_decay", 0.1), DISTANCE[0], DISTANCE[1], DISTANCE[2]]),
        case(
            "prodigy",
            "low_betas_coupled_decay",
            &[("betas", 0.0), ("weight_decay", 0.1), ("safeguard_warmup", 1.0), DISTANCE[0], DISTANCE[1], DISTANCE[2]],
        ),
        case("nadam", "plain", &[]),
        case("nadam", "decay", &[("weight_decay", 0.1)]),
        case("nadam", "decoupled_low_betas", &[("betas", 0.3), ("weight_decay", 0.1), ("decoupled_weight_decay", 1.0)]),
        case("asgd", "plain", &[("lambd", 0.05)]),
        case("asgd", "decay", &[("lambd", 0.05), ("weight_decay", 0.1)]),
        case("schedule_free_adamw", "plain", &[("warmup_steps", 2.0), ("weight_lr_power", 2.0)]),
        case("schedule_free_adamw", "decay", &[("r", 0.5), ("weight_decay", 0.1)]),
        case("schedule_free_sgd", "plain", &[("momentum", 0.9), ("warmup_steps", 2.0), ("weight_lr_power", 2.0)]),
        case("schedule_free_sgd", "decay", &[("momentum", 0.5), ("r", 0.5), ("weight_decay", 0.1)]),
    ]
}

/// The types of a parameter's tensors: of the parameter, the gradient and all slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Types {
    pub name: &'static str,
    pub param: Dtype,
    pub grad: Dtype,
    pub slot: Dtype,
}

/// Each type alone, and some mixed.
pub const TYPES: [Types; 7] = {
    use Dtype::{Bf16, F16, F32, F64};
    const fn of(name: &'static str, param: Dtype, grad: Dtype, slot: Dtype) -> Types {
        Types { name, param, grad, slot }
    }
    [
        of("f32", F32, F32, F32),
        of("f64", F64, F64, F64),
        of("bf16", Bf16, Bf16, Bf16),
        of("f16", F16, F16, F16),
        of("bf16_with_f32_slots", Bf16, Bf16, F32),
        of("f32_with_f16_grad", F32, F16, F32),
        of("f16_with_f64_slots", F16, F32, F64),
    ]
};

impl Types {
    pub fn dtypes<const S: usize>(&self, live: [bool; S]) -> Dtypes<S> {
        Dtypes { param: self.param, grad: self.grad, slots: live.map(|live| live.then_some(self.slot)) }
    }

    pub fn is_wide(&self, any_slot: bool) -> bool {
        [self.param, self.grad].contains(&Dtype::F64) || any_slot && self.slot == Dtype::F64
    }
}

struct IsWide(Table, Types);

impl Visitor for IsWide {
    type Output = bool;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> bool {
        let live = R::read(&self.0).unwrap().live();
        self.1.is_wide(live.contains(&true))
    }
}

struct Step(Table, Types, Variant);

impl Visitor for Step {
    type Output = Kernel;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Kernel {
        let rule = R::read(&self.0).unwrap();
        source::step(&rule, &self.1.dtypes(rule.live()), self.2).unwrap()
    }
}

struct Sums(Table, Types, Variant);

impl Visitor for Sums {
    type Output = Vec<Kernel>;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Self::Output {
        let Self(options, types, variant) = self;
        let rule = R::read(&options).unwrap();
        let (live, on_device) = (rule.live(), variant.on_device);
        let wide = types.is_wide(live.contains(&true));
        let sums = || sums::sums(&rule, &types.dtypes(live), variant).unwrap();
        match (R::OVER_ALL, rule.needs_sums()) {
            (true, _) => vec![sums()],
            (false, true) => vec![sums(), sums::complete(&rule, on_device, wide)],
            (false, false) => Vec::new(),
        }
    }
}

/// The types of a rule's scalars as the faces make them: those that add up are wide.
pub fn scalar_types<R: Rule<C, S>, const C: usize, const S: usize>() -> [Option<Dtype>; S] {
    let dtype = if R::SLOTS.contains(&"weight_sum") { Dtype::F64 } else { Dtype::F32 };
    R::SCALARS.map(|scalar| scalar.then_some(dtype))
}

struct Begin(Table, Counts, bool);

impl Visitor for Begin {
    type Output = Kernel;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Kernel {
        source::begin(&R::read(&self.0).unwrap(), self.1, scalar_types::<R, C, S>(), self.2).unwrap()
    }
}

struct IsOverAll;

impl Visitor for IsOverAll {
    type Output = bool;

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> bool {
        R::OVER_ALL
    }
}

/// Whether a rule's settings are made by the host alone.
pub fn is_over_all(rule: &str) -> bool {
    rules::visit(rule, IsOverAll).unwrap()
}

impl Case {
    /// Whether the arithmetic on tensors of these types is in `f64`.
    pub fn is_wide(&self, types: Types) -> bool {
        rules::visit(self.rule, IsWide(self.options.clone(), types)).unwrap()
    }

    /// The kernels of its sums, if it needs any, with settings that come of the device or the host: that which sums, and
    /// one which completes the settings where each task has sums of its own.
    pub fn all_sums(&self, types: Types, variant: Variant) -> Vec<Kernel> {
        rules::visit(self.rule, Sums(self.options.clone(), types, variant)).unwrap()
    }

    /// The two, where each task has sums of its own.
    pub fn sums(&self, types: Types, variant: Variant) -> Option<[Kernel; 2]> {
        self.all_sums(types, variant).try_into().ok()
    }

    /// The step, with settings of the device where sums complete them.
    pub fn step(&self, types: Types, variant: Variant) -> Kernel {
        let on_device = variant.on_device || self.sums(types, variant).is_some();
        rules::visit(self.rule, Step(self.options.clone(), types, Variant { on_device, ..variant })).unwrap()
    }

    pub fn begin(&self, counts: Counts, wide: bool) -> Kernel {
        rules::visit(self.rule, Begin(self.options.clone(), counts, wide)).unwrap()
    }
}

/// Every variant of a step.
pub fn variants() -> Vec<Variant> {
    let bit = |n: u32, k: u32| n >> k & 1 == 1;
    (0..16)
        .map(|n| Variant { unscale: bit(n, 0), clip_value: bit(n, 1), on_device: bit(n, 2), strided: bit(n, 3) })
        .collect()
}
