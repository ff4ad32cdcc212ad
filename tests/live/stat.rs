//! Short words for what tests look at.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;

/// What of stat(2) the assertions compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub uid: u32,
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
}

impl Stat {
    pub const fn new(uid: u32, gid: u32, mode: u32) -> Self {
        Self { uid, gid, mode }
    }

    /// lstat(2).
    pub fn of(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let found =
            fs::symlink_metadata(path).unwrap_or_else(|error| panic!("lstat {}: {error}", path.display()));
        Self { uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o7777 }
    }
}

/// The permission bits of `path`.
pub fn octal(path: impl AsRef<Path>) -> String {
    format!("{:04o}", Stat::of(path).mode)
}

/// Asserts owner and mode, with the mode printed the way people read it.
#[track_caller]
pub fn stored_as(path: impl AsRef<Path>, uid: u32, gid: u32, mode: u32) {
    let path = path.as_ref();
    let found = Stat::of(path);
    let expected = Stat::new(uid, gid, mode);
    assert!(
        found == expected,
        "{} is {}:{} {:04o}, not {uid}:{gid} {mode:04o}",
        path.display(),
        found.uid,
        found.gid,
        found.mode
    );
}

/// The errno of a call that must fail.
#[track_caller]
pub fn errno<T>(result: io::Result<T>) -> Errno {
    match result {
        Ok(_) => panic!("the call succeeded"),
        Err(error) => Errno::from_raw(error.raw_os_error().expect("an error of the kernel")),
    }
}
