//! Compiled kernels on disk, from one process to the next.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::device::Target;
use super::nvrtc::OPTIONS;
use crate::error::Error;

/// A folder of compiled kernels. Whatever goes wrong with it, there is none: kernels are then compiled anew.
///
/// A file is written under a name of its own and renamed, so that another process sees all of it or nothing. It holds
/// its length, a checksum and all that its code was made from; one that is damaged is replaced.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: Option<PathBuf>,
}

/// What code is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    /// The kernel.
    pub text: &'a str,
    /// What it is compiled for.
    pub target: Target,
    /// The compiler's version.
    pub version: (u32, u32),
}

/// The first bytes of every file; another number for another format.
const MAGIC: &[u8; 8] = b"tpace\0\0\x01";

impl Cache {
    /// That in the user's cache folder: `$XDG_CACHE_HOME` or `~/.cache`; `~/Library/Caches` on macOS, `%LOCALAPPDATA%`
    /// on Windows.
    pub fn of_user() -> Self {
        Self { folder: user_folder().map(|folder| folder.join("torchpace").join("kernels")) }
    }

    /// That in this folder, which is made if need be.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// The code of this key: from the folder, or else compiled, and kept there if that can be.
    ///
    /// # Errors
    ///
    /// Those of `compile`.
    pub fn get(&self, key: Key<'_>, compile: impl FnOnce() -> Result<Vec<u8>, Error>) -> Result<Vec<u8>, Error> {
        match self.find(key) {
            Some(code) => Ok(code),
            None => self.renew(key, compile),
        }
    }

    /// The code of this key compiled, and kept in the place of what was there.
    ///
    /// # Errors
    ///
    /// Those of `compile`.
    pub fn renew(&self, key: Key<'_>, compile: impl FnOnce() -> Result<Vec<u8>, Error>) -> Result<Vec<u8>, Error> {
        let code = compile()?;
        if let Some(folder) = &self.folder {
            let key = key.bytes();
            // Without it the next process compiles anew.
            let _ = write(folder, &file(folder, &key), &pack(&key, &code));
        }
        Ok(code)
    }

    fn find(&self, key: Key<'_>) -> Option<Vec<u8>> {
        let key = key.bytes();
        unpack(&fs::read(file(self.folder.as_ref()?, &key)).ok()?, &key)
    }
}

impl Key<'_> {
    fn bytes(&self) -> Vec<u8> {
        let Self { text, target, version: (major, minor) } = self;
        format!("nvrtc {major}.{minor} {target} {}\n{text}", OPTIONS.join(" ")).into_bytes()
    }
}

fn user_folder() -> Option<PathBuf> {
    let folder = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || folder("HOME");
    if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")))
    }
}

fn file(folder: &Path, key: &[u8]) -> PathBuf {
    folder.join(format!("{:016x}.bin", hash(key)))
}

fn pack(key: &[u8], code: &[u8]) -> Vec<u8> {
    let lengths = [key.len() as u64, code.len() as u64].map(u64::to_le_bytes).concat();
    let body = [&lengths, key, code].concat();
    [MAGIC.as_slice(), &hash(&body).to_le_bytes(), &body].concat()
}

/// The code, if the file is whole and its key this one.
fn unpack(bytes: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let (checksum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    if hash(body) != u64::from_le_bytes(*checksum) {
        return None;
    }
    let (key_len, rest) = body.split_first_chunk::<8>()?;
    let (code_len, rest) = rest.split_first_chunk::<8>()?;
    let code = rest.strip_prefix(key)?;
    let lengths = [u64::from_le_bytes(*key_len), u64::from_le_bytes(*code_len)];
    (lengths == [key.len() as u64, code.len() as u64]).then(|| code.to_vec())
}

fn write(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    /// So that no two threads write under one name.
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(folder)?;
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let own = path.with_extension(format!("{}-{number}.tmp", process::id()));
    let renamed = fs::write(&own, bytes).and_then(|()| fs::rename(&own, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&own);
    }
    renamed
}

/// FNV-1a, for a name and against accidents; a file says itself what it is of.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"foobar"), 0x85944171f73967e8);
    }

    #[test]
    fn what_was_packed_is_unpacked_whole_or_not_at_all() {
        let bytes = pack(b"key", b"the code");
        assert_eq!(unpack(&bytes, b"key"), Some(b"the code".to_vec()));
        assert_eq!(unpack(&bytes, b"ke"), None);
        assert_eq!(unpack(&bytes, b"other"), None);
        for len in 0..bytes.len() {
            assert_eq!(unpack(&bytes[..len], b"key"), None, "the first {len} bytes");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(unpack(&damaged, b"key"), None, "byte {at}");
        }
    }
}
