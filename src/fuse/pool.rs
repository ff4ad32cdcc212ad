//! The workers: threads that read requests from the one device and serve them.
//!
//! How many there are matters. The kernel wakes waiting readers first in, first out, so each of many would get every
//! nth request, on cold caches: with client and workers on one CPU a lookup took 10.8 us with one reader, 11.7 with two,
//! 15.9 with sixteen (Linux 6.18). But with nobody waiting a request lies unread while the only reader is at work; which
//! costs nothing where that reader is on a CPU, and a lot where it waits for a server. So a [`lookout`] sees, a
//! thousand times a second while there is work, whether the workers are held up, and summons one more, up to
//! [`MAX_WORKERS`]; and it dismisses whoever is one too many. A single client of a fast export is so served by one thread.
//!
//! Nothing keeps a worker on its client's CPU. It was tried, by moving a single client's single worker to where that thread
//! had run last: 36 us for a lookup became 35, since the answer wakes the client, and the scheduler then moves the client away from
//! the CPU that the worker keeps busy.
//!
//! Threads are never ended before the session is, since NFS keeps its access cache per thread.
//!
//! Here is how the pool begins and ends; [`crew`] has who is hired, summoned and parked, [`worker`] what each of them does.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::thread::{self, Thread};

use super::counters::{Counters, WorkerCounters};
use super::device::Device;
use super::in_hand::Looked;
use crate::fs::Errno;
use crate::state::State;
use crate::state::layout::MAX_SLOTS;
use crate::state::slot::{Ledger, Left, Slot};
use crate::sys::cycles;

mod crew;
mod lookout;
mod worker;

use crew::Crew;
use lookout::Bell;

/// Workers per session, not counting those that are held up. Each takes a mebibyte.
pub const MAX_WORKERS: usize = 64;
/// Workers that may be held up beside them: in calls that a server, or a part of the export, does not answer. With all of
/// these and the others in such calls, the mount waits too. A worker that waits takes some 60 KiB.
pub const MAX_HELD_UP: usize = 960;

/// What a worker does with a request.
///
/// The pool knows nothing of FUSE's content; this is all it asks of whoever does.
pub(crate) trait Service: Send + Sync + 'static {
    /// Each worker calls this once, first.
    fn enter_thread(&self) -> Result<(), Errno>;
    /// Serves one request and sends the answer; `space` is for making the answer in, and it is written down in `ledger` first.
    /// Never panics.
    fn serve(&self, message: &[u8], space: &mut [u8], ledger: &Ledger<'_>, counters: &WorkerCounters);
    /// Refuses a request at which several workers have died.
    fn give_up(&self, message: &[u8], ledger: &Ledger<'_>, counters: &WorkerCounters);
    /// Looks at what the workers have in hand; called now and then while that is anything.
    fn look_around(&self, _workers: &[Arc<WorkerCounters>]) -> Looked {
        Looked::default()
    }
}

/// The workers of one session.
pub(crate) struct Pool {
    device: Arc<Device>,
    service: Box<dyn Service>,
    /// Workers in read(2), or on their way there.
    waiting: AtomicUsize,
    /// Requests taken so far.
    taken: AtomicU64,
    /// Time that requests took, from being read to being answered.
    at_work: cycles::Sum,
    /// Time that workers waited for requests which then came.
    idle: cycles::Sum,
    bell: Bell,
    lookout: OnceLock<Thread>,
    /// Workers that are to park after their next request.
    dismissed: AtomicUsize,
    /// Workers that were held up at the last look.
    held_up: AtomicUsize,
    /// That the system gave no thread was told.
    short_of_threads: AtomicBool,
    ended: AtomicBool,
    /// No request is to be begun any more.
    stopping: AtomicBool,
    /// Workers that read requests, or are at one.
    reading: AtomicUsize,
    crew: Mutex<Crew>,
    summons: Condvar,
    state: Arc<State>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("waiting", &self.waiting)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(device: Arc<Device>, service: Box<dyn Service>, state: Arc<State>) -> Arc<Self> {
        Arc::new(Self {
            device,
            service,
            waiting: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            at_work: cycles::Sum::default(),
            idle: cycles::Sum::default(),
            bell: Bell::default(),
            lookout: OnceLock::new(),
            dismissed: AtomicUsize::new(0),
            held_up: AtomicUsize::new(0),
            short_of_threads: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            reading: AtomicUsize::new(0),
            crew: Mutex::new(Crew::default()),
            summons: Condvar::new(),
            state,
        })
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// As [`Self::start`], with the requests in hand of a process that has died: a worker begins with each.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn go_on(self: &Arc<Self>, threads: usize, slots: Vec<Slot>) -> Result<(), Errno> {
        let requests = slots.iter().filter(|slot| matches!(slot.left(), Left::Request(_))).count();
        {
            let mut crew = self.crew();
            crew.slots = slots;
            // The last one is taken first.
            crew.slots.sort_by_key(|slot| matches!(slot.left(), Left::Request(_)));
        }
        self.start(threads.max(requests))
    }

    /// Starts the first `threads` workers; waits for the first of them to be ready.
    ///
    /// # Errors
    /// What [`Service::enter_thread`] said, or EAGAIN where the system gives no thread. No worker is left then.
    pub(crate) fn start(self: &Arc<Self>, threads: usize) -> Result<(), Errno> {
        let (ready, first) = mpsc::channel();
        {
            let mut crew = self.crew();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.hire(&mut crew, Some(ready))?;
        }
        // A worker that died before it could say so is a thread less, too.
        first.recv().unwrap_or(Err(Errno::EAGAIN))?;
        for _ in 1..threads.clamp(1, MAX_SLOTS) {
            let mut crew = self.crew();
            self.waiting.fetch_add(1, Ordering::SeqCst);
            // The pool grows by itself when it must.
            let _ = self.hire(&mut crew, None);
        }
        let pool = Arc::clone(self);
        let lookout =
            thread::Builder::new().name("fuse-lookout".to_owned()).spawn(move || pool.look_out())?;
        // Once: a pool is started once.
        let _ = self.lookout.set(lookout.thread().clone());
        self.crew().threads.push(lookout);
        Ok(())
    }

    /// From now on no worker begins a request. One that waits for one notices when the next comes, and serves that.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether no worker reads requests any more.
    pub(crate) fn has_stopped(&self) -> bool {
        self.reading.load(Ordering::SeqCst) == 0
    }

    /// Waits until the session has ended and every worker with it.
    ///
    /// # Errors
    /// What the device said, where the end was not an unmount.
    pub(crate) fn join(&self) -> Result<(), Errno> {
        loop {
            let Some(thread) = self.crew().threads.pop() else { break };
            // A worker does not panic: `serve` catches what operations do.
            let _ = thread.join();
        }
        self.crew().failure.map_or(Ok(()), Err)
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for worker in &self.crew().counters {
            worker.add_to(&mut sum);
        }
        sum
    }

    /// Whether the kernel has ended the session.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
