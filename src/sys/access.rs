//! access(2) for what is already resolved, with the thread's filesystem identity.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::unistd::AccessFlags;

use super::{Errno, check};

/// Whether the calling thread may do `mask` to what `fd`, which may be an O_PATH descriptor, refers to.
///
/// The raw faccessat2(2) (5.8): glibc's wrapper falls back to comparing mode bits with the process's ids.
///
/// # Errors
/// EACCES, EROFS, and those of an NFS server.
pub fn access(fd: BorrowedFd<'_>, mask: AccessFlags) -> Result<(), Errno> {
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a NUL-terminated literal; nothing is written.
    check(unsafe { libc::syscall(libc::SYS_faccessat2, fd.as_raw_fd(), c"".as_ptr(), mask.bits(), flags) })?;
    Ok(())
}
