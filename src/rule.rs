//! What an optimizer is: one update rule, and where its options come from.

use crate::error::Error;
use crate::number::Number;

/// An update rule: what happens to one element of a parameter in one step.
///
/// A rule knows its formula and nothing else. Missing gradients, memory layouts, groups, devices, threads and the sign
/// of the gradient under `maximize` belong to the driver.
///
/// `C` is the number of coefficients of a step, `S` the number of state buffers (slots).
pub trait Rule<const C: usize, const S: usize>: Copy + PartialEq + Send + Sync + 'static {
    /// The name under which a face asks for the rule.
    const NAME: &'static str;
    /// The names of the coefficients, in the order of [`coeffs`](Rule::coeffs).
    const COEFFS: [&'static str; C];
    /// The option that each coefficient comes of, beside the learning rate and the step.
    const ORIGINS: [Origin; C];
    /// The names of the slots, as in torch's `state_dict`.
    const SLOTS: [&'static str; S];
    /// The slots that an option brings to life beside others, which may happen in mid-training: they begin at 0 then.
    const LATE: [bool; S] = [false; S];
    /// The slots that begin as the parameter is, not at 0.
    const AS_PARAM: [bool; S] = [false; S];
    /// Which slots are scalars: one number for the whole parameter, as its step count, and no tensor of its shape.
    const SCALARS: [bool; S] = [false; S];
    /// Whether any are.
    const HAS_SCALARS: bool = any(Self::SCALARS);
    /// Whether the state of a parameter counts its steps under the name `step`.
    const COUNTED: bool;
    /// Whether some options make the update depend on [sums](Rule::needs_sums).
    const HAS_SUMS: bool = false;
    /// Whether the update depends on the sums over all parameters of all groups together, which the rule is
    /// [told](Rule::learn) before it. Such a rule is not [`COUNTED`](Rule::COUNTED) and keeps no scalars.
    const OVER_ALL: bool = false;

    /// The rule under the options of one parameter group.
    fn read(options: &dyn Options) -> Result<Self, Error>;

    /// The coefficients of a step, as far as they come of the learning rate and the step alone.
    ///
    /// `step` counts this parameter's own updates from 1, this one included. A rule that is not
    /// [`COUNTED`](Rule::COUNTED) sees 1 while its slots are new, and 2 ever after.
    fn coeffs<N: Number>(&self, lr: N, step: N) -> [N; C];

    /// The coefficients completed by the parameter's scalars, and what those become; `single` says whether they are kept
    /// in `f32`, and what is made of them in the step in `f64`. Slots that are no scalars come as 0 and are not stored.
    fn advance<N: Number>(&self, coeffs: [N; C], scalars: [N; S], single: bool) -> ([N; C], [N; S]) {
        let _ = single;
        (coeffs, scalars)
    }

    /// The coefficients of a step, and what the scalars become in it.
    #[inline]
    fn begin<N: Number>(&self, lr: N, step: N, scalars: [N; S], single: bool) -> ([N; C], [N; S]) {
        self.advance(self.coeffs(lr, step), scalars, single)
    }

    /// Whether the update depends on sums over all elements of the parameter under these options.
    fn needs_sums(&self) -> bool {
        false
    }

    /// The coefficients completed by these sums over the parameter's `len` elements. No number of the options may be in
    /// it that is not among the coefficients: on a GPU this is part of a kernel's text.
    fn complete<N: Number>(&self, coeffs: [N; C], sums: [N; SUMS], len: N) -> [N; C] {
        let _ = (sums, len);
        coeffs
    }

    /// What an element adds to each sum: the product of two numbers. Of the element as it is before its
    /// [`update`](Rule::update).
    fn summands<T: Number>(&self, coeffs: [T; C], param: T, grad: T, slots: [T; S]) -> [[T; 2]; SUMS] {
        let _ = (coeffs, param, grad, slots);
        [[T::lit(0.0); 2]; SUMS]
    }

    /// Takes in the sums over all parameters, from which the coefficients are then made anew.
    fn learn(&mut self, sums: [f64; SUMS]) {
        let _ = sums;
    }

    /// What the groups keep of that for the next step: options and their new values.
    fn learned(&self) -> Learned {
        Learned::new()
    }

    /// The options that are to be the same in all groups.
    fn shared(&self) -> Learned {
        Learned::new()
    }

    /// Which slots exist under these options, but for scalars, which always do.
    fn live(&self) -> [bool; S];

    /// The new element and its new slots. A slot that is not live comes as 0 and is not stored.
    fn update<T: Number>(&self, coeffs: [T; C], param: T, grad: T, slots: [T; S]) -> (T, [T; S]);
}

/// Options and their values.
pub type Learned = Vec<(&'static str, f64)>;

/// How many sums a rule may need.
pub const SUMS: usize = 2;

const fn any<const S: usize>(flags: [bool; S]) -> bool {
    let mut k = 0;
    while k < S {
        if flags[k] {
            return true;
        }
        k += 1;
    }
    false
}

/// What a coefficient is made of, to say so where it comes out infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The value of this option, or a sum with it: as finite as that.
    Value(&'static str),
    /// Something divided by what this option can make 0.
    Quotient(&'static str),
    /// Something divided by the root of what this option can make 0 or less.
    Root(&'static str),
}

/// The options of one parameter group, however a face keeps them.
pub trait Options {
    /// A number.
    fn number(&self, name: &'static str) -> Result<f64, Error>;
    /// A number, or none where there is none or it is None.
    fn optional(&self, name: &'static str) -> Result<Option<f64>, Error>;
    /// As many numbers as there is room for.
    fn numbers(&self, name: &'static str, into: &mut [f64]) -> Result<(), Error>;
    /// Two numbers.
    fn pair(&self, name: &'static str) -> Result<[f64; 2], Error> {
        let mut pair = [0.0; 2];
        self.numbers(name, &mut pair)?;
        Ok(pair)
    }
    /// Three numbers.
    fn triple(&self, name: &'static str) -> Result<[f64; 3], Error> {
        let mut triple = [0.0; 3];
        self.numbers(name, &mut triple)?;
        Ok(triple)
    }
    /// True or false.
    fn flag(&self, name: &'static str) -> Result<bool, Error>;
    /// True or false; false where there is no such option. For those that torch lacks, and so its checkpoints.
    fn extra(&self, name: &'static str) -> Result<bool, Error>;
}
