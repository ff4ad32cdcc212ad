//! Extended attributes by path: of what a `/proc/self/fd` path lands on, so also of a symlink itself; and of open files.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, check, check_size};

/// getxattr(2): the value's length, the value written to `buffer`; with an empty `buffer` only the length.
///
/// # Errors
/// ENODATA where there is none, ERANGE where it does not fit, EOPNOTSUPP.
pub fn get(path: &CStr, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: both strings end in NUL; the kernel writes at most buffer.len() bytes.
    check_size(unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    })
}

/// fgetxattr(2): as [`get`], of an open file (not O_PATH).
///
/// # Errors
/// As [`get`].
pub fn get_open(fd: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the string ends in NUL; the kernel writes at most buffer.len() bytes.
    check_size(unsafe {
        libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    })
}

/// listxattr(2): names with their NULs, as [`get`].
///
/// # Errors
/// ERANGE where they do not fit, EOPNOTSUPP.
pub fn list(path: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the path ends in NUL; the kernel writes at most buffer.len() bytes.
    check_size(unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// setxattr(2); `flags` 0, XATTR_CREATE or XATTR_REPLACE.
///
/// # Errors
/// EEXIST and ENODATA by the flags, E2BIG, EOPNOTSUPP, EPERM.
pub fn set(path: &CStr, name: &CStr, value: &[u8], flags: i32) -> Result<(), Errno> {
    // SAFETY: both strings end in NUL; the kernel reads value.len() bytes.
    let result =
        unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    check(result.into())?;
    Ok(())
}

/// removexattr(2).
///
/// # Errors
/// ENODATA where there is none, EOPNOTSUPP, EPERM.
pub fn remove(path: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings end in NUL.
    check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }.into())?;
    Ok(())
}
