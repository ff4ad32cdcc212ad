//! Opening and closing files.

use std::sync::Arc;

use nix::fcntl::OFlag;

use super::content::{OpenAs, writes};
use super::handles::OpenFile;
use super::inode::Inode;
use super::visit::Visit;
use super::{CallerId, Errno, FileHandleId, Filesystem, LockOwner, NodeId, Opened};
use crate::backing::{BackingFs, Freshness};
use crate::caller::Pid;
use crate::policy::{Credentials, Operation, Policy, StoredAttr};
use crate::state::journal;
use crate::sys::fault;

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
    /// EACCES for a denied caller, EROFS for writing in a read-only subtree, ENFILE past the bound of open files, ESTALE where the
    /// kernel is to look the name up again, else the backing's.
    pub fn open(&self, caller: CallerId, node: NodeId, flags: OFlag) -> Result<Opened, Errno> {
        self.handles.has_room()?;
        let at = self.visit(caller, node)?;
        if flags & OFlag::O_ACCMODE != OFlag::O_RDONLY || flags.contains(OFlag::O_TRUNC) {
            at.writable()?;
        }
        let who = self.actor(&at, Operation::Open, at.rules())?;
        let (file, attr) = self
            .open_object(&at, (caller.pid, &who), self.backing_flags(flags.difference(CREATING)))
            .inspect_err(|error| {
                if *error == Errno::ESTALE {
                    self.returning.is_sent(caller.pid);
                }
            })?;
        if flags.contains(OFlag::O_TRUNC) {
            // `fuse_truncate_update_attr`.
            at.inode.told.forgets();
        } else {
            self.shows_what_is_there(&at.inode, &attr);
        }
        self.opened(&at.policy, Arc::clone(&at.inode), file, OpenAs { opener: &who, flags, attr: &attr })
    }

    /// By its name where that still leads to it, else by its handle.
    fn open_object(
        &self,
        at: &Visit<B>,
        (thread, who): (Pid, &Credentials),
        flags: OFlag,
    ) -> Result<(B::File, StoredAttr), Errno> {
        let returns = self.returning.comes_with(thread, at.inode.id);
        if let Some(found) = self.open_by_name(at, (thread, who), flags, returns) {
            return found;
        }
        let file = self.as_shown(at, who, |who| self.backing.open(who, at.node(self)?, flags))?;
        let attr = self.backing.stat_file(&file, Freshness::Known)?;
        Ok((file, attr))
    }

    /// None where its handle is to be asked; ESTALE where the kernel is to look the name up again.
    fn open_by_name(
        &self,
        at: &Visit<B>,
        (thread, who): (Pid, &Credentials),
        flags: OFlag,
        returns: bool,
    ) -> Option<Result<(B::File, StoredAttr), Errno>> {
        let is_cut = flags.contains(OFlag::O_TRUNC);
        let has_no_name = || at.inode.live_if_any().is_some_and(|live| live.removed.get().is_some());
        if is_cut && !writes(flags) || has_no_name() {
            return None;
        }
        let hint = self.names.recall(at.inode.id)?;
        let parent = self.resolve(&at.caller, &self.inodes.get(hint.parent)?).ok()?;
        let only_its = self.ctime_of_it_alone(&at.inode);
        match self.backing.open_name(who, &parent, hint.name().ok()?, &at.inode.object, flags, only_its) {
            Ok(opened) => {
                if hint.is_doubted {
                    self.names.led(at.inode.id);
                }
                Some(if is_cut { self.cut(who, opened.0) } else { Ok(opened) })
            }
            Err(Errno::ESTALE) if returns => None,
            Err(Errno::ESTALE) => self.names.misled(at.inode.id, thread).then_some(Err(Errno::ESTALE)),
            Err(_) => None,
        }
    }

    /// What O_TRUNC does, now that this is known to be the file that is meant.
    fn cut(&self, who: &Credentials, file: B::File) -> Result<(B::File, StoredAttr), Errno> {
        self.backing.truncate_file(who, &file, 0)?;
        let attr = self.backing.stat_file(&file, Freshness::Known)?;
        Ok((file, attr))
    }

    /// Enters a file just opened or made.
    pub(super) fn opened(
        &self,
        policy: &Policy,
        inode: Arc<Inode<B>>,
        file: B::File,
        open: OpenAs<'_>,
    ) -> Result<Opened, Errno> {
        let content = self.enter_content(policy, &inode, &file, open)?;
        let flags = self.backing_flags(open.flags) | open.flags & OFlag::O_TMPFILE;
        let opener = open.opener.clone();
        let open = OpenFile::new(inode, file, opener, flags, content);
        let silent = self.closes_in_silence(policy, &open);
        let (inode, content) = (Arc::clone(&open.inode), open.content);
        match self.handles.add_file(&self.backing, open) {
            Ok(handle) => Ok(Opened { handle, content, silent }),
            Err(error) => {
                self.leave_content(&inode, content);
                Err(error)
            }
        }
    }

    /// close(2) of one descriptor, of perhaps several: the process's byte-range locks on the file go (fcntl(2)), and what
    /// was written goes to the server, so that another client that opens the file next sees it.
    ///
    /// # Errors
    /// ENOSPC, EDQUOT, EIO: what the server said of earlier writes.
    pub fn flush(&self, node: NodeId, handle: FileHandleId, owner: LockOwner) -> Result<(), Errno> {
        let open = self.handles.file(handle)?;
        self.drop_locks(node, owner);
        // There is nobody to send it to where the export's filesystem is this kernel's own.
        if open.writes() && !self.is_local(&open.inode) {
            self.backing.flush(self.at_hand(&open)?)
        } else {
            Ok(())
        }
    }

    /// The last descriptor is closed.
    pub fn release(&self, handle: FileHandleId) {
        let _under_way = self.releases.begin();
        self.keep_nameless(handle);
        if let Some(open) = self.handles.remove_file(handle) {
            self.drop_locks_through(&open.inode, handle);
            self.has_written_past_us(&open);
            fault::point!("release: locks dropped");
            self.leave_content(&open.inode, open.content);
            fault::point!("release: content left");
            // The file closes here, and its flock(2) lock with it.
            drop(open);
            fault::point!("release: closed");
        }
        if journal::is_replay() {
            self.releases.expected_is_done();
        }
        self.waiters.wake();
    }

    /// A file that was made without a name, and has none yet, may be held by O_PATH alone from now on. As what has lost its last
    /// name (see `remove`), it is kept until the kernel forgets it.
    fn keep_nameless(&self, handle: FileHandleId) {
        let Ok(open) = self.handles.file(handle) else { return };
        if !open.flags.contains(OFlag::O_TMPFILE) || open.inode.pinned.is_some() {
            return;
        }
        // One that was not opened again has lost its content with its last descriptor.
        let Some(file) = open.file.get() else { return };
        let attr = self.backing.stat_file(file, Freshness::Known);
        if attr.is_ok_and(|attr| attr.nlink == 0)
            && let Ok(node) = self.backing.reference(file)
        {
            open.inode.about_to_go(self.backing.node_descriptor(&node));
            self.keep(Some((Arc::clone(&open.inode), node)));
        }
    }

    /// So many closes were in hand when the process before this one died.
    pub fn expect_releases(&self, closes: usize) {
        self.releases.expect(closes);
    }

    /// The flags to open the backing with. O_DIRECT only on NFS: elsewhere it demands aligned memory, and the point of it,
    /// to keep content out of this mount's cache, is the kernel's to see to.
    pub(super) fn backing_flags(&self, flags: OFlag) -> OFlag {
        let carried = CARRIED.union(CREATING);
        let carried = if self.backing.features().nfs { carried.union(OFlag::O_DIRECT) } else { carried };
        flags & carried
    }
}
