//! A recording as statements of C++.

use core::fmt::Write;

use super::record::{Node, Recording, Symbol};

/// The statements, and what each output is called after them.
pub(super) struct Printed {
    pub statements: String,
    pub outputs: Vec<String>,
}

/// Prints arithmetic in `T`, which is `float` or, if `wide`, `double`.
///
/// A number has a statement of its own, `const T t0 = ...;`, unless it is an input, a literal or the negative of one:
/// so that every operation rounds by itself, in the order of the recording.
pub(super) fn print(recording: &Recording, wide: bool) -> Printed {
    let mut names: Vec<String> = Vec::new();
    let (mut statements, mut count) = (String::new(), 0);
    for &node in &recording.nodes {
        let name = |symbol: Symbol| names[symbol.place()].as_str();
        let text = expression(node, &name, wide);
        names.push(if is_short(node, recording) {
            text
        } else {
            // Writing to a string cannot fail.
            let _ = writeln!(statements, "    const T t{count} = {text};");
            count += 1;
            format!("t{}", count - 1)
        });
    }
    let outputs = recording.outputs.iter().map(|output| names[output.place()].clone()).collect();
    Printed { statements, outputs }
}

fn is_short(node: Node, recording: &Recording) -> bool {
    match node {
        Node::Coeff(_) | Node::Input(_) | Node::Literal(_) | Node::Constant(_) => true,
        Node::Neg(of) => matches!(recording.nodes[of.place()], Node::Coeff(_) | Node::Input(_)),
        _ => false,
    }
}

fn expression<'a>(node: Node, name: &impl Fn(Symbol) -> &'a str, wide: bool) -> String {
    let f = if wide { "" } else { "f" };
    match node {
        Node::Coeff(coeff) => format!("set.{coeff}"),
        Node::Input(input) => input.to_owned(),
        Node::Literal(bits) => format!("(T){:?}", f64::from_bits(bits)),
        Node::Constant(place) => format!("group.constants[{place}]"),
        Node::Neg(a) => format!("-{}", name(a)),
        Node::Sqrt(a) => format!("sqrt{f}({})", name(a)),
        Node::Add(a, b) => format!("{} + {}", name(a), name(b)),
        Node::Sub(a, b) => format!("{} - {}", name(a), name(b)),
        Node::Mul(a, b) => format!("{} * {}", name(a), name(b)),
        Node::Div(a, b) => format!("{} / {}", name(a), name(b)),
        Node::Max(a, b) => format!("larger({}, {})", name(a), name(b)),
        Node::Pow(a, b) => format!("pow{f}({}, {})", name(a), name(b)),
        Node::Fma(a, b, c) => format!("fma{f}({}, {}, {})", name(a), name(b), name(c)),
        Node::IfEqual(a, b, c, d) => format!("{} == {} ? {} : {}", name(a), name(b), name(c), name(d)),
        Node::IfLess(a, b, c, d) => format!("{} < {} ? {} : {}", name(a), name(b), name(c), name(d)),
    }
}
