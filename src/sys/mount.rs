//! mount(2) and umount2(2), with the flags that a daemon never goes without.

use std::ffi::{CStr, OsStr};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};

use super::Errno;

/// Mounts `source` of type `fstype` on `target`; `data` is what the filesystem reads (mount(2), mount options).
///
/// # Errors
/// Those of mount(2).
pub fn mount(
    source: &OsStr,
    target: &Path,
    fstype: &CStr,
    flags: MsFlags,
    data: &OsStr,
) -> Result<(), Errno> {
    Ok(nix::mount::mount(Some(source), target, Some(fstype), flags, Some(data))?)
}

/// Takes the mount on `target` down, without following a symlink there. `lazy`: as soon as nobody uses it any more.
///
/// # Errors
/// EBUSY where it is in use and `lazy` is not set, EINVAL where nothing is mounted.
pub fn unmount(target: &Path, lazy: bool) -> Result<(), Errno> {
    let when = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    Ok(nix::mount::umount2(target, MntFlags::UMOUNT_NOFOLLOW | when)?)
}
