//! NVRTC, the run-time compiler of CUDA: found and loaded when it is asked for, and nothing of it before.
#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::ManuallyDrop;
use core::ptr;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libloading::Library;

use super::device::{Compile, Target};
use super::search;
use crate::error::Error;

/// How every kernel is compiled: each operation rounds by itself, to nearest, as on the CPU.
pub const OPTIONS: [&str; 5] = ["--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"];

/// The library, never unloaded: what it does when a process ends is in no known order with that.
pub struct Nvrtc {
    functions: Functions,
    version: (u32, u32),
    path: PathBuf,
    /// Older releases compile one program at a time.
    compiles: Mutex<()>,
}

/// What was compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// A cubin, or PTX that ends with a NUL.
    pub code: Vec<u8>,
    /// What the compiler said.
    pub log: String,
}

type Program = *mut c_void;
type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type GetSize = unsafe extern "C" fn(Program, *mut usize) -> c_int;

struct Functions {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    architecture_count: unsafe extern "C" fn(*mut c_int) -> c_int,
    architectures: unsafe extern "C" fn(*mut c_int) -> c_int,
    reason: unsafe extern "C" fn(c_int) -> *const c_char,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    log: (GetSize, Get),
    cubin: (GetSize, Get),
    ptx: (GetSize, Get),
}

impl Nvrtc {
    /// Loads the library: from one of `folders` (where torch's packages keep it), from `CUDA_HOME` or `CUDA_PATH`, or
    /// from where the loader looks.
    ///
    /// # Errors
    ///
    /// It is in none of these places, or lacks a function.
    pub fn load(folders: &[PathBuf]) -> Result<Self, Error> {
        let mut tried = Vec::new();
        for path in search::nvrtc(folders) {
            match Self::open(&path) {
                Ok(nvrtc) => return Ok(nvrtc),
                Err(reason) => tried.push(format!("{}: {reason}", path.display())),
            }
        }
        Err(Error::NoNvrtc { folders: folders.to_vec(), tried })
    }

    fn open(path: &Path) -> Result<Self, String> {
        // It opens this by its name alone when it first compiles, and finds it if it is there already.
        for builtins in search::builtins_beside(path) {
            // SAFETY: a library of NVIDIA's, which does nothing when it is loaded.
            core::mem::forget(unsafe { Library::new(builtins) });
        }
        // SAFETY: as above.
        let library = ManuallyDrop::new(unsafe { Library::new(path) }.map_err(|error| search::reason(&error))?);
        let functions = Functions::of(&library).map_err(|error| search::reason(&error))?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: two numbers to write to.
        match unsafe { (functions.version)(&raw mut major, &raw mut minor) } {
            0 => {
                let version = (major.unsigned_abs(), minor.unsigned_abs());
                Ok(Self { functions, version, path: path.to_owned(), compiles: Mutex::new(()) })
            }
            code => Err(format!("nvrtcVersion: {}", functions.reason_of(code))),
        }
    }

    /// Its version, as (13, 0).
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// What was loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The compute capabilities that it makes machine code for.
    ///
    /// # Errors
    ///
    /// It does not say.
    pub fn capabilities(&self) -> Result<Vec<u32>, Error> {
        let mut count = 0;
        // SAFETY: a number to write to.
        self.check("nvrtcGetNumSupportedArchs", unsafe { (self.functions.architecture_count)(&raw mut count) })?;
        let mut all = vec![0_i32; count.unsigned_abs() as usize];
        // SAFETY: as many numbers as it said.
        self.check("nvrtcGetSupportedArchs", unsafe { (self.functions.architectures)(all.as_mut_ptr()) })?;
        Ok(all.into_iter().map(i32::unsigned_abs).collect())
    }

    /// Compiles a text under the [`OPTIONS`] and `further` ones.
    ///
    /// # Errors
    ///
    /// It cannot be compiled; with what the compiler said.
    pub fn compile(&self, text: &str, target: Target, further: &[&str]) -> Result<Compiled, Error> {
        let architecture = format!("--gpu-architecture={target}");
        let options = OPTIONS.iter().chain(further).copied().chain([architecture.as_str()]);
        let options = options.map(c_string).collect::<Result<Vec<_>, _>>()?;
        let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
        let text = c_string(text)?;
        let _alone = self.compiles.lock().unwrap_or_else(PoisonError::into_inner);
        let mut program = Made { program: ptr::null_mut(), functions: &self.functions };
        // SAFETY: texts that end with a NUL; no headers.
        self.check("nvrtcCreateProgram", unsafe {
            let (name, no_headers) = (c"torchpace.cu".as_ptr(), ptr::null());
            (self.functions.create)(&raw mut program.program, text.as_ptr(), name, 0, no_headers, no_headers)
        })?;
        // SAFETY: the program just made, and as many options as are said.
        let code = unsafe { (self.functions.compile)(program.program, options.len() as c_int, options.as_ptr()) };
        let log = self.read("nvrtcGetProgramLog", &program, self.functions.log);
        let log = log.map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\0').trim().to_owned());
        if code != 0 {
            return Err(self.failure("nvrtcCompileProgram", code, log.unwrap_or_default()));
        }
        let code = match target {
            Target::Cubin(_) => self.read("nvrtcGetCUBIN", &program, self.functions.cubin)?,
            Target::Ptx(_) => self.read("nvrtcGetPTX", &program, self.functions.ptx)?,
        };
        Ok(Compiled { code, log: log? })
    }

    /// What a pair of functions tells of a program.
    fn read(&self, call: &'static str, program: &Made<'_>, (size, get): (GetSize, Get)) -> Result<Vec<u8>, Error> {
        let mut count = 0;
        // SAFETY: a program that is there, and a number to write to.
        self.check(call, unsafe { size(program.program, &raw mut count) })?;
        let mut bytes = vec![0_u8; count];
        // SAFETY: as many bytes as it said.
        self.check(call, unsafe { get(program.program, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<(), Error> {
        if code == 0 { Ok(()) } else { Err(self.failure(call, code, String::new())) }
    }

    fn failure(&self, call: &'static str, code: c_int, log: String) -> Error {
        Error::Nvrtc { call, reason: self.functions.reason_of(code), log }
    }
}

/// A program, destroyed at the end.
struct Made<'a> {
    program: Program,
    functions: &'a Functions,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: made by the same library, and not used any more.
            unsafe { (self.functions.destroy)(&raw mut self.program) };
        }
    }
}

impl Functions {
    fn of(library: &Library) -> Result<Self, libloading::Error> {
        // SAFETY: the types of these functions in nvrtc.h, since CUDA 11.2.
        unsafe {
            Ok(Self {
                version: *library.get(b"nvrtcVersion")?,
                architecture_count: *library.get(b"nvrtcGetNumSupportedArchs")?,
                architectures: *library.get(b"nvrtcGetSupportedArchs")?,
                reason: *library.get(b"nvrtcGetErrorString")?,
                create: *library.get(b"nvrtcCreateProgram")?,
                compile: *library.get(b"nvrtcCompileProgram")?,
                destroy: *library.get(b"nvrtcDestroyProgram")?,
                log: (*library.get(b"nvrtcGetProgramLogSize")?, *library.get(b"nvrtcGetProgramLog")?),
                cubin: (*library.get(b"nvrtcGetCUBINSize")?, *library.get(b"nvrtcGetCUBIN")?),
                ptx: (*library.get(b"nvrtcGetPTXSize")?, *library.get(b"nvrtcGetPTX")?),
            })
        }
    }

    fn reason_of(&self, code: c_int) -> String {
        // SAFETY: it returns a text that is always there, for any code.
        let reason = unsafe {
            let reason = (self.reason)(code);
            if reason.is_null() { c"an unknown error" } else { CStr::from_ptr(reason) }
        };
        reason.to_string_lossy().into_owned()
    }
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Nvrtc {
        call: "nvrtcCreateProgram",
        reason: "a text has a NUL within".to_owned(),
        log: String::new(),
    })
}

impl Compile for Nvrtc {
    fn version(&self) -> (u32, u32) {
        self.version()
    }

    fn capabilities(&self) -> Result<Vec<u32>, Error> {
        self.capabilities()
    }

    fn code(&self, text: &str, target: Target) -> Result<Vec<u8>, Error> {
        Ok(self.compile(text, target, &[])?.code)
    }
}
