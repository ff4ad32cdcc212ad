//! Reading directories. The kernel does not open them here (it was told that it need not), so whoever reads says where to go
//! on, and a directory is opened for a listing and kept until its end.
//!
//! The kernel keeps what it has listed, and goes on showing that for as long as the directory's mtime stays. Within one
//! tick of the server's clock a directory can change and keep its mtime; and a listing out of the cache brings no
//! attributes, so that each name is then looked up by itself. Hence a listing is forgotten when the attributes of
//! its directory are given anew, after `attr_timeout`.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inode::Inode;
use super::inodes::lock;
use super::visit::Visit;
use super::{CallerId, DirEntry, DirSink, Errno, Filesystem, Name, NodeId};
use crate::backing::{BackingFs, RawEntry};
use crate::policy::{Credentials, Operation, Policy};
use crate::state::journal;
use crate::sys::sync::Mutex;

/// Listings that were begun and not read to the end, per mount: each keeps a descriptor.
const MAX_LISTINGS: usize = 64;

/// A tenth of a second, in milliseconds.
const TENTH: u128 = 100;

/// Names in a portion, mostly: as many as the kernel takes in a page.
const PORTION: usize = 128;

/// The listings under way, the one that was read last at the end.
#[derive(Debug)]
pub(super) struct Listings<B: BackingFs> {
    begun: Mutex<VecDeque<Listing<B>>>,
}

#[derive(Debug)]
struct Listing<B: BackingFs> {
    node: NodeId,
    /// As whom the directory was opened.
    reader: Credentials,
    /// The places after the names that were given last. It goes on at one of them: a reader whose buffer was smaller has not
    /// taken all.
    places: Arc<Vec<u64>>,
    /// When it was last read from; what it has read ahead is no younger.
    since: Instant,
    dir: B::Dir,
}

impl<B: BackingFs> Default for Listings<B> {
    fn default() -> Self {
        Self { begun: Mutex::default() }
    }
}

impl<B: BackingFs> Listings<B> {
    /// One that goes on at this place, if it is not older than that.
    fn take(&self, node: NodeId, reader: &Credentials, place: u64, oldest: Duration) -> Option<B::Dir> {
        let mut begun = lock(&self.begun);
        let at = begun.iter().rposition(|listing| {
            listing.node == node && listing.reader == *reader && listing.places.contains(&place)
        })?;
        let listing = begun.remove(at)?;
        drop(begun);
        (listing.since.elapsed() <= oldest).then_some(listing.dir)
    }

    fn keep(&self, listing: Listing<B>) {
        let oldest = {
            let mut begun = lock(&self.begun);
            begun.push_back(listing);
            if begun.len() > MAX_LISTINGS { begun.pop_front() } else { None }
        };
        // Its descriptor closes here.
        drop(oldest);
    }

    /// Nobody goes on with those of a directory that is about to change, since they have read ahead; nor of one that is forgotten, or gone: a descriptor would keep its place on the disk.
    pub(super) fn drop_of(&self, node: NodeId) {
        // The descriptors close here, without the lock.
        while let Some(ended) = self.take_any(node) {
            drop(ended);
        }
    }

    fn take_any(&self, node: NodeId) -> Option<Listing<B>> {
        let mut begun = lock(&self.begun);
        let at = begun.iter().position(|listing| listing.node == node)?;
        begun.remove(at)
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// Entries from the offset `from` (0, or an entry's `next`) until the sink is full.
    ///
    /// # Errors
    /// EACCES for a denied caller, else the backing's.
    pub fn readdir(
        &self,
        caller: CallerId,
        node: NodeId,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<(), Errno> {
        let at = self.visit(caller, node)?;
        self.list(&at, from, &mut |raw| offer(sink, &raw, || None))
    }

    /// As [`Self::readdir`], with a lookup for each entry: each counts one lookup to forget. An entry that cannot be
    /// looked up, or on which another mount begins, is listed all the same.
    ///
    /// # Errors
    /// As [`Self::readdir`].
    pub fn readdirplus(
        &self,
        caller: CallerId,
        node: NodeId,
        from: u64,
        sink: &mut dyn DirSink,
    ) -> Result<(), Errno> {
        let at = self.visit(caller, node)?;
        let who = self.actor(&at, Operation::Look, at.rules())?;
        self.list(&at, from, &mut |raw| offer(sink, &raw, || self.entry_for(&at, &who, &raw)))
    }

    /// fsync(2) of a directory. Whoever asks has it open: the mode may forbid by now what it allowed then.
    ///
    /// # Errors
    /// EACCES for a denied caller, else the backing's.
    pub fn fsyncdir(&self, caller: CallerId, node: NodeId, data_only: bool) -> Result<(), Errno> {
        let at = self.visit(caller, node)?;
        self.backing.fsync_dir(at.node(self)?, data_only)
    }

    /// The kernel is given the attributes of a directory anew: what it has listed of it may be older.
    pub(super) fn forget_listing(&self, policy: &Policy, directory: &Inode<B>) {
        // To make the kernel forget the listing makes it ask for the attributes once more, of a listing that is new by then.
        if directory.listed.ages()
            && let Some(kernel) = self.kernel.get()
            && directory.listed.has_aged(self.moment(), patience(policy))
        {
            kernel.forget_content(directory.id);
        }
    }

    /// Tenths of a second since the mount, and one.
    pub(super) fn moment(&self) -> u32 {
        u32::try_from(self.since.elapsed().as_millis() / TENTH).unwrap_or(u32::MAX - 1) + 1
    }

    /// Gives `each` the entries from `from` on, until it breaks off or the directory ends.
    fn list(
        &self,
        at: &Visit<B>,
        from: u64,
        each: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        if from == 0 && at.inode.listed.begins(self.moment(), patience(&at.policy)) {
            self.trails.begin(at.inode.id);
        }
        let who = self.actor(at, Operation::Open, at.rules())?;
        // 0 is rewinddir(3): a fresh look, not what was read before.
        let begun = if from == 0 {
            None
        } else {
            self.listings.take(at.inode.id, &who, from, at.policy.cache().attr_timeout)
        };
        let dir = match begun {
            Some(dir) => dir,
            None => self.as_shown(at, &who, |who| self.backing.opendir(who, at.node(self)?))?,
        };
        let mut places = Vec::with_capacity(PORTION);
        let mut is_end = true;
        self.backing.read_dir(&dir, from, &mut |raw| {
            is_end = false;
            let place = raw.next;
            let taken = each(raw);
            if taken.is_continue() {
                places.push(place);
            }
            taken
        })?;
        let places = Arc::new(places);
        let fills = self.trails.go_on(at.inode.id, from, &places);
        if is_end
            && at.inode.listed.ends(self.moment(), fills)
            && let Some(kernel) = self.kernel.get()
        {
            kernel.forget_content(at.inode.id);
        }
        if !places.is_empty() {
            self.listings.keep(Listing {
                node: at.inode.id,
                reader: who.into_owned(),
                places,
                since: Instant::now(),
                dir,
            });
        }
        Ok(())
    }

    fn entry_for(&self, at: &Visit<B>, who: &Credentials, raw: &RawEntry<'_>) -> Option<super::Entry> {
        // `.` and `..` are no names: their lookups would never be forgotten.
        let name = Name::new(raw.name).ok()?;
        if self.doors.leads_to(at.inode.id, name).is_some() {
            // Whose server may hang: listing this directory does not depend on it.
            return None;
        }
        let found = self.backing.find(who, at.node(self).ok()?, name).ok()?;
        self.enter(at, name, found).ok()
    }
}

/// For how many tenths of a second a listing is believed.
fn patience(policy: &Policy) -> u32 {
    u32::try_from(policy.cache().attr_timeout.as_millis() / TENTH).unwrap_or(u32::MAX)
}

/// Gives an entry to the sink if it fits; the lookup is spent only then.
fn offer(
    sink: &mut dyn DirSink,
    raw: &RawEntry<'_>,
    entry: impl FnOnce() -> Option<super::Entry>,
) -> ControlFlow<()> {
    if !sink.has_room(raw.name.count_bytes()) || !journal::has_room_to_count() {
        return ControlFlow::Break(());
    }
    sink.push(&DirEntry { name: raw.name, ino: raw.ino, kind: raw.kind, next: raw.next, entry: entry() });
    ControlFlow::Continue(())
}
