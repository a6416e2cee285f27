//! Tensors as memory: what the drivers know of one, whichever framework owns it.

mod operands;
mod overlap;
mod view;
mod walk;

pub(crate) use operands::is_single;
pub use operands::{Operands, Refusal};
pub use overlap::{Span, Territory};
pub use view::{Device, Dtype, View};
pub use walk::{Dim, Dtypes, Path, Strides, Walk};
