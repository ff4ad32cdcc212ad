//! Writing with flags for one call: what a descriptor's own flags would decide for all.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, check_size};

/// The flags of one write (pwritev2(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteFlags {
    /// RWF_APPEND.
    pub append: bool,
    /// RWF_DSYNC.
    pub data_sync: bool,
    /// RWF_SYNC.
    pub sync: bool,
}

impl WriteFlags {
    fn bits(self) -> libc::c_int {
        let bit = |set, flag| if set { flag } else { 0 };
        bit(self.append, libc::RWF_APPEND)
            | bit(self.data_sync, libc::RWF_DSYNC)
            | bit(self.sync, libc::RWF_SYNC)
    }
}

/// pwritev2(2) of one buffer: at `offset`, or with RWF_APPEND at the end. May write less than was asked for.
///
/// # Errors
/// Those of pwritev2(2).
pub fn pwrite(
    fd: BorrowedFd<'_>,
    data: &[u8],
    offset: libc::off_t,
    flags: WriteFlags,
) -> Result<usize, Errno> {
    let vector = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: the kernel reads data.len() bytes from the one vector, and writes to neither.
    let written = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const vector, 1, offset, flags.bits()) };
    check_size(written)
}
