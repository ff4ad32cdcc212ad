//! Files that were open in processes which have died with all that they had open: a service that was killed as a whole, and goes on
//! from what its manager has kept (`mount/store`).
//!
//! Each is opened again when it is next used, by the thread that uses it: by its handle, so that it is no other file, and as whoever
//! opened it. So a server that does not answer stops nobody but its own files' users. Where it cannot be, they are told: ESTALE for
//! what has no name any more and is gone, EIO where its opener may not open it now.
//!
//! What an open file held beside the file, a lock, is gone, and perhaps somebody else's since. To take it again would hide that. So the
//! inode is lost (`state::orphaned`), as for an NFS client that has lost its locks: whatever is done through a file that was open before is EIO, for
//! all who had it open. The object itself is another inode from then on, to be opened anew. What the kernel would do with
//! the lost one by itself (its page cache, passthrough) ends as soon as it is told that its kind has changed: then it gives
//! the inode up (`fuse_make_bad`, fs/fuse/fuse_i.h) and answers EIO for all that is open of it.

use std::time::Duration;

use nix::fcntl::OFlag;

use super::handles::OpenFile;
use super::{Attributes, Errno, Filesystem, NodeId};
use crate::backing::BackingFs;
use crate::policy::{FileKind, Permissions, PodGid, PodUid, ShownAttr, Timestamp};

/// The flags of the open that have had their effect.
const DONE: OFlag = OFlag::O_TRUNC.union(OFlag::O_CREAT).union(OFlag::O_EXCL).union(OFlag::O_TMPFILE);

impl<B: BackingFs> Filesystem<B> {
    /// The file itself, opened again where it must be. May change the thread's identity.
    ///
    /// # Errors
    /// ESTALE where it is gone, EIO where its opener may not open it any more, else the backing's; the next use tries again.
    pub(super) fn at_hand<'a>(&self, open: &'a OpenFile<B>) -> Result<&'a B::File, Errno> {
        match open.file.get() {
            Some(file) => Ok(file),
            None => self.open_again(open),
        }
    }

    #[cold]
    fn open_again<'a>(&self, open: &'a OpenFile<B>) -> Result<&'a B::File, Errno> {
        let opened = self
            .resolve(&open.opener, &open.inode)
            .and_then(|node| self.backing.open(&open.opener, &node, open.flags.difference(DONE)));
        let file = opened.map_err(|error| {
            tracing::warn!(%error, node = open.inode.id.0, "a file cannot be opened again");
            match error {
                // Not what whoever has it open could make sense of.
                Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY => Errno::EIO,
                error => error,
            }
        })?;
        self.handles.reopened(&self.backing, open, file)
    }

    /// What stat(2) is told of a lost inode, for the kernel to give it up.
    pub(super) fn of_a_lost_inode(&self, node: NodeId) -> Option<Attributes> {
        if !self.inodes.has_lost {
            return None;
        }
        let inode = self.inodes.get(node).filter(|inode| inode.lost)?;
        let kind = if inode.kind == FileKind::Fifo { FileKind::Socket } else { FileKind::Fifo };
        let time = Timestamp { seconds: 0, nanoseconds: 0 };
        let attr = ShownAttr {
            ino: inode.object.ino,
            kind,
            permissions: Permissions::from_mode(0),
            nlink: 0,
            uid: PodUid::NOBODY,
            gid: PodGid::NOBODY,
            rdev: 0,
            size: 0,
            blocks: 0,
            block_size: 4096,
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
        };
        Some(Attributes { attr, valid: Duration::ZERO })
    }
}
