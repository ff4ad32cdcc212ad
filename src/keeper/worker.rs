//! A worker as its keeper sees it: at work, dying, dead, or killed and unable to end.
//!
//! A process has ended when its last thread has (pidfd_open(2)). A killed thread in an uninterruptible wait ends when that wait
//! does: when a server is back that was away; or, where it waits for a page that a request of this very mount locks, when a
//! successor answers that request, so that to wait for it first would be to wait for ever. A worker's first thread waits for
//! nothing but the others, in a way that a kill ends: where it is gone, and each thread that is left is seen in such a wait, none of
//! them will touch memory again but as the kernel's part of the one call that it is in. Which call that is, and what may
//! be done before it is over, stands in the slots (`state::slot`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

use super::process::Child;
use crate::sys::process::pidfd_of_first_thread;
use crate::sys::thread::{has_lost_its_first_thread, threads_that_cannot_end};

/// How long a killed worker may take to end before anybody asks what keeps it: most take a millisecond.
const GRACE: Duration = Duration::from_millis(250);
/// From one look at a worker that is dying to the next, in milliseconds.
const LOOK: u16 = 25;
/// From one look at a worker to the next, in milliseconds, where it is long past [`GRACE`]; and at one that is not known to be
/// dying, where the kernel tells only of a whole
/// process's end (before Linux 6.9).
const GLANCE: u16 = 1000;

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    /// Readable once its first thread has ended; none where the kernel cannot tell.
    first_thread: Option<OwnedFd>,
    dying_since: Option<Instant>,
}

/// What is seen of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Nothing is wrong.
    Serves,
    /// It was killed, and will have ended soon or be stuck.
    Dies,
    /// It was killed, and so many threads of it cannot end.
    Stuck(usize),
    /// It has ended.
    Ended,
}

impl Worker {
    pub(super) fn new(child: Child) -> Self {
        let first_thread = pidfd_of_first_thread(child.pid()).ok();
        // Of one that somebody else has started the number may be another's by now: not while it has not ended.
        let first_thread = first_thread.filter(|_| !child.has_ended_within(Duration::ZERO));
        Self { child, first_thread, dying_since: None }
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    pub(super) fn into_child(self) -> Child {
        self.child
    }

    /// The descriptors that stand for it.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> + use<> {
        let first_thread = self.first_thread.as_ref().map(AsRawFd::as_raw_fd);
        [Some(self.child.pidfd()), first_thread].into_iter().flatten()
    }

    /// What is to be polled for news of it, and for how long at most.
    pub(super) fn news(&self) -> (BorrowedFd<'_>, PollTimeout) {
        match (&self.first_thread, self.dying_since) {
            // The first thread's stays readable.
            (_, Some(since)) if since.elapsed() < GRACE * 4 => (self.child.as_fd(), PollTimeout::from(LOOK)),
            (_, Some(_)) => (self.child.as_fd(), PollTimeout::from(GLANCE)),
            (Some(first_thread), None) => (first_thread.as_fd(), PollTimeout::NONE),
            (None, None) => (self.child.as_fd(), PollTimeout::from(GLANCE)),
        }
    }

    /// Looks at it.
    pub(super) fn look(&mut self) -> Life {
        if self.child.has_ended_within(Duration::ZERO) {
            return Life::Ended;
        }
        if self.dying_since.is_none() && has_lost_its_first_thread(self.child.pid()) {
            self.dying_since = Some(Instant::now());
        }
        match self.dying_since {
            None => Life::Serves,
            Some(since) if since.elapsed() < GRACE => Life::Dies,
            Some(_) => threads_that_cannot_end(self.child.pid()).map_or(Life::Dies, Life::Stuck),
        }
    }
}
