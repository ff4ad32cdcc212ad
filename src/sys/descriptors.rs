//! The process's own descriptors, as numbers: what a process that shares them with a dead one has to tell apart.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::Errno;

/// Takes over a descriptor that a process now dead has opened in a table that this one shares (CLONE_FILES, clone(2)).
///
/// The number must come from what that process has left behind, and be taken over once: the descriptor is closed with
/// the answer.
///
/// # Errors
/// EBADF where nothing is open under this number.
pub fn adopt(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: fcntl(2) with F_GETFD touches no memory.
    super::check(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, and whoever owned it is dead; that nobody else takes it over is the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// All open descriptors.
///
/// # Errors
/// Those of reading /proc.
pub fn all() -> Result<Vec<RawFd>, Errno> {
    let mut fds = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        fds.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    // The directory that was just read is among them, and closed again.
    // SAFETY: as in `adopt`.
    fds.retain(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0);
    Ok(fds)
}

/// Closes descriptors that nobody owns. Those that are not open do no harm.
pub fn close(fds: impl IntoIterator<Item = RawFd>) {
    for fd in fds {
        // SAFETY: the caller's promise is that no value of this process owns them.
        unsafe { libc::close(fd) };
    }
}

/// Whether poll(2) tells of an error, as it does of a `/dev/fuse` whose connection has ended (fs/fuse/dev.c, fuse_dev_poll).
#[must_use]
pub fn has_error(fd: RawFd) -> bool {
    let mut polled = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: one pollfd, which outlives the call.
    unsafe { libc::poll(&raw mut polled, 1, 0) > 0 && polled.revents & libc::POLLERR != 0 }
}

/// Whether a descriptor is of a process (pidfd_open(2)), which /proc calls `anon_inode:[pidfd]`, or `pidfd:[N]`.
#[must_use]
pub fn is_process(fd: RawFd) -> bool {
    let what = fs::read_link(format!("/proc/self/fd/{fd}"));
    what.is_ok_and(|what| what.to_str().is_some_and(|what| what.contains("pidfd")))
}

/// Lets descriptors live through execve(2).
///
/// # Errors
/// EBADF where one is not open.
pub fn keep_over_exec(fds: impl IntoIterator<Item = RawFd>) -> Result<(), Errno> {
    for fd in fds {
        // SAFETY: fcntl(2) with F_SETFD touches no memory.
        super::check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn a_process_is_told_from_a_file() {
        let this = crate::sys::process::pidfd(std::process::id()).unwrap();
        assert!(is_process(this.as_raw_fd()));
        assert!(!is_process(fs::File::open("/dev/null").unwrap().as_raw_fd()) && !is_process(1 << 20));
    }

    #[test]
    fn a_descriptor_is_listed_until_it_is_closed_and_adopted_while_it_is_open() {
        let number = fs::File::open("/dev/null").unwrap().into_raw_fd();
        assert!(all().unwrap().contains(&number));
        let adopted = adopt(number).unwrap();
        assert_eq!(adopted.as_raw_fd(), number);
        drop(adopted);
        assert_eq!(adopt(1 << 20).unwrap_err(), Errno::EBADF);
    }
}
