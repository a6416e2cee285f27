//! Kernels compiled for the host.

use std::ffi::c_void;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;

use libloading::{Library, Symbol};
use torchpace::cuda::layout::THREADS;
use torchpace::cuda::source::Kernel;

/// Kernels in a library of their own. One launch at a time.
pub struct Host {
    library: Library,
    texts: Vec<String>,
}

/// Threads in a block whose threads wait for each other: each is one of the host's, and many take seconds.
const WAITING: u32 = 32;

/// A thread of a launch, as `shim.h` has it.
#[repr(C)]
struct Place {
    grid: u32,
    block: u32,
    block_index: u32,
    thread_index: u32,
    wait: extern "C" fn(*const Barrier),
    waited_for: *const Barrier,
}

/// What `__syncthreads` calls.
extern "C" fn wait(barrier: *const Barrier) {
    // SAFETY: that of the launch which the thread is of.
    unsafe { &*barrier }.wait();
}

/// Whether the threads of a block wait for each other.
fn waits(kernel: &Kernel) -> bool {
    kernel.text.contains("__syncthreads")
}

/// Compiles kernels, each in a namespace of its own, behind `shim.h`. All within one without a name: the `static` of an
/// inline function would else be one for all libraries of a process.
pub fn compile(name: &str, kernels: &[Kernel]) -> Host {
    let (mut source, mut cases, mut sizes) = (String::new(), String::new(), String::new());
    writeln!(source, "#include {:?}\n", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/shim.h")).unwrap();
    for (place, kernel) in kernels.iter().enumerate() {
        let mut text = kernel.text.replace("extern \"C\" __global__", "__global__");
        if waits(kernel) {
            let threads = format!("THREADS = {THREADS}");
            assert!(text.contains(&threads), "{}", kernel.name);
            text = text.replace(&threads, &format!("THREADS = {WAITING}"));
        }
        writeln!(source, "namespace {{ namespace k{place} {{\n{text}\n}} }}\n").unwrap();
        let name = &kernel.name;
        writeln!(cases, "    case {place}: return run(k{place}::{name}, here, arguments);").unwrap();
        writeln!(sizes, "    case {place}: return list_sizes(k{place}::{name}, sizes);").unwrap();
    }
    writeln!(
        source,
        "extern \"C\" void run(unsigned int kernel, const Place &here, void **arguments)\n{{\n    switch (kernel) {{\n{cases}    }}\n}}\n\n\
         extern \"C\" unsigned int sizes(unsigned int kernel, std::size_t *sizes)\n{{\n    switch (kernel) {{\n{sizes}    \
         }}\n    return 0;\n}}"
    )
    .unwrap();
    let folder = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let name = format!("torchpace-{}-{name}", std::process::id());
    let (text, library) = (folder.join(format!("{name}.cpp")), folder.join(format!("{name}.so")));
    std::fs::write(&text, source).unwrap();
    let mut command = Command::new(compiler());
    command.args(["-std=c++14", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC"]);
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("fma") {
        command.arg("-mfma");
    }
    let output = command.arg("-o").arg(&library).arg(&text).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    // SAFETY: the library has nothing that runs when it is loaded.
    let loaded = unsafe { Library::new(&library) }.unwrap();
    // What is loaded stays; the files do not, of which a run makes many.
    [text, library].iter().for_each(|file| drop(std::fs::remove_file(file)));
    Host { library: loaded, texts: kernels.iter().map(|kernel| kernel.text.clone()).collect() }
}

/// The C++ compiler of this machine.
pub fn compiler() -> String {
    let named = std::env::var("CXX").ok();
    let works =
        |name: &String| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    let usual = ["c++", "g++", "clang++"].map(str::to_owned);
    named.into_iter().chain(usual).find(works).expect("a C++ compiler (c++, g++ or clang++), which the tests need")
}

/// An argument of a kernel: where its bytes are.
pub fn argument<T>(value: &T) -> *mut c_void {
    std::ptr::from_ref(value).cast_mut().cast()
}

impl Host {
    /// The bytes of each argument of a kernel.
    pub fn sizes(&self, kernel: &Kernel) -> Vec<usize> {
        type Sizes = unsafe extern "C" fn(u32, *mut usize) -> u32;
        let place = self.texts.iter().position(|text| *text == kernel.text).unwrap() as u32;
        let mut sizes = [0; 64];
        // SAFETY: the function above; no kernel has so many arguments.
        let count = unsafe {
            let list: Symbol<'_, Sizes> = self.library.get(b"sizes").unwrap();
            list(place, sizes.as_mut_ptr())
        };
        sizes[..count as usize].to_vec()
    }

    /// Launches a kernel with pointers to its arguments, in the order of its text.
    ///
    /// # Safety
    ///
    /// The arguments must be what the text takes, and the memory that it touches must be there.
    pub unsafe fn launch(&self, kernel: &Kernel, grid: u32, arguments: &[*mut c_void]) {
        type Run = unsafe extern "C" fn(u32, &Place, *const *mut c_void);
        let number = self.texts.iter().position(|text| *text == kernel.text).unwrap() as u32;
        // SAFETY: the function above.
        let run: Symbol<'_, Run> = unsafe { self.library.get(b"run") }.unwrap();
        let arguments = arguments.as_ptr().expose_provenance();
        let block = if waits(kernel) { WAITING } else { THREADS };
        let barrier = Barrier::new(block as usize);
        let thread = |block_index, thread_index| {
            let arguments = std::ptr::with_exposed_provenance(arguments);
            let here = Place { grid, block, block_index, thread_index, wait, waited_for: &raw const barrier };
            // SAFETY: the caller's promise.
            unsafe { run(number, &here, arguments) };
        };
        if waits(kernel) {
            std::thread::scope(|scope| {
                for index in 0..block {
                    let (thread, barrier) = (&thread, &barrier);
                    scope.spawn(move || {
                        for block_index in 0..grid {
                            thread(block_index, index);
                            // What a block shares is the next one's after it.
                            barrier.wait();
                        }
                    });
                }
            });
        } else {
            (0..grid).for_each(|block_index| (0..block).for_each(|index| thread(block_index, index)));
        }
    }
}
