//! Extended attributes of a resolved object, also of a symlink itself. Which may be asked for is not decided here.

use std::ffi::CStr;
use std::os::fd::AsFd;

use super::Node;
use super::acting::act_without_administration;
use crate::policy::Credentials;
use crate::sys::proc_fd::ProcFdPath;
use crate::sys::{Errno, xattr};

pub(super) fn get(who: &Credentials, node: &Node, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    act_without_administration(who)?;
    xattr::get(ProcFdPath::new(node.as_fd()).as_c_str(), name, buffer)
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
