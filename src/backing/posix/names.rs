//! Names: making, removing and moving them, and reading a symlink.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{AtFlags, RenameFlags, readlinkat, renameat2};
use nix::sys::stat::{SFlag, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::Node;
use super::acting::{act_to_look, make_as};
use crate::policy::{Credentials, FileKind, NewMode};
use crate::sys::proc_fd::ProcFdPath;
use crate::sys::{Errno, Name};

pub(super) fn mkdir(who: &Credentials, parent: &Node, name: Name<'_>, mode: NewMode) -> Result<(), Errno> {
    let mode = make_as(who, mode)?;
    Ok(mkdirat(parent, name.as_c_str(), mode)?)
}

pub(super) fn mknod(
    who: &Credentials,
    parent: &Node,
    name: Name<'_>,
    kind: FileKind,
    mode: NewMode,
    rdev: u64,
) -> Result<(), Errno> {
    let mode = make_as(who, mode)?;
    Ok(mknodat(parent, name.as_c_str(), SFlag::from_bits_truncate(kind.bits()), mode, rdev)?)
}

pub(super) fn symlink(who: &Credentials, target: &CStr, parent: &Node, name: Name<'_>) -> Result<(), Errno> {
    act_to_look(who)?;
    Ok(symlinkat(target, parent, name.as_c_str())?)
}

/// Following the /proc path ends at the object itself. AT_EMPTY_PATH instead would need CAP_DAC_READ_SEARCH, and is
/// ENOENT on NFS.
pub(super) fn link(
    who: &Credentials,
    object: BorrowedFd<'_>,
    parent: &Node,
    name: Name<'_>,
) -> Result<(), Errno> {
    act_to_look(who)?;
    ProcFdPath::new(object)
        .with_at(|dir, path| Ok(linkat(dir, path, parent, name.as_c_str(), AtFlags::AT_SYMLINK_FOLLOW)?))
}

pub(super) fn unlink(who: &Credentials, parent: &Node, name: Name<'_>) -> Result<(), Errno> {
    act_to_look(who)?;
    Ok(unlinkat(parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir)?)
}

pub(super) fn rmdir(who: &Credentials, parent: &Node, name: Name<'_>) -> Result<(), Errno> {
    act_to_look(who)?;
    Ok(unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir)?)
}

pub(super) fn rename(
    who: &Credentials,
    (from, name): (&Node, Name<'_>),
    (to, new_name): (&Node, Name<'_>),
    flags: RenameFlags,
) -> Result<(), Errno> {
    act_to_look(who)?;
    Ok(renameat2(from, name.as_c_str(), to, new_name.as_c_str(), flags)?)
}

pub(super) fn readlink(who: &Credentials, node: &Node) -> Result<Vec<u8>, Errno> {
    act_to_look(who)?;
    match readlinkat(node, c"") {
        Ok(target) => Ok(target.into_vec()),
        // With an empty path, this is what the kernel says to anything but a symlink (fs/stat.c, do_readlinkat).
        Err(nix::errno::Errno::ENOENT) => Err(Errno::EINVAL),
        Err(error) => Err(error.into()),
    }
}
