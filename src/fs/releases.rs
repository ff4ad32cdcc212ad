//! Closes that are under way.
//!
//! The kernel sends RELEASE and does not wait for it. A process that has closed a file, and with it let go of a lock,
//! may ask for that lock again before this daemon has closed its own descriptor; it must not be told that somebody has it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The longest that a refused lock waits for closes to end, in pauses: a hung server must not hold a request that does not wait, and
/// where the machine stands still nobody comes to close anything meanwhile.
const PATIENCE: Duration = Duration::from_millis(20);
/// Until another thread has begun with the close that it has read.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const PAUSE: Duration = Duration::from_micros(100);

/// How many closes are under way.
#[derive(Debug, Default)]
pub(super) struct Releases {
    under_way: AtomicUsize,
}

/// A close that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'a>(&'a Releases);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}

impl Releases {
    /// So many closes were in hand when the process before this one died, and will be begun again.
    pub(super) fn expect(&self, closes: usize) {
        self.under_way.fetch_add(closes, Ordering::Relaxed);
    }

    /// One of those is done.
    pub(super) fn expected_is_done(&self) {
        // A close that nobody expected was not counted.
        let _ = self.under_way.fetch_update(Ordering::Release, Ordering::Relaxed, |left| left.checked_sub(1));
    }

    /// A close begins.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self)
    }

    /// Whether none is under way, as far as this daemon has begun with them.
    pub(super) fn is_quiet(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }

    /// Waits a moment for the closes that are under way, also for one that another thread has only just read.
    pub(super) fn settle(&self) {
        thread::sleep(FIRST_PAUSE);
        let mut paused = FIRST_PAUSE;
        while !self.is_quiet() && paused < PATIENCE {
            thread::sleep(PAUSE);
            paused += PAUSE;
        }
    }
}
