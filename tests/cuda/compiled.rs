//! Every text compiled by NVRTC for every architecture. `TORCHPACE_NVRTC` says where it is.

use std::env;

use torchpace::cuda::cache::{Cache, Key};
use torchpace::cuda::device::Target;
use torchpace::cuda::nvrtc::Nvrtc;
use torchpace::cuda::source::{Counts, Kernel, Variant, chunks, fold, norm, write};
use torchpace::error::Error;
use torchpace::tensor::Dtype;

use crate::cases::{TYPES, cases, variants};

const CAPABILITIES: [u32; 7] = [75, 80, 86, 89, 90, 100, 120];

fn nvrtc() -> Nvrtc {
    let folders = env::var_os("TORCHPACE_NVRTC").map_or_else(Vec::new, |value| env::split_paths(&value).collect());
    Nvrtc::load(&folders).unwrap()
}

/// Each rule in each structure with each type, the variants in turn; one of them in all variants; the other kernels.
fn kernels() -> Vec<Kernel> {
    let mut all = vec![fold(), write(), chunks()];
    for dtype in [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16] {
        all.extend([false, true].map(|strided| norm(dtype, strided).unwrap()));
    }
    for (i, case) in cases().into_iter().enumerate() {
        all.push(if i % 2 == 0 {
            case.begin(Counts::OnDevice(Dtype::F32), false)
        } else {
            case.begin(Counts::OnDevice(Dtype::F64), true)
        });
        all.push(case.begin(Counts::Given, i % 2 == 1));
        for (j, types) in TYPES.into_iter().enumerate() {
            all.push(case.step(types, variants()[(5 * i + 3 * j) % 16]));
            // Of sums two types a case.
            let sums = [i % TYPES.len(), (i + 3) % TYPES.len()].contains(&j);
            all.extend(case.all_sums(types, variants()[(5 * i + 3 * j) % 16]).into_iter().filter(|_| sums));
        }
        if (case.rule, case.name) == ("adam", "amsgrad_decay") {
            all.extend(variants().into_iter().map(|variant| case.step(TYPES[2], variant)));
        }
    }
    all.sort_by(|left, right| left.text.cmp(&right.text));
    all.dedup();
    all
}

/// The registers used, and the bytes of local memory: of the stack, spilled and read back.
fn usage(log: &str) -> (u32, u32) {
    let number_before =
        |line: &str, what: &str| -> Option<u32> { line.split(what).next()?.split_whitespace().last()?.parse().ok() };
    let mut registers = 0;
    let mut local = None;
    for line in log.lines() {
        if line.contains(" registers") {
            registers = registers.max(number_before(line, " registers").unwrap());
        }
        for what in [" bytes stack frame", " bytes spill stores", " bytes spill loads"] {
            if line.contains(what) {
                local = Some(local.unwrap_or(0) + number_before(line, what).unwrap());
            }
        }
    }
    (registers, local.unwrap_or_else(|| panic!("the compiler says nothing of local memory: {log:?}")))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[test]
fn local_memory_is_seen() {
    let line = "ptxas         .     8 bytes stack frame, 16 bytes spill stores, 4 bytes spill loads";
    assert_eq!(usage(&format!("{line}\nptxas info    : Used 30 registers, used 0 barriers")), (30, 28));
}

#[test]
#[ignore = "needs NVRTC: make test-nvrtc"]
fn every_text_compiles_for_every_architecture_without_local_memory() {
    let nvrtc = nvrtc();
    let known = nvrtc.capabilities().unwrap();
    let kernels = kernels();
    let (mut most, mut wrong) = ((0, String::new()), Vec::new());
    let started = std::time::Instant::now();
    for (k, kernel) in kernels.iter().enumerate() {
        for capability in CAPABILITIES {
            let target = Target::of_device(capability, &known).unwrap();
            let compiled = nvrtc.compile(&kernel.text, target, &["--ptxas-options=-v"]).unwrap();
            if let Target::Cubin(_) = target {
                let (registers, local) = usage(&compiled.log);
                if local > 0 {
                    wrong.push(format!(
                        "{} in {} for {target}: {}",
                        kernel.name,
                        first_line(&kernel.text),
                        compiled.log
                    ));
                }
                assert!(compiled.code.starts_with(b"\x7fELF"));
                if registers > most.0 {
                    most = (registers, format!("{k} {} for {target}", kernel.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "local memory is used:\n{}", wrong.join("\n"));
    println!("{} texts, NVRTC {:?}, {:?}; most registers: {most:?}", kernels.len(), nvrtc.version(), started.elapsed());
}

#[test]
#[ignore = "needs NVRTC: make test-nvrtc"]
fn memory_is_read_and_written_16_bytes_at_a_time() {
    let nvrtc = nvrtc();
    for types in TYPES {
        let kernel = cases()[1].step(types, Variant::default());
        let ptx = nvrtc.compile(&kernel.text, Target::Ptx(90), &[]).unwrap().code;
        let ptx = String::from_utf8(ptx).unwrap();
        let wide = |what: &str| {
            let sizes = [".v4.b32", ".v4.u32", ".v4.f32", ".v2.b64", ".v2.u64", ".v2.f64"];
            sizes.iter().map(|size| ptx.matches(&format!("{what}.global{size}")).count()).sum::<usize>()
        };
        // Packs of the three tensors that are read and the two that are written.
        let narrowest = [types.param, types.grad, types.slot].into_iter().filter_map(Dtype::size).min().unwrap();
        let packs = |dtype: Dtype| dtype.size().unwrap() / narrowest;
        let [param, grad, slot] = [types.param, types.grad, types.slot].map(packs);
        assert!(wide("ld") >= param + grad + slot, "{}: {} of {}", types.name, wide("ld"), param + grad + slot);
        assert_eq!(wide("st"), param + slot, "{}", types.name);
    }
}

#[test]
#[ignore = "needs NVRTC: make test-nvrtc"]
fn local_memory_is_seen_in_a_kernel_that_has_some() {
    let text = "extern \"C\" __global__ void k(int *at, int n) { int x[64]; for (int i = 0; i < n; i++) x[at[i]] = i; \
                at[0] = x[at[1]] + x[at[2]]; }";
    let log = nvrtc().compile(text, Target::Cubin(90), &["--ptxas-options=-v"]).unwrap().log;
    assert!(usage(&log).1 >= 256, "{log}");
}

#[test]
#[ignore = "needs NVRTC: make test-nvrtc"]
fn what_does_not_compile_is_an_error_in_the_compilers_words() {
    let error = nvrtc().compile("extern \"C\" __global__ void k() { wrong; }", Target::Cubin(90), &[]).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("nvrtcCompileProgram: NVRTC_ERROR_COMPILATION") && message.contains("wrong"), "{message}");
    assert!(nvrtc().compile("\0", Target::Cubin(90), &[]).is_err());
    assert!(nvrtc().compile("", Target::Cubin(1), &[]).is_err());
}

#[test]
#[ignore = "needs NVRTC: make test-nvrtc"]
fn the_same_code_comes_from_the_cache() {
    let nvrtc = nvrtc();
    let folder = crate::caching::empty_folder("compiled");
    let (cache, text) = (Cache::at(folder), fold().text);
    let key = Key { text: &text, target: Target::Cubin(90), version: nvrtc.version() };
    let made = cache.get(key, || Ok(nvrtc.compile(&text, key.target, &[])?.code)).unwrap();
    assert_eq!(cache.get(key, || panic!("it is in the cache")).unwrap(), made);
}

#[test]
fn a_later_gpu_gets_ptx_and_an_older_one_an_error() {
    let known = [75, 80, 90];
    assert_eq!(Target::of_device(80, &known), Ok(Target::Cubin(80)));
    assert_eq!(Target::of_device(89, &known), Ok(Target::Ptx(80)));
    assert_eq!(Target::of_device(130, &known), Ok(Target::Ptx(90)));
    assert_eq!(Target::of_device(70, &known), Err(Error::OldGpu { found: 70, expected: known.to_vec() }));
    assert_eq!(format!("{} {}", Target::Cubin(90), Target::Ptx(120)), "sm_90 compute_120");
}

#[test]
fn a_file_that_is_no_library_is_passed_over() {
    let folder = crate::caching::empty_folder("no_library");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("libnvrtc.so.99");
    std::fs::write(&file, "no library").unwrap();
    match Nvrtc::load(std::slice::from_ref(&folder)) {
        Ok(nvrtc) => assert_ne!(nvrtc.path(), file),
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("NVRTC, which compiles the CUDA kernels, could not be loaded"), "{message}");
            assert!(
                message.contains(&format!("{}: ", file.display())) && message.contains("libnvrtc.so: "),
                "{message}"
            );
        }
    }
}
