//! utimensat(2) for what is already resolved: nix's does not take AT_EMPTY_PATH.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::time::TimeSpec;

use super::{Errno, check};

/// Sets last access and last change of what `fd`, which may be an O_PATH descriptor (also of a symlink), refers to.
/// `TimeSpec::UTIME_NOW` and `UTIME_OMIT` have their meaning. AT_EMPTY_PATH: since 5.8.
///
/// # Errors
/// Those of utimensat(2).
pub fn set_times(fd: BorrowedFd<'_>, atime: TimeSpec, mtime: TimeSpec) -> Result<(), Errno> {
    let times = [*atime.as_ref(), *mtime.as_ref()];
    // SAFETY: the path is a NUL-terminated literal, and the kernel reads two timespecs from an array of two.
    let result =
        unsafe { libc::utimensat(fd.as_raw_fd(), c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) };
    check(result.into())?;
    Ok(())
}
