//! Names to inodes: answers that count a lookup.

use zerocopy::IntoBytes;

use super::Server;
use crate::fs::{BackingFs, CallerId, Entry, Errno, LooksFor, Name, NodeId};
use crate::fuse::decode::Forgets;
use crate::fuse::encode;
use crate::fuse::reply::{Delivery, Reply};
use crate::state::journal;

impl<B: BackingFs> Server<B> {
    pub(super) fn lookup(&self, reply: Reply<'_>, caller: CallerId, parent: NodeId, name: Name<'_>) {
        let found = match self.fs.looks_for(caller, parent, name) {
            LooksFor::Nothing => return reply.error(Errno::ENOENT),
            LooksFor::Identity => self.fs.lookup_identity(caller, parent, name),
            LooksFor::All => self.fs.lookup(caller, parent, name),
        };
        self.fs.has_looked(caller, &found);
        match found {
            Err(Errno::ENOENT) => {
                let valid = self.fs.policy().cache().negative_timeout;
                if valid.is_zero() {
                    reply.error(Errno::ENOENT);
                } else {
                    reply.value(Ok(encode::negative_entry(valid)));
                }
            }
            found => self.entered(reply, found),
        }
    }

    /// Answers with an entry, which counts one lookup.
    pub(super) fn entered(&self, reply: Reply<'_>, found: Result<Entry, Errno>) {
        match found {
            Ok(entry) => {
                if reply.bytes(encode::entry(&entry).as_bytes()) == Delivery::Lost {
                    self.fs.forget_unanswered(entry.node);
                }
            }
            Err(error) => reply.error(error),
        }
    }

    pub(super) fn batch_forget(&self, forgets: &Forgets<'_>) {
        // Those that a worker before this one has done already are not done again.
        let done = usize::try_from(journal::forgotten()).unwrap_or(usize::MAX);
        for (node, lookups) in forgets.iter().skip(done) {
            self.fs.forget(node, lookups);
        }
    }
}
