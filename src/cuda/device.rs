//! What the CUDA backend asks of a device and of a compiler: traits, so that it can be tested without either.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::fmt;

use crate::error::Error;

/// A GPU, by the functions of its driver. What is asked for "on a stream" is done after all that was put there before.
pub trait Device: Send + Sync {
    /// The compute capability, times 10.
    fn capability(&self) -> u32;

    /// The number of its multiprocessors.
    fn processors(&self) -> u32;

    /// Loads a kernel out of a cubin or PTX. It stays loaded.
    ///
    /// # Errors
    ///
    /// The driver's.
    fn load(&self, code: &[u8], name: &str) -> Result<Function, Error>;

    /// Puts a launch of `grid` blocks of [`THREADS`](super::layout::THREADS) on a stream. `arguments` point to the
    /// kernel's arguments in their order, which are read before it returns.
    ///
    /// # Errors
    ///
    /// The driver's; among them those of earlier launches.
    ///
    /// # Safety
    ///
    /// The arguments must be those of the kernel, and the memory that it touches must be there until it has run.
    unsafe fn launch(
        &self,
        function: &Function,
        grid: u32,
        stream: Stream,
        arguments: &[*mut c_void],
    ) -> Result<(), Error>;

    /// Reads memory of the device, and waits for it.
    ///
    /// # Errors
    ///
    /// The driver's.
    ///
    /// # Safety
    ///
    /// As many bytes as `into` has must be there.
    unsafe fn read(&self, from: u64, into: &mut [u8], stream: Stream) -> Result<(), Error>;

    /// Whether a graph captures what is put on a stream.
    ///
    /// # Errors
    ///
    /// The driver's.
    fn is_capturing(&self, stream: Stream) -> Result<bool, Error>;
}

/// A loaded kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// The driver's handle.
    pub handle: usize,
    /// How many of its blocks a multiprocessor runs at once.
    pub resident: u32,
}

/// A stream of a device, by the driver's handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(pub usize);

/// What makes code of texts.
pub trait Compile: Send + Sync {
    /// Its version, as (13, 0).
    fn version(&self) -> (u32, u32);

    /// The compute capabilities that it makes machine code for.
    ///
    /// # Errors
    ///
    /// The compiler's.
    fn capabilities(&self) -> Result<Vec<u32>, Error>;

    /// Compiles a text.
    ///
    /// # Errors
    ///
    /// The compiler's, with what it said.
    fn code(&self, text: &str, target: Target) -> Result<Vec<u8>, Error>;
}

/// What code is made for, by the compute capability (90 for 9.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Machine code for this capability.
    Cubin(u32),
    /// Code that the driver compiles for this capability or a later one.
    Ptx(u32),
}

impl fmt::Display for Target {
    /// As the compiler is told.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Cubin(capability) => write!(f, "sm_{capability}"),
            Target::Ptx(capability) => write!(f, "compute_{capability}"),
        }
    }
}

impl Target {
    /// What suits a device of this capability, where the compiler knows these: machine code if it knows the device;
    /// else PTX for the latest of those before, which runs on later ones.
    ///
    /// # Errors
    ///
    /// The compiler knows only later ones.
    pub fn of_device(capability: u32, known: &[u32]) -> Result<Self, Error> {
        if known.contains(&capability) {
            return Ok(Target::Cubin(capability));
        }
        let before = known.iter().copied().filter(|&known| known < capability).max();
        before.map(Target::Ptx).ok_or_else(|| Error::OldGpu { found: capability, expected: known.to_vec() })
    }
}
