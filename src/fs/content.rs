//! How the kernel reaches the content of an open file: through its page cache, or past this daemon (passthrough).
//!
//! The kernel lets an inode be open in one of these ways at a time, and refuses the other with EIO
//! (fs/fuse/iomode.c, Linux 6.9). So the first open of an inode decides, and the last close ends it. What passes, and who joins
//! whom there, is `passthrough.rs`.
//!
//! In the page cache, content is kept from one open to the next where size and times say that it is what it was
//! (close-to-open, as an NFS client has it).

use nix::fcntl::OFlag;

use super::clocks::{self, Clocks};
use super::handles::OpenFile;
use super::inode::Inode;
use super::inodes::lock;
use super::passthrough::Shared;
use super::seen::{Seen, Ticks};
use super::{Content, Errno, Filesystem};
use crate::backing::{BackingFs, MountIndex};
use crate::policy::{Credentials, DataPath, LockScope, OpenPolicy, Policy, StoredAttr, Timestamp};
use crate::sys::fault;

/// How an inode's open files reach its content.
#[derive(Debug, Default)]
pub(super) struct OpenContent {
    pub(super) way: Way,
    /// Opens that hold the kernel to this way.
    pub(super) opens: usize,
    /// What the last open found that chose the way, or was given the page cache.
    pub(super) seen: Option<Seen>,
}

#[derive(Debug, Default)]
pub(super) enum Way {
    /// Nobody has it open, or only past all caches.
    #[default]
    Free,
    Pages,
    Passthrough(Shared),
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
        match self.content {
            Content::Direct => return,
            Content::Kept | Content::Revalidated => state.way = Way::Pages,
            Content::Passthrough(id) => state.inherit(id, Some(self.flags)),
            Content::Beside(id) => state.inherit(id, None),
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
    /// (`passthrough.rs`); whatever else the export says of an open as whoever has the file open already.
    pub(super) fn enter_content(
        &self,
        policy: &Policy,
        inode: &Inode<B>,
        file: &B::File,
        open: OpenAs<'_>,
    ) -> Result<Content, Errno> {
        let cache = policy.cache();
        let wants = matches!(cache.data, DataPath::Auto | DataPath::Passthrough);
        loop {
            // Rules that came in force since may want another way, but the kernel still holds the inode to this one.
            let is_held = || matches!(lock(&inode.live().content).way, Way::Passthrough(_));
            if self.passes_through()
                && (wants || is_held())
                && let Some(content) = self.pass_through(inode, file, open, wants)?
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
    pub(super) fn clocks_of(&self, inode: &Inode<B>) -> &Clocks {
        if self.is_on_nfs(inode) { &self.clocks } else { &clocks::OUR_OWN }
    }

    /// Whose clock that is.
    pub(super) fn ticks(&self, inode: &Inode<B>) -> Ticks {
        if self.is_local(inode) { Ticks::Ours } else { Ticks::Servers }
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

/// Whether what is stored through a mapping of the file may be in the kernel's page cache for it, and not in the export's. A
/// mapping that may be stored to takes a descriptor that may also be read (mmap(2)).
fn maps_pages<B: BackingFs>(open: &OpenFile<B>) -> bool {
    open.content.backing().is_none() && reads(open.flags) && writes(open.flags)
}

pub(super) fn reads(flags: OFlag) -> bool {
    flags & OFlag::O_ACCMODE != OFlag::O_WRONLY
}

pub(super) fn writes(flags: OFlag) -> bool {
    flags & OFlag::O_ACCMODE != OFlag::O_RDONLY
}
