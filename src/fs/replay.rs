//! Requests that a worker before this one had begun when it died: what of them has been done already?
//!
//! Most operations may be done twice without anybody noticing, and simply are. For the others the journal says whether the
//! call at the export was about to be made; then an answer such as EEXIST may be our own doing. While a request is in hand
//! the kernel lets nobody else change the same names through this mount, so only another client of the server could
//! have done exactly the same at exactly that moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;

use super::handles::OpenFile;
use super::visit::Visit;
use super::{Errno, Filesystem, Name, NewTime};
use crate::backing::{BackingFs, Freshness, Identified};
use crate::policy::{Credentials, FileKind};
use crate::state::journal;

/// The pieces of evidence.
const ATTEMPTED: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;

/// How much of a file is searched for what may have been appended to it, in bytes.
const SEARCHED: usize = 4 << 20;

/// Whether the call that is about to be made may have been made before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Again(bool);

/// Comes right before a call that cannot be made twice.
pub(super) fn attempt() -> Again {
    let again = was_attempted();
    journal::note(ATTEMPTED, 1);
    Again(again)
}

/// Whether a worker before this one may have made the call already.
pub(super) fn was_attempted() -> bool {
    journal::is_replay() && journal::noted(ATTEMPTED).is_some()
}

/// When the request was first begun with, since the epoch by this node's clock.
pub(super) fn begun() -> Duration {
    let begun = journal::noted(FIRST).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        journal::note(FIRST, now);
        now
    });
    Duration::from_secs(begun)
}

/// Whether the kernel was told unseen that the name which the request is to make is not there (`fs/makers.rs`); `told` where this
/// worker has done that.
pub(super) fn was_unseen(told: bool) -> bool {
    if told {
        journal::note(SECOND, 1);
    }
    journal::noted(SECOND).is_some()
}

impl Again {
    /// The outcome of a call that removes something: that it is not there any more is what was wanted.
    pub(super) fn removed(self, outcome: Result<(), Errno>, gone: Errno) -> Result<(), Errno> {
        match outcome {
            Err(error) if self.0 && error == gone => Ok(()),
            outcome => outcome,
        }
    }

    /// The outcome of a call that makes something: that it is there is what was wanted, if it is as we would have made it.
    pub(super) fn made<T>(
        self,
        outcome: Result<T, Errno>,
        found: impl FnOnce() -> Option<T>,
    ) -> Result<T, Errno> {
        match outcome {
            Err(Errno::EEXIST) if self.0 => found().ok_or(Errno::EEXIST),
            outcome => outcome,
        }
    }

    /// The outcome of a rename: the old name gone, and the new one there.
    pub(super) fn moved(
        self,
        outcome: Result<(), Errno>,
        is_there: impl Fn(Side) -> bool,
    ) -> Result<(), Errno> {
        match outcome {
            Err(Errno::ENOENT | Errno::EEXIST) if self.0 && !is_there(Side::Old) && is_there(Side::New) => {
                Ok(())
            }
            outcome => outcome,
        }
    }
}

/// Of the two names of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Old,
    New,
}

impl<B: BackingFs> Filesystem<B> {
    /// The outcome of a call that changes names in these directories; where it fails and may have been made before, what the first one
    /// did can be seen from now on.
    ///
    /// An NFS client throws away the server's answer to a process that was killed. Where it holds a delegation of the directory it then
    /// goes on believing its own listing and names, also under AT_STATX_FORCE_SYNC (Linux 7.2, on the bare mount: mkdir(2) says
    /// EEXIST, and stat(2) ENOENT), until an answer about the directory tells of another change than the last that it knows: that to a
    /// new time of access brings one, and takes away nothing that anybody looks at.
    pub(super) fn seen<T>(
        &self,
        again: Again,
        outcome: Result<T, Errno>,
        directories: &[&Visit<B>],
        who: &Credentials,
    ) -> Result<T, Errno> {
        if again.0 && outcome.is_err() && self.backing.features().asks_after_changes {
            for at in directories {
                let touch = |node| self.backing.set_times(who, node, NewTime::Now, NewTime::Omit);
                // Where it is refused the client may be behind, as it would be without.
                let _ = at.node(self).and_then(touch);
            }
        }
        outcome
    }

    /// What is called `name`, if it is of this kind and its maker's: as a worker that died would have left it.
    pub(super) fn made_by(
        &self,
        at: &Visit<B>,
        who: &Credentials,
        name: Name<'_>,
        kind: FileKind,
    ) -> Option<Identified<B::Node>> {
        let found = self.backing.find(who, at.node(self).ok()?, name).ok()?;
        // Of what root makes, a server says that somebody else did.
        let ours = found.attr.kind == kind && (found.attr.uid == who.uid || who.uid.is_root());
        ours.then_some(found)
    }

    /// Whether the two names of an exchange have been exchanged already. Seen before they are, by their numbers.
    pub(super) fn exchanged_before(
        &self,
        from: &Visit<B>,
        to: &Visit<B>,
        who: &Credentials,
        (name, new_name): (Name<'_>, Name<'_>),
    ) -> bool {
        let number = |at: &Visit<B>, name| {
            self.backing.find(who, at.node(self).ok()?, name).ok().map(|found| found.id.ino)
        };
        let (Some(old), Some(new)) = (number(from, name), number(to, new_name)) else { return false };
        let before = (journal::noted(FIRST), journal::noted(SECOND));
        if journal::is_replay() && before == (Some(new), Some(old)) {
            return true;
        }
        journal::note(FIRST, old);
        journal::note(SECOND, new);
        false
    }

    /// Whether `data` has been appended already. Seen by how long the file was before, and what stands behind that.
    ///
    /// # Errors
    /// Those of stat(2).
    pub(super) fn appended_before(&self, open: &OpenFile<B>, data: &[u8]) -> Result<bool, Errno> {
        let size = self.backing.stat_file(self.at_hand(open)?, Freshness::Known)?.size;
        if journal::is_replay()
            && let Some(before) = journal::noted(FIRST)
        {
            return Ok(self.stands_behind(open, before - 1, data));
        }
        journal::note(FIRST, size + 1);
        Ok(false)
    }

    fn stands_behind(&self, open: &OpenFile<B>, before: u64, data: &[u8]) -> bool {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let stat = self.at_hand(open).and_then(|file| self.backing.stat_file(file, Freshness::AsStat));
        let size = stat.map_or(0, |attr| attr.size);
        if size < before.saturating_add(length) {
            return false;
        }
        // Whoever may write need not be allowed to read. Then the length is all there is to go by.
        let reader = self
            .resolve(&open.opener, &open.inode)
            .and_then(|node| self.backing.open(&open.opener, &node, OFlag::O_RDONLY));
        let Ok(reader) = reader else { return true };
        let span = usize::try_from(size - before).unwrap_or(usize::MAX).min(SEARCHED.max(data.len()));
        let mut written = vec![0; span];
        match self.backing.read(&reader, &mut written, before) {
            // Others may have appended before it and after it.
            Ok(length) => contains(&written[..length], data),
            Err(_) => true,
        }
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    part.is_empty() || all.windows(part.len()).any(|window| window == part)
}
