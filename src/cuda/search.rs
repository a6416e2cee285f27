//! Where NVRTC may be, and what the loader says of a library.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// What the loader is asked for by name, the latest first. `import torch` has one of them loaded.
const NAMES: &[&str] = if cfg!(windows) {
    &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]
} else {
    &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]
};

/// Paths that NVRTC could be loaded from, the best first: files that there are, then names for the loader.
pub(super) fn nvrtc(folders: &[PathBuf]) -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let of_homes = homes.flat_map(|home| ["lib64", "lib", "bin", "bin/x64"].map(|below| home.join(below)));
    let files = folders.iter().cloned().chain(of_homes).flat_map(|folder| files(&folder, is_nvrtc));
    files.chain(NAMES.iter().map(PathBuf::from)).collect()
}

/// The library that NVRTC opens when it compiles, if it lies beside it.
pub(super) fn builtins_beside(nvrtc: &Path) -> Vec<PathBuf> {
    nvrtc.parent().filter(|folder| folder.is_absolute()).map_or_else(Vec::new, |folder| files(folder, is_builtins))
}

fn is_nvrtc(name: &str) -> bool {
    name.starts_with("libnvrtc.so") || is_dll(name, "nvrtc64_")
}

fn is_builtins(name: &str) -> bool {
    name.starts_with("libnvrtc-builtins.so") || is_dll(name, "nvrtc-builtins64_")
}

fn is_dll(name: &str, start: &str) -> bool {
    // The variant `.alt` is built otherwise, for hosts of old processors.
    name.starts_with(start) && name.ends_with(".dll") && !name.contains(".alt")
}

/// The files of a folder with such a name, the latest version first; none if it cannot be read.
fn files(folder: &Path, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all: Vec<_> = entries.filter(|path| path.file_name().and_then(OsStr::to_str).is_some_and(&fits)).collect();
    all.sort_by_key(|path| core::cmp::Reverse(path.file_name().map(OsStr::to_owned)));
    all
}

/// Why a library, or a function of it, could not be loaded: libloading's own words leave out the system's.
pub(super) fn reason(error: &libloading::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_compiler_itself_is_taken_for_it() {
        assert!(is_nvrtc("libnvrtc.so.13") && is_nvrtc("libnvrtc.so") && is_nvrtc("nvrtc64_130_0.dll"));
        for other in ["libnvrtc-builtins.so.13.0", "libnvrtc.alt.so.13", "nvrtc64_130_0.alt.dll", "nvrtc_static.lib"] {
            assert!(!is_nvrtc(other), "{other}");
        }
        assert!(is_builtins("libnvrtc-builtins.so.13.0") && is_builtins("nvrtc-builtins64_130.dll"));
        assert!(!is_builtins("libnvrtc-builtins.alt.so.13.0"));
    }

    #[test]
    fn names_for_the_loader_come_last() {
        let found = nvrtc(&[PathBuf::from("/no such folder")]);
        assert_eq!(found.last(), Some(&PathBuf::from(NAMES[NAMES.len() - 1])));
        assert!(builtins_beside(Path::new("libnvrtc.so.13")).is_empty());
    }
}
