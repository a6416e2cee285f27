//! Faults planted for the sanitizers, each to be seen caught by its own (`make sanitize`). Undefined behaviour on purpose.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used)]

use std::thread;

use torchpace::batch::{Batch, Group};
use torchpace::cpu::{Isa, Spawned};
use torchpace::error::Error;
use torchpace::rule::{Options, Rule};
use torchpace::rules::Sgd;
use torchpace::tensor::{Device, Dtype, Operands, Territory, View};

/// Every option 0.
struct Zero;

impl Options for Zero {
    fn number(&self, _name: &'static str) -> Result<f64, Error> {
        Ok(0.0)
    }

    fn optional(&self, _name: &'static str) -> Result<Option<f64>, Error> {
        Ok(None)
    }

    fn numbers(&self, _name: &'static str, _into: &mut [f64]) -> Result<(), Error> {
        Ok(())
    }

    fn flag(&self, _name: &'static str) -> Result<bool, Error> {
        Ok(false)
    }

    fn extra(&self, _name: &'static str) -> Result<bool, Error> {
        Ok(false)
    }
}

/// A step of plain descent on `len` numbers from each address.
fn step(param: usize, grad: usize, len: i64) {
    let shape = [len];
    // SAFETY: none; that there is no such memory, or another thread in it, is the planted fault.
    let view = |at: usize| unsafe {
        View::new(std::ptr::with_exposed_provenance_mut(at), &shape, &[1], Dtype::F32, Device::Cpu)
    };
    let group = Group::new(Sgd::read(&Zero).unwrap(), 0.1);
    let mut batch = Batch::new(None);
    let operands = Operands { param: view(param), grad: view(grad), slots: [None], step: None, scalars: [None] };
    batch.push((0, &group), false, &mut None, &operands, String::new).unwrap();
    batch.ready(&mut Territory::default()).unwrap().run(&Spawned(1));
}

#[test]
#[ignore = "undefined behaviour on purpose: make sanitize runs it"]
fn address_one_element_too_many() {
    let (mut param, mut grad) = (vec![1.0_f32; 40], vec![1.0_f32; 41]);
    step(param.as_mut_ptr().expose_provenance(), grad.as_mut_ptr().expose_provenance(), 41);
}

#[test]
#[ignore = "undefined behaviour on purpose: make sanitize runs it"]
fn thread_two_steps_on_one_parameter() {
    let (mut param, mut grad) = (vec![1.0_f32; 100_000], vec![1.0_f32; 100_000]);
    let (param, grad) = (param.as_mut_ptr().expose_provenance(), grad.as_mut_ptr().expose_provenance());
    Isa::best(); // found once, behind a lock that ThreadSanitizer does not see
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || step(param, grad, 100_000));
        }
    });
}
