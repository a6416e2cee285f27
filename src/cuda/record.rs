//! Records the arithmetic of a rule, to be printed as a kernel.

use core::cell::RefCell;
use core::ops::{Add, Div, Mul, Neg, Sub};

use crate::number::Number;
use crate::rule::{Rule, SUMS};

/// A number that is not known yet: the place of its [`Node`] in the recording under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol(usize);

impl Symbol {
    /// The place of its node among all.
    pub fn place(self) -> usize {
        self.0
    }
}

/// How a number comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// A coefficient of the step.
    Coeff(&'static str),
    /// Another input.
    Input(&'static str),
    /// The bits of an `f64` that is part of the formula.
    Literal(u64),
    /// The constant of this place: an `f64` that is no part of the formula, and stays out of the text.
    Constant(usize),
    Neg(Symbol),
    Sqrt(Symbol),
    Add(Symbol, Symbol),
    Sub(Symbol, Symbol),
    Mul(Symbol, Symbol),
    Div(Symbol, Symbol),
    Max(Symbol, Symbol),
    Pow(Symbol, Symbol),
    Fma(Symbol, Symbol, Symbol),
    IfEqual(Symbol, Symbol, Symbol, Symbol),
    IfLess(Symbol, Symbol, Symbol, Symbol),
}

/// What sums are called in a text.
pub(super) const SUM_NAMES: [&str; SUMS] = ["first_sum", "second_sum"];

/// What was recorded: every number after those that it is made of, each once, and only those that an output needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recording {
    pub nodes: Vec<Node>,
    pub outputs: Vec<Symbol>,
    /// The values behind the [constants](Node::Constant).
    pub constants: Vec<f64>,
}

/// What becomes of [`Number::lit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Literals {
    /// It is part of the formula.
    Kept,
    /// It may be an option's value: each call makes a constant of its own, so that two options of one value stay two.
    Hoisted,
}

#[derive(Debug)]
struct Tape {
    literals: Literals,
    nodes: Vec<Node>,
    constants: Vec<f64>,
}

impl Tape {
    const fn new(literals: Literals) -> Self {
        Self { literals, nodes: Vec::new(), constants: Vec::new() }
    }

    /// The number of this node, which is entered if it is not there.
    fn number(&mut self, node: Node) -> Symbol {
        let known = self.nodes.iter().position(|&other| other == node);
        Symbol(known.unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        }))
    }

    fn literal(&mut self, value: f64) -> Symbol {
        match self.literals {
            Literals::Kept => self.number(Node::Literal(value.to_bits())),
            Literals::Hoisted => {
                self.constants.push(value);
                self.number(Node::Constant(self.constants.len() - 1))
            }
        }
    }
}

thread_local! {
    /// The recording under way on this thread: a literal is made of nothing that could lead to one.
    static TAPE: RefCell<Tape> = const { RefCell::new(Tape::new(Literals::Kept)) };
}

fn number(node: Node) -> Symbol {
    TAPE.with_borrow_mut(|tape| tape.number(node))
}

fn record(literals: Literals, formula: impl FnOnce() -> Vec<Symbol>) -> Recording {
    let around = TAPE.replace(Tape::new(literals));
    let outputs = formula();
    let tape = TAPE.replace(around);
    without_dead(&tape, &outputs)
}

/// Leaves out what no output needs, and numbers anew what stays.
fn without_dead(tape: &Tape, outputs: &[Symbol]) -> Recording {
    let mut needed = vec![false; tape.nodes.len()];
    outputs.iter().for_each(|output| needed[output.0] = true);
    // A node comes after what it is made of, so backwards each is reached after all that need it.
    for at in (0..tape.nodes.len()).rev() {
        if needed[at] {
            tape.nodes[at].operands().iter().for_each(|operand| needed[operand.0] = true);
        }
    }
    let mut kept = Recording { nodes: Vec::new(), outputs: Vec::new(), constants: Vec::new() };
    let mut places = vec![Symbol(0); tape.nodes.len()];
    for (at, &node) in tape.nodes.iter().enumerate().filter(|&(at, _)| needed[at]) {
        places[at] = Symbol(kept.nodes.len());
        kept.nodes.push(match node {
            Node::Constant(constant) => {
                kept.constants.push(tape.constants[constant]);
                Node::Constant(kept.constants.len() - 1)
            }
            node => node.map(|operand| places[operand.0]),
        });
    }
    kept.outputs = outputs.iter().map(|output| places[output.0]).collect();
    kept
}

impl Node {
    /// What it is made of.
    pub fn operands(self) -> Vec<Symbol> {
        match self {
            Node::Coeff(_) | Node::Input(_) | Node::Literal(_) | Node::Constant(_) => vec![],
            Node::Neg(a) | Node::Sqrt(a) => vec![a],
            Node::Add(a, b) | Node::Sub(a, b) | Node::Mul(a, b) => vec![a, b],
            Node::Div(a, b) | Node::Max(a, b) | Node::Pow(a, b) => vec![a, b],
            Node::Fma(a, b, c) => vec![a, b, c],
            Node::IfEqual(a, b, c, d) | Node::IfLess(a, b, c, d) => vec![a, b, c, d],
        }
    }

    fn map(self, f: impl Fn(Symbol) -> Symbol) -> Self {
        match self {
            Node::Coeff(_) | Node::Input(_) | Node::Literal(_) | Node::Constant(_) => self,
            Node::Neg(a) => Node::Neg(f(a)),
            Node::Sqrt(a) => Node::Sqrt(f(a)),
            Node::Add(a, b) => Node::Add(f(a), f(b)),
            Node::Sub(a, b) => Node::Sub(f(a), f(b)),
            Node::Mul(a, b) => Node::Mul(f(a), f(b)),
            Node::Div(a, b) => Node::Div(f(a), f(b)),
            Node::Max(a, b) => Node::Max(f(a), f(b)),
            Node::Pow(a, b) => Node::Pow(f(a), f(b)),
            Node::Fma(a, b, c) => Node::Fma(f(a), f(b), f(c)),
            Node::IfEqual(a, b, c, d) => Node::IfEqual(f(a), f(b), f(c), f(d)),
            Node::IfLess(a, b, c, d) => Node::IfLess(f(a), f(b), f(c), f(d)),
        }
    }
}

impl Recording {
    /// The update of one element: of `param`, `grad` and the live slots the new `param` and live slots.
    pub fn of_update<R: Rule<C, S>, const C: usize, const S: usize>(rule: &R) -> Self {
        record(Literals::Kept, || {
            let (coeffs, param, grad, slots) = inputs::<R, C, S>(rule);
            let (param, slots) = rule.update(coeffs, param, grad, slots);
            let stored = slots.into_iter().zip(rule.live()).filter_map(|(slot, live)| live.then_some(slot));
            core::iter::once(param).chain(stored).collect()
        })
    }

    /// What an element adds to each sum, two numbers to be multiplied; the inputs are those of the update.
    pub fn of_summands<R: Rule<C, S>, const C: usize, const S: usize>(rule: &R) -> Self {
        record(Literals::Kept, || {
            let (coeffs, param, grad, slots) = inputs::<R, C, S>(rule);
            rule.summands(coeffs, param, grad, slots).concat()
        })
    }

    /// The coefficients completed by `sums` over `len` elements.
    pub fn of_complete<R: Rule<C, S>, const C: usize, const S: usize>(rule: &R) -> Self {
        record(Literals::Kept, || {
            let coeffs = R::COEFFS.map(|name| number(Node::Coeff(name)));
            let sums = SUM_NAMES.map(|name| number(Node::Input(name)));
            rule.complete(coeffs, sums, number(Node::Input("len"))).to_vec()
        })
    }

    /// The coefficients of a step and behind them the new scalars, of `lr`, `step` and the scalars, which are kept in
    /// `f32` if `single`. All numbers in it are constants.
    pub fn of_coeffs<R: Rule<C, S>, const C: usize, const S: usize>(rule: &R, single: bool) -> Self {
        record(Literals::Hoisted, || {
            let is_scalar = |k: usize| R::SCALARS[k];
            let scalars =
                core::array::from_fn(
                    |k| {
                        if is_scalar(k) { number(Node::Input(R::SLOTS[k])) } else { Symbol::lit(0.0) }
                    },
                );
            let (lr, step) = (number(Node::Input("lr")), number(Node::Input("step")));
            let (coeffs, scalars) = rule.begin(lr, step, scalars, single);
            let stored = (0..S).filter(|&k| is_scalar(k)).map(|k| scalars[k]);
            coeffs.into_iter().chain(stored).collect()
        })
    }
}

/// What an element's formula starts from: the coefficients, the parameter, the gradient and the slots.
fn inputs<R: Rule<C, S>, const C: usize, const S: usize>(rule: &R) -> ([Symbol; C], Symbol, Symbol, [Symbol; S]) {
    let coeffs = R::COEFFS.map(|name| number(Node::Coeff(name)));
    let (param, grad) = (number(Node::Input("param")), number(Node::Input("grad")));
    let live = rule.live();
    let slots = core::array::from_fn(|k| if live[k] { number(Node::Input(R::SLOTS[k])) } else { Symbol::lit(0.0) });
    (coeffs, param, grad, slots)
}

macro_rules! operators {
    ($($name:ident $method:ident),+) => {
        $(
            impl $name for Symbol {
                type Output = Self;

                fn $method(self, other: Self) -> Self {
                    number(Node::$name(self, other))
                }
            }
        )+
    };
}

operators!(Add add, Sub sub, Mul mul, Div div);

impl Neg for Symbol {
    type Output = Self;

    fn neg(self) -> Self {
        number(Node::Neg(self))
    }
}

impl Number for Symbol {
    fn lit(value: f64) -> Self {
        TAPE.with_borrow_mut(|tape| tape.literal(value))
    }

    fn sqrt(self) -> Self {
        number(Node::Sqrt(self))
    }

    fn fma(self, factor: Self, addend: Self) -> Self {
        number(Node::Fma(self, factor, addend))
    }

    fn max(self, other: Self) -> Self {
        number(Node::Max(self, other))
    }

    fn pow(self, exponent: Self) -> Self {
        number(Node::Pow(self, exponent))
    }

    fn if_equal(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
        number(Node::IfEqual(left, right, then, otherwise))
    }

    fn if_less(left: Self, right: Self, then: Self, otherwise: Self) -> Self {
        number(Node::IfLess(left, right, then, otherwise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &'static str) -> Symbol {
        number(Node::Input(name))
    }

    #[test]
    fn a_number_that_is_used_twice_is_computed_once() {
        let recording = record(Literals::Kept, || {
            let (x, y) = (input("x"), input("y"));
            vec![(x * y) + (x * y), x.fma(y, x * y)]
        });
        let [x, y, product] = [0, 1, 2].map(Symbol);
        let expected = [
            Node::Input("x"),
            Node::Input("y"),
            Node::Mul(x, y),
            Node::Add(product, product),
            Node::Fma(x, y, product),
        ];
        assert_eq!(recording.nodes, expected);
        assert_eq!(recording.outputs, [3, 4].map(Symbol));
    }

    #[test]
    fn what_no_output_needs_is_left_out() {
        let recording = record(Literals::Hoisted, || {
            let (x, dead) = (input("x"), input("y").sqrt() * Symbol::lit(3.0));
            let _ = dead.max(x);
            vec![x + Symbol::lit(4.0)]
        });
        assert_eq!(recording.nodes, [Node::Input("x"), Node::Constant(0), Node::Add(Symbol(0), Symbol(1))]);
        assert_eq!(recording.constants, [4.0]);
    }

    #[test]
    fn options_of_one_value_stay_two() {
        let recording = record(Literals::Hoisted, || vec![Symbol::lit(0.5) - Symbol::lit(0.5)]);
        assert_eq!(recording.nodes, [Node::Constant(0), Node::Constant(1), Node::Sub(Symbol(0), Symbol(1))]);
    }

    #[test]
    fn a_recording_within_another_leaves_it_alone() {
        let outer = record(Literals::Kept, || {
            let x = input("x");
            record(Literals::Kept, || vec![input("z"), input("y")]);
            vec![x + x]
        });
        assert_eq!(outer.nodes, [Node::Input("x"), Node::Add(Symbol(0), Symbol(0))]);
    }
}
