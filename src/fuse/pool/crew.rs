//! The crew: how many workers there are, who is started, summoned, sent to park, and who does not count for a while.
//!
//! When one more or one fewer is wanted the lookout says ([`super::lookout`]), or a worker that steps aside.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use super::lookout::Meter;
use super::{MAX_HELD_UP, MAX_WORKERS, Pool};
use crate::fs::Errno;
use crate::fuse::counters::WorkerCounters;
use crate::state::slot::{Left, Slot};

/// Who is there, and what becomes of them.
#[derive(Debug, Default)]
pub(super) struct Crew {
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) counters: Vec<Arc<WorkerCounters>>,
    pub(super) meters: Vec<Meter>,
    /// Workers started so far.
    pub(super) started: usize,
    /// Workers that wait for a summons, and summonses on their way.
    pub(super) parked: usize,
    pub(super) summoned: usize,
    /// Workers that wait for the kernel and do not count (see [`Pool::step_aside`]).
    pub(super) aside: usize,
    /// Why the session ended, where that was not by unmounting.
    pub(super) failure: Option<Errno>,
    /// Slots that are nobody's: those come first that have a request in them.
    pub(super) slots: Vec<Slot>,
}

/// See [`Pool::step_aside`].
#[derive(Debug)]
pub(crate) struct Aside<'a> {
    pool: &'a Pool,
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        self.pool.crew().aside -= 1;
    }
}

impl Pool {
    /// Takes a slot that a thread of a dead worker had until now; a worker begins with the request in it, if there is one.
    pub(crate) fn adopt(self: &Arc<Self>, slot: Slot) {
        let has_request = matches!(slot.left(), Left::Request(_));
        let mut crew = self.crew();
        if has_request {
            crew.slots.push(slot);
            self.waiting.fetch_add(1, Ordering::SeqCst);
            if let Err(error) = self.hire(&mut crew, None) {
                tracing::error!(%error, "no worker can be started for a request that a dead one had; its caller waits");
            }
        } else {
            // Behind those that have one.
            crew.slots.insert(0, slot);
        }
    }

    /// Until the guard is dropped, the calling worker waits for the kernel and does not count: another takes its place,
    /// above [`MAX_WORKERS`] if need be.
    pub(crate) fn step_aside(self: &Arc<Self>) -> Aside<'_> {
        self.crew().aside += 1;
        if self.waiting.load(Ordering::SeqCst) == 0 {
            self.summon();
        }
        Aside { pool: self }
    }

    /// Gets another worker to read: a parked one, or a new one.
    pub(super) fn summon(self: &Arc<Self>) {
        let mut crew = self.crew();
        // Somebody else was faster.
        if self.waiting.load(Ordering::SeqCst) > 0 || self.ended.load(Ordering::SeqCst) {
            return;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if crew.parked > crew.summoned {
            crew.summoned += 1;
            self.summons.notify_one();
        } else if crew.started >= self.most(&crew) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        } else if let Err(error) = self.hire(&mut crew, None)
            && !self.short_of_threads.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, workers = crew.started, "no further worker can be started");
        }
    }

    /// How many workers there may be now.
    pub(super) fn most(&self, crew: &Crew) -> usize {
        MAX_WORKERS + crew.aside + self.held_up.load(Ordering::Relaxed).min(MAX_HELD_UP)
    }

    /// Starts a worker that counts as waiting already; it does not where this fails.
    pub(super) fn hire(
        self: &Arc<Self>,
        crew: &mut Crew,
        ready: Option<mpsc::Sender<Result<(), Errno>>>,
    ) -> Result<(), Errno> {
        let (pool, counters) = (Arc::clone(self), Arc::new(WorkerCounters::default()));
        let own = Arc::clone(&counters);
        let name = format!("fuse-worker-{}", crew.started);
        let slot = crew.slots.pop().map_or_else(|| self.state.slots.take(), Ok);
        let started = slot
            .map_err(std::io::Error::from)
            .and_then(|slot| thread::Builder::new().name(name).spawn(move || pool.work(slot, &own, ready)));
        match started {
            Ok(thread) => {
                crew.threads.push(thread);
                crew.counters.push(counters);
                crew.started += 1;
                Ok(())
            }
            Err(error) => {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                Err(error.into())
            }
        }
    }

    /// Whether the calling worker is the one to go.
    pub(super) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed) > 0
            && self
                .dismissed
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    /// Waits for a summons, which counts the worker as waiting for requests. False, at once, where nobody waits for
    /// requests: then this worker is needed.
    pub(super) fn park(&self) -> bool {
        let mut crew = self.crew();
        if self.waiting.load(Ordering::SeqCst) == 0 || self.ended.load(Ordering::SeqCst) {
            return false;
        }
        crew.parked += 1;
        self.reading.fetch_sub(1, Ordering::SeqCst);
        while crew.summoned == 0 && !self.ended.load(Ordering::SeqCst) {
            crew = self.summons.wait(crew).unwrap_or_else(PoisonError::into_inner);
        }
        crew.parked -= 1;
        self.reading.fetch_add(1, Ordering::SeqCst);
        if crew.summoned > 0 {
            crew.summoned -= 1;
        } else {
            // Not summoned, but the end: balance what will be taken off.
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        true
    }

    pub(super) fn crew(&self) -> MutexGuard<'_, Crew> {
        // Every change under it is a single step, so what a panic leaves is consistent.
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
