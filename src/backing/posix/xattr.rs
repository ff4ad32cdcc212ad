//! Extended attributes of a resolved object, also of a symlink itself. Which may be asked for is not decided here.

use std::ffi::CStr;
use std::os::fd::AsFd;

use super::acting::{act_to_look, act_without_administration};
use super::{File, Node};
use crate::policy::Credentials;
use crate::sys::proc_fd::ProcFdPath;
use crate::sys::{Errno, xattr};

pub(super) fn get(who: &Credentials, node: &Node, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    act_to_read(who, name)?;
    xattr::get(ProcFdPath::new(node.as_fd()).as_c_str(), name, buffer)
}

pub(super) fn get_open(
    who: &Credentials,
    file: &File,
    name: &CStr,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    act_to_read(who, name)?;
    xattr::get_open(file.as_fd(), name, buffer)
}

/// CAP_SYS_ADMIN decides about reading `trusted.` alone (xattr_permission, fs/xattr.c). The kernel asks for
/// `security.capability` before the first write to a file, which it has mostly just been given to write by itself: to
/// lower the capability for that would mean to raise it again for the next file.
fn act_to_read(who: &Credentials, name: &CStr) -> Result<(), Errno> {
    if name.to_bytes().starts_with(b"trusted.") { act_without_administration(who) } else { act_to_look(who) }
}

pub(super) fn list(who: &Credentials, node: &Node, buffer: &mut [u8]) -> Result<usize, Errno> {
    act_without_administration(who)?;
    xattr::list(ProcFdPath::new(node.as_fd()).as_c_str(), buffer)
}

pub(super) fn set(
    who: &Credentials,
    node: &Node,
    name: &CStr,
    value: &[u8],
    flags: i32,
) -> Result<(), Errno> {
    act_without_administration(who)?;
    xattr::set(ProcFdPath::new(node.as_fd()).as_c_str(), name, value, flags)
}

pub(super) fn remove(who: &Credentials, node: &Node, name: &CStr) -> Result<(), Errno> {
    act_without_administration(who)?;
    xattr::remove(ProcFdPath::new(node.as_fd()).as_c_str(), name)
}
