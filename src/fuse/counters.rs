//! How much was done: each worker counts for itself, whoever asks adds up. Beside it, what it has in hand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::in_hand::InHand;
use super::opcode::Opcode;

/// What a session has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Requests read from the kernel.
    pub requests: u64,
    /// Requests answered with an error. That a name or an attribute does not exist (ENOENT, ENODATA), or that there is no such
    /// operation (ENOTTY for an ioctl, ENOSYS), is an answer.
    pub errors: u64,
    /// Operations that panicked: each is a bug, answered with EIO.
    pub panics: u64,
    /// Requests by kind; kinds never asked for are left out.
    pub by_opcode: BTreeMap<&'static str, u64>,
}

/// One worker's counts, on cache lines that no other worker writes to.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct WorkerCounters {
    by_opcode: [AtomicU64; Opcode::BOUND],
    unknown: AtomicU64,
    errors: AtomicU64,
    panics: AtomicU64,
    pub(crate) in_hand: InHand,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            by_opcode: [const { AtomicU64::new(0) }; Opcode::BOUND],
            unknown: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            in_hand: InHand::default(),
        }
    }
}

impl WorkerCounters {
    pub(crate) fn request(&self, opcode: Option<Opcode>) {
        let place = opcode.map_or(&self.unknown, |opcode| &self.by_opcode[opcode.index()]);
        place.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds this worker's counts to `sum`.
    pub(crate) fn add_to(&self, sum: &mut Counters) {
        for &opcode in Opcode::ALL {
            sum.count(opcode.label(), self.by_opcode[opcode.index()].load(Ordering::Relaxed));
        }
        sum.count("unknown", self.unknown.load(Ordering::Relaxed));
        sum.errors += self.errors.load(Ordering::Relaxed);
        sum.panics += self.panics.load(Ordering::Relaxed);
    }
}

impl Counters {
    fn count(&mut self, label: &'static str, requests: u64) {
        if requests > 0 {
            *self.by_opcode.entry(label).or_default() += requests;
            self.requests += requests;
        }
    }
}
