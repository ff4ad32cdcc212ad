//! Processes that share the keeper's descriptors.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::sys::process::{Fork, fork_sharing_descriptors, pidfd};
use crate::sys::{Errno, descriptors};

/// How long threads that have given their answer may take to be gone.
const THREADS_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at what nothing tells of.
pub(super) const POLL: Duration = Duration::from_millis(1);

/// A process that this one, or the keeper before it, has started.
#[derive(Debug)]
pub(super) struct Child {
    pid: u32,
    pidfd: OwnedFd,
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Child {
    /// A process that the keeper before this one has started.
    pub(super) fn left(pid: u32, pidfd: RawFd) -> Result<Self, Errno> {
        Ok(Self { pid, pidfd: descriptors::adopt(pidfd)? })
    }

    /// A process of which only the number is known.
    pub(super) fn of(pid: u32) -> Result<Self, Errno> {
        if pid <= 1 { Err(Errno::ESRCH) } else { Ok(Self { pid, pidfd: pidfd(pid)? }) }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn pidfd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    /// Waits for its end.
    pub(super) fn has_ended_within(&self, patience: Duration) -> bool {
        is_readable(self.pidfd.as_fd(), patience)
    }

    /// Ends it, and waits for that.
    pub(super) fn kill(self) {
        if !self.has_ended_within(Duration::ZERO)
            && let Ok(pid) = i32::try_from(self.pid)
        {
            // Its number is its own until it is buried.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            // A thread in an uninterruptible wait goes when it can.
            let _ = self.has_ended_within(THREADS_PATIENCE);
        }
        self.bury();
    }

    /// It has ended.
    pub(super) fn bury(self) {
        if self.has_ended_within(Duration::ZERO)
            && let Ok(pid) = i32::try_from(self.pid)
        {
            // ECHILD: another keeper has started it, and it is not this one's to bury. A keeper never waits here.
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// Starts a process that does `work`, and ends; it never returns from here. None in the new process, where `work` asks to go on.
///
/// # Errors
/// EBUSY where this process has threads, EAGAIN where there may be no more processes.
pub(super) fn start(work: impl FnOnce() -> bool) -> Result<Child, Errno> {
    match fork()? {
        Fork::Parent { child } => {
            let pid = u32::try_from(child.as_raw()).map_err(|_| Errno::EINVAL)?;
            Ok(Child { pid, pidfd: pidfd(pid)? })
        }
        Fork::Child => {
            // What the keeper's frames own is the keeper's: nothing of it may be dropped here.
            let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or(false);
            process::exit(i32::from(!done))
        }
    }
}

/// As [`fork_sharing_descriptors`], once the threads that have nothing left to do are gone.
pub(super) fn fork() -> Result<Fork, Errno> {
    let begin = Instant::now();
    loop {
        match fork_sharing_descriptors() {
            Err(Errno::EBUSY) if begin.elapsed() < THREADS_PATIENCE => thread::sleep(POLL),
            forked => return forked,
        }
    }
}

/// This process, for its children to see its end.
pub(super) fn pidfd_of_self() -> Result<OwnedFd, Errno> {
    pidfd(process::id())
}

/// Waits for an event, or the end of a process; true for the event.
pub(super) fn wait_for(event: &EventFd, process: &OwnedFd) -> bool {
    let mut polled =
        [PollFd::new(event.as_fd(), PollFlags::POLLIN), PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    while let Err(nix::errno::Errno::EINTR) = poll(&mut polled, PollTimeout::NONE) {}
    polled[0].any().unwrap_or(false) && event.read().is_ok()
}

/// Takes back an event that nobody has waited for.
pub(super) fn drain(event: &EventFd) {
    if is_readable(event.as_fd(), Duration::ZERO) {
        let _ = event.read();
    }
}

fn is_readable(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    let begin = Instant::now();
    loop {
        let left = patience.saturating_sub(begin.elapsed());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
        match poll(&mut polled, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}
