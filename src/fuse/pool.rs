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

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::{self, JoinHandle, Thread};

use super::counters::{Counters, WorkerCounters};
use super::device::{Device, Received};
use super::in_hand::Looked;
use super::negotiate::MAX_WRITE;
use crate::fs::Errno;
use crate::state::layout::{MAX_SLOTS, SLOT_BUFFER};
use crate::state::slot::{Ledger, Left, Slot};
use crate::state::{State, journal};
use crate::sys::cycles;

mod lookout;

use lookout::{Bell, Meter};

/// Workers per session, not counting those that are held up.
pub const MAX_WORKERS: usize = 64;
/// Workers that may be held up beside them: in calls that a server, or a part of the export, does not answer. With all of
/// these and the others in such calls, the mount waits too. A worker that waits takes some 60 KiB.
pub const MAX_HELD_UP: usize = 960;

/// Workers whose memory is all there from the beginning, a mebibyte for each.
const READY_AT_ONCE: usize = 8;

/// Workers that may die at one request before its caller gets EIO.
const MAX_TRIES: u64 = 3;

/// A slot's first page is for a request's structs and names, and the longest write comes after it; the answer to a short request
/// uses that second part. (The kernel wants room for the longest write and its head, which are far less than a page.)
const PAGE: usize = 4096;
const _: () = assert!(SLOT_BUFFER == MAX_WRITE as usize + PAGE);

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

#[derive(Debug, Default)]
struct Crew {
    threads: Vec<JoinHandle<()>>,
    counters: Vec<Arc<WorkerCounters>>,
    meters: Vec<Meter>,
    /// Workers started so far.
    started: usize,
    /// Workers that wait for a summons, and summonses on their way.
    parked: usize,
    summoned: usize,
    /// Workers that wait for the kernel and do not count (see [`Pool::step_aside`]).
    aside: usize,
    /// Why the session ended, where that was not by unmounting.
    failure: Option<Errno>,
    /// Slots that are nobody's: those come first that have a request in them.
    slots: Vec<Slot>,
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

    /// Where the process is about to end: a worker's last thing.
    fn stand_still(&self) -> ! {
        self.reading.fetch_sub(1, Ordering::SeqCst);
        loop {
            thread::park();
        }
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
    fn summon(self: &Arc<Self>) {
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
    fn most(&self, crew: &Crew) -> usize {
        MAX_WORKERS + crew.aside + self.held_up.load(Ordering::Relaxed).min(MAX_HELD_UP)
    }

    /// Starts a worker that counts as waiting already; it does not where this fails.
    fn hire(
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

    /// A worker's life.
    fn work(
        self: &Arc<Self>,
        mut slot: Slot,
        counters: &WorkerCounters,
        ready: Option<mpsc::Sender<Result<(), Errno>>>,
    ) {
        let entered = self.service.enter_thread();
        if let Some(ready) = ready {
            // Whoever started the pool waits for this.
            let _ = ready.send(entered);
        }
        if let Err(error) = entered {
            tracing::error!(%error, "a worker cannot have an identity of its own, and ends");
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        self.crew().meters.push(Meter::of_this_thread());
        journal::keep_for(&slot.control);
        counters.in_hand.belongs_to(&slot.control);
        // The kernel must not come upon a fault while it copies a request here: if the process is killed then, it
        // gives the request up. Those that are hired while others wait for a server have long requests only by and by.
        let mut ready_for = if self.crew().started <= READY_AT_ONCE { slot.buffer.len() } else { 4 * PAGE };
        slot.buffer.populate(ready_for);
        let mut free_since = cycles::now();
        if let Left::Request(length) = slot.left() {
            self.serve(length, &mut slot, &mut free_since, counters);
        }
        let way = self.device.way(&slot);
        self.reading.fetch_add(1, Ordering::SeqCst);
        loop {
            if self.stopping.load(Ordering::SeqCst) {
                self.stand_still();
            }
            let received = match &way {
                Some(way) => self.device.receive_by(way, &mut slot.buffer),
                None => self.device.receive(&mut slot.buffer),
            };
            match received {
                Ok(Received::Nothing) => {}
                Ok(Received::Request(length)) => {
                    self.serve(length, &mut slot, &mut free_since, counters);
                    if length > ready_for {
                        ready_for = slot.buffer.len();
                        slot.buffer.populate(ready_for);
                    }
                }
                Ok(Received::End) => return self.end(None),
                Err(error) => return self.end(Some(error)),
            }
        }
    }

    fn serve(
        self: &Arc<Self>,
        length: usize,
        slot: &mut Slot,
        free_since: &mut u64,
        counters: &WorkerCounters,
    ) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.bell.ring(self.lookout.get());
        let begin = cycles::now();
        self.idle.add(*free_since, begin);
        let tries = slot.control.begin();
        let (buffer, ledger) = slot.open();
        // A request longer than a page brings data, and then its answer has none.
        let (message, space) = buffer.split_at_mut(length.max(PAGE));
        let message = &message[..length];
        if tries <= MAX_TRIES {
            self.service.serve(message, space, &ledger, counters);
        } else {
            self.service.give_up(message, &ledger, counters);
        }
        slot.clear();
        *free_since = cycles::now();
        self.at_work.add(begin, *free_since);
        if self.is_dismissed() && self.park() {
            *free_since = cycles::now();
        } else {
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether the calling worker is the one to go.
    fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed) > 0
            && self
                .dismissed
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    /// Waits for a summons, which counts the worker as waiting for requests. False, at once, where nobody waits for
    /// requests: then this worker is needed.
    fn park(&self) -> bool {
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

    fn end(&self, failure: Option<Errno>) {
        let mut crew = self.crew();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if let Some(error) = failure {
            tracing::error!(%error, "reading requests failed");
            crew.failure.get_or_insert(error);
        }
        self.ended.store(true, Ordering::SeqCst);
        self.summons.notify_all();
        if let Some(lookout) = self.lookout.get() {
            lookout.unpark();
        }
    }

    fn crew(&self) -> MutexGuard<'_, Crew> {
        // Every change under it is a single step, so what a panic leaves is consistent.
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

#[cfg(test)]
mod tests;
