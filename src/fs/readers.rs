//! Reading files that nobody has opened: under `cache.open = "trust"` the kernel was told that it need not ask.
//!
//! Only content that the kernel does not have in its cache comes this way, mostly in pieces of one file after another, so
//! the files read last are kept open. Such a mount is read-only (`policy` refuses `trust` elsewhere), so there is nothing
//! to write back, and nobody on this node to remove a file through it.

use std::collections::VecDeque;
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::handles::OpenFile;
use super::inodes::lock;
use super::{CallerId, Content, Errno, FileHandleId, Filesystem, NodeId};
use crate::backing::BackingFs;
use crate::policy::{Credentials, OpenPolicy, Operation};
use crate::sys::sync::Mutex;

/// Files kept open for reading, per mount.
const MAX_READERS: usize = 128;

/// The files read last, the very last one at the end.
#[derive(Debug)]
pub(super) struct Readers<B: BackingFs> {
    kept: Mutex<VecDeque<Arc<OpenFile<B>>>>,
}

impl<B: BackingFs> Default for Readers<B> {
    fn default() -> Self {
        Self { kept: Mutex::default() }
    }
}

impl<B: BackingFs> Readers<B> {
    fn find(&self, node: NodeId, reader: &Credentials) -> Option<Arc<OpenFile<B>>> {
        let mut kept = lock(&self.kept);
        let at = kept.iter().rposition(|open| open.inode.id == node && open.opener == *reader)?;
        let open = kept.remove(at)?;
        kept.push_back(Arc::clone(&open));
        Some(open)
    }

    fn keep(&self, open: Arc<OpenFile<B>>) {
        let oldest = {
            let mut kept = lock(&self.kept);
            kept.push_back(open);
            if kept.len() > MAX_READERS { kept.pop_front() } else { None }
        };
        // Its descriptor closes here.
        drop(oldest);
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// Whether the kernel may open files without asking.
    pub fn trusts_opens(&self) -> bool {
        self.reign.load().policy.cache().open == OpenPolicy::Trust
    }

    /// An open file by its handle; by its inode where the kernel opened it without asking.
    pub(super) fn file(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
    ) -> Result<Arc<OpenFile<B>>, Errno> {
        if handle != FileHandleId::NONE {
            return self.handles.file(handle);
        }
        if !self.trusts_opens() {
            return Err(Errno::EBADF);
        }
        let at = self.visit(caller, node)?;
        let who = self.actor(&at, Operation::Open, at.rules())?;
        if let Some(open) = self.readers.find(node, &who) {
            return Ok(open);
        }
        let flags = OFlag::O_RDONLY;
        let file = self.as_shown(&at, &who, |who| self.backing.open(who, at.node(self)?, flags))?;
        let inode = Arc::clone(&at.inode);
        let (opener, content) = (who.into_owned(), Content::Direct);
        let open = Arc::new(OpenFile::new(inode, file, opener, flags, content));
        self.readers.keep(Arc::clone(&open));
        Ok(open)
    }
}
