//! stand-in
use super::cache::{Cache, Key};
use super::device::{Compile, Device, Function};
use super::nvrtc::Target;
use super::source::Kernel;
use crate::error::Error;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
/// A
pub struct Gpu {
    device: Box<dyn Device>,
    compiler: Arc<dyn Compile>,
    cache: Cache,
    target: Target,
    functions: Mutex<HashMap<String, Function>>,
}
impl Gpu {
    /// A
    pub fn new(device: Box<dyn Device>, compiler: Arc<dyn Compile>, cache: Cache) -> Result<Self, Error> {
        let target = Target::of_device(device.capability(), &compiler.capabilities()?)?;
        Ok(Self { device, compiler, cache, target, functions: Mutex::default() })
    }
    /// A
    pub fn open(_ordinal: i32, _folders: &[PathBuf]) -> Result<Self, Error> {
        Err(Error::NoCudaDriver { reason: "stand-in".into() })
    }
    /// A
    pub fn device(&self) -> &dyn Device {
        &*self.device
    }
    /// A
    pub fn function(&self, kernel: &Kernel) -> Result<Function, Error> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(f) = functions.get(&kernel.text) {
            return Ok(*f);
        }
        let key = Key { text: &kernel.text, target: self.target, version: self.compiler.version() };
        let code = self.cache.get(key, || self.compiler.code(&kernel.text, self.target))?;
        let f = self.device.load(&code, &kernel.name)?;
        functions.insert(kernel.text.clone(), f);
        Ok(f)
    }
}
