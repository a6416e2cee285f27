//! The text of the kernels that sum over a parameter, for rules whose update depends on that.
//!
//! They come before [`step`](super::source::step), whose settings are then on the device, one a task. What they start
//! from is in `f64`, be it of the host or of the [`begin`](super::source::begin) kernel, as are the sums.

use super::layout::{CHUNK, SETTINGS, THREADS};
use super::print::{Printed, print};
use super::record::{Node, Recording, SUM_NAMES};
use super::source::{
    ACCESS, COMMON, Kernel, LARGER, PLACES, SUM, Tensor, Variant, WITHIN, each, head, opening_with, setting, tensors,
};
use crate::rule::{Rule, SUMS};
use crate::tensor::{Dtype, Dtypes};

/// The sums over each chunk; `None` if a tensor is of no type of a part. To `sums` go those of each chunk side by side.
pub fn sums<R: Rule<C, S>, const C: usize, const S: usize>(
    rule: &R,
    dtypes: &Dtypes<S>,
    variant: Variant,
) -> Option<Kernel> {
    let mut tensors = tensors::<R, C, S>(rule, dtypes, variant)?;
    tensors.iter_mut().for_each(|tensor| tensor.is_written = false);
    let slots = dtypes.slots.into_iter().zip(rule.live()).filter_map(|(dtype, live)| dtype.filter(|_| live));
    let all: Vec<Dtype> = [dtypes.param, dtypes.grad].into_iter().chain(slots).collect();
    let wide = all.contains(&Dtype::F64);
    let recording = Recording::of_summands(rule);
    let name = format!("torchpace_{}_sums{}", R::NAME, if variant.strided { "_strided" } else { "" });
    let mut parts =
        vec![head(wide, &all, true), format!("constexpr unsigned int THREADS = {THREADS};\n"), COMMON.into()];
    parts.push(match variant.strided {
        true => format!("constexpr int TENSORS = {};\n\n{PLACES}", tensors.len()),
        false => ACCESS.to_owned(),
    });
    parts.push(SUM.to_owned());
    let compares = recording.nodes.iter().any(|node| matches!(node, Node::Max(..)));
    parts.extend((compares || variant.clip_value).then(|| LARGER.to_owned()));
    parts.extend(variant.clip_value.then(|| WITHIN.to_owned()));
    parts.push(setting::<R, C, S>(true));
    parts.push(wide_setting::<R, C, S>(variant.on_device));
    parts.push(narrowed::<R, C, S>());
    parts.push(add(&tensors, print(&recording, wide), variant));
    parts.push(kernel(&name, &tensors, variant));
    Some(Kernel { name, text: parts.join("\n") })
}

/// The settings of all tasks, completed by the sums of their chunks: one block for each. Rounded to `f32` if not `wide`.
pub fn complete<R: Rule<C, S>, const C: usize, const S: usize>(rule: &R, on_device: bool, wide: bool) -> Kernel {
    let recording = Recording::of_complete(rule);
    let Printed { statements, outputs } = print(&recording, true);
    let statements = statements.replace("    const T ", "            const double ");
    let compares = recording.nodes.iter().any(|node| matches!(node, Node::Max(..)));
    let larger = if compares { format!("{}\n", LARGER.replace("T ", "double ")) } else { String::new() };
    let coeffs: String = outputs.iter().map(|value| format!("(T)({value}), ")).collect();
    let (settings, set) = match on_device {
        true => ("const Wide *wides".to_owned(), "wides[task]"),
        false => (
            "const unsigned int *setting_of, const __grid_constant__ Wides wides".to_owned(),
            "wides.at[setting_of[task]]",
        ),
    };
    let names = SUM_NAMES.map(|name| format!("{name} = 0.0")).join(", ");
    let own = |(k, name): (usize, &&str)| format!("            {name} += sums[{SUMS} * (firsts[task] + i) + {k}];\n");
    let own: String = SUM_NAMES.iter().enumerate().map(own).collect();
    let of_block: String = SUM_NAMES.iter().map(|name| format!("        {name} = sum_of_block({name});\n")).collect();
    let name = format!("torchpace_{}_complete", R::NAME);
    let (scalar, setting, wide_setting) =
        (if wide { "double" } else { "float" }, setting::<R, C, S>(true), wide_setting::<R, C, S>(on_device));
    let text = format!(
        "typedef {scalar} T;
constexpr unsigned int THREADS = {THREADS}, CHUNK = {CHUNK};

{COMMON}
{SUM}
{larger}{setting}
{wide_setting}
extern \"C\" __global__ void __launch_bounds__({THREADS}, 1) {name}(
    unsigned int tasks, const unsigned long long *lengths, const unsigned long long *firsts, const double *sums,
    {settings}, Setting *settings, const float *found_inf, const Clip *clip)
{{
    if (is_left_out(found_inf, clip)) return;
    for (unsigned int task = blockIdx.x; task < tasks; task += gridDim.x) {{
        const unsigned long long count = (lengths[task] + CHUNK - 1) / CHUNK;
        double {names};
        for (unsigned long long i = threadIdx.x; i < count; i += blockDim.x) {{
{own}        }}
{of_block}        if (threadIdx.x == 0) {{
            const double len = (double)lengths[task];
            const Wide set = {set};
{statements}            settings[task] = {{{coeffs}(T)set.sign, (T)set.limit}};
        }}
    }}
}}
"
    );
    Kernel { name, text }
}

/// A setting as it is before the sums, in a table if that comes with the launch.
fn wide_setting<R: Rule<C, S>, const C: usize, const S: usize>(on_device: bool) -> String {
    let table = if on_device { String::new() } else { format!("struct Wides {{ Wide at[{SETTINGS}]; }};\n") };
    format!("struct Wide {{ double {}, sign, limit; }};\n{table}", R::COEFFS.join(", "))
}

/// The function that rounds a setting to what is computed with.
fn narrowed<R: Rule<C, S>, const C: usize, const S: usize>() -> String {
    let numbers = R::COEFFS.iter().copied().chain(["sign", "limit"]).map(|name| format!("(T)wide.{name}"));
    let numbers = numbers.collect::<Vec<_>>().join(", ");
    format!("__device__ __forceinline__ Setting narrowed(const Wide &wide)\n{{\n    return {{{numbers}}};\n}}\n")
}

/// The function that adds what one element sums up to.
fn add(tensors: &[Tensor], Printed { statements, outputs }: Printed, variant: Variant) -> String {
    let arguments = tensors.iter().map(|tensor| format!("T {}", tensor.name)).collect::<Vec<_>>().join(", ");
    let limit = if variant.clip_value { "    grad = within(grad, set.limit);\n" } else { "" };
    let sum = |(k, pair): (usize, &[String])| {
        let [left, right] = [0, 1].map(|i| pair.get(i).map_or("", String::as_str));
        format!("    sums[{k}] = fma((double)({left}), (double)({right}), sums[{k}]);\n")
    };
    let sums: String = outputs.chunks(2).enumerate().map(sum).collect();
    format!(
        "__device__ __forceinline__ void add(const Setting &set, T factor, {arguments}, double (&sums)[{SUMS}])
{{
    grad = grad * factor;
{limit}{statements}{sums}}}
"
    )
}

/// The kernel. Where an element lies in its chunk decides who adds it, and when, as in the norm.
fn kernel(name: &str, tensors: &[Tensor], variant: Variant) -> String {
    let set = if variant.on_device {
        "narrowed(settings[chunk.task])"
    } else {
        "narrowed(settings.at[setting_of[chunk.task]])"
    };
    let further = if variant.strided { "    const Layout *layouts,\n" } else { "" };
    let opening = opening_with(name, tensors, variant, [further, "Wide", set, ", double *sums"]);
    let body = if variant.strided { strided(tensors, variant) } else { dense(tensors, variant) };
    format!(
        "{opening}        double own[{SUMS}] = {{}};
{body}        for (int k = 0; k < {SUMS}; k++) {{
            const double sum = sum_of_block(own[k]);
            if (threadIdx.x == 0) sums[{SUMS} * c + k] = sum;
        }}
    }}
}}
"
    )
}

fn dense(tensors: &[Tensor], variant: Variant) -> String {
    let all = |text: &dyn Fn(&Tensor) -> String, between| tensors.iter().map(text).collect::<Vec<_>>().join(between);
    let places = each(tensors, false, |Tensor { name, element, .. }| {
        format!("        const {element} *{name}_at = in_global({name}s[chunk.task]) + chunk.begin;\n")
    });
    let aligned = all(&|tensor| format!("is_aligned({}_at)", tensor.name), "\n            && ");
    let arrays = all(&|tensor| format!("{}[N]", tensor.name), ", ");
    let elements = all(&|tensor| format!("{}[k]", tensor.name), ", ");
    let loads =
        each(tensors, false, |Tensor { name, .. }| format!("            load({name}_at + i, whole, count, {name});\n"));
    let unscale = if variant.unscale { "                grad[k] = grad[k] * unscale;\n" } else { "" };
    format!(
        "{places}        const bool aligned = {aligned};
        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {{
            const int count = (int)min(chunk.len - i, (unsigned int)N);
            const bool whole = aligned && count == N;
            T {arrays};
{loads}            #pragma unroll
            for (int k = 0; k < N; k++) {{
{unscale}                if (k < count) add(set, factor, {elements}, own);
            }}
        }}
"
    )
}

fn strided(tensors: &[Tensor], variant: Variant) -> String {
    let mut place = 0..;
    let loads = each(tensors, false, |Tensor { name, element, .. }| {
        let place = place.next().unwrap_or_default();
        let at = format!("after(in_global({name}s[chunk.task]), at[{place}])");
        format!("                const {element} *{name}_at = {at};\n                T {name} = widen(*{name}_at);\n")
    });
    let unscale = if variant.unscale { "                grad = grad * unscale;\n" } else { "" };
    let names = tensors.iter().map(|tensor| tensor.name).collect::<Vec<_>>().join(", ");
    format!(
        "        for (unsigned int i = threadIdx.x * N; i < chunk.len; i += blockDim.x * N) {{
            for (unsigned int k = i; k < chunk.len && k < i + N; k++) {{
                long long at[TENSORS];
                find(layouts[chunk.task], (unsigned int)chunk.begin + k, at);
{loads}{unscale}                add(set, factor, {names}, own);
            }}
        }}
"
    )
}
