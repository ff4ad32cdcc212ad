//! flock(2), never waiting. nix ties it to an owned file and an unlock at drop; here the lock lives with the open file.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, check};

/// What is asked of flock(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flock {
    /// LOCK_SH.
    Shared,
    /// LOCK_EX.
    Exclusive,
    /// LOCK_UN.
    Unlock,
}

/// Locks or unlocks the open file that `fd` refers to.
///
/// # Errors
/// EAGAIN (EWOULDBLOCK) where somebody else has it; EBADF for an exclusive lock on a read-only descriptor of NFSv4.
pub fn flock(fd: BorrowedFd<'_>, what: Flock) -> Result<(), Errno> {
    let operation = match what {
        Flock::Shared => libc::LOCK_SH,
        Flock::Exclusive => libc::LOCK_EX,
        Flock::Unlock => libc::LOCK_UN,
    };
    // SAFETY: takes two numbers and touches no memory of ours.
    check(unsafe { libc::flock(fd.as_raw_fd(), operation | libc::LOCK_NB) }.into())?;
    Ok(())
}
