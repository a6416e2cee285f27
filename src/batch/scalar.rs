//! Numbers of a parameter's state: its step count, and the scalars of some rules.
#![allow(unsafe_code)]

use crate::tensor::{Device, Dtype, View};

/// One number of a parameter's state.
pub(crate) struct Scalar {
    pub at: *mut u8,
    pub dtype: Dtype,
    /// Whether the host can read and write it.
    pub is_host: bool,
}

/// A parameter's scalars, in the places of the slots.
pub(crate) type Scalars<const S: usize> = [Option<Scalar>; S];

/// What the scalars of a parameter are.
#[derive(Clone, Copy)]
pub(crate) struct Known<const S: usize> {
    /// 0 in the place of another slot, NaN where only the device knows.
    pub numbers: [f64; S],
    /// Whether they are kept in `f32`.
    pub single: bool,
}

/// Where a parameter's step count is, and what it becomes.
pub(crate) struct Count {
    pub place: Scalar,
    /// What it becomes; NaN where only the device knows.
    pub value: f64,
}

// SAFETY: the pointer is that of a view whose memory `Ready` borrows, and of nothing else that the step touches.
unsafe impl Send for Scalar {}
// SAFETY: as above.
unsafe impl Sync for Scalar {}

impl Scalar {
    /// The number in `view`, which `Operands::refusal` let pass.
    pub fn of(view: &View<'_>) -> Self {
        Self { at: view.data(), dtype: view.dtype(), is_host: view.device() == Device::Cpu }
    }

    /// What it is; NaN where only the device knows.
    ///
    /// # Safety
    ///
    /// The number must still be there.
    pub unsafe fn read(&self) -> f64 {
        if !self.is_host {
            return f64::NAN;
        }
        // SAFETY: the caller's promise.
        unsafe {
            match self.dtype {
                Dtype::F64 => self.at.cast::<f64>().read_unaligned(),
                _ => f64::from(self.at.cast::<f32>().read_unaligned()),
            }
        }
    }

    /// Enters what it becomes; nothing where only the device can.
    pub fn write(&self, value: f64) {
        if !self.is_host {
            return;
        }
        // SAFETY: the view's promise; the number shares no memory with anything else of the step.
        unsafe {
            match self.dtype {
                Dtype::F64 => self.at.cast::<f64>().write_unaligned(value),
                _ => self.at.cast::<f32>().write_unaligned(value as f32),
            }
        }
    }
}

impl Count {
    /// The count that comes after the one in `view`, which `Operands::refusal` let pass.
    pub fn next(view: &View<'_>) -> Self {
        let mut count = Self { place: Scalar::of(view), value: f64::NAN };
        // SAFETY: the view's promise; one number of this type was let pass.
        unsafe { count.renew() };
        count
    }

    /// Goes on to the count that comes after what is there now.
    ///
    /// # Safety
    ///
    /// The number must still be there.
    pub unsafe fn renew(&mut self) {
        // SAFETY: the caller's promise.
        self.value = 1.0 + unsafe { self.place.read() };
    }
}

impl<const S: usize> Known<S> {
    /// What there is where the rule has no scalars.
    pub const NONE: Self = Self { numbers: [0.0; S], single: false };

    /// What scalars are now.
    ///
    /// # Safety
    ///
    /// They must still be there.
    pub unsafe fn of(scalars: &Scalars<S>) -> Self {
        // SAFETY: the caller's promise.
        let numbers = scalars.each_ref().map(|scalar| scalar.as_ref().map_or(0.0, |scalar| unsafe { scalar.read() }));
        let single = scalars.iter().flatten().any(|scalar| scalar.dtype == Dtype::F32);
        Self { numbers, single }
    }

    /// Whether others are the same, to the bit.
    pub fn is(&self, other: &Self) -> bool {
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        self.single == other.single && self.numbers.iter().zip(&other.numbers).all(same)
    }
}
