//! With the feature `tch`: lets tests, examples and benchmarks find the libtorch that they were linked with,
//! and the CUDA driver the compiler that lies beside it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by torch-sys, which only that feature brings.
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB")
        && std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix")
    {
        println!("cargo:rustc-env=TORCHPACE_LIBTORCH={folder}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
