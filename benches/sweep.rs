//! The loop alone, on one thread: each rule and element type over tensors that fit the cache, by instruction set, and over
//! tensors that do not; beside them a plain copy. The throughput counts every byte read and written, so it compares with
//! the copy's; times are those of 4,096 elements and of 4 million.
#![allow(missing_docs, unsafe_code, clippy::expect_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use torchpace::batch::{Batch, Group};
use torchpace::cpu::{Isa, Spawned};
use torchpace::error::Error;
use torchpace::rule::{Options, Rule};
use torchpace::rules::{self, Visitor};
use torchpace::tensor::{Device, Dtype, Operands, Territory, View};

const SMALL: usize = 4096;
const LARGE: usize = 4 << 20;

/// Every flag off, momentum and decay on.
struct Usual;

impl Options for Usual {
    fn number(&self, name: &'static str) -> Result<f64, Error> {
        Ok(match name {
            "momentum" | "alpha" | "rho" => 0.9,
            "weight_decay" => 0.01,
            "eps" => 1e-8,
            "momentum_decay" => 4e-3,
            "weight_lr_power" => 2.0,
            "d" | "d0" | "d_max" => 0.1,
            "d_coef" | "growth_rate" => 1.0,
            _ => 0.0,
        })
    }

    fn optional(&self, name: &'static str) -> Result<Option<f64>, Error> {
        Ok(Some(1e-3).filter(|_| name == "trust_coefficient"))
    }

    fn numbers(&self, name: &'static str, into: &mut [f64]) -> Result<(), Error> {
        let usual = match name {
            "etas" => [0.5, 1.2, 0.0],
            "step_sizes" => [1e-6, 50.0, 0.0],
            _ => [0.9, 0.999, 0.9999],
        };
        into.copy_from_slice(&usual[..into.len()]);
        Ok(())
    }

    fn flag(&self, _name: &'static str) -> Result<bool, Error> {
        Ok(false)
    }

    fn extra(&self, _name: &'static str) -> Result<bool, Error> {
        Ok(false)
    }
}

struct Bench<'a>(&'a mut Criterion, Dtype, Isa, usize);

impl Visitor for Bench<'_> {
    type Output = ();

    fn visit<R: Rule<C, S>, const C: usize, const S: usize>(self) {
        let Bench(criterion, dtype, isa, len) = self;
        let rule = R::read(&Usual).expect("all options are there");
        let shape = [len as i64];
        let mut memory = vec![vec![0.5_f64; len]; 2 + S];
        let mut count = 0.0_f32;
        // SAFETY: each view has a vector of its own, as long as elements of either type need, and of valid values.
        let views: Vec<_> = (memory.iter_mut())
            .map(|buffer| unsafe { View::new(buffer.as_mut_ptr().cast(), &shape, &[1], dtype, Device::Cpu) })
            .collect();
        // SAFETY: one number.
        let step = unsafe { View::new((&raw mut count).cast(), &[], &[], Dtype::F32, Device::Cpu) };
        let live = rule.live();
        let slots = std::array::from_fn(|k| live[k].then(|| views[2 + k]));
        let mut singles = [0.5_f32; S];
        let mut k = 0..S;
        let scalars = singles.each_mut().map(|scalar| {
            // SAFETY: one number.
            let view = unsafe { View::new(std::ptr::from_mut(scalar).cast(), &[], &[], Dtype::F32, Device::Cpu) };
            k.next().filter(|&k| R::SCALARS[k]).map(|_| view)
        });
        let operands = Operands { param: views[0], grad: views[1], slots, step: R::COUNTED.then_some(step), scalars };
        let mut group = criterion.benchmark_group(format!("{} {dtype}", R::NAME));
        // The gradient is read; the parameter and the slots are read and written.
        let passes = 3 + 2 * live.iter().filter(|&&live| live).count();
        group.throughput(Throughput::Bytes((passes * len * dtype.size().expect("a known type")) as u64));
        let usual = Group::new(rule, 1e-6);
        group.bench_function(format!("{isa:?} {len}"), |bencher| {
            bencher.iter(|| {
                let mut walk = None;
                let mut batch = Batch::new(None);
                batch.push((0, &usual), false, &mut walk, &operands, String::new).expect("plain tensors");
                let ready = batch.ready(&mut Territory::default()).expect("no shared memory");
                black_box(ready).run_on(isa, &Spawned(1));
            });
        });
        group.finish();
    }
}

fn sweeps(criterion: &mut Criterion) {
    for name in rules::names() {
        for dtype in [Dtype::F32, Dtype::F64, Dtype::Bf16, Dtype::F16] {
            for isa in Isa::available() {
                rules::visit(name, Bench(criterion, dtype, isa, SMALL)).expect("a rule of the list");
            }
            rules::visit(name, Bench(criterion, dtype, Isa::best(), LARGE)).expect("a rule of the list");
        }
    }
}

fn copies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy float32");
    for len in [SMALL, LARGE] {
        let (from, mut to) = (vec![0.5_f32; len], vec![0.0_f32; len]);
        group.throughput(Throughput::Bytes(8 * len as u64));
        group.bench_function(format!("{len}"), |bencher| bencher.iter(|| black_box(&mut to).copy_from_slice(&from)));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = copies, sweeps
}
criterion_main!(benches);
