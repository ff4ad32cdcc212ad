//! How the kernel reaches the content of an open file: through its page cache, or past this daemon (passthrough).
//!
//! The kernel lets an inode be open in one of these ways at a time, and refuses the other with EIO
//! (fs/fuse/iomode.c, Linux 6.9). So the first open of an inode decides, and the last close ends it. Under passthrough all
//! opens share one registered file and its credentials: whoever joins must find that those credentials open the file in the
//! same way, or comes to the file by an inode of its own ([`Joins`]).
//!
//! Small files that are only read, and have not just been written, take the page cache also where there is passthrough.
//! In the page cache, content is kept from one open to the next where size and times say that it is what it was
//! (close-to-open, as an NFS client has it).

use nix::fcntl::OFlag;

use super::clocks::{self, Clocks};
use super::handles::OpenFile;
use super::inode::{Inode, Live};
use super::inodes::lock;
use super::seen::{Seen, Ticks};
use super::{BackingId, Content, Errno, Filesystem};
use crate::backing::{BackingFs, MountIndex};
use crate::policy::{
    Credentials, DataPath, FileKind, LockScope, OpenPolicy, Permissions, Policy, StoredAttr, Timestamp,
};
use crate::state::journal;
use crate::state::layout::{self, HeaderWord};
use crate::sys::fault;

/// Bytes up to which a file that is only read is kept in the page cache, rather than passed through.
const SMALL: u64 = 64 << 10;

/// The piece of evidence that is a registered file.
const BACKING: usize = 2;

/// Files that may be in the middle of being registered at once.
const UNDER_WAY: u64 = layout::MAX_SLOTS as u64;

/// How an inode's open files reach its content.
#[derive(Debug, Default)]
pub(super) struct OpenContent {
    way: Way,
    /// Opens that hold the kernel to this way.
    opens: usize,
    /// What the last open found that chose the way, or was given the page cache.
    seen: Option<Seen>,
}

#[derive(Debug, Default)]
enum Way {
    /// Nobody has it open, or only past all caches.
    #[default]
    Free,
    Pages,
    Passthrough(Shared),
}

/// A file that the kernel reads and writes by itself.
#[derive(Debug, Clone)]
struct Shared {
    id: BackingId,
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

    fn serves(&self, flags: OFlag) -> bool {
        (self.reads || !reads(flags)) && (self.writes || !writes(flags))
    }
}

/// An open under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenAs<'a> {
    pub(super) opener: &'a Credentials,
    /// As the caller gave them.
    pub(super) flags: OFlag,
    /// The file as it is now.
    pub(super) attr: &'a StoredAttr,
}

impl<B: BackingFs> OpenFile<B> {
    /// Goes on as it was opened, in a process that has taken over: the kernel still holds the inode to that way.
    pub(super) fn go_on(&self) {
        let mut state = lock(&self.inode.live().content);
        match (self.content, &mut state.way) {
            (Content::Direct, _) => return,
            (Content::Kept | Content::Revalidated, way) => *way = Way::Pages,
            (Content::Passthrough(_), Way::Passthrough(shared)) => {
                shared.reads |= reads(self.flags);
                shared.writes |= writes(self.flags);
            }
            (Content::Beside(_), Way::Passthrough(_)) => {}
            (Content::Passthrough(id), way) => {
                let (reads, writes) = (reads(self.flags), writes(self.flags));
                *way = Way::Passthrough(Shared { id, opener: None, reads, writes });
            }
            (Content::Beside(id), way) => {
                *way = Way::Passthrough(Shared { id, opener: None, reads: false, writes: false });
            }
        }
        state.opens += 1;
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// Decides how the kernel treats the content of a file just opened, and counts it among the inode's open files of
    /// that way until [`Self::leave_content`].
    ///
    /// # Errors
    /// EINVAL for O_DIRECT where the export's filesystem has no such thing; ESTALE where the kernel is to look the name up again
    /// ([`Joins::AnotherInode`]); whatever else the export says of an open as whoever has the file open already.
    pub(super) fn enter_content(
        &self,
        policy: &Policy,
        inode: &Inode<B>,
        file: &B::File,
        open: OpenAs<'_>,
    ) -> Result<Content, Errno> {
        let cache = policy.cache();
        let registers = match cache.data {
            DataPath::None | DataPath::Page => false,
            DataPath::Auto | DataPath::Passthrough => self.passes_through(),
        };
        loop {
            // Rules that came in force since ask for another way, but the kernel still holds the inode to this one.
            let is_held = || matches!(lock(&inode.live().content).way, Way::Passthrough(_));
            if (registers || is_held())
                && let Some(content) = self.pass_through(inode, file, open, registers)?
            {
                return Ok(content);
            }
            if cache.data == DataPath::None {
                return Ok(Content::Direct);
            }
            if let Some(content) = self.cache_pages(inode, open.attr, cache.open) {
                return Ok(content);
            }
            // Another open has passed it through meanwhile.
        }
    }

    /// The last close of a file that was opened so.
    pub(super) fn leave_content(&self, inode: &Inode<B>, content: Content) {
        if content == Content::Direct {
            return;
        }
        if let Some(id) = content.backing() {
            self.write_down_backing(id);
        }
        let ended = {
            let mut state = lock(&inode.live().content);
            state.opens = state.opens.saturating_sub(1);
            if state.opens == 0 { std::mem::take(&mut state.way) } else { Way::Free }
        };
        if let (Way::Passthrough(shared), Some(kernel)) = (ended, self.kernel.get()) {
            fault::around!("a file is given back", kernel.take_back(shared.id));
        }
    }

    /// Whether the kernel need not tell of each close: nothing waits for it to go to the export, and no lock hangs on it.
    ///
    /// A reader's lock that is taken later goes with the open file. A writer's must go when its owner closes the file,
    /// though a child of theirs may have it open still; only where the kernel keeps the locks does it see to that itself.
    pub(super) fn closes_in_silence(&self, policy: &Policy, open: &OpenFile<B>) -> bool {
        let kept_by_kernel = policy.lock_scope() == LockScope::Node;
        if open.writes() {
            return kept_by_kernel && self.is_local(&open.inode) && !maps_pages(open);
        }
        kept_by_kernel || lock(&open.inode.live().locks).is_empty()
    }

    /// Whether an object lies on a filesystem that is known to be this kernel's alone.
    pub(super) fn is_local(&self, inode: &Inode<B>) -> bool {
        self.backing.features().local && inode.object.mount == MountIndex(0)
    }

    /// Whether an object lies on NFS; another mount below SOURCE need not, where SOURCE is.
    pub(super) fn is_on_nfs(&self, inode: &Inode<B>) -> bool {
        self.backing.features().nfs && inode.object.mount == MountIndex(0)
    }

    /// A ctime that the file has had, and that no other of its number can have that is made from now on. None where the last open left
    /// doubt, or the file system is not known to keep ctime as stat(2) has it.
    pub(super) fn ctime_of_it_alone(&self, inode: &Inode<B>) -> Option<Timestamp> {
        let keeps_ctime = self.is_on_nfs(inode) || self.is_local(inode);
        let content = lock(&inode.live_if_any()?.content);
        content.seen.as_ref().filter(|seen| keeps_ctime && seen.is_beyond_doubt).map(Seen::ctime)
    }

    /// What is known of the clock that dates what changes in it.
    fn clocks_of(&self, inode: &Inode<B>) -> &Clocks {
        if self.is_on_nfs(inode) { &self.clocks } else { &clocks::OUR_OWN }
    }

    /// Whose clock that is.
    fn ticks(&self, inode: &Inode<B>) -> Ticks {
        if self.is_local(inode) { Ticks::Ours } else { Ticks::Servers }
    }

    fn passes_through(&self) -> bool {
        self.kernel.get().is_some_and(|kernel| kernel.passes_through())
    }

    /// None where the file is not to pass through, and no other open holds it to that.
    fn pass_through(
        &self,
        inode: &Inode<B>,
        file: &B::File,
        open: OpenAs<'_>,
        registers: bool,
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
                None if !registers || gives_rights(open.attr) || is_at_rest && is_read_small(open) => {
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
    fn write_down_backing(&self, id: BackingId) {
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

    /// None where others have the file open past the page cache.
    fn cache_pages(&self, inode: &Inode<B>, attr: &StoredAttr, open: OpenPolicy) -> Option<Content> {
        let mut state = lock(&inode.live().content);
        if let Way::Passthrough(_) = state.way {
            return None;
        }
        (state.way, state.opens) = (Way::Pages, state.opens + 1);
        let seen = Seen::at(&mut state.seen, attr, self.ticks(inode), self.clocks_of(inode));
        let is_kept = seen.is_cached || open == OpenPolicy::Trust;
        // What the kernel reads from now on, it may keep.
        seen.is_cached = seen.is_beyond_doubt;
        Some(if is_kept { Content::Kept } else { Content::Revalidated })
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

impl OpenContent {
    /// One more has the file open as `seen`, if that is still the way.
    fn join(&mut self, seen: &Shared, flags: OFlag) -> Option<Content> {
        let shared = self.shared_as(seen)?;
        shared.reads |= reads(flags);
        shared.writes |= writes(flags);
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

/// Whether what is stored through a mapping of the file may be in the kernel's page cache for it, and not in the export's. A
/// mapping that may be stored to takes a descriptor that may also be read (mmap(2)).
fn maps_pages<B: BackingFs>(open: &OpenFile<B>) -> bool {
    open.content.backing().is_none() && reads(open.flags) && writes(open.flags)
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

fn reads(flags: OFlag) -> bool {
    flags & OFlag::O_ACCMODE != OFlag::O_WRONLY
}

fn writes(flags: OFlag) -> bool {
    flags & OFlag::O_ACCMODE != OFlag::O_RDONLY
}
