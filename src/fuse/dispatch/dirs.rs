//! Reading directories.

use super::Server;
use crate::fs::{BackingFs, CallerId, Errno, NodeId};
use crate::fuse::dirents::{Dirents, Listing};
use crate::fuse::reply::{Delivery, Reply};

impl<B: BackingFs> Server<B> {
    pub(super) fn readdir(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        from: u64,
        buffer: &mut [u8],
    ) {
        let mut entries = Dirents::new(Listing::Names, buffer);
        let outcome = self.fs.readdir(caller, node, from, &mut entries);
        self.listed(reply, outcome, &entries);
    }

    pub(super) fn readdirplus(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        from: u64,
        buffer: &mut [u8],
    ) {
        let mut entries = Dirents::new(Listing::Entries, buffer);
        let outcome = self.fs.readdirplus(caller, node, from, &mut entries);
        self.listed(reply, outcome, &entries);
    }

    /// Answers with what was listed, also where an error came after it: the kernel goes on from there and meets the error
    /// again (as getdents(2) does). The lookups that entries count would be lost otherwise.
    fn listed(&self, reply: Reply<'_>, outcome: Result<(), Errno>, entries: &Dirents<'_>) {
        match outcome {
            Err(error) if entries.packed().is_empty() => reply.error(error),
            _ => {
                if reply.bytes(entries.packed()) == Delivery::Lost {
                    entries.counted().for_each(|node| self.fs.forget_unanswered(node));
                }
            }
        }
    }
}
