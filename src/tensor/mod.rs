//! Tensors as memory: what the drivers know of one, whichever framework owns it.

mod operands;
mod overlap;
mod view;

pub use operands::{Operands, Refusal, Slot};
pub use overlap::{Access, overlapping};
pub use view::{Device, Dtype, View};
