//! What the tests on a live mount share: somebody to act as ([`Who`]), and an export with permfs on it ([`Mount`]).
//!
//! Nothing here skips: without root or /dev/fuse, [`Mount`] panics and the test fails.

#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, clippy::unwrap_used)]

pub mod connection;
pub mod mapping;
pub mod mount;
pub mod requests;
pub mod stat;
pub mod tree;
pub mod waits;
pub mod who;

pub use mount::{Backing, Mount};
pub use stat::{Stat, errno, octal, stored_as};
pub use who::Who;

/// The README's rules: a pod's 50000:0 is the export's 2001:2001, group-write and setgid hold.
pub const AIRFLOW: &str = r#"
version = 1

[profile.airflow]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]

[profile.airflow.permissions]
group_write = true
setgid = true
"#;

/// Nothing translated, nothing refused: what is seen is the export.
pub const TRANSPARENT: &str = r#"
version = 1

[profile.transparent]
uid = []
gid = []

[profile.transparent.unmapped]
pod = "keep"
nfs = "keep"
root = "keep"
"#;

/// The pod of [`AIRFLOW`].
pub const POD: Who = Who::new(50000, 0);
/// The export's owner in [`AIRFLOW`], when it turns up at the mount itself.
pub const OWNER: Who = Who::new(2001, 2001);
/// Root on the node.
pub const ROOT: Who = Who::new(0, 0);

/// Copies a program that is to be run, by another process: where this one has it open for writing, so has for a moment every child
/// that another thread forks, and execve(2) says ETXTBSY.
pub fn copy_program(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").args([from, to]).status().unwrap();
    assert!(copied.success(), "cp {} {}: {copied}", from.display(), to.display());
}

/// The names in a directory, as ls(1) has them. Opening a directory asks the daemon for nothing, so a refusal comes with the
/// first name.
pub fn list(directory: impl AsRef<std::path::Path>) -> std::io::Result<Vec<std::ffi::OsString>> {
    std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}
