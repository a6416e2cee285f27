//! The CPU driver against the rule applied to one element after the other, on every instruction set of this machine.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;

use half::{bf16, f16};
use proptest::prelude::*;
use torchpace::batch::{Batch, Group, Unfit};
use torchpace::cpu::{Isa, Spawned};
use torchpace::error::{Error, Fault};
use torchpace::number::Number;
use torchpace::rule::{Options, Origin, Rule, SUMS};
use torchpace::rules::{self, Visitor};
use torchpace::tensor::{Device, Dtype, Operands, Territory, View};

/// Options from a table; a flag is a number that is not 0.
#[derive(Debug)]
struct Table(HashMap<&'static str, f64>);

impl Options for Table {
    fn number(&self, name: &'static str) -> Result<f64, Error> {
        self.0.get(name).copied().ok_or(Error::MissingOption { place: "table".to_owned(), name })
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
        Ok(self.0.contains_key(name) && self.flag(name)?)
    }
}

/// Its options, but for those that others have.
const PRODIGY: [&str; 10] = [
    "decouple",
    "use_bias_correction",
    "safeguard_warmup",
    "d0",
    "d",
    "d_max",
    "d_coef",
    "d_numerator",
    "growth_rate",
    "k",
];

fn options() -> impl Strategy<Value = Table> {
    let on = || prop::sample::select(vec![0.0, 1.0]);
    let share = || prop::sample::select(vec![0.0, 0.3, 0.9]);
    let numbers = (share(), share(), share(), prop::sample::select(vec![0.0, 0.1]), 1e-8..1e-2);
    let flags = (on(), on(), on(), on(), on(), on(), on(), on(), on());
    (numbers, flags).prop_map(|((decay, momentum, dampening, weight_decay, eps), (a, b, c, d, e, f, g, h, i))| {
        Table(HashMap::from([
            ("cautious", i),
            ("bias_correction", a),
            ("trust_clip", b),
            ("trust_coefficient", 0.02),
            ("averaged", e),
            ("mean", f),
            ("eps_inside", g),
            ("cautious_weight_decay", h),
            ("alpha", decay),
            ("rho", decay),
            ("etas", 0.5),
            ("step_sizes", 0.01),
            ("betas", decay),
            ("momentum", momentum),
            ("dampening", dampening),
            ("weight_decay", weight_decay),
            ("eps", eps),
            ("lr_decay", decay),
            ("momentum_decay", dampening),
            ("lambd", decay),
            ("t0", 2.0 * momentum),
            ("warmup_steps", 10.0 * momentum),
            ("r", decay),
            ("weight_lr_power", 2.0 * dampening),
            ("nesterov", a),
            ("centered", b),
            ("amsgrad", c),
            ("decoupled_weight_decay", d),
            ("decouple", d),
            ("use_bias_correction", a),
            ("safeguard_warmup", b),
            ("d0", 0.01),
            ("d", if c == 0.0 { 0.01 } else { 0.3 }),
            ("d_max", 0.3),
            ("d_coef", 1.0),
            ("d_numerator", 0.1),
            ("growth_rate", 2.0),
            ("k", 3.0),
        ]))
    })
}

/// An element type of tensors.
trait Element: Copy + PartialEq + std::fmt::Debug {
    type Compute: Number;
    const DTYPE: Dtype;
    fn of(value: f64) -> Self;
    fn widen(self) -> Self::Compute;
    fn narrow(value: Self::Compute) -> Self;
    fn wide(value: Self::Compute) -> f64;
    fn bits(self) -> u64;
}

macro_rules! element {
    ($float:ty, $compute:ty, $dtype:expr, $of:expr, $widen:expr, $narrow:expr) => {
        impl Element for $float {
            type Compute = $compute;
            const DTYPE: Dtype = $dtype;
            fn of(value: f64) -> Self {
                $of(value)
            }
            fn widen(self) -> $compute {
                $widen(self)
            }
            fn narrow(value: $compute) -> Self {
                $narrow(value)
            }
            fn wide(value: $compute) -> f64 {
                value.into()
            }
            fn bits(self) -> u64 {
                self.to_bits().into()
            }
        }
    };
}

element!(f32, f32, Dtype::F32, |x| x as f32, |x| x, |x| x);
element!(f64, f64, Dtype::F64, |x| x, |x| x, |x| x);
element!(f16, f32, Dtype::F16, f16::from_f64, f16::to_f32, f16::from_f32);
element!(bf16, f32, Dtype::Bf16, bf16::from_f64, bf16::to_f32, bf16::from_f32);

/// Numbers in bytes, `shift` bytes off their alignment.
#[derive(Clone)]
struct Memory {
    bytes: Vec<u8>,
    shift: usize,
    shape: [i64; 1],
}

impl Memory {
    fn of<T: Element>(values: &[T], shift: usize) -> Self {
        let width = size_of::<T>();
        let mut bytes = vec![0; shift + size_of_val(values)];
        for (place, value) in bytes[shift..].chunks_exact_mut(width).zip(values) {
            place.copy_from_slice(&value.bits().to_le_bytes()[..width]);
        }
        Memory { bytes, shift, shape: [values.len() as i64] }
    }

    fn view<T: Element>(&mut self) -> View<'_> {
        let data = self.bytes[self.shift..].as_mut_ptr();
        // SAFETY: the bytes from `shift` on are `shape` numbers of this type, borrowed mutably.
        unsafe { View::new(data, &self.shape, &[1], T::DTYPE, Device::Cpu) }
    }

    fn step_view(&mut self) -> View<'_> {
        let data = self.bytes[self.shift..].as_mut_ptr();
        // SAFETY: as above, one number.
        unsafe { View::new(data, &[], &[], Dtype::F32, Device::Cpu) }
    }
}

/// Everything that one parameter brings to a step.
#[derive(Clone)]
struct Tensors<T, const S: usize> {
    param: Vec<T>,
    grad: Vec<T>,
    slots: [Vec<T>; S],
    count: f32,
    scalars: [f32; S],
}

/// The same in memory: the parameter, the gradient, the slots, the count and the scalars.
type Driven<const S: usize> = (Memory, Memory, [Memory; S], Memory, [Memory; S]);

/// Compares the driver with the naive loop, for the rule that it visits.
struct Compare<'a> {
    table: &'a Table,
    lengths: &'a [usize],
    seed: u64,
    shift: usize,
    threads: usize,
    maximize: bool,
    unscale: Option<f64>,
    clip_value: Option<f64>,
}

const LR: f64 = 0.05;

fn added(mut sums: [f64; SUMS], more: [f64; SUMS]) -> [f64; SUMS] {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    sums
}

impl Compare<'_> {
    fn with<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(&self) {
        let rule = R::read(self.table).unwrap();
        let mut state = self.seed;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0
        };
        let tensors: Vec<Tensors<T, S>> = (self.lengths.iter().enumerate())
            .map(|(i, &len)| Tensors {
                param: (0..len).map(|_| T::of(random())).collect(),
                grad: (0..len).map(|_| T::of(random())).collect(),
                slots: [(); S].map(|()| (0..len).map(|_| T::of(random().powi(2))).collect()),
                count: (i % 3) as f32,
                scalars: std::array::from_fn(|k| [0.2, 1.0, 0.6][(i + k) % 3]),
            })
            .collect();
        let over_all = self.over_all(&rule, &tensors);
        let mut told = rule;
        if R::OVER_ALL {
            told.learn(over_all);
        }
        let expected: Vec<_> = tensors.iter().map(|tensors| self.naive(&told, tensors.clone())).collect();
        for isa in Isa::available() {
            let found = self.driven(&rule, &tensors, isa, over_all);
            for ((found, expected), before) in found.into_iter().zip(&expected).zip(&tensors) {
                self.same(&rule, isa, found, expected, before);
            }
        }
    }

    fn naive<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        mut tensors: Tensors<T, S>,
    ) -> Tensors<T, S> {
        let step = if R::COUNTED { f64::from(tensors.count) + 1.0 } else { 2.0 };
        let scalars = std::array::from_fn(|k| if R::SCALARS[k] { f64::from(tensors.scalars[k]) } else { 0.0 });
        let (coeffs, scalars) = rule.begin(LR, step, scalars, true);
        let coeffs = self.completed(rule, coeffs, &tensors).map(T::Compute::lit);
        let lit = T::Compute::lit;
        for i in 0..tensors.param.len() {
            let own = std::array::from_fn(|k| if rule.live()[k] { tensors.slots[k][i].widen() } else { lit(0.0) });
            let (unscaled, grad) = self.treated(tensors.grad[i]);
            if self.unscale.is_some() {
                tensors.grad[i] = T::narrow(unscaled);
            }
            let (param, own) = rule.update(coeffs, tensors.param[i].widen(), grad, own);
            tensors.param[i] = T::narrow(param);
            for k in (0..S).filter(|&k| rule.live()[k]) {
                tensors.slots[k][i] = T::narrow(own[k]);
            }
        }
        for k in (0..S).filter(|&k| R::SCALARS[k]) {
            tensors.scalars[k] = scalars[k] as f32;
        }
        tensors.count += 1.0;
        tensors
    }

    /// The gradient unscaled, and as the rule sees it.
    fn treated<T: Element>(&self, grad: T) -> (T::Compute, T::Compute) {
        let lit = T::Compute::lit;
        let unscaled = self.unscale.map_or(grad.widen(), |scale| grad.widen() * lit(scale));
        let mut grad = if self.maximize { -unscaled } else { unscaled };
        if let Some(limit) = self.clip_value {
            grad = -(-grad.max(lit(-limit))).max(lit(-limit));
        }
        (unscaled, grad)
    }

    /// The sums over all tensors, stretch by stretch.
    fn over_all<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        tensors: &[Tensors<T, S>],
    ) -> [f64; SUMS] {
        let coeffs = rule.coeffs(LR, 2.0);
        let stretches = tensors.iter().filter(|_| R::OVER_ALL).flat_map(|one| self.stretches(rule, coeffs, one));
        stretches.fold([0.0; SUMS], added)
    }

    /// The coefficients completed by sums.
    fn completed<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        coeffs: [f64; C],
        tensors: &Tensors<T, S>,
    ) -> [f64; C] {
        if !rule.needs_sums() {
            return coeffs;
        }
        let sums = self.stretches(rule, coeffs, tensors).into_iter().fold([0.0; SUMS], added);
        rule.complete(coeffs, sums, tensors.param.len() as f64)
    }

    /// The sums over each 8,192 elements: of those with the same place in each 16, then of these.
    fn stretches<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        coeffs: [f64; C],
        Tensors { param, grad, slots, .. }: &Tensors<T, S>,
    ) -> Vec<[f64; SUMS]> {
        let stretch = |begin: usize| {
            let mut lanes = [[0.0_f64; 16]; SUMS];
            for i in begin..param.len().min(begin + 8192) {
                let lit = T::Compute::lit;
                let own = std::array::from_fn(|k| if rule.live()[k] { slots[k][i].widen() } else { lit(0.0) });
                let terms = rule.summands(coeffs.map(lit), param[i].widen(), self.treated(grad[i]).1, own);
                for (lanes, [left, right]) in lanes.iter_mut().zip(terms) {
                    lanes[i % 16] = T::wide(left).mul_add(T::wide(right), lanes[i % 16]);
                }
            }
            lanes.map(|lanes| lanes.iter().sum())
        };
        (0..param.len()).step_by(8192).map(stretch).collect()
    }

    fn driven<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        tensors: &[Tensors<T, S>],
        isa: Isa,
        over_all: [f64; SUMS],
    ) -> Vec<Driven<S>> {
        let mut memory: Vec<_> = tensors
            .iter()
            .map(|tensors| {
                let place = |values: &Vec<T>| Memory::of(values, self.shift);
                (
                    place(&tensors.param),
                    place(&tensors.grad),
                    tensors.slots.each_ref().map(place),
                    Memory::of(&[tensors.count], self.shift),
                    tensors.scalars.map(|scalar| Memory::of(&[scalar], self.shift)),
                )
            })
            .collect();
        let group = Group { maximize: self.maximize, clip_value: self.clip_value, ..Group::new(*rule, LR) };
        let mut batch = Batch::new(self.unscale);
        for (param, grad, slots, count, scalars) in &mut memory {
            let live = rule.live();
            let (mut k, mut s) = (0..S, 0..S);
            let operands = Operands {
                param: param.view::<T>(),
                grad: grad.view::<T>(),
                slots: slots.each_mut().map(|slot| live[k.next().unwrap()].then(|| slot.view::<T>())),
                step: R::COUNTED.then(|| count.step_view()),
                scalars: scalars.each_mut().map(|scalar| R::SCALARS[s.next().unwrap()].then(|| scalar.step_view())),
            };
            batch.push((0, &group), false, &mut None, &operands, String::new).unwrap();
        }
        let mut ready = batch.ready(&mut Territory::default()).unwrap();
        if R::OVER_ALL {
            let sums = ready.sums(&Spawned(self.threads));
            assert_eq!(sums.map(f64::to_bits), over_all.map(f64::to_bits), "{} sums", R::NAME);
            assert!(!ready.learn(sums).is_empty());
        }
        ready.run_on(isa, &Spawned(self.threads));
        memory
    }

    fn same<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        isa: Isa,
        (param, grad, slots, count, scalars): Driven<S>,
        expected: &Tensors<T, S>,
        before: &Tensors<T, S>,
    ) {
        let place = |values: &Vec<T>| Memory::of(values, self.shift).bytes;
        assert_eq!(param.bytes, place(&expected.param), "{} param, {isa:?}", R::NAME);
        assert_eq!(grad.bytes, place(&expected.grad), "{} grad, {isa:?}", R::NAME);
        for (k, slot) in slots.iter().enumerate() {
            let values = if rule.live()[k] { &expected.slots[k] } else { &before.slots[k] };
            assert_eq!(slot.bytes, place(values), "{} {}, {isa:?}", R::NAME, R::SLOTS[k]);
        }
        let steps = if R::COUNTED { expected.count } else { before.count };
        assert_eq!(count.bytes, Memory::of(&[steps], self.shift).bytes, "{} step", R::NAME);
        for (scalar, expected) in scalars.iter().zip(expected.scalars) {
            assert_eq!(scalar.bytes, Memory::of(&[expected], self.shift).bytes, "{} scalars", R::NAME);
        }
    }
}

impl Visitor for &Compare<'_> {
    type Output = ();

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) {
        self.with::<f32, R, C, S>();
        self.with::<f64, R, C, S>();
        self.with::<f16, R, C, S>();
        self.with::<bf16, R, C, S>();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_rule_on_every_instruction_set(
        table in options(),
        lengths in prop::collection::vec(0_usize..150, 1..6),
        seed: u64,
        shift in 0_usize..8,
        threads in 0_usize..4,
        maximize: bool,
        unscale in prop::option::of(Just(0.125)),
        clip_value in prop::option::of(Just(0.3)),
    ) {
        let compare =
            Compare { table: &table, lengths: &lengths, seed, shift, threads, maximize, unscale, clip_value };
        for name in rules::names() {
            rules::visit(name, &compare).unwrap();
        }
    }
}

#[test]
fn work_large_enough_for_threads() {
    let entries = ["betas", "weight_decay", "eps", "amsgrad", "decoupled_weight_decay", "momentum", "dampening"];
    let entries =
        entries.into_iter().chain(["nesterov", "bias_correction", "trust_clip", "trust_coefficient"]).chain(PRODIGY);
    let table = Table(entries.map(|name| (name, 0.5)).collect());
    let lengths = [5, 300_001, 0, 400_000, 33, 70_000, 20_000, 17];
    for threads in [1, 2, 3, 7] {
        let compare = Compare {
            table: &table,
            lengths: &lengths,
            seed: 1,
            shift: 0,
            threads,
            maximize: false,
            unscale: None,
            clip_value: None,
        };
        // Without sums, and with them.
        rules::visit("adam", &compare).unwrap();
        rules::visit("lamb", &compare).unwrap();
        rules::visit("lars", &compare).unwrap();
        rules::visit("prodigy", &compare).unwrap();
    }
}

/// Plain gradient descent.
fn sgd(momentum: f64) -> rules::Sgd {
    let options = ["dampening", "weight_decay", "nesterov"].map(|name| (name, 0.0));
    let table = options.into_iter().chain([("momentum", momentum)]).collect();
    rules::Sgd::read(&Table(table)).unwrap()
}

/// A view of `numbers` from `offset` on.
fn view_of<'a>(numbers: &'a mut [f32], offset: usize, shape: &'a [i64], strides: &'a [i64]) -> View<'a> {
    let reach: i64 = shape.iter().zip(strides).map(|(&count, &stride)| (count - 1) * stride).sum();
    assert!(offset + (reach as usize) < numbers.len());
    let data = numbers[offset..].as_mut_ptr().cast();
    // SAFETY: all places lie within the numbers, which are borrowed mutably.
    unsafe { View::new(data, shape, strides, Dtype::F32, Device::Cpu) }
}

type Dims = (i64, [i64; 3]);

/// Strides that reach no place twice: those of a contiguous tensor with gaps, in any order of dimensions.
fn layouts() -> impl Strategy<Value = (Vec<Dims>, [Vec<usize>; 3])> {
    let dims = prop::collection::vec((1_i64..6, [1_i64..3, 1..3, 0..3]), 0..4);
    dims.prop_flat_map(|dims| {
        let order = || Just((0..dims.len()).collect::<Vec<_>>()).prop_shuffle();
        (Just(dims.clone()), [order(), order(), order()])
    })
}

fn strides(dims: &[Dims], order: &[usize], tensor: usize) -> Vec<i64> {
    let (mut strides, mut next) = (vec![0; dims.len()], 1);
    for &k in order {
        strides[k] = next * dims[k].1[tensor];
        next = strides[k].max(next) * dims[k].0;
    }
    strides
}

/// The places of all elements, counted along the dimensions.
fn places(shape: &[i64], strides: &[i64]) -> Vec<usize> {
    let mut all = vec![0];
    for (&count, &stride) in shape.iter().zip(strides) {
        all = all.iter().flat_map(|&at| (0..count).map(move |i| at + (i * stride) as usize)).collect();
    }
    all
}

proptest! {
    /// Parameter, slot and gradient laid out each in its own way; what lies between is left alone.
    #[test]
    fn any_layout((dims, orders) in layouts(), offset in 0_usize..3, threads in 1_usize..3) {
        let shape: Vec<i64> = dims.iter().map(|dim| dim.0).collect();
        let all = [0, 1, 2].map(|tensor| strides(&dims, &orders[tensor], tensor));
        let numbers = |seed: usize| -> Vec<f32> { (0..4000).map(|i| ((i * 7 + seed) % 13) as f32).collect() };
        let (rule, group) = (sgd(0.5), Group::new(sgd(0.5), 0.25));
        for isa in Isa::available() {
            let (mut param, mut buffer, mut grad) = (numbers(1), numbers(2), numbers(3));
            let (mut expected, mut expected_buffer) = (param.clone(), buffer.clone());
            let coeffs = rule.coeffs(0.25_f32, 2.0);
            let [p, b, g] = all.each_ref().map(|strides| places(&shape, strides));
            for ((p, b), g) in p.into_iter().zip(b).zip(g) {
                let (new, [slot]) =
                    rule.update(coeffs, expected[offset + p], grad[g], [expected_buffer[b]]);
                (expected[offset + p], expected_buffer[b]) = (new, slot);
            }
            let operands = Operands {
                param: view_of(&mut param, offset, &shape, &all[0]),
                slots: [Some(view_of(&mut buffer, 0, &shape, &all[1]))],
                grad: view_of(&mut grad, 0, &shape, &all[2]),
                step: None,
                scalars: [None],
            };
            let mut batch = Batch::new(None);
            batch.push((0, &group), false, &mut None, &operands, String::new).unwrap();
            batch.ready(&mut Territory::default()).unwrap().run_on(isa, &Spawned(threads));
            prop_assert_eq!(&param, &expected);
            prop_assert_eq!(&buffer, &expected_buffer);
        }
    }

    /// Sums that are exact, as those of small whole numbers are, do not depend on the layout, nor does what comes of them.
    #[test]
    fn sums_in_any_layout((dims, orders) in layouts(), threads in 1_usize..3) {
        let shape: Vec<i64> = dims.iter().map(|dim| dim.0).collect();
        let all = [0, 1, 2].map(|tensor| strides(&dims, &orders[tensor], tensor));
        let numbers = |seed: usize| -> Vec<f32> { (0..4000).map(|i| ((i * 7 + seed) % 13) as f32).collect() };
        let options = ["dampening", "weight_decay", "nesterov", "eps"].map(|name| (name, 0.25));
        let table = options.into_iter().chain([("momentum", 0.5), ("trust_coefficient", 0.1)]).collect();
        let rule = rules::Lars::read(&Table(table)).unwrap();
        let group = Group::new(rule, 0.25);
        for isa in Isa::available() {
            let (mut param, mut buffer, mut grad) = (numbers(1), numbers(2), numbers(3));
            let (mut expected, mut expected_buffer) = (param.clone(), buffer.clone());
            let [p, b, g] = all.each_ref().map(|strides| places(&shape, strides));
            let squares = |of: &[f32], at: &[usize]| at.iter().map(|&k| f64::from(of[k]).powi(2)).sum::<f64>();
            let sums = [squares(&param, &p), squares(&grad, &g)];
            let coeffs = rule.complete(rule.coeffs(0.25_f64, 2.0), sums, p.len() as f64).map(|coeff| coeff as f32);
            for ((p, b), g) in p.into_iter().zip(b).zip(g) {
                let (new, [slot]) = rule.update(coeffs, expected[p], grad[g], [expected_buffer[b]]);
                (expected[p], expected_buffer[b]) = (new, slot);
            }
            let operands = Operands {
                param: view_of(&mut param, 0, &shape, &all[0]),
                slots: [Some(view_of(&mut buffer, 0, &shape, &all[1]))],
                grad: view_of(&mut grad, 0, &shape, &all[2]),
                step: None,
                scalars: [None],
            };
            let mut batch = Batch::new(None);
            batch.push((0, &group), false, &mut None, &operands, String::new).unwrap();
            batch.ready(&mut Territory::default()).unwrap().run_on(isa, &Spawned(threads));
            prop_assert_eq!(&param, &expected);
            prop_assert_eq!(&buffer, &expected_buffer);
        }
    }

    /// The norm does not depend on threads, layout or how the elements are split over tensors.
    #[test]
    fn grad_norm(lengths in prop::collection::vec(0_usize..70_000, 1..4), threads in 2_usize..4, unscale in 0.1..2.0) {
        let group = Group::new(sgd(0.0), 0.0);
        let numbers = |len: usize| -> Vec<f32> { (0..len).map(|i| ((i * 7) % 13) as f32 - 6.0).collect() };
        let (mut params, mut grads): (Vec<_>, Vec<_>) = lengths.iter().map(|&len| (numbers(len), numbers(len))).unzip();
        let naive: f64 = grads.iter().flatten().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() * unscale;
        let shapes: Vec<[i64; 1]> = lengths.iter().map(|&len| [len as i64]).collect();
        let mut batch = Batch::new(Some(unscale));
        for ((param, grad), shape) in params.iter_mut().zip(&mut grads).zip(&shapes) {
            // SAFETY: the vectors have this many numbers.
            let view = |numbers: &mut Vec<f32>| unsafe {
                View::new(numbers.as_mut_ptr().cast(), shape, &[1], Dtype::F32, Device::Cpu)
            };
            let operands = Operands { param: view(param), grad: view(grad), slots: [None], step: None, scalars: [None] };
            batch.push((0, &group), false, &mut None, &operands, String::new).unwrap();
        }
        let ready = batch.ready(&mut Territory::default()).unwrap();
        let alone = ready.grad_norm(&Spawned(1));
        prop_assert_eq!(alone.to_bits(), ready.grad_norm(&Spawned(threads)).to_bits());
        prop_assert!((alone - naive).abs() <= 1e-12 * naive);
    }
}

#[test]
fn tensors_that_share_memory_are_not_ready() {
    let mut numbers = [1.0_f32; 8];
    let (param, grad) = {
        let data: *mut f32 = numbers.as_mut_ptr();
        // SAFETY: within the eight numbers; nothing is run on them.
        unsafe {
            let view = |from: usize| View::new(data.add(from).cast(), &[4], &[1], Dtype::F32, Device::Cpu);
            (view(0), view(3))
        }
    };
    let mut batch = Batch::new(None);
    let operands = Operands { param, grad, slots: [None], step: None, scalars: [None] };
    batch.push((0, &Group::new(sgd(0.0), 0.1)), false, &mut None, &operands, String::new).unwrap();
    assert!(batch.ready(&mut Territory::default()).is_none());
}

#[test]
fn what_does_not_fit_is_named() {
    let data = std::ptr::without_provenance_mut(1 << 30);
    // SAFETY: nothing is run on these.
    let view = |strides: &'static [i64; 2], dtype, device| unsafe { View::new(data, &[2, 3], strides, dtype, device) };
    let good = view(&[3, 1], Dtype::F32, Device::Cpu);
    let unfit = |param, grad, slot| {
        let operands = Operands { param, grad, slots: [Some(slot)], step: None, scalars: [None] };
        Batch::new(None)
            .push((0, &Group::new(sgd(0.5), 0.1)), false, &mut None, &operands, || "param 3".to_owned())
            .err()
            .map(|unfit| match unfit {
                Unfit::Wrong(error) => error.to_string(),
                Unfit::Refused(name, refusal) => format!("{name} {refusal}"),
            })
    };
    let found = |message: &str| Some(message.to_owned());
    let (far, other) = (view(&[3, 1], Dtype::F32, Device::Other(2)), view(&[3, 1], Dtype::OtherFloat, Device::Cpu));
    let (wide, complex) = (view(&[3, 1], Dtype::F64, Device::Cpu), view(&[3, 1], Dtype::C64, Device::Cpu));
    let (gaps, expanded) = (view(&[6, 2], Dtype::F32, Device::Cpu), view(&[0, 1], Dtype::F32, Device::Cpu));
    assert_eq!(unfit(good, good, good), None);
    assert_eq!(unfit(gaps, expanded, wide), None);
    assert_eq!(unfit(far, far, far), found("param is on another device (DLPack 2)"));
    assert_eq!(unfit(other, other, other), found("param is another floating-point type"));
    assert_eq!(unfit(good, far, good), found("param 3: grad is on device DLPack 2, expected cpu"));
    assert_eq!(
        unfit(good, good, complex),
        found("param 3: momentum_buffer is complex64, expected float32 or another type of its kind")
    );
    assert_eq!(
        unfit(good, good, expanded),
        found(
            "param 3: momentum_buffer of shape [2, 3] and strides [0, 1] has more than one element in one place; clone it"
        )
    );
    // SAFETY: as above.
    let low = unsafe { View::new(data.with_addr(16), &[2, 3], &[3, 1], Dtype::F32, Device::Cpu) };
    assert_eq!(unfit(good, low, good), found("grad has no memory"));
}

/// What is said of a first step under options.
struct Said<'a>(&'a Table, f64);

impl Visitor for Said<'_> {
    type Output = (Option<Error>, Vec<&'static str>);

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) -> Self::Output {
        let data = std::ptr::without_provenance_mut(1 << 30);
        // SAFETY: nothing is run on these.
        let view = unsafe { View::new(data, &[2], &[1], Dtype::F32, Device::Cpu) };
        let rule = R::read(self.0).unwrap();
        let slots = rule.live().map(|live| live.then_some(view));
        let mut numbers = [1.0_f32, 1.0, 1.0, 0.0];
        // SAFETY: one number each, of more than any rule has.
        let mut number =
            |k: usize| unsafe { View::new((&raw mut numbers[k]).cast(), &[], &[], Dtype::F32, Device::Cpu) };
        let mut k = 0..S;
        let scalars = R::SCALARS.map(|scalar| k.next().filter(|_| scalar).map(&mut number));
        let step = R::HAS_SCALARS.then(|| number(3));
        let operands = Operands { param: view, grad: view, slots, step, scalars };
        let pushed = Batch::new(None).push((0, &Group::new(rule, self.1)), true, &mut None, &operands, || "it".into());
        let error = pushed.err().map(|unfit| match unfit {
            Unfit::Wrong(error) => error,
            Unfit::Refused(name, refusal) => panic!("{name} {refusal}"),
        });
        let option = |origin: &Origin| match origin {
            Origin::Value(option) | Origin::Quotient(option) | Origin::Root(option) => *option,
        };
        (error, R::ORIGINS.iter().map(option).collect())
    }
}

#[test]
fn an_option_that_makes_a_coefficient_infinite_or_nan_is_named() {
    let names = ["alpha", "betas", "momentum", "dampening", "weight_decay", "eps", "lr_decay", "nesterov", "centered"];
    let names = names.into_iter().chain(["amsgrad", "decoupled_weight_decay", "mean", "rho", "etas", "step_sizes"]);
    let names = names.chain(["momentum_decay", "lambd", "t0", "bias_correction", "trust_clip", "trust_coefficient"]);
    let names = names.chain(["warmup_steps", "r", "weight_lr_power"]).chain(PRODIGY).chain(["beta3"]);
    let table: HashMap<_, _> = names.map(|name| (name, 0.5)).collect();
    for rule in rules::names() {
        let said = |table: &Table, lr| rules::visit(rule, Said(table, lr)).unwrap();
        let (none, options) = said(&Table(table.clone()), 0.1);
        assert_eq!(none, None, "{rule}");
        for lr in [f64::NAN, f64::INFINITY] {
            let error = said(&Table(table.clone()), lr).0.unwrap();
            assert!(matches!(error, Error::Coefficient { option: "lr", fault: Fault::Option, .. }), "{rule}: {error}");
        }
        for name in options {
            let (option, _) = name.split_once('[').unwrap_or((name, ""));
            let mut other = table.clone();
            // Not among the numbers: the rate is another argument, and those are a flag, a first step's, and a power of 1.
            if ["lr", "mean", "dampening", "r"].contains(&name) || other.insert(option, f64::NAN).is_none() {
                continue;
            }
            let error = said(&Table(other), 0.1).0.unwrap();
            let Error::Coefficient { place, option: found, fault, step, .. } = error else { panic!("{error}") };
            assert_eq!((place.as_str(), fault, step), ("it", Fault::Option, 1.0), "{rule}: {name}");
            assert!(found.starts_with(option), "{rule}: {found} for {name}");
        }
    }
    let one = Table(table.into_iter().map(|(name, value)| (name, if name == "betas" { 1.0 } else { value })).collect());
    let error = rules::visit("adam", Said(&one, 0.0)).unwrap().0.unwrap();
    assert_eq!(error.to_string(), "it: option \"betas[0]\" makes \"rate\" inf in step 1, expected a finite number");
    assert!(matches!(error, Error::Coefficient { fault: Fault::Division, .. }));
}
