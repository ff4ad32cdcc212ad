//! Directories in which something has just changed, and whoever merely walks through them.
//!
//! With each change the kernel forgets all attributes of the directory, mode and owner too (`fuse_dir_changed`, fs/fuse/dir.c), and
//! asks for them when the next path leads through it, for it must know who may. An NFSv4 server's answer to the change has not
//! brought them, so the truth costs a request to it that the bare mount does not make. FUSE does not say what it asks for. But
//! whoever unlinks, renames or opens something is shown nothing of the directory: for them it is enough what it was like
//! within the time that attributes may be believed, and the kernel is told to believe that for this once. So
//! stat(2) still has the truth.
//!
//! Where the call itself is to change names ([`Walk::ToMake`], [`Walk::ToChange`]) the kernel asks once more for each check that it makes. It
//! need not: it may believe the answer for a tick of its clock, which ends with the change. Directories that are not changed after
//! all, since it fails or since they were only on the way, it is made to forget again before the caller has its answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use super::inode::Inode;
use super::inodes::lock;
use super::visit::Visit;
use super::{Attributes, CallerId, Errno, Filesystem, NodeId};
use crate::backing::{BackingFs, Freshness};
use crate::caller::{Pid, Walk};
use crate::policy::FileKind;
use crate::sys::sync::Mutex;

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

/// The kernel rounds it up to a tick, of 1 to 10 ms (`timespec64_to_jiffies`).
const A_TICK: Duration = Duration::from_nanos(1);

/// Answers that are believed for a tick and may have to be forgotten before; those that were given longest ago are not.
const MAX_BELIEVED: usize = 64;

/// Directories whose attributes the kernel believes for a tick, for whom, and what that one is about.
#[derive(Debug, Default)]
pub(super) struct Believed(Mutex<VecDeque<(Pid, NodeId, Walk)>>);

impl Believed {
    fn remember(&self, caller: Pid, directory: NodeId, walk: Walk) {
        let mut all = lock(&self.0);
        all.push_back((caller, directory, walk));
        if all.len() > MAX_BELIEVED {
            all.pop_front();
        }
    }

    /// Those of one caller, if its walk is such a one.
    fn take(&self, caller: Pid, such: impl Fn(Walk) -> bool) -> Vec<NodeId> {
        let mut all = lock(&self.0);
        let is = |of: Pid, walk| of == caller && such(walk);
        let taken = all.iter().filter(|(of, _, walk)| is(*of, *walk)).map(|known| known.1).collect();
        all.retain(|(of, _, walk)| !is(*of, *walk));
        taken
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// A name in this directory is about to come, go or mean something else.
    pub(super) fn about_to_change(&self, directory: &Inode<B>) {
        self.listings.drop_of(directory.id);
        directory.listed.changes();
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
            && changes.answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok();
        let Some(walk) = applies.then(|| self.threads.walk(caller.pid)).flatten() else { return Ok(None) };
        let known = self.backing.stat(at.node(self)?, Freshness::Known)?;
        let valid = match walk {
            Walk::Through | Walk::ToOpen(_) => {
                let site = if let Walk::ToOpen(site) = walk { Some(site) } else { None };
                self.makers.asks(caller.pid, site, at.inode.id);
                Duration::ZERO
            }
            Walk::ToMake | Walk::ToChange => {
                self.believed.remember(caller.pid, at.inode.id, walk);
                A_TICK
            }
        };
        Ok(Some(Attributes { attr: self.present(at, &known), valid }))
    }

    /// A request for which the kernel may have believed what directories were like has come to this. It forgets that by itself of those
    /// in `changed`, where there was no error.
    pub fn has_changed<T>(&self, caller: CallerId, changed: &[NodeId], outcome: &Result<T, Errno>) {
        self.believe_no_more(caller, |_| true, |directory| outcome.is_ok() && changed.contains(&directory));
    }

    /// A name was looked up. What is not there is not removed, and what is there is not made: there the call ends.
    pub fn has_looked<T>(&self, caller: CallerId, outcome: &Result<T, Errno>) {
        if outcome.is_ok() && self.backing.features().asks_after_changes {
            self.makers.finds(caller.pid);
        }
        self.believe_no_more(caller, |walk| outcome.is_err() || walk == Walk::ToMake, |_| false);
    }

    fn believe_no_more(&self, caller: CallerId, such: impl Fn(Walk) -> bool, but: impl Fn(NodeId) -> bool) {
        if !self.backing.features().asks_after_changes {
            return;
        }
        let Some(kernel) = self.kernel.get() else { return };
        let believed = self.believed.take(caller.pid, such);
        believed.into_iter().filter(|&id| !but(id)).for_each(|id| kernel.forget_attributes(id));
    }
}
