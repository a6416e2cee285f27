//! Trains the convolutional net of examples/demo.py in Rust, on the same images, with the same optimizer and schedule.
//!
//! `make demo-rust` writes the images and runs it; by hand: `cargo run --release --no-default-features --features tch
//! --example digits -- out/digits.safetensors [epochs]`. Fails where the test accuracy stays below that of the demo
//! (97 %) by more than a point.

use std::collections::HashMap;
use std::error::Error;

use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};
use torchpace::schedule::{Cosine, Ramp, Schedule, Warmup};
use torchpace::tch::AdamW;

const BATCH: i64 = 64;
const WARMUP: f64 = 31.0;
const ENOUGH: f64 = 0.96;

/// As torch.nn's layers begin, in Python.
fn spread(inputs: i64) -> nn::Init {
    let bound = 1.0 / (inputs as f64).sqrt();
    nn::Init::Uniform { lo: -bound, up: bound }
}

fn block(path: nn::Path<'_>, inputs: i64, outputs: i64) -> nn::SequentialT {
    let convolution = nn::ConvConfig { padding: 1, bias: false, ws_init: spread(9 * inputs), ..Default::default() };
    let norm = nn::BatchNormConfig { ws_init: nn::Init::Const(1.0), ..Default::default() };
    nn::seq_t()
        .add(nn::conv2d(&path / "conv", inputs, outputs, 3, convolution))
        .add(nn::batch_norm2d(&path / "norm", outputs, norm))
        .add_fn(|x| x.relu().max_pool2d_default(2))
}

fn net(path: nn::Path<'_>) -> nn::SequentialT {
    let pixels = 32 * 7 * 7;
    let head = nn::LinearConfig { ws_init: spread(pixels), ..Default::default() };
    nn::seq_t()
        .add(block(&path / "first", 1, 16))
        .add(block(&path / "second", 16, 32))
        .add_fn(Tensor::flat_view)
        .add(nn::linear(&path / "head", pixels, 10, head))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("the file of images is missing: make demo-rust")?;
    let epochs: i64 = arguments.next().map_or(Ok(6), |text| text.parse())?;
    let data: HashMap<String, Tensor> = Tensor::read_safetensors(&file)?.into_iter().collect();
    let part = |name: &str| data.get(name).ok_or(format!("{file} has no {name}"));
    let (images, labels) = (part("images")?, part("labels")?);

    tch::manual_seed(0);
    let store = VarStore::new(Device::Cpu);
    let net = net(store.root());
    let batches = images.size()[0] / BATCH;
    let steps = (epochs * batches) as f64;
    let mut optimizer = AdamW { weight_decay: 0.05, ..AdamW::default() }.build(&store, 2e-3)?;
    let warmup = Schedule::new(Warmup { steps: WARMUP, start: 0.0, shape: Ramp::Linear })?;
    let cosine = Schedule::new(Cosine { steps: (steps - WARMUP).max(1.0), floor: 0.0 })?;
    optimizer.set_schedule(&warmup.then(&cosine, None)?)?;

    for epoch in 1..=epochs {
        let order = Tensor::randperm(images.size()[0], (Kind::Int64, Device::Cpu));
        let mut total = 0.0;
        for batch in 0..batches {
            let some = order.narrow(0, batch * BATCH, BATCH);
            let outputs = net.forward_t(&images.index_select(0, &some), true);
            let loss = outputs.cross_entropy_for_logits(&labels.index_select(0, &some));
            optimizer.backward_step(&loss)?;
            optimizer.advance()?;
            total += loss.double_value(&[]);
        }
        println!("epoch {epoch}: loss {:.4}, learning rate {:.1e}", total / batches as f64, optimizer.lr(0)?);
    }
    let (images, labels) = (part("test_images")?, part("test_labels")?);
    let correct = tch::no_grad(|| net.forward_t(images, false).accuracy_for_logits(labels)).double_value(&[]);
    println!("test accuracy {:.2} %", 100.0 * correct);
    if correct < ENOUGH {
        return Err(format!("the test accuracy is {correct}, expected at least {ENOUGH}").into());
    }
    Ok(())
}
