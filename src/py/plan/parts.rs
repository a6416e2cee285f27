//! What there is of each of a parameter's tensors.

/// One thing for each tensor of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parts<T, const S: usize> {
    pub param: T,
    pub grad: T,
    pub step: T,
    pub slots: [T; S],
}

/// Which of a parameter's tensors it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Param,
    Grad,
    State(&'static str),
}

impl Role {
    /// Its name in a message.
    pub fn name(self) -> &'static str {
        match self {
            Role::Param => "param",
            Role::Grad => "grad",
            Role::State(name) => name,
        }
    }
}

impl<T: Copy, const S: usize> Parts<T, S> {
    /// The same for all.
    pub const fn all(thing: T) -> Self {
        Self { param: thing, grad: thing, step: thing, slots: [thing; S] }
    }

    /// The things with their roles, the slots having these names.
    pub fn each_mut<'a>(&'a mut self, names: &'a [&'static str; S]) -> impl Iterator<Item = (Role, &'a mut T)> {
        let Self { param, grad, step, slots } = self;
        let slots = slots.iter_mut().zip(names).map(|(slot, name)| (Role::State(name), slot));
        [(Role::Param, param), (Role::Grad, grad), (Role::State("step"), step)].into_iter().chain(slots)
    }

    /// The things, the parameter's first, then the gradient's.
    #[inline(always)]
    pub fn each(&self) -> impl Iterator<Item = T> + use<'_, T, S> {
        [self.param, self.grad, self.step].into_iter().chain(self.slots.iter().copied())
    }
}
