//! Lock requests that wait: one thread per mount asks for all of them, so that no serving thread is held and every wait
//! can be interrupted.
//!
//! A lock let go through this mount wakes the thread at once; for one held elsewhere it asks again, more and more rarely.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::inodes::lock;
use super::lock_table::Lockable;
use super::{Errno, LockKind, LockReply, RequestId};
use crate::backing::BackingFs;
use crate::sys::sync::{Condvar, Mutex};

/// Requests that may wait at once in one mount; ENOLCK past it.
const MAX_WAITING: usize = 1 << 14;

/// Interrupts kept for requests that have not begun to wait: another thread may read the interrupt first.
const MAX_EARLY_INTERRUPTS: usize = 128;

/// The first and the longest time between two tries for a lock that is held elsewhere.
const FIRST_RETRY: Duration = Duration::from_millis(2);
const LONGEST_RETRY: Duration = Duration::from_millis(500);

/// A request that waits for its lock.
pub(super) struct Waiting<B: BackingFs> {
    pub(super) request: RequestId,
    pub(super) target: Lockable<B>,
    pub(super) kind: LockKind,
    pub(super) reply: LockReply,
}

struct Queued<B: BackingFs> {
    waiting: Waiting<B>,
    interrupted: bool,
    delay: Duration,
    due: Instant,
}

struct Queue<B: BackingFs> {
    waiting: Vec<Queued<B>>,
    early: VecDeque<RequestId>,
    /// Counts wake-ups, so that none is lost while the thread is trying.
    wakes: u64,
    running: bool,
    closed: bool,
}

struct Shared<B: BackingFs> {
    backing: Arc<B>,
    queue: Mutex<Queue<B>>,
    changed: Condvar,
}

/// The waiting lock requests of one mount.
pub(super) struct LockWaiters<B: BackingFs> {
    shared: Arc<Shared<B>>,
}

impl<B: BackingFs> fmt::Debug for LockWaiters<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockWaiters").field("waiting", &lock(&self.shared.queue).waiting.len()).finish()
    }
}

impl<B: BackingFs> LockWaiters<B> {
    pub(super) fn new(backing: Arc<B>) -> Self {
        let queue =
            Queue { waiting: Vec::new(), early: VecDeque::new(), wakes: 0, running: false, closed: false };
        Self { shared: Arc::new(Shared { backing, queue: Mutex::new(queue), changed: Condvar::new() }) }
    }

    /// Queues a request that was refused with EAGAIN; starts the thread for the first one.
    pub(super) fn wait(&self, waiting: Waiting<B>) {
        let refused = {
            let mut queue = lock(&self.shared.queue);
            if let Some(at) = queue.early.iter().position(|&early| early == waiting.request) {
                queue.early.remove(at);
                Some((waiting, Errno::EINTR))
            } else if queue.waiting.len() >= MAX_WAITING || !self.ensure_running(&mut queue) {
                Some((waiting, Errno::ENOLCK))
            } else {
                // Due at once: the lock may have been let go between the refusal and now.
                let due = Instant::now();
                queue.waiting.push(Queued { waiting, interrupted: false, delay: FIRST_RETRY, due });
                None
            }
        };
        self.shared.changed.notify_one();
        if let Some((waiting, error)) = refused {
            (waiting.reply)(Err(error));
        }
    }

    /// Ends a request's wait with EINTR.
    pub(super) fn interrupt(&self, request: RequestId) {
        let mut queue = lock(&self.shared.queue);
        if let Some(queued) = queue.waiting.iter_mut().find(|queued| queued.waiting.request == request) {
            queued.interrupted = true;
            queue.wakes += 1;
            self.shared.changed.notify_one();
        } else {
            // Most interrupts are for requests that cannot wait here at all; the oldest are dropped.
            if queue.early.len() >= MAX_EARLY_INTERRUPTS {
                queue.early.pop_front();
            }
            queue.early.push_back(request);
        }
    }

    /// A lock was let go: everybody who waits may try now.
    pub(super) fn wake(&self) {
        let mut queue = lock(&self.shared.queue);
        if queue.waiting.is_empty() && !queue.running {
            return;
        }
        let now = Instant::now();
        for queued in &mut queue.waiting {
            (queued.due, queued.delay) = (now, FIRST_RETRY);
        }
        queue.wakes += 1;
        self.shared.changed.notify_one();
    }

    fn ensure_running(&self, queue: &mut Queue<B>) -> bool {
        if !queue.running {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new().name("lock-waiters".into()).spawn(move || run(&shared));
            queue.running = started.is_ok();
        }
        queue.running
    }
}

impl<B: BackingFs> Drop for LockWaiters<B> {
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.changed.notify_all();
    }
}

fn run<B: BackingFs>(shared: &Shared<B>) {
    loop {
        let Some((due, wakes)) = next_round(shared) else { return };
        for mut queued in due {
            match queued.waiting.target.set(&shared.backing, queued.waiting.kind) {
                Err(Errno::EAGAIN) if !queued.interrupted => {
                    queued.due = Instant::now() + queued.delay;
                    queued.delay = (queued.delay * 2).min(LONGEST_RETRY);
                    put_back(shared, queued, wakes);
                }
                Err(Errno::EAGAIN) => (queued.waiting.reply)(Err(Errno::EINTR)),
                done => (queued.waiting.reply)(done),
            }
        }
    }
}

/// Waits until somebody is due, and takes them out in the order they came. None when the mount is gone.
fn next_round<B: BackingFs>(shared: &Shared<B>) -> Option<(Vec<Queued<B>>, u64)> {
    let mut queue = lock(&shared.queue);
    loop {
        if queue.closed {
            return None;
        }
        let now = Instant::now();
        if queue.waiting.iter().any(|queued| queued.interrupted || queued.due <= now) {
            let (due, later) =
                queue.waiting.drain(..).partition(|queued| queued.interrupted || queued.due <= now);
            queue.waiting = later;
            return Some((due, queue.wakes));
        }
        let next = queue.waiting.iter().map(|queued| queued.due).min();
        let pause = next.map_or(LONGEST_RETRY * 20, |due| due - now);
        queue = shared.changed.wait_timeout(queue, pause).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// A lock that was let go while this one was being tried makes it due again; an interrupt that came meanwhile is found
/// among the early ones.
fn put_back<B: BackingFs>(shared: &Shared<B>, mut queued: Queued<B>, wakes: u64) {
    let mut queue = lock(&shared.queue);
    if queue.wakes != wakes {
        (queued.due, queued.delay) = (Instant::now(), FIRST_RETRY);
    }
    if let Some(at) = queue.early.iter().position(|&early| early == queued.waiting.request) {
        queue.early.remove(at);
        queued.interrupted = true;
    }
    queue.waiting.push(queued);
}
