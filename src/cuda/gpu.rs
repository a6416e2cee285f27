//! The kernels of a GPU: each made once a process.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::cache::{Cache, Key};
use super::device::{Compile, Device, Function, Target};
use super::driver::CudaDevice;
use super::nvrtc::Nvrtc;
use super::source::Kernel;
use crate::error::Error;

/// A device, and what makes kernels for it.
pub struct Gpu {
    device: Box<dyn Device>,
    compiler: Arc<dyn Compile>,
    cache: Cache,
    target: Target,
    /// Those that are loaded, by their text.
    functions: Mutex<HashMap<String, Function>>,
}

impl Gpu {
    /// The device of this number, as [`CudaDevice::open`] counts, and NVRTC from one of `folders` or from where the
    /// loader looks; kernels are kept in the user's cache folder.
    ///
    /// # Errors
    ///
    /// There is no driver or no compiler, or the device is too old for it.
    pub fn open(ordinal: i32, folders: &[PathBuf]) -> Result<Self, Error> {
        let device = CudaDevice::open(ordinal)?;
        Self::new(Box::new(device), compiler(folders)?, Cache::of_user())
    }

    /// A device and a compiler.
    ///
    /// # Errors
    ///
    /// The compiler makes no code for the device, or does not say what it knows.
    pub fn new(device: Box<dyn Device>, compiler: Arc<dyn Compile>, cache: Cache) -> Result<Self, Error> {
        let target = Target::of_device(device.capability(), &compiler.capabilities()?)?;
        Ok(Self { device, compiler, cache, target, functions: Mutex::default() })
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }

    /// A kernel, loaded: compiled if no cache has it.
    ///
    /// # Errors
    ///
    /// It cannot be compiled or loaded; the next call tries again.
    pub fn function(&self, kernel: &Kernel) -> Result<Function, Error> {
        // Held while a kernel is made, so that two threads do not both make it.
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&kernel.text) {
            return Ok(*function);
        }
        let key = Key { text: &kernel.text, target: self.target, version: self.compiler.version() };
        let is_new = Cell::new(false);
        let compile = || {
            is_new.set(true);
            self.compiler.code(&kernel.text, self.target)
        };
        let code = self.cache.get(key, compile)?;
        let function = match self.device.load(&code, &kernel.name) {
            // A file can be whole and its code wrong all the same.
            Err(_) if !is_new.get() => self.device.load(&self.cache.renew(key, compile)?, &kernel.name)?,
            loaded => loaded?,
        };
        functions.insert(kernel.text.clone(), function);
        Ok(function)
    }
}

/// The compiler, one for all devices of the process.
fn compiler(folders: &[PathBuf]) -> Result<Arc<dyn Compile>, Error> {
    static COMPILER: Mutex<Option<Arc<dyn Compile>>> = Mutex::new(None);
    let mut compiler = COMPILER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = &*compiler {
        return Ok(Arc::clone(loaded));
    }
    Ok(Arc::clone(compiler.insert(Arc::new(Nvrtc::load(folders)?))))
}
