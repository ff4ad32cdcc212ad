//! A worker as its keeper sees it: at work, dying, dead, or killed and unable to end.
//!
//! A process has ended when its last thread has (pidfd_open(2)). A killed thread in an uninterruptible wait ends when that wait
//! does: when a server is back that was away; or, where it waits for a page that a request of this very mount locks, when a
//! successor answers that request, so that to wait for it first would be to wait for ever. A worker's first thread waits for
//! nothing but the others, in a way that a kill ends: where it is gone, and each thread that is left is seen in such a wait, none of
//! them will touch memory again but as the kernel's part of the one call that it is in. Which call that is, and what may
//! be done before it is over, stands in the slots (`state::slot`).

use std::time::{Duration, Instant};

use super::process::Child;
use crate::sys::thread::{has_lost_its_first_thread, threads_that_cannot_end};

/// How long a killed worker may take to end before anybody asks what keeps it: most take a millisecond.
const GRACE: Duration = Duration::from_millis(100);
/// From one look at a worker to the next, in milliseconds. Its end is told at once; that it was killed and has not ended no kernel
/// tells (PIDFD_THREAD of Linux 6.9 does so of a first thread up to 6.14, and no longer).
pub(super) const GLANCE: u16 = 1000;
/// The same while it is dying.
const LOOK: u16 = 25;

/// How long a worker that begins is not looked at: it finds out which descriptors are nobody's and closes them, and a look opens one.
const UNSEEN: Duration = Duration::from_secs(5);

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
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
        Self { child, dying_since: None }
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    pub(super) fn into_child(self) -> Child {
        self.child
    }

    /// Milliseconds after which it is to be looked at again.
    pub(super) fn next_look(&self) -> u16 {
        match self.dying_since {
            Some(since) if since.elapsed() < GRACE * 10 => LOOK,
            _ => GLANCE,
        }
    }

    /// Whether one that has not begun for so long never will.
    pub(super) fn will_not_begin(&mut self, waited: Duration) -> bool {
        self.child.has_ended_within(Duration::ZERO)
            || waited >= UNSEEN && matches!(self.look(), Life::Stuck(_) | Life::Ended)
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
