//! Directories in which something has just changed, and whoever merely walks through them.
//!
//! With each change the kernel forgets all attributes of the directory, mode and owner too (`fuse_dir_changed`, fs/fuse/dir.c), and
//! asks for them when the next path leads through it, for it must know who may. An NFSv4 server's answer to the change has not
//! brought them, so the truth costs a request to it that the bare mount does not make. FUSE does not say what it asks for. But
//! whoever unlinks, renames or opens something is shown nothing of the directory: for them it is enough what it was like
//! within the time that attributes may be believed, and the kernel is told to believe that for this once. So
//! stat(2) still has the truth.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use super::inode::Inode;
use super::visit::Visit;
use super::{Attributes, CallerId, Errno, Filesystem};
use crate::backing::{BackingFs, Freshness};
use crate::policy::FileKind;

/// Of one directory.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// When the export was last asked for its attributes, in moments (`Filesystem::moment`); 0 for never.
    looked: AtomicU32,
    /// How often this may be answered from memory until the next change.
    answers: AtomicU8,
}

/// How often the kernel asks whether one system call may what it does in one directory: rename(2) within one, for the way to
/// either name, and for either change. After these the truth is cheaper, since the kernel believes it for longer.
const CHECKS: u8 = 4;

impl<B: BackingFs> Filesystem<B> {
    /// A name in this directory is about to come, go or mean something else.
    pub(super) fn about_to_change(&self, directory: &Inode<B>) {
        self.listings.drop_of(directory.id);
        if self.backing.features().asks_after_changes {
            directory.live().changes.answers.store(CHECKS, Ordering::Relaxed);
        }
    }

    /// Whether the kernel may ask for this object's attributes because somebody walks through it, and the truth has its price.
    pub(super) fn may_be_a_walk(&self, inode: &Inode<B>) -> bool {
        self.backing.features().asks_after_changes && inode.kind == FileKind::Directory
    }

    /// The export was asked for the attributes of this directory.
    pub(super) fn note_look(&self, inode: &Inode<B>) {
        if let Some(live) = inode.live_if_any() {
            live.changes.looked.store(self.moment(), Ordering::Relaxed);
        }
    }

    /// What a caller who walks through a directory is to be judged by; none where the export must be asked.
    pub(super) fn for_a_walk(&self, caller: CallerId, at: &Visit<B>) -> Result<Option<Attributes>, Errno> {
        let Some(changes) = at.inode.live_if_any().map(|live| &live.changes) else { return Ok(None) };
        let looked = changes.looked.load(Ordering::Relaxed);
        let age = Duration::from_millis(100) * self.moment().saturating_sub(looked);
        let take_one = |left: u8| left.checked_sub(1);
        let applies = looked != 0
            && age < at.policy.cache().attr_timeout
            && changes.answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok()
            && self.threads.walks(caller.pid);
        if !applies {
            return Ok(None);
        }
        let known = self.backing.stat(at.node(self)?, Freshness::Known)?;
        Ok(Some(Attributes { attr: self.present(at, &known), valid: Duration::ZERO }))
    }
}
