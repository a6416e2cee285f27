//! The cache of compiled kernels.

use std::cell::Cell;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use torchpace::cuda::cache::{Cache, Key};
use torchpace::cuda::device::Target;
use torchpace::error::Error;

/// A folder for this test alone, not there yet.
pub fn empty_folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache").join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

const KEY: Key<'_> = Key { text: "a kernel", target: Target::Cubin(90), version: (13, 0) };

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// The code, and whether it had to be compiled.
fn get(cache: &Cache, key: Key<'_>, code: &[u8]) -> (Vec<u8>, bool) {
    let compiled = Cell::new(false);
    let found = cache.get(key, || {
        compiled.set(true);
        Ok(code.to_vec())
    });
    (found.unwrap(), compiled.get())
}

#[test]
fn code_is_compiled_once() {
    let cache = Cache::at(empty_folder("once"));
    assert_eq!(get(&cache, KEY, b"code"), (b"code".to_vec(), true));
    assert_eq!(get(&cache, KEY, b"other"), (b"code".to_vec(), false));
}

#[test]
fn another_text_target_or_version_is_another_kernel() {
    let cache = Cache::at(empty_folder("keys"));
    let others = [
        Key { text: "another", ..KEY },
        Key { target: Target::Ptx(90), ..KEY },
        Key { target: Target::Cubin(80), ..KEY },
        Key { version: (13, 1), ..KEY },
    ];
    for (k, key) in [KEY].into_iter().chain(others).enumerate() {
        assert_eq!(get(&cache, key, &[k as u8]), (vec![k as u8], true));
    }
    assert_eq!(get(&cache, KEY, b""), (vec![0], false));
}

#[test]
fn a_damaged_file_is_replaced() {
    let folder = empty_folder("damage");
    let cache = Cache::at(folder.clone());
    get(&cache, KEY, b"code");
    let file = files(&folder).pop().unwrap();
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damaged in [&whole[..whole.len() - 1], &flipped, b""] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(get(&cache, KEY, b"code"), (b"code".to_vec(), true));
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
}

#[test]
fn an_error_of_the_compiler_is_handed_on_and_not_kept() {
    let folder = empty_folder("errors");
    let error = Error::Nvrtc { call: "nvrtcCompileProgram", reason: "no".to_owned(), log: String::new() };
    assert_eq!(Cache::at(folder.clone()).get(KEY, || Err(error.clone())), Err(error));
    assert!(!folder.exists());
}

#[test]
fn without_a_folder_to_write_to_there_is_no_cache() {
    let file = empty_folder("a_file");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "").unwrap();
    let cache = Cache::at(file.join("below"));
    for _ in 0..2 {
        assert_eq!(get(&cache, KEY, b"code"), (b"code".to_vec(), true));
    }
}

/// Threads that all want all of some kernels, whose code is long and made of their number.
fn crowd(folder: &Path) {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..20 {
                    let code = vec![round; 50_000];
                    let text = format!("kernel {round}");
                    let key = Key { text: &text, ..KEY };
                    assert_eq!(get(&Cache::at(folder.to_path_buf()), key, &code).0, code);
                }
            });
        }
    });
}

#[test]
fn two_processes_with_threads_fill_one_folder() {
    let folder = empty_folder("crowd");
    let test = env::current_exe().unwrap();
    let process = || {
        let mut command = Command::new(&test);
        command.args(["--exact", "caching::a_process_of_the_crowd", "--ignored"]).env("TORCHPACE_CROWD", &folder);
        command.spawn().unwrap()
    };
    let mut processes = [process(), process()];
    crowd(&folder);
    assert!(processes.iter_mut().all(|process| process.wait().unwrap().success()));
    let files = files(&folder);
    assert_eq!(files.len(), 20);
    assert!(files.iter().all(|file| file.extension().is_some_and(|extension| extension == "bin")), "{files:?}");
    let key = Key { text: "kernel 7", ..KEY };
    assert_eq!(get(&Cache::at(folder), key, b""), (vec![7; 50_000], false));
}

#[test]
#[ignore = "a part of two_processes_with_threads_fill_one_folder"]
fn a_process_of_the_crowd() {
    // With no folder named, it was not that test which ran it.
    if let Some(folder) = env::var_os("TORCHPACE_CROWD") {
        crowd(Path::new(&folder));
    }
}
