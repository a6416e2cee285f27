//! An optimizer's state in a safetensors file. `python/torchpace/optim/checkpoint.py` reads and writes the same:
//!
//! * tensors `<parameter>.<entry>`, the entries by torch's names; complex numbers as pairs in a last dimension;
//! * metadata `format` and `version`; `rule`; `param_groups`, the groups' options as JSON with the parameters' names,
//!   or their places where they have none; here also `schedules`. Numbers that JSON lacks are strings. In Python a name
//!   may be there twice: its parameters go by something else, and their group has the names in `param_names`.

mod load;
mod save;

use crate::batch::Nonfinite;

pub use load::load;
pub use save::save;

const FORMAT: &str = "torchpace.optimizer";
const VERSION: &str = "1";

/// Flags that torch lacks.
const EXTRA: [&str; 5] = ["averaged", "mean", "eps_inside", "cautious_weight_decay", "cautious"];

/// Bounds that torch lacks; where another option is off a file says so.
const BOUNDS: [&str; 3] = ["max_grad_norm", "clip_value", "skip_grad_norm"];

fn word(nonfinite: Nonfinite) -> String {
    format!("{nonfinite:?}").to_lowercase()
}
