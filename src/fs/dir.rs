//! Reading directories.

use std::ops::ControlFlow;

use super::visit::Visit;
use super::{CallerId, Content, DirEntry, DirSink, Errno, FileHandleId, Filesystem, Name, NodeId, Opened};
use crate::backing::{BackingFs, RawEntry};
use crate::policy::{Credentials, Operation};

impl<B: BackingFs> Filesystem<B> {
    /// opendir(3).
    ///
    /// # Errors
    /// EACCES for a denied caller, ENFILE past [`super::handles::MAX_OPEN`], else the backing's.
    pub fn opendir(&self, caller: CallerId, node: NodeId) -> Result<Opened, Errno> {
        self.handles.has_room()?;
        let at = self.visit(caller, node)?;
        let who = self.actor(&at, Operation::Open, at.rules())?;
        let dir = self.as_shown(&at, &who, |who| self.backing.opendir(who, &at.node))?;
        Ok(Opened { handle: self.handles.add_dir(dir), content: Content::Revalidated })
    }

    /// Entries from the offset `from` (0, or an entry's `next`) until the sink is full.
    ///
    /// # Errors
    /// The backing's.
    pub fn readdir(
        &self,
        _node: NodeId,
        handle: FileHandleId,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<(), Errno> {
        let open = self.handles.dir(handle)?;
        self.backing.read_dir(&open.dir, from, &mut |raw| offer(sink, &raw, || None))
    }

    /// As [`Self::readdir`], with a lookup for each entry: each counts one lookup to forget. An entry that cannot be
    /// looked up is listed all the same.
    ///
    /// # Errors
    /// As [`Self::readdir`], and EACCES for a denied caller.
    pub fn readdirplus(
        &self,
        caller: CallerId,
        node: NodeId,
        handle: FileHandleId,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<(), Errno> {
        let open = self.handles.dir(handle)?;
        let at = self.visit(caller, node)?;
        let who = self.actor(&at, Operation::Look, at.rules())?;
        self.backing
            .read_dir(&open.dir, from, &mut |raw| offer(sink, &raw, || self.entry_for(&at, &who, &raw)))
    }

    /// A directory is closed.
    pub fn releasedir(&self, _node: NodeId, handle: FileHandleId) {
        self.handles.remove_dir(handle);
    }

    /// fsync(2) of a directory.
    ///
    /// # Errors
    /// The backing's.
    pub fn fsyncdir(&self, _node: NodeId, handle: FileHandleId, data_only: bool) -> Result<(), Errno> {
        let open = self.handles.dir(handle)?;
        self.backing.fsync_dir(&open.dir, data_only)
    }

    fn entry_for(&self, at: &Visit<B>, who: &Credentials, raw: &RawEntry<'_>) -> Option<super::Entry> {
        // `.` and `..` are no names: their lookups would never be forgotten.
        let name = Name::new(raw.name).ok()?;
        let found = self.backing.lookup(who, &at.node, name).ok()?;
        Some(self.enter(at, name, found))
    }
}

/// Gives an entry to the sink if it fits; the lookup is spent only then.
fn offer(
    sink: &mut dyn DirSink,
    raw: &RawEntry<'_>,
    entry: impl FnOnce() -> Option<super::Entry>,
) -> ControlFlow<()> {
    if !sink.has_room(raw.name.count_bytes()) {
        return ControlFlow::Break(());
    }
    sink.push(&DirEntry { name: raw.name, ino: raw.ino, kind: raw.kind, next: raw.next, entry: entry() });
    ControlFlow::Continue(())
}
