//! Opening and reading directories.

use zerocopy::IntoBytes;

use super::Server;
use crate::fs::{BackingFs, CallerId, Errno, FileHandleId, NodeId};
use crate::fuse::dirents::{Dirents, Listing};
use crate::fuse::encode;
use crate::fuse::reply::{Delivery, Reply};

impl<B: BackingFs> Server<B> {
    pub(super) fn opendir(&self, reply: Reply<'_>, caller: CallerId, node: NodeId) {
        match self.fs.opendir(caller, node) {
            Ok(opened) => {
                if reply.bytes(encode::opened_dir(&opened).as_bytes()) == Delivery::Lost {
                    self.fs.releasedir(node, opened.handle);
                }
            }
            Err(error) => reply.error(error),
        }
    }

    pub(super) fn readdir(
        &self,
        reply: Reply<'_>,
        node: NodeId,
        handle: FileHandleId,
        from: u64,
        buffer: &mut [u8],
    ) {
        let mut entries = Dirents::new(Listing::Names, buffer);
        let outcome = self.fs.readdir(node, handle, from, &mut entries);
        self.listed(reply, outcome, &entries);
    }

    pub(super) fn readdirplus(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        from: u64,
        buffer: &mut [u8],
    ) {
        let mut entries = Dirents::new(Listing::Entries, buffer);
        let outcome = self.fs.readdirplus(caller, node, handle, from, &mut entries);
        self.listed(reply, outcome, &entries);
    }

    /// Answers with what was listed, also where an error came after it: the kernel goes on from there and meets the error
    /// again (as getdents(2) does). The lookups that entries count would be lost otherwise.
    fn listed(&self, reply: Reply<'_>, outcome: Result<(), Errno>, entries: &Dirents<'_>) {
        match outcome {
            Err(error) if entries.packed().is_empty() => reply.error(error),
            _ => {
                if reply.bytes(entries.packed()) == Delivery::Lost {
                    entries.counted().for_each(|node| self.fs.forget(node, 1));
                }
            }
        }
    }
}
