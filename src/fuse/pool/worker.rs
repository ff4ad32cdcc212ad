//! One worker: a thread that takes requests into its slot, one after another, until the session ends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;

use super::lookout::Meter;
use super::{MAX_WORKERS, Pool};
use crate::fs::Errno;
use crate::fuse::counters::WorkerCounters;
use crate::fuse::device::Received;
use crate::fuse::negotiate::MAX_WRITE;
use crate::state::journal;
use crate::state::layout::SLOT_BUFFER;
use crate::state::slot::{Left, Slot};
use crate::sys::cycles;

/// Workers that may die at one request before its caller gets EIO.
pub(super) const MAX_TRIES: u64 = 3;

/// A slot's first page is for a request's structs and names, and the longest write comes after it; the answer to a short request
/// uses that second part. (The kernel wants room for the longest write and its head, which are far less than a page.)
const PAGE: usize = 4096;
const _: () = assert!(SLOT_BUFFER == MAX_WRITE as usize + PAGE);

impl Pool {
    /// A worker's life.
    pub(super) fn work(
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
        let way = self.device.way(&slot);
        // The kernel must not come upon a fault while it copies a request here: if the process is killed then, it gives the request up,
        // and the caller is told EIO. Those that are hired beside a crowd that waits for a server have long requests only by and by. What
        // comes by a pipe is copied by the worker itself.
        let is_one_of_many = way.is_none() && self.crew().started > MAX_WORKERS;
        let mut ready_for = if is_one_of_many { 4 * PAGE } else { slot.buffer.len() };
        if way.is_none() {
            slot.buffer.populate(ready_for);
        }
        let mut free_since = cycles::now();
        if let Left::Request(length) = slot.left() {
            self.serve(length, &mut slot, &mut free_since, counters);
        }
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

    /// Serves the request of this length in the slot, and parks where the worker is one too many.
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

    /// Where the process is about to end: a worker's last thing.
    fn stand_still(&self) -> ! {
        self.reading.fetch_sub(1, Ordering::SeqCst);
        loop {
            thread::park();
        }
    }

    /// The session has ended; `failure` is why, where that was not by unmounting.
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
}
