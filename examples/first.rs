//! The program of README.md's section for Rust users.

use tch::{Device, Kind, Tensor, nn, nn::Module};
use torchpace::schedule::{Cosine, Ramp, Schedule, Warmup};
use torchpace::tch::{AdamW, Error};

fn main() -> Result<(), Error> {
    tch::manual_seed(0);
    let store = nn::VarStore::new(Device::Cpu);
    let model = nn::linear(store.root(), 4, 1, Default::default());
    let mut optimizer = AdamW { max_grad_norm: Some(1.0), ..AdamW::default() }.build(&store, 0.1)?;

    // Ten steps up to the rate, ninety down to a hundredth of it.
    let warmup = Schedule::new(Warmup { steps: 10.0, start: 0.0, shape: Ramp::Linear })?;
    let cosine = Schedule::new(Cosine { steps: 90.0, floor: 0.01 })?;
    optimizer.set_schedule(&warmup.then(&cosine, None)?)?;

    let inputs = Tensor::randn([64, 4], (Kind::Float, Device::Cpu));
    let targets = inputs.sum_dim_intlist(1, true, Kind::Float);
    for step in 0..100 {
        let loss = model.forward(&inputs).mse_loss(&targets, tch::Reduction::Mean);
        optimizer.backward_step(&loss)?;
        optimizer.advance()?;
        if step % 20 == 19 {
            println!("step {}: loss {:.6}, rate {:.4}", step + 1, loss.double_value(&[]), optimizer.lr(0)?);
        }
    }
    optimizer.save(std::env::temp_dir().join("adamw.safetensors"))
}
