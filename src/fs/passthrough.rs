//! Files that the kernel reads and writes by itself (passthrough): which are given to it, how others come to one, and when it is
//! given back.
//!
//! All opens of an inode share one registered file and its credentials: whoever joins must find that those credentials open the
//! file in the same way, or comes to the file by an inode of its own ([`Joins`]). Files that give rights never pass; small ones that
//! are only read, and have not just been written, take the page cache.

use nix::fcntl::OFlag;

use super::content::{OpenAs, OpenContent, Way, reads, writes};
use super::inode::{Inode, Live};
use super::inodes::lock;
use super::seen::Seen;
use super::{BackingId, Content, Errno, Filesystem};
use crate::backing::BackingFs;
use crate::policy::{Credentials, FileKind, Permissions, StoredAttr};
use crate::state::journal;
use crate::state::layout::{self, HeaderWord};
use crate::sys::fault;

/// Bytes up to which a file that is only read is kept in the page cache, rather than passed through.
const SMALL: u64 = 64 << 10;

/// The piece of evidence that is a registered file.
const BACKING: usize = 2;

/// Files that may be in the middle of being registered at once.
const UNDER_WAY: u64 = layout::MAX_SLOTS as u64;

/// A file that the kernel reads and writes by itself.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) id: BackingId,
    /// Whose credentials it uses; a worker that took over knows only what they were good for.
    opener: Option<Credentials>,
    /// Whether these are known to open the file for reading, and for writing.
    reads: bool,
    writes: bool,
}

impl Shared {
    fn new(id: BackingId, open: &OpenAs<'_>) -> Self {
        Self { id, opener: Some(open.opener.clone()), reads: reads(open.flags), writes: writes(open.flags) }
    }

    /// They have opened it like this.
    fn is_good_for(&mut self, flags: OFlag) {
        self.reads |= reads(flags);
        self.writes |= writes(flags);
    }

    fn serves(&self, flags: OFlag) -> bool {
        (self.reads || !reads(flags)) && (self.writes || !writes(flags))
    }
}

/// How an open can come to a file that the kernel reads and writes by itself.
enum Joins {
    /// As the others.
    Others,
    /// With its own credentials, through the daemon, for all that it reads and writes; not for what it maps.
    Beside,
    /// Not through this inode: the kernel opens the registered file for each open of it, with the registered credentials, which the
    /// export refuses. The name leads to another inode from now on, whose way is free; who has this one open goes on.
    AnotherInode,
}

impl<B: BackingFs> Filesystem<B> {
    pub(super) fn passes_through(&self) -> bool {
        self.kernel.get().is_some_and(|kernel| kernel.passes_through())
    }

    /// None where the file is not to pass through, and no other open holds it to that.
    pub(super) fn pass_through(
        &self,
        inode: &Inode<B>,
        file: &B::File,
        open: OpenAs<'_>,
        may_register: bool,
    ) -> Result<Option<Content>, Errno> {
        let state = &inode.live().content;
        loop {
            let mut is_at_rest = false;
            let shared = {
                let mut state = lock(state);
                if matches!(state.way, Way::Free) {
                    is_at_rest =
                        Seen::at(&mut state.seen, open.attr, self.ticks(inode), self.clocks_of(inode))
                            .is_beyond_doubt;
                }
                match &state.way {
                    Way::Pages => return Ok(None),
                    Way::Free => None,
                    Way::Passthrough(shared)
                        if shared.opener.as_ref() == Some(open.opener) && shared.serves(open.flags) =>
                    {
                        let id = shared.id;
                        state.opens += 1;
                        return Ok(Some(Content::Passthrough(id)));
                    }
                    Way::Passthrough(shared) => Some(shared.clone()),
                }
            };
            match shared {
                Some(shared) => {
                    let joined = match self.may_join(inode, &shared, open)? {
                        Joins::Others => lock(state).join(&shared, open.flags),
                        Joins::Beside => lock(state).join_beside(&shared),
                        Joins::AnotherInode => {
                            self.inodes.displace(inode);
                            return Err(Errno::ESTALE);
                        }
                    };
                    if joined.is_some() {
                        return Ok(joined);
                    }
                    // All others have closed it meanwhile.
                }
                None if !may_register || gives_rights(open.attr) || is_at_rest && is_read_small(open) => {
                    return Ok(None);
                }
                None => match self.register(file, open) {
                    Ok(id) => {
                        if let Some(content) = self.settle(inode, Shared::new(id, &open)) {
                            return Ok(Some(content));
                        }
                    }
                    Err(Errno::EINVAL) if open.flags.contains(OFlag::O_DIRECT) => return Err(Errno::EINVAL),
                    // ELOOP, EOPNOTSUPP: not this file system's files. EPERM, EMFILE, ENOMEM: not now.
                    Err(error) => {
                        tracing::debug!(%error, "a file is read and written through the daemon");
                        return Ok(None);
                    }
                },
            }
        }
    }

    fn register(&self, file: &B::File, open: OpenAs<'_>) -> Result<BackingId, Errno> {
        let kernel = self.kernel.get().ok_or(Errno::EOPNOTSUPP)?;
        if open.flags.contains(OFlag::O_DIRECT) {
            // The kernel opens the file once more with the caller's flags, and any failure of that would be EIO.
            let node = self.backing.reference(file)?;
            self.backing.open(open.opener, &node, open.flags & (OFlag::O_ACCMODE | OFlag::O_DIRECT))?;
        }
        let id = self.backing.hand_over(open.opener, file, |file| kernel.pass_through(file))?;
        self.write_down_backing(id);
        Ok(id)
    }

    /// The kernel keeps a registered file until it is given back: a successor must know of it until it stands in the record
    /// of an open file, and from when it does not any more.
    pub(super) fn write_down_backing(&self, id: BackingId) {
        let id = u64::try_from(id.0).unwrap_or_default();
        journal::note(BACKING, id);
        fault::point!("content: a registered file is noted");
        self.state.raise(HeaderWord::HighestBacking, id);
        fault::point!("content: the highest registered file");
    }

    /// Gives back what a process that has died had registered and nobody has open: what stands in the journals of its
    /// requests, and what it did not come to write down.
    pub fn give_back_registered(&self) {
        let Some(kernel) = self.kernel.get().filter(|kernel| kernel.passes_through()) else { return };
        let used = self.handles.registered();
        // The kernel counts up, and no more requests than these were under way.
        let highest = self.state.get(HeaderWord::HighestBacking);
        let doubtful = highest.saturating_sub(UNDER_WAY)..=highest + UNDER_WAY;
        let noted = self.state.slots.noted(BACKING);
        for id in noted.into_iter().chain(doubtful).filter_map(|id| i32::try_from(id).ok()) {
            if id > 0 && !used.contains(&BackingId(id)) {
                kernel.take_back(BackingId(id));
            }
        }
        fault::point!("content: nobody's files are given back");
    }

    /// Makes `ours` the inode's shared file, unless another open was faster: then none, or to be tried again.
    fn settle(&self, inode: &Inode<B>, ours: Shared) -> Option<Content> {
        let id = ours.id;
        let was_free = {
            let mut state = lock(&inode.live().content);
            let free = matches!(state.way, Way::Free);
            if free {
                state.way = Way::Passthrough(ours);
                state.opens = 1;
                // The page cache is out of use, and out of date from now on.
                if let Some(seen) = &mut state.seen {
                    seen.is_cached = false;
                }
            }
            free
        };
        if was_free {
            return Some(Content::Passthrough(id));
        }
        if let Some(kernel) = self.kernel.get() {
            fault::around!("a file is given back", kernel.take_back(id));
        }
        None
    }

    /// How an open can come to a file that the kernel reads and writes by itself for others, with the credentials of one of them. On a
    /// local file system nobody asks after the open, which was made as the caller, and root's were registered as anybody's; elsewhere
    /// they must be able to open it themselves, and root may have more room on the disk than whoever joins.
    fn may_join(&self, inode: &Inode<B>, shared: &Shared, open: OpenAs<'_>) -> Result<Joins, Errno> {
        if self.is_local(inode) {
            return Ok(Joins::Others);
        }
        let is_roots = shared.opener.as_ref().is_some_and(|opener| opener.uid.is_root());
        let as_root = is_roots && writes(open.flags) && !open.opener.uid.is_root();
        if !as_root && shared.serves(open.flags) {
            return Ok(Joins::Others);
        }
        let known = inode.live_if_any().and_then(Live::at_hand);
        // A successor does not know whose credentials they are: most likely those of somebody who has it open.
        let opener = shared.opener.as_ref().or(known.as_deref().map(|known| &known.opener));
        let (Some(opener), Some(file)) = (opener, known.as_deref().and_then(|known| known.file.get())) else {
            return Ok(Joins::Beside);
        };
        // As the kernel will open it.
        let node = self.backing.reference(file)?;
        match self.backing.open(opener, &node, open.flags & OFlag::O_ACCMODE) {
            Ok(_) if !as_root && shared.opener.is_some() => Ok(Joins::Others),
            Ok(_) => Ok(Joins::Beside),
            Err(Errno::EACCES | Errno::EPERM | Errno::EROFS) => Ok(Joins::AnotherInode),
            Err(error) => Err(error),
        }
    }
}

impl OpenContent {
    /// A worker that took over finds an open with this file registered; with `flags`, if the kernel opened it as the credentials.
    pub(super) fn inherit(&mut self, id: BackingId, flags: Option<OFlag>) {
        let mut shared = match std::mem::take(&mut self.way) {
            Way::Passthrough(shared) => shared,
            Way::Free | Way::Pages => Shared { id, opener: None, reads: false, writes: false },
        };
        if let Some(flags) = flags {
            shared.is_good_for(flags);
        }
        self.way = Way::Passthrough(shared);
    }

    /// One more has the file open as `seen`, if that is still the way.
    fn join(&mut self, seen: &Shared, flags: OFlag) -> Option<Content> {
        self.shared_as(seen)?.is_good_for(flags);
        self.opens += 1;
        Some(Content::Passthrough(seen.id))
    }

    /// One more has it open beside those, if that is still the way.
    fn join_beside(&mut self, seen: &Shared) -> Option<Content> {
        self.shared_as(seen)?;
        self.opens += 1;
        Some(Content::Beside(seen.id))
    }

    fn shared_as(&mut self, seen: &Shared) -> Option<&mut Shared> {
        match &mut self.way {
            Way::Passthrough(shared) if shared.id == seen.id => Some(shared),
            _ => None,
        }
    }
}

/// Whether the file has suid or sgid: writing clears that, by who writes, and under passthrough the kernel asks only as
/// whom it writes.
fn gives_rights(attr: &StoredAttr) -> bool {
    attr.kind != FileKind::Regular
        || attr.permissions.contains(Permissions::SETUID)
        || attr.permissions.contains(Permissions::SETGID)
}

/// Whether the page cache is the shorter way: to register a file takes longer than to keep a few pages of it. Not for a file that
/// is being written, whose writers would have to go through the daemon as long as this reader has it open.
fn is_read_small(open: OpenAs<'_>) -> bool {
    !writes(open.flags) && open.attr.size <= SMALL && !open.flags.contains(OFlag::O_DIRECT)
}
