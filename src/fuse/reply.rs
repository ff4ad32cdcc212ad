//! The one answer that a request gets.

use std::sync::Arc;

use zerocopy::{Immutable, IntoBytes};

use super::counters::WorkerCounters;
use super::device::{self, Device};
use crate::fs::{Errno, LockReply, RequestId};
use crate::state::slot::Ledger;
use crate::sys::fault;

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
    /// Where the answer is written down before it is sent.
    ledger: &'a Ledger<'a>,
    /// What to do before an error goes out; true where the operation is to be tried again instead of answered.
    again: &'a dyn Fn(Errno) -> bool,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(
        device: &'a Arc<Device>,
        to: RequestId,
        counters: &'a WorkerCounters,
        ledger: &'a Ledger<'a>,
        again: &'a dyn Fn(Errno) -> bool,
    ) -> Self {
        Self { device, to, counters, ledger, again }
    }

    /// Which request this answers.
    pub(crate) fn request(&self) -> RequestId {
        self.to
    }

    /// Refuses; or leaves it unanswered, where something out of date was to blame and whoever holds the request tries again.
    pub(crate) fn error(self, error: Errno) {
        if (self.again)(error) {
            return;
        }
        if !is_mere_answer(error) {
            self.counters.error();
        }
        self.send(-error.raw(), &[]);
    }

    /// The kernel need not ask this, and asks no more (ENOSYS).
    pub(crate) fn needless(self) {
        self.send(-Errno::ENOSYS.raw(), &[]);
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
        self.send(0, payload)
    }

    fn send(self, error: i32, payload: &[u8]) -> Delivery {
        let sent = device::head(error, self.to, payload.len()).and_then(|head| {
            fault::point!("answer: before it is written down");
            self.ledger.write_down(&head, payload);
            fault::around!("it is sent", self.device.send_with(&head, payload))
        });
        delivered(self.to, sent)
    }

    /// For an answer that comes later, and from another thread.
    pub(crate) fn later(self) -> LockReply {
        later(self.device, self.to)
    }
}

/// The answer to a request that is in nobody's hand.
pub(crate) fn later(device: &Arc<Device>, to: RequestId) -> LockReply {
    let device = Arc::clone(device);
    Box::new(move |outcome| {
        fault::point!("late answer: before it is sent");
        let sent = match outcome {
            Ok(()) => device.answer(to, &[]),
            Err(error) => device.refuse(to, error),
        };
        fault::point!("late answer: sent");
        delivered(to, sent);
    })
}

/// That there is none of what was asked for, or no such operation, is an answer, and a frequent one: some languages ask of each file
/// that they open whether it is a terminal (ENOTTY), and the kernel passes every ioctl on.
fn is_mere_answer(error: Errno) -> bool {
    matches!(error, Errno::ENOENT | Errno::ENODATA | Errno::ENOTTY | Errno::ENOSYS)
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
