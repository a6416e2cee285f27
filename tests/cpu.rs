//! The CPU driver against the rule applied to one element after the other, on every instruction set of this machine.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;

use proptest::prelude::*;
use torchpace::cpu::{Batch, Group, Isa, Spawned};
use torchpace::error::Error;
use torchpace::number::Number;
use torchpace::rule::{Options, Rule};
use torchpace::rules::{self, Visitor};
use torchpace::tensor::{Device, Dtype, Operands, Refusal, Slot, View};

/// Options from a table; a flag is a number that is not 0.
#[derive(Debug)]
struct Table(HashMap<&'static str, f64>);

impl Options for Table {
    fn number(&self, name: &'static str) -> Result<f64, Error> {
        self.0.get(name).copied().ok_or(Error::MissingOption { place: "table".to_owned(), name })
    }

    fn pair(&self, name: &'static str) -> Result<[f64; 2], Error> {
        let value = self.number(name)?;
        Ok([value, (1.0 + value) / 2.0])
    }

    fn flag(&self, name: &'static str) -> Result<bool, Error> {
        Ok(self.number(name)? != 0.0)
    }
}

fn options() -> impl Strategy<Value = Table> {
    let on = || prop::sample::select(vec![0.0, 1.0]);
    let share = || prop::sample::select(vec![0.0, 0.3, 0.9]);
    let numbers = (share(), share(), share(), prop::sample::select(vec![0.0, 0.1]), 1e-8..1e-2);
    (numbers, on(), on(), on(), on()).prop_map(|((decay, momentum, dampening, weight_decay, eps), a, b, c, d)| {
        Table(HashMap::from([
            ("alpha", decay),
            ("betas", decay),
            ("momentum", momentum),
            ("dampening", dampening),
            ("weight_decay", weight_decay),
            ("eps", eps),
            ("lr_decay", decay),
            ("nesterov", a),
            ("centered", b),
            ("amsgrad", c),
            ("decoupled_weight_decay", d),
        ]))
    })
}

/// An element type of tensors.
trait Element: Number + PartialEq + std::fmt::Debug {
    const DTYPE: Dtype;
    fn bits(self) -> u64;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
    fn bits(self) -> u64 {
        self.to_bits().into()
    }
}

impl Element for f64 {
    const DTYPE: Dtype = Dtype::F64;
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

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
}

/// Compares the driver with the naive loop, for the rule that it visits.
struct Compare<'a> {
    table: &'a Table,
    lengths: &'a [usize],
    seed: u64,
    shift: usize,
    threads: usize,
    maximize: bool,
}

const LR: f64 = 0.05;

impl Compare<'_> {
    fn with<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(&self) {
        let rule = R::read(self.table).unwrap();
        let mut state = self.seed;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::lit((state >> 33) as f64 / f64::from(1_u32 << 30) - 1.0)
        };
        let square = |x: T| x * x;
        let tensors: Vec<Tensors<T, S>> = (self.lengths.iter().enumerate())
            .map(|(i, &len)| Tensors {
                param: (0..len).map(|_| random()).collect(),
                grad: (0..len).map(|_| random()).collect(),
                slots: [(); S].map(|()| (0..len).map(|_| square(random())).collect()),
                count: (i % 3) as f32,
            })
            .collect();
        let expected: Vec<_> = tensors.iter().map(|tensors| self.naive(&rule, tensors.clone())).collect();
        for isa in Isa::available() {
            let found = self.driven(&rule, &tensors, isa);
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
        let coeffs = rule.coeffs(LR, step).map(T::lit);
        let sign = T::lit(if self.maximize { -1.0 } else { 1.0 });
        for i in 0..tensors.param.len() {
            let own = std::array::from_fn(|k| if rule.live()[k] { tensors.slots[k][i] } else { T::lit(0.0) });
            let (param, own) = rule.update(coeffs, tensors.param[i], tensors.grad[i] * sign, own);
            tensors.param[i] = param;
            for k in (0..S).filter(|&k| rule.live()[k]) {
                tensors.slots[k][i] = own[k];
            }
        }
        tensors.count += 1.0;
        tensors
    }

    fn driven<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        tensors: &[Tensors<T, S>],
        isa: Isa,
    ) -> Vec<(Memory, Memory, [Memory; S], Memory)> {
        let mut memory: Vec<_> = tensors
            .iter()
            .map(|tensors| {
                let place = |values: &Vec<T>| Memory::of(values, self.shift);
                (
                    place(&tensors.param),
                    place(&tensors.grad),
                    tensors.slots.each_ref().map(place),
                    Memory::of(&[tensors.count], self.shift),
                )
            })
            .collect();
        let mut group = Group::new(*rule, LR, self.maximize);
        let mut batch = Batch::new();
        for (param, grad, slots, count) in &mut memory {
            let (live, mut names) = (rule.live(), R::SLOTS.into_iter().zip(rule.live()));
            assert_eq!(live.len(), S);
            let operands = Operands {
                param: param.view::<T>(),
                grad: grad.view::<T>(),
                slots: slots.each_mut().map(|slot| {
                    let (name, live) = names.next().unwrap();
                    Slot { name, view: live.then(|| slot.view::<T>()) }
                }),
                step: R::COUNTED.then(|| count.step_view()),
            };
            batch.push(&mut group, false, &operands).unwrap();
        }
        batch.ready().unwrap().run_on(isa, &Spawned(self.threads));
        memory
    }

    fn same<T: Element, R: Rule<C, S>, const C: usize, const S: usize>(
        &self,
        rule: &R,
        isa: Isa,
        (param, grad, slots, count): (Memory, Memory, [Memory; S], Memory),
        expected: &Tensors<T, S>,
        before: &Tensors<T, S>,
    ) {
        let place = |values: &Vec<T>| Memory::of(values, self.shift).bytes;
        assert_eq!(param.bytes, place(&expected.param), "{} param, {isa:?}", R::NAME);
        assert_eq!(grad.bytes, place(&before.grad), "{} grad, {isa:?}", R::NAME);
        for (k, slot) in slots.iter().enumerate() {
            let values = if rule.live()[k] { &expected.slots[k] } else { &before.slots[k] };
            assert_eq!(slot.bytes, place(values), "{} {}, {isa:?}", R::NAME, R::SLOTS[k]);
        }
        let steps = if R::COUNTED { expected.count } else { before.count };
        assert_eq!(count.bytes, Memory::of(&[steps], self.shift).bytes, "{} step", R::NAME);
    }
}

impl Visitor for &Compare<'_> {
    type Output = ();

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) {
        self.with::<f32, R, C, S>();
        self.with::<f64, R, C, S>();
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
    ) {
        let compare = Compare { table: &table, lengths: &lengths, seed, shift, threads, maximize };
        for name in rules::names() {
            rules::visit(name, &compare).unwrap();
        }
    }
}

#[test]
fn work_large_enough_for_threads() {
    let entries = ["betas", "weight_decay", "eps", "amsgrad", "decoupled_weight_decay"];
    let table = Table(entries.into_iter().map(|name| (name, 0.5)).collect());
    let lengths = [5, 300_001, 0, 400_000, 33];
    for threads in [1, 2, 3, 7] {
        let compare = Compare { table: &table, lengths: &lengths, seed: 1, shift: 0, threads, maximize: false };
        rules::visit("adam", &compare).unwrap();
    }
}

#[test]
fn tensors_that_share_memory_are_not_ready() {
    let table = Table(["momentum", "dampening", "weight_decay", "nesterov"].map(|name| (name, 0.0)).into());
    let rule = rules::Sgd::read(&table).unwrap();
    let mut memory = Memory::of(&[1.0_f32; 8], 0);
    let (whole, part) = {
        let data = memory.bytes.as_mut_ptr();
        // SAFETY: within the eight numbers; nothing is run on them.
        unsafe {
            let view =
                |from: usize, len: &'static [i64; 1]| View::new(data.add(4 * from), len, &[1], Dtype::F32, Device::Cpu);
            (view(0, &[4]), view(3, &[4]))
        }
    };
    let mut batch = Batch::new();
    let slots = [Slot { name: "momentum_buffer", view: None }];
    let operands = Operands { param: whole, grad: part, slots, step: None };
    batch.push(&mut Group::new(rule, LR, false), false, &operands).unwrap();
    assert!(batch.ready().is_none());
}

#[test]
fn refusals_name_the_tensor() {
    let table = Table(["momentum", "dampening", "weight_decay", "nesterov"].map(|name| (name, 0.5)).into());
    let rule = rules::Sgd::read(&table).unwrap();
    let data = std::ptr::without_provenance_mut(1 << 30);
    // SAFETY: nothing is run on these.
    let view = |strides: &'static [i64; 2], dtype, device| unsafe { View::new(data, &[2, 3], strides, dtype, device) };
    let good = view(&[3, 1], Dtype::F32, Device::Cpu);
    let refusal = |param, grad, slot| {
        let slots = [Slot { name: "momentum_buffer", view: Some(slot) }];
        let operands = Operands { param, grad, slots, step: None };
        Batch::new().push(&mut Group::new(rule, LR, false), false, &operands).err()
    };
    assert_eq!(refusal(good, good, good), None);
    let (far, gaps) = (view(&[3, 1], Dtype::F32, Device::Other(2)), view(&[6, 2], Dtype::F32, Device::Cpu));
    let (wide, turned) = (view(&[3, 1], Dtype::F64, Device::Cpu), view(&[1, 2], Dtype::F32, Device::Cpu));
    let half = view(&[3, 1], Dtype::Other("bfloat16"), Device::Cpu);
    assert_eq!(refusal(far, far, far), Some(("param", Refusal::Device(Device::Other(2)))));
    assert_eq!(refusal(good, far, good), Some(("grad", Refusal::Device(Device::Other(2)))));
    assert_eq!(refusal(half, half, half), Some(("param", Refusal::Dtype(Dtype::Other("bfloat16")))));
    // SAFETY: as above.
    let low = unsafe { View::new(data.with_addr(16), &[2, 3], &[3, 1], Dtype::F32, Device::Cpu) };
    assert_eq!(refusal(good, low, good), Some(("grad", Refusal::Memory)));
    assert_eq!(refusal(gaps, good, good), Some(("param", Refusal::Layout)));
    assert_eq!(refusal(good, turned, good), Some(("grad", Refusal::Layout)));
    assert_eq!(refusal(turned, turned, turned), None);
    let mixed = Refusal::Mixed { found: Dtype::F64, param: Dtype::F32 };
    assert_eq!(refusal(good, good, wide), Some(("momentum_buffer", mixed)));
}
