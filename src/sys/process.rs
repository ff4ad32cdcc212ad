//! fork(2), for the one moment at which it is sound: before the process has a second thread.

use std::fs;

use nix::unistd::{ForkResult, Pid};

use super::Errno;

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The caller, with its new child.
    Parent {
        /// The child.
        child: Pid,
    },
    /// The new process.
    Child,
}

/// Splits the process in two.
///
/// # Errors
/// EBUSY where the process has more than one thread: a child could then only call what is async-signal-safe; EAGAIN,
/// ENOMEM as fork(2) has them.
pub fn fork() -> Result<Fork, Errno> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(Errno::EBUSY);
    }
    // SAFETY: this is the only thread, so no lock of the allocator, of std or of ours can be held by another one that
    // does not exist in the child; the child may go on as any process (fork(2), signal-safety(7)).
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Fork::Parent { child }),
        ForkResult::Child => Ok(Fork::Child),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The test harness runs tests in threads of their own.
        assert_eq!(fork(), Err(Errno::EBUSY));
    }
}
