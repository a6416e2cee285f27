//! The text of the kernels, in CUDA C++ without any header.
//!
//! All tensors of the same types whose rules have the same structure are one launch. Kernels take tables in device
//! memory, which [`layout`](super::layout) describes: rows of pointers, one a tensor of the rule; and chunks, the parts
//! that blocks work on in turn, so that a grid of any size does all. Nothing that changes from step to step is in the
//! text, which depends on the rule's structure, the types and the [`Variant`] alone.

use super::layout::{CHUNK, GROUPS, SETTINGS, THREADS, WORDS};
use super::print::{Printed, print};
use super::record::{Node, Recording};
use crate::rule::Rule;
use crate::tensor::{Dtype, Dtypes};

const TYPES: &str = include_str!("text/types.cuh");
const BF16: &str = include_str!("text/bf16.cuh");
const F16: &str = include_str!("text/f16.cuh");
pub(super) const COMMON: &str = include_str!("text/common.cuh");
pub(super) const ACCESS: &str = include_str!("text/access.cuh");
pub(super) const PLACES: &str = include_str!("text/places.cuh");
pub(super) const LARGER: &str = include_str!("text/larger.cuh");
pub(super) const WITHIN: &str = include_str!("text/within.cuh");
pub(super) const SUM: &str = include_str!("text/sum.cuh");
const NORM: &str = include_str!("text/norm.cuh");
const NORM_STRIDED: &str = include_str!("text/norm_strided.cuh");
const FOLD: &str = include_str!("text/fold.cuh");
const WRITE: &str = include_str!("text/write.cuh");
const CHUNKS: &str = include_str!("text/chunks.cuh");

/// A kernel to be compiled. To be launched with [`THREADS`] in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The function's name.
    pub name: String,
    /// CUDA C++.
    pub text: String,
}

/// What of a step is decided by its text. All that is given by pointers, `found_inf` and the clip by norm, may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Variant {
    /// Whether gradients are multiplied by the reciprocal of a scale, in memory too.
    pub unscale: bool,
    /// Whether each element of a gradient is kept within a limit.
    pub clip_value: bool,
    /// Whether the settings come from the [`begin`] kernel, one a task, and not with the launch.
    pub on_device: bool,
    /// Whether tensors have gaps or are laid out unlike each other.
    pub strided: bool,
}

/// One of the tensors of a task.
pub(super) struct Tensor {
    pub name: &'static str,
    pub element: &'static str,
    pub is_written: bool,
}

/// The step of a rule on tensors of these types; `None` if one of them is no type of a part.
pub fn step<R: Rule<C, S>, const C: usize, const S: usize>(
    rule: &R,
    dtypes: &Dtypes<S>,
    variant: Variant,
) -> Option<Kernel> {
    let tensors = tensors::<R, C, S>(rule, dtypes, variant)?;
    let slots = dtypes.slots.into_iter().zip(rule.live()).filter_map(|(dtype, live)| dtype.filter(|_| live));
    let all: Vec<Dtype> = [dtypes.param, dtypes.grad].into_iter().chain(slots).collect();
    let wide = all.contains(&Dtype::F64);
    let recording = Recording::of_update(rule);
    let kind = if variant.strided { "step_strided" } else { "step" };
    let name = format!("torchpace_{}_{kind}", R::NAME);
    let mut parts = vec![head(wide, &all, !variant.strided), COMMON.to_owned()];
    if variant.strided {
        parts.push(format!("constexpr int TENSORS = {};\n\n{PLACES}", tensors.len()));
    } else {
        parts.push(ACCESS.to_owned());
    }
    let compares = recording.nodes.iter().any(|node| matches!(node, Node::Max(..)));
    parts.extend((compares || variant.clip_value).then(|| LARGER.to_owned()));
    parts.extend(variant.clip_value.then(|| WITHIN.to_owned()));
    parts.push(setting::<R, C, S>(variant.on_device));
    parts.push(update(&tensors, print(&recording, wide), variant));
    parts.push(if variant.strided { strided(&name, &tensors, variant) } else { dense(&name, &tensors, variant) });
    Some(Kernel { name, text: parts.join("\n") })
}

/// What the [`begin`] kernel counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// A number of each task on the device, `F32` or `F64`, which the kernel counts up.
    OnDevice(Dtype),
    /// The host says which step of each task it is, from 1; where the rule keeps no count, 1 for new slots and else 2.
    Given,
}

/// Makes the settings of all tasks on the device, from the learning rate there or what it is, and the count and the
/// scalars of each task; and counts, and makes the new scalars, which are there too and of these types. Unless the step is
/// left out. The arithmetic is in `f64`, and the settings are rounded to `f32` if not `wide`. `None` for numbers of
/// another type.
pub fn begin<R: Rule<C, S>, const C: usize, const S: usize>(
    rule: &R,
    counts: Counts,
    scalars: [Option<Dtype>; S],
    wide: bool,
) -> Option<Kernel> {
    let single = |dtype| element(dtype).filter(|_| matches!(dtype, Dtype::F32 | Dtype::F64));
    let (argument, step, mut stores) = match counts {
        Counts::OnDevice(dtype) => {
            let count = single(dtype)?;
            let (step, store) = ("(double)*counts[task] + 1.0", format!("        *counts[task] = ({count})step;\n"));
            (format!("{count} *const *counts"), step, store)
        }
        Counts::Given => ("const double *steps".to_owned(), "steps[task]", String::new()),
    };
    let recording = Recording::of_coeffs(rule, is_single(&scalars));
    let Printed { statements, outputs } = print(&recording, true);
    let statements = statements.replace("    const T ", "        const double ");
    let name = format!("torchpace_{}_begin", R::NAME);
    let assign = |(coeff, value): (&str, &String)| format!("        set.{coeff} = (T){value};\n");
    let coeffs: String = R::COEFFS.into_iter().zip(&outputs).map(assign).collect();
    let (mut rows, mut loads) = (String::new(), String::new());
    for (k, value) in (0..S).filter(|&k| R::SCALARS[k]).zip(&outputs[C..]) {
        let (name, element) = (R::SLOTS[k], single(scalars[k]?)?);
        rows.push_str(&format!(" {element} *const *{name}s,"));
        loads.push_str(&format!("        const double {name} = (double)*{name}s[task];\n"));
        stores.push_str(&format!("        *{name}s[task] = ({element}){value};\n"));
    }
    let compares = recording.nodes.iter().any(|node| matches!(node, Node::Max(..)));
    let larger = if compares { format!("{}\n", LARGER.replace("T ", "double ")) } else { String::new() };
    let constants = match recording.constants.len() {
        0 => String::new(),
        count => format!(", constants[{count}]"),
    };
    let (scalar, setting) = (if wide { "double" } else { "float" }, setting::<R, C, S>(true));
    let text = format!(
        "typedef {scalar} T;

{COMMON}
{larger}{setting}
// The options of a group: `lr_at` or `wide_lr_at` is where its learning rate is, `lr` what it is where both are null.
struct Group {{ const float *lr_at; const double *wide_lr_at; double lr, sign, limit{constants}; }};
struct Groups {{ Group at[{GROUPS}]; }};

extern \"C\" __global__ void __launch_bounds__({THREADS}, 1) {name}(
    unsigned int tasks, {argument},{rows} const unsigned int *group_of, const __grid_constant__ Groups groups,
    Setting *settings, const float *found_inf, const Clip *clip)
{{
    if (is_left_out(found_inf, clip)) return;
    for (unsigned int task = blockIdx.x * blockDim.x + threadIdx.x; task < tasks; task += gridDim.x * blockDim.x) {{
        const Group &group = groups.at[group_of[task]];
        const double lr = group.lr_at ? (double)*group.lr_at : group.wide_lr_at ? *group.wide_lr_at : group.lr;
        const double step = {step};
{loads}{statements}        Setting &set = settings[task];
{coeffs}        set.sign = (T)group.sign;
        set.limit = (T)group.limit;
{stores}    }}
}}
"
    );
    Some(Kernel { name, text })
}

/// The numbers of a rule's options that the [`begin`] kernel for such scalars takes, in its order.
pub fn constants<R: Rule<C, S>, const C: usize, const S: usize>(rule: &R, scalars: &[Option<Dtype>; S]) -> Vec<f64> {
    Recording::of_coeffs(rule, is_single(scalars)).constants
}

/// Whether scalars of these types are kept in `f32`, for [`Rule::advance`].
fn is_single<const S: usize>(scalars: &[Option<Dtype>; S]) -> bool {
    scalars.contains(&Some(Dtype::F32))
}

/// The sums of the squares of gradients, chunk by chunk, for [`fold`]; `None` as for [`step`].
pub fn norm(grad: Dtype, strided: bool) -> Option<Kernel> {
    let (name, body) = match strided {
        false => ("torchpace_norm", format!("{ACCESS}\n{SUM}\n{NORM}")),
        true => ("torchpace_norm_strided", format!("constexpr int TENSORS = 1;\n\n{PLACES}\n{SUM}\n{NORM_STRIDED}")),
    };
    let (head, element) = (head(grad == Dtype::F64, &[grad], true), element(grad)?);
    let text = format!("{head}\ntypedef {element} E;\nconstexpr unsigned int THREADS = {THREADS};\n\n{COMMON}\n{body}");
    Some(Kernel { name: name.to_owned(), text })
}

/// Puts words that come with the launch into the device's memory.
pub fn write() -> Kernel {
    let text = format!("constexpr unsigned int THREADS = {THREADS}, WORDS = {WORDS};\n\n{WRITE}");
    Kernel { name: "torchpace_write".to_owned(), text }
}

/// Makes the [chunks](super::layout::chunks) of tasks on the device.
pub fn chunks() -> Kernel {
    let text = format!("constexpr unsigned int THREADS = {THREADS}, CHUNK = {CHUNK};\n\n{COMMON}\n{CHUNKS}");
    Kernel { name: "torchpace_chunks".to_owned(), text }
}

/// The norm of all gradients, and the factor that clips them.
pub fn fold() -> Kernel {
    let text = format!("constexpr unsigned int THREADS = {THREADS};\n\n{COMMON}\n{SUM}\n{FOLD}");
    Kernel { name: "torchpace_fold".to_owned(), text }
}

fn element(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::F64 => Some("double"),
        Dtype::F32 => Some("float"),
        Dtype::F16 => Some("f16"),
        Dtype::Bf16 => Some("bf16"),
        Dtype::C128 | Dtype::C64 | Dtype::OtherFloat | Dtype::NoFloat => None,
    }
}

/// The tensors that a step has, in the order of their rows.
pub(super) fn tensors<R: Rule<C, S>, const C: usize, const S: usize>(
    rule: &R,
    dtypes: &Dtypes<S>,
    variant: Variant,
) -> Option<Vec<Tensor>> {
    let slots = (0..S).filter(|&k| rule.live()[k]).map(|k| (R::SLOTS[k], dtypes.slots[k], true));
    [("param", Some(dtypes.param), true), ("grad", Some(dtypes.grad), variant.unscale)]
        .into_iter()
        .chain(slots)
        .map(|(name, dtype, is_written)| Some(Tensor { name, element: element(dtype?)?, is_written }))
        .collect()
}

/// The types: what is computed with, and with `packs` how many elements a thread takes at once, 16 bytes of the narrowest.
pub(super) fn head(wide: bool, dtypes: &[Dtype], packs: bool) -> String {
    let narrowest = dtypes.iter().filter_map(|dtype| dtype.size()).min().unwrap_or(1);
    let scalar = if wide { "double" } else { "float" };
    let mut text = format!("typedef {scalar} T;\n");
    if packs {
        text.push_str(&format!("constexpr int N = {};\n", 16 / narrowest));
    }
    text.push('\n');
    text.push_str(TYPES);
    for (dtype, part) in [(Dtype::Bf16, BF16), (Dtype::F16, F16)] {
        if dtypes.contains(&dtype) {
            text.push('\n');
            text.push_str(part);
        }
    }
    text
}

/// What the tasks of a group share in a step, in a table if that comes with the launch.
pub(super) fn setting<R: Rule<C, S>, const C: usize, const S: usize>(on_device: bool) -> String {
    let comment = "// What the parameters of a group share in a step.\n";
    let table = if on_device { String::new() } else { format!("struct Settings {{ Setting at[{SETTINGS}]; }};\n") };
    format!("{comment}struct Setting {{ T {}, sign, limit; }};\n{table}", R::COEFFS.join(", "))
}

/// The function that updates one element.
fn update(tensors: &[Tensor], Printed { statements, outputs }: Printed, variant: Variant) -> String {
    let arguments =
        |tensor: &Tensor| if tensor.name == "grad" { "T grad".into() } else { format!("T &{}", tensor.name) };
    let arguments = tensors.iter().map(arguments).collect::<Vec<_>>().join(", ");
    let limit = if variant.clip_value { "    grad = within(grad, set.limit);\n" } else { "" };
    let stored = tensors.iter().filter(|tensor| tensor.name != "grad").zip(outputs);
    let stores: String = stored.map(|(tensor, value)| format!("    {} = {value};\n", tensor.name)).collect();
    format!(
        "__device__ __forceinline__ void update(const Setting &set, T factor, {arguments})
{{
    grad = grad * factor;
{limit}{statements}{stores}}}
"
    )
}

/// The signature, and what comes before the chunks; `further` are arguments between tensors and settings.
fn opening(name: &str, tensors: &[Tensor], variant: Variant, further: &str) -> String {
    let set = if variant.on_device { "settings[chunk.task]" } else { "settings.at[setting_of[chunk.task]]" };
    opening_with(name, tensors, variant, [further, "Setting", set, ""])
}

/// The same with the name of the settings' type, how a chunk's is found, and arguments behind all others.
pub(super) fn opening_with(
    name: &str,
    tensors: &[Tensor],
    variant: Variant,
    [further, kind, set, behind]: [&str; 4],
) -> String {
    let row = |tensor: &Tensor| {
        let constant = if tensor.is_written { "" } else { "const " };
        format!("    {constant}{} *const *{}s,\n", tensor.element, tensor.name)
    };
    let rows: String = tensors.iter().map(row).collect();
    let settings = match variant.on_device {
        true => format!("const {kind} *settings"),
        false => format!("const unsigned int *setting_of, const __grid_constant__ {kind}s settings"),
    };
    let (scale, unscale) = match variant.unscale {
        true => (", const float *grad_scale", "    const T unscale = (T)(1.0f / *grad_scale);\n"),
        false => ("", ""),
    };
    format!(
        "extern \"C\" __global__ void __launch_bounds__({THREADS}, 1) {name}(
    const Chunk *chunks, unsigned int chunk_count,
{rows}{further}    {settings},
    const float *found_inf, const Clip *clip{scale}{behind})
{{
    if (is_left_out(found_inf, clip)) return;
    const T clip_factor = clip ? (T)clip->factor : (T)1;
{unscale}    for (unsigned int c = blockIdx.x; c < chunk_count; c += gridDim.x) {{
        const Chunk chunk = chunks[c];
        const Setting set = {set};
        const T factor = set.sign * clip_factor;
"
    )
}

/// What is made for each tensor, one after the other.
pub(super) fn each(tensors: &[Tensor], only_written: bool, text: impl FnMut(&Tensor) -> String) -> String {
    tensors.iter().filter(|tensor| tensor.is_written || !only_written).map(text).collect()
}

fn dense(name: &str, tensors: &[Tensor], variant: Variant) -> String {
    let opening = opening(name, tensors, variant, "");
    let places = each(tensors, false, |Tensor { name, element, is_written }| {
        let constant = if *is_written { "" } else { "const " };
        format!("        {constant}{element} *{name}_at = in_global({name}s[chunk.task]) + chunk.begin;\n")
    });
    let all = |text: &dyn Fn(&Tensor) -> String, between| tensors.iter().map(text).collect::<Vec<_>>().join(between);
    let aligned = all(&|tensor| format!("is_aligned({}_at)", tensor.name), "\n            && ");
    let arrays = all(&|tensor| format!("{}[N]", tensor.name), ", ");
    let elements = all(&|tensor| format!("{}[k]", tensor.name), ", ");
    let loads =
        each(tensors, false, |Tensor { name, .. }| format!("            load({name}_at + i, whole, count, {name});\n"));
    let store = |Tensor { name, .. }: &Tensor| format!("            store({name}_at + i, whole, count, {name});\n");
    let stores: String = tensors.iter().filter(|tensor| tensor.name != "grad").map(store).collect();
    let unscale = match variant.unscale {
        true => {
            "            #pragma unroll
            for (int k = 0; k < N; k++) grad[k] = grad[k] * unscale;
            store(grad_at + i, whole, count, grad);
"
        }
        false => "",
    };
    format!(
        "{opening}{places}        const bool aligned = {aligned};
        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {{
            const int count = (int)min(chunk.len - i, (unsigned int)N);
            const bool whole = aligned && count == N;
            T {arrays};
{loads}{unscale}            #pragma unroll
            for (int k = 0; k < N; k++) update(set, factor, {elements});
{stores}        }}
    }}
}}
"
    )
}

fn strided(name: &str, tensors: &[Tensor], variant: Variant) -> String {
    let opening = opening(name, tensors, variant, "    const Layout *layouts,\n");
    let mut place = 0..;
    let loads: String = (tensors.iter())
        .map(|Tensor { name, element, is_written }| {
            let constant = if *is_written { "" } else { "const " };
            let place = place.next().unwrap_or_default();
            format!(
                "            {constant}{element} *{name}_at = after(in_global({name}s[chunk.task]), at[{place}]);
            T {name} = widen(*{name}_at);
"
            )
        })
        .collect();
    let names = tensors.iter().map(|tensor| tensor.name).collect::<Vec<_>>().join(", ");
    let unscale = match variant.unscale {
        true => "            grad = grad * unscale;\n            narrow(grad, *grad_at);\n",
        false => "",
    };
    let stored = tensors.iter().filter(|tensor| tensor.name != "grad");
    let stores: String =
        stored.map(|Tensor { name, .. }| format!("            narrow({name}, *{name}_at);\n")).collect();
    format!(
        "{opening}        for (unsigned int i = threadIdx.x; i < chunk.len; i += blockDim.x) {{
            long long at[TENSORS];
            find(layouts[chunk.task], (unsigned int)chunk.begin + i, at);
{loads}{unscale}            update(set, factor, {names});
{stores}        }}
    }}
}}
"
    )
}
