//! One side of the comparison: a thread of its own that works in its ground, under its ids.
//!
//! The thread lives as long as the run: an NFS client asks the server anew what a new thread may do. On a node root often
//! may do nothing on either side (squashed on one, without a rule on the other), so root can give each side its ids.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use nix::unistd::{Gid, Uid};

use super::budget::Budget;
use super::ground::Ground;
use super::halt::Attempt as _;
use super::row::{Row, Work};
use super::{Halt, Stop};
use crate::sys::credentials;

/// As whom a side works, without supplementary groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// fsuid.
    pub uid: Uid,
    /// fsgid.
    pub gid: Gid,
}

type Job = Box<dyn FnOnce(&mut Ground) + Send>;

/// Whoever drops it waits until everything that the side has made is removed.
#[derive(Debug)]
pub(super) struct Side {
    parent: PathBuf,
    dir: PathBuf,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Side {
    /// Makes a ground in `parent`.
    ///
    /// # Errors
    /// Where this cannot be worked in; nothing is left behind.
    pub(super) fn enter(
        parent: &Path,
        identity: Option<Identity>,
        quick: bool,
        stop: &Stop,
    ) -> Result<Self, Halt> {
        let (jobs, queue) = channel::<Job>();
        let (ready, made) = channel();
        let (stop, below) = (stop.clone(), parent.to_owned());
        let thread = thread::spawn(move || {
            let entered = take(identity, &below)
                .and_then(|()| Budget::of(&below, quick))
                .and_then(|budget| Ground::make(&below, budget, stop));
            match entered {
                Ok(mut ground) => {
                    let told = ready.send(Ok(ground.dir().to_owned()));
                    if told.is_ok() {
                        queue.into_iter().for_each(|job| job(&mut ground));
                    }
                }
                // Nobody listens only where the run has panicked.
                Err(halt) => drop(ready.send(Err(halt))),
            }
        });
        let dir = made.recv().unwrap_or(Err(Halt::Died))?;
        Ok(Self { parent: parent.to_owned(), dir, jobs: Some(jobs), thread: Some(thread) })
    }

    /// The directory that was asked for.
    pub(super) fn parent(&self) -> &Path {
        &self.parent
    }

    /// The ground in it.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Has the side's thread do something.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Ground) -> Result<T, Halt> + Send + 'static,
    ) -> Result<T, Halt> {
        let (done, answer) = channel();
        // Nobody listens only where this thread has panicked.
        let job: Job = Box::new(move |ground| drop(done.send(job(ground))));
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(Halt::Died)?;
        answer.recv().unwrap_or(Err(Halt::Died))
    }

    /// Does a row's work.
    pub(super) fn work(&self, row: &'static Row, count: u64) -> Result<Work, Halt> {
        self.ask(move |ground| (row.work)(ground, count))
    }

    /// Removes all that was made.
    ///
    /// # Errors
    /// [`Halt::LeftBehind`].
    pub(super) fn leave(self) -> Result<(), Halt> {
        self.ask(Ground::clear)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been told as `Halt::Died`.
            let _ = thread.join();
        }
    }
}

fn take(identity: Option<Identity>, dir: &Path) -> Result<(), Halt> {
    match identity {
        Some(Identity { uid, gid }) => {
            credentials::assume(uid, gid, std::iter::empty()).attempt("take the ids to work in", dir)
        }
        None => Ok(()),
    }
}
