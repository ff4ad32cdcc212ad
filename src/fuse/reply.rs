//! The one answer that a request gets.

use std::sync::Arc;

use zerocopy::{Immutable, IntoBytes};

use super::counters::WorkerCounters;
use super::device::Device;
use crate::fs::{Errno, LockReply, RequestId};

/// Whether an answer reached the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It did.
    Delivered,
    /// The request was no more: what the answer counted or opened, nobody will give back.
    Lost,
}

/// The right to answer one request, once.
pub(crate) struct Reply<'a> {
    device: &'a Arc<Device>,
    to: RequestId,
    counters: &'a WorkerCounters,
    /// What to do where the answer is ESTALE; true where the operation is to be tried again instead of answered.
    stale: &'a dyn Fn() -> bool,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(
        device: &'a Arc<Device>,
        to: RequestId,
        counters: &'a WorkerCounters,
        stale: &'a dyn Fn() -> bool,
    ) -> Self {
        Self { device, to, counters, stale }
    }

    /// Which request this answers.
    pub(crate) fn request(&self) -> RequestId {
        self.to
    }

    /// Refuses; or leaves it unanswered, where a stale descriptor was to blame and whoever holds the request tries again.
    pub(crate) fn error(self, error: Errno) {
        if error == Errno::ESTALE && (self.stale)() {
            return;
        }
        // That there is none of what was asked for is an answer, and a frequent one.
        if error != Errno::ENOENT && error != Errno::ENODATA {
            self.counters.error();
        }
        delivered(self.to, self.device.refuse(self.to, error));
    }

    /// The kernel need not ask this, and asks no more (ENOSYS).
    pub(crate) fn needless(self) {
        delivered(self.to, self.device.refuse(self.to, Errno::ENOSYS));
    }

    /// Answers without a payload.
    pub(crate) fn done(self, outcome: Result<(), Errno>) {
        match outcome {
            Ok(()) => _ = self.bytes(&[]),
            Err(error) => self.error(error),
        }
    }

    /// Answers with a struct.
    pub(crate) fn value<T: IntoBytes + Immutable>(self, outcome: Result<T, Errno>) {
        match outcome {
            Ok(value) => _ = self.bytes(value.as_bytes()),
            Err(error) => self.error(error),
        }
    }

    /// Answers with these bytes, from where they are.
    pub(crate) fn bytes(self, payload: &[u8]) -> Delivery {
        delivered(self.to, self.device.answer(self.to, payload))
    }

    /// For an answer that comes later, and from another thread.
    pub(crate) fn later(self) -> LockReply {
        let (device, to) = (Arc::clone(self.device), self.to);
        Box::new(move |outcome| {
            let sent = match outcome {
                Ok(()) => device.answer(to, &[]),
                Err(error) => device.refuse(to, error),
            };
            delivered(to, sent);
        })
    }
}

fn delivered(to: RequestId, sent: Result<(), Errno>) -> Delivery {
    match sent {
        Ok(()) => Delivery::Delivered,
        Err(error) => {
            // ENOENT: the connection was aborted while the operation ran. Anything else is a mistake of ours.
            if error != Errno::ENOENT && error != Errno::ENODEV {
                tracing::error!(request = to.0, %error, "the kernel refused an answer");
            }
            Delivery::Lost
        }
    }
}
