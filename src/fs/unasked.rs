//! Names that the kernel looks up although the operation that comes next tells as much, on NFS.
//!
//! An NFS client leaves such a lookup out (`nfs_lookup`, linux/fs/nfs/dir.c): making a name or renaming to it tells whether something
//! is there. Here the kernel asks first, which would be a request to the server more. So it is told that there is nothing, and not
//! to remember that; the answer to what it asks next is the server's. Until then it holds the directory's lock, so that whoever
//! else looks for the name waits.
//!
//! A name that the kernel holds is looked up again after its time as well, though unlink(2), rmdir(2) and rename(2) tell whether it is there,
//! and show nobody what it is like: of a file that was renamed, the client would have to ask that.
//!
//! Nothing is left unseen but before mkdir(2), rename(2) and an open(2) that makes the name. link(2), symlink(2) and mknod(2) with a slash behind the
//! name would fail with ENOENT where something is there, and not with EEXIST, and nothing tells of that slash.

use super::{CallerId, Errno, Filesystem, Name, NodeId};
use crate::backing::{BackingFs, Freshness};
use crate::caller::Purpose;
use crate::policy::{Caller, Permissions, ShownAttr, dac};

/// Which supplementary groups the caller is taken to be in. To read them would cost more than it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Groups {
    /// None: it may do at least this.
    None,
    /// Whichever helps. mkdir(2) and rename(2) of who is in none of them fail in any case, as they do on NFS.
    Any,
}

/// What a LOOKUP has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LooksFor {
    /// Nothing: it may be answered with ENOENT unseen, if the kernel does not remember that.
    Nothing,
    /// What is there, and not what that is like: the caller is about to remove or rename it, and is shown nothing of it.
    Identity,
    /// What is there, and what it is like.
    All,
}

impl<B: BackingFs> Filesystem<B> {
    /// What a LOOKUP needs.
    pub fn looks_for(&self, caller: CallerId, parent: NodeId, name: Name<'_>) -> LooksFor {
        if !self.backing.features().nfs {
            return LooksFor::All;
        }
        // Who may replace what is in a sticky directory, the kernel can say only of what it knows.
        let is_free = |shown: ShownAttr| shown.permissions.without(Permissions::STICKY) == shown.permissions;
        let lets_write = |groups| self.lets_write(caller, parent, name, groups).ok().flatten();
        let makes = self.replaces_unseen()
            && self.makers.looks(caller.pid, (parent, name), || {
                // Who may not make it may open it yet, where it is there.
                self.threads.looks_up_to_open(caller.pid) && lets_write(Groups::None).is_some_and(is_free)
            });
        if makes {
            return LooksFor::Nothing;
        }
        let directory = || lets_write(Groups::Any);
        let purpose = self.threads.purpose(caller.pid);
        let site = if let Some(Purpose::Renames(site)) = purpose { Some(site) } else { None };
        let replaces = self.replaces_unseen()
            && self.targets.looks(caller.pid, site, (parent, name), || directory().is_some_and(is_free));
        if replaces || purpose == Some(Purpose::MakesADirectory) && directory().is_some() {
            return LooksFor::Nothing;
        }
        if matches!(purpose, Some(Purpose::Changes | Purpose::Renames(_))) {
            LooksFor::Identity
        } else {
            LooksFor::All
        }
    }

    /// Whether a name may be replaced that was not looked up. On NFSv3 an open file must then be known by its name, so that the
    /// client renames it and does not remove it; a server of v4 keeps it for whoever has it open.
    pub(super) fn replaces_unseen(&self) -> bool {
        self.backing.features().asks_after_changes
    }

    /// What the directory looks like, if the kernel will let the caller change it, for all that is known here.
    fn lets_write(
        &self,
        caller: CallerId,
        parent: NodeId,
        name: Name<'_>,
        groups: Groups,
    ) -> Result<Option<ShownAttr>, Errno> {
        let (Some(uid), Some(gid)) = (caller.uid, caller.gid) else { return Ok(None) };
        let at = self.visit(caller, parent)?;
        at.child_writable(name)?;
        if !self.is_on_nfs(&at.inode) {
            return Ok(None);
        }
        let shown = self.present(&at, &self.backing.stat(at.node(self)?, Freshness::Known)?);
        let groups = if groups == Groups::Any { &[shown.gid][..] } else { &[] };
        let caller = Caller { uid, gid, groups };
        let want = dac::Want::Access { read: false, write: true, execute: true };
        Ok(dac::may(&caller, &shown, want).allowed.then_some(shown))
    }
}
