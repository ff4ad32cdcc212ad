//! How far the kernel reads ahead on a mount: FUSE starts with 128 KiB, which keeps a sequential reader waiting.

use std::fs;
use std::path::Path;

use crate::fs::Errno;
use crate::sys::fuse_dev;

/// What to read ahead, in KiB: one request of the greatest length. More would make a page fault somewhere in a mapped
/// file, which reads as much around it, costly.
pub const READ_AHEAD_KIB: u32 = 1024;

/// Sets the mount's read-ahead. Without it the mount is slower, and that is all: a failure is logged, no more.
pub fn raise_read_ahead(target: &Path, kib: u32) {
    if let Err((file, error)) = set_read_ahead(target, kib) {
        tracing::warn!(%file, %error, "read-ahead stays at the kernel's default");
    }
}

fn set_read_ahead(target: &Path, kib: u32) -> Result<(), (String, Errno)> {
    let (major, minor) =
        fuse_dev::device_number(target).map_err(|error| (target.display().to_string(), error))?;
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    fs::write(&file, kib.to_string()).map_err(|error| (file, Errno::from(error)))
}
