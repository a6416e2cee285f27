//! The kernels of a GPU: each compiled and loaded once, by a device and a compiler that count.

use std::ffi::c_void;
use std::sync::{Arc, Mutex};
use std::thread;

use torchpace::cuda::cache::{Cache, Key};
use torchpace::cuda::device::{Compile, Device, Function, Stream, Target};
use torchpace::cuda::gpu::Gpu;
use torchpace::cuda::source::Kernel;
use torchpace::error::Error;

use crate::caching::empty_folder;

/// Takes the code of [`Compiler`] alone. Its clones are one.
#[derive(Clone)]
struct Loader {
    capability: u32,
    loads: Arc<Mutex<Vec<String>>>,
}

/// Makes code that says what it was made of. Its texts are counted; those in `refuses` do not compile.
#[derive(Default)]
struct Compiler {
    texts: Mutex<Vec<(String, Target)>>,
    refuses: Mutex<Vec<String>>,
    makes_wrong_code: bool,
}

fn loader(capability: u32) -> Loader {
    Loader { capability, loads: Arc::default() }
}

fn refusal() -> Error {
    Error::CudaDriver { call: "cuModuleLoadData", reason: "CUDA_ERROR_NO_BINARY_FOR_GPU".to_owned() }
}

impl Device for Loader {
    fn capability(&self) -> u32 {
        self.capability
    }

    fn processors(&self) -> u32 {
        1
    }

    fn load(&self, code: &[u8], name: &str) -> Result<Function, Error> {
        let mut loads = self.loads.lock().unwrap();
        loads.push(name.to_owned());
        if !code.starts_with(b"code of ") {
            return Err(refusal());
        }
        Ok(Function { handle: loads.len(), resident: 1 })
    }

    unsafe fn launch(&self, _: &Function, _: u32, _: Stream, _: &[*mut c_void]) -> Result<(), Error> {
        unreachable!("nothing is launched here")
    }

    unsafe fn read(&self, _: u64, _: &mut [u8], _: Stream) -> Result<(), Error> {
        unreachable!("nothing is read here")
    }

    fn is_capturing(&self, _: Stream) -> Result<bool, Error> {
        unreachable!("nothing is asked of a stream here")
    }
}

impl Compile for Compiler {
    fn version(&self) -> (u32, u32) {
        (13, 0)
    }

    fn capabilities(&self) -> Result<Vec<u32>, Error> {
        Ok(vec![75, 80, 90])
    }

    fn code(&self, text: &str, target: Target) -> Result<Vec<u8>, Error> {
        self.texts.lock().unwrap().push((text.to_owned(), target));
        if self.refuses.lock().unwrap().iter().any(|refused| refused == text) {
            let reason = "NVRTC_ERROR_COMPILATION".to_owned();
            return Err(Error::Nvrtc { call: "nvrtcCompileProgram", reason, log: "the log".to_owned() });
        }
        let start = if self.makes_wrong_code { "wrong" } else { "code" };
        Ok(format!("{start} of {text}").into_bytes())
    }
}

impl Compiler {
    fn count(&self) -> usize {
        self.texts.lock().unwrap().len()
    }
}

fn gpu(device: &Loader, compiler: &Arc<Compiler>, cache: Cache) -> Gpu {
    Gpu::new(Box::new(device.clone()), Arc::clone(compiler) as Arc<dyn Compile>, cache).unwrap()
}

fn kernel(name: &str, text: &str) -> Kernel {
    Kernel { name: name.to_owned(), text: text.to_owned() }
}

#[test]
fn threads_that_want_the_same_kernels_have_each_made_once() {
    let (device, compiler) = (loader(90), Arc::<Compiler>::default());
    let gpu = gpu(&device, &compiler, Cache::at(empty_folder("gpu_threads")));
    let kernels: Vec<_> = (0..5).map(|k| kernel(&format!("k{k}"), &format!("text {k}"))).collect();
    let all = || kernels.iter().map(|kernel| gpu.function(kernel).unwrap()).collect::<Vec<_>>();
    let found = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(all)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(found.iter().all(|functions| *functions == found[0]));
    assert_eq!(compiler.count(), 5);
    let mut loads = device.loads.lock().unwrap().clone();
    loads.sort();
    assert_eq!(loads, ["k0", "k1", "k2", "k3", "k4"]);
    assert!(compiler.texts.lock().unwrap().iter().all(|(_, target)| *target == Target::Cubin(90)));
}

#[test]
fn kernels_of_one_name_and_two_texts_are_two() {
    let (device, compiler) = (loader(90), Arc::<Compiler>::default());
    let gpu = gpu(&device, &compiler, Cache::at(empty_folder("gpu_names")));
    let [first, second] = ["one", "two"].map(|text| gpu.function(&kernel("same", text)).unwrap());
    assert_ne!(first, second);
}

#[test]
fn a_second_gpu_has_its_code_from_the_cache() {
    let compiler = Arc::<Compiler>::default();
    let cache = Cache::at(empty_folder("gpu_second"));
    for loads in 1..=2 {
        let device = loader(90);
        gpu(&device, &compiler, cache.clone()).function(&kernel("k", "text")).unwrap();
        assert_eq!((compiler.count(), device.loads.lock().unwrap().len()), (1, 1), "GPU {loads}");
    }
}

#[test]
fn code_of_the_cache_that_is_refused_is_compiled_anew() {
    let (device, compiler) = (loader(90), Arc::<Compiler>::default());
    let cache = Cache::at(empty_folder("gpu_refused"));
    let key = Key { text: "text", target: Target::Cubin(90), version: (13, 0) };
    cache.get(key, || Ok(b"of another driver".to_vec())).unwrap();
    gpu(&device, &compiler, cache.clone()).function(&kernel("k", "text")).unwrap();
    assert_eq!((compiler.count(), device.loads.lock().unwrap().len()), (1, 2));
    assert_eq!(cache.get(key, || panic!("it is in the cache")).unwrap(), b"code of text");
}

#[test]
fn code_just_compiled_that_is_refused_is_an_error() {
    let compiler = Arc::new(Compiler { makes_wrong_code: true, ..Compiler::default() });
    let cache = Cache::at(empty_folder("gpu_unsupported"));
    // In the second round the wrong code is in the cache; then it is compiled once more, and no more than that.
    for (compiled, loaded) in [(1, 1), (2, 2)] {
        let device = loader(90);
        let function = gpu(&device, &compiler, cache.clone()).function(&kernel("k", "text"));
        assert_eq!(function, Err(refusal()));
        assert_eq!((compiler.count(), device.loads.lock().unwrap().len()), (compiled, loaded));
    }
}

#[test]
fn what_does_not_compile_is_tried_again_by_the_next_call() {
    let (device, compiler) = (loader(90), Arc::<Compiler>::default());
    let gpu = gpu(&device, &compiler, Cache::at(empty_folder("gpu_errors")));
    compiler.refuses.lock().unwrap().push("text".to_owned());
    for count in 1..=2 {
        let error = gpu.function(&kernel("k", "text")).unwrap_err();
        assert_eq!(error.to_string(), "nvrtcCompileProgram: NVRTC_ERROR_COMPILATION\nthe log");
        assert_eq!(compiler.count(), count);
    }
    assert!(device.loads.lock().unwrap().is_empty());
    compiler.refuses.lock().unwrap().clear();
    gpu.function(&kernel("k", "text")).unwrap();
    assert_eq!((compiler.count(), device.loads.lock().unwrap().len()), (3, 1));
}

#[test]
fn a_gpu_later_than_the_compiler_gets_ptx_and_one_too_old_none() {
    let compiler = Arc::<Compiler>::default();
    let later = gpu(&loader(120), &compiler, Cache::at(empty_folder("gpu_ptx")));
    later.function(&kernel("k", "text")).unwrap();
    assert_eq!(*compiler.texts.lock().unwrap(), [("text".to_owned(), Target::Ptx(90))]);
    assert_eq!(later.device().capability(), 120);
    let cache = Cache::at(empty_folder("gpu_old"));
    let old = Gpu::new(Box::new(loader(70)), compiler, cache).map(drop);
    assert_eq!(old, Err(Error::OldGpu { found: 70, expected: vec![75, 80, 90] }));
}
