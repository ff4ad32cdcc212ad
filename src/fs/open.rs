//! Opening and closing files.

use nix::fcntl::OFlag;

use super::handles::OpenFile;
use super::{CallerId, Content, Errno, FileHandleId, Filesystem, LockOwner, NodeId, Opened};
use crate::backing::BackingFs;
use crate::policy::{DataPath, OpenPolicy, Operation, Policy};

/// The flags of open(2) that mean something to the backing when the object is known already. O_APPEND is not among them:
/// each write says whether it appends, and one that does not must not (a page written back).
const CARRIED: OFlag =
    OFlag::O_ACCMODE.union(OFlag::O_TRUNC).union(OFlag::O_SYNC).union(OFlag::O_DSYNC).union(OFlag::O_NOATIME);

/// The flags that decide, beside those, whether a create makes anything.
const CREATING: OFlag = OFlag::O_CREAT.union(OFlag::O_EXCL);

impl<B: BackingFs> Filesystem<B> {
    /// open(2) of a file.
    ///
    /// # Errors
    /// EACCES for a denied caller, EROFS for writing in a read-only subtree, ENFILE past [`super::handles::MAX_OPEN`],
    /// else the backing's.
    pub fn open(&self, caller: CallerId, node: NodeId, flags: OFlag) -> Result<Opened, Errno> {
        self.handles.has_room()?;
        let at = self.visit(caller, node)?;
        if flags & OFlag::O_ACCMODE != OFlag::O_RDONLY || flags.contains(OFlag::O_TRUNC) {
            at.writable()?;
        }
        let flags = self.backing_flags(flags.difference(CREATING));
        let who = self.actor(&at, Operation::Open, at.rules())?;
        let file = self.as_shown(&at, &who, |who| self.backing.open(who, &at.node, flags))?;
        let (opener, content) = (who.into_owned(), self.content(&at.policy));
        let handle = self.handles.add_file(OpenFile { inode: at.inode, file, opener, flags });
        Ok(Opened { handle, content })
    }

    /// close(2) of one descriptor, of perhaps several: the process's byte-range locks on the file go (fcntl(2)), and what
    /// was written goes to the server, so that another client that opens the file next sees it.
    ///
    /// # Errors
    /// ENOSPC, EDQUOT, EIO: what the server said of earlier writes.
    pub fn flush(&self, node: NodeId, handle: FileHandleId, owner: LockOwner) -> Result<(), Errno> {
        let open = self.handles.file(handle)?;
        self.drop_locks(node, owner);
        if open.writes() { self.backing.flush(&open.file) } else { Ok(()) }
    }

    /// The last descriptor is closed.
    pub fn release(&self, _node: NodeId, handle: FileHandleId) {
        let _under_way = self.releases.begin();
        if let Some(open) = self.handles.remove_file(handle) {
            self.drop_locks_through(&open.inode, handle);
            // The file closes here, and its flock(2) lock with it.
            drop(open);
        }
        self.waiters.wake();
    }

    /// The flags to open the backing with. O_DIRECT only on NFS: elsewhere it demands aligned memory, and the point of it,
    /// to keep content out of this mount's cache, is the kernel's to see to.
    pub(super) fn backing_flags(&self, flags: OFlag) -> OFlag {
        let carried = CARRIED.union(CREATING);
        let carried = if self.backing.features().nfs { carried.union(OFlag::O_DIRECT) } else { carried };
        flags & carried
    }

    /// How the kernel treats the content of a file opened under this policy.
    #[expect(clippy::unused_self, reason = "the backing's kind decides too once there is passthrough")]
    pub(super) fn content(&self, policy: &Policy) -> Content {
        let cache = policy.cache();
        match (cache.data, cache.open) {
            (DataPath::None, _) => Content::Direct,
            (_, OpenPolicy::Trust) => Content::Kept,
            (_, OpenPolicy::Revalidate) => Content::Revalidated,
        }
    }
}
