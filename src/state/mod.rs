//! What outlives a worker: plain data in shared memory, from which a successor goes on.
//!
//! A worker may die between any two instructions. What it had written by then is there, in the order in which it was
//! written; so each record is whole before the word that makes it one, and gone before what it stood for is given back.
//! Descriptors stand here as numbers: keeper and worker share one table of them, and what a dead worker had open stays open.
//!
//! [`State`] is the whole; [`bounds`] how much there may be of it; [`table`] how records are kept; [`inode`], [`file`], [`lock`] and [`export`] what they hold;
//! [`session`] what was agreed with the kernel; [`slot`] the request that a worker has in hand, and [`journal`] what
//! it has done of it; `orphaned` what is left of all that when nobody has anything open any more.
//!
//! Not here: what any of it means (`fs/`), who takes over and when (`keeper/`).

pub mod bounds;
pub mod export;
pub mod file;
pub mod inode;
pub mod journal;
pub mod layout;
pub mod lock;
mod orphaned;
pub mod session;
pub mod slot;
pub mod table;
pub mod texts;

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::sys::Errno;
use crate::sys::shared_memory::{SharedMemory, SharedWords};
use crate::sys::sync::moment;

use bounds::Bounds;
use export::MountRecords;
use file::FileRecords;
use inode::InodeRecords;
use layout::{HeaderWord, LAYOUT, MAGIC, MAX_KEPT, Region};
use lock::{LockRecords, WaitingRecords};
pub use orphaned::Handed;
use session::SessionRecord;
use slot::Slots;
use texts::{RulesText, Texts};

/// The state of one mount.
#[derive(Debug)]
pub struct State {
    memory: Arc<SharedMemory>,
    header: SharedWords,
    /// How much of everything there may be.
    pub bounds: Bounds,
    /// Inodes that the kernel knows.
    pub inodes: InodeRecords,
    /// Open files.
    pub files: FileRecords,
    /// Owners of byte-range locks.
    pub locks: LockRecords,
    /// Lock requests that wait.
    pub waiting: WaitingRecords,
    /// The mounts that the export is made of.
    pub mounts: MountRecords,
    /// What was agreed with the kernel.
    pub session: SessionRecord,
    /// The requests in hand.
    pub slots: Slots,
    /// Texts.
    pub texts: Texts,
    /// The rules in force.
    pub rules: RulesText,
}

impl State {
    /// An empty one, for as much as this process may have open.
    ///
    /// # Errors
    /// ENOMEM, EMFILE.
    pub fn new() -> Result<Arc<Self>, Errno> {
        Self::within(Bounds::of_this_process(None))
    }

    /// An empty one.
    ///
    /// # Errors
    /// ENOMEM, EMFILE.
    pub fn within(bounds: Bounds) -> Result<Arc<Self>, Errno> {
        let state = Self::of(SharedMemory::new("permfs-state", layout::LENGTH)?, bounds)?;
        state.header[HeaderWord::Layout.index()].store(LAYOUT, Ordering::Relaxed);
        state.set(HeaderWord::NextNode, 1);
        state.set(HeaderWord::NextHandle, 1);
        state.header[HeaderWord::Magic.index()].store(MAGIC, Ordering::Release);
        Ok(Arc::new(state))
    }

    /// The one that another process has left.
    ///
    /// # Errors
    /// EPROTO where it is none, or of a layout that this version cannot read.
    pub fn left_behind(memory: OwnedFd) -> Result<Arc<Self>, Errno> {
        let memory = SharedMemory::map(memory)?;
        if memory.length() != layout::LENGTH {
            return Err(Errno::EPROTO);
        }
        let state = Self::of(memory, Bounds::of_this_process(None))?;
        if (state.get(HeaderWord::Magic), state.get(HeaderWord::Layout)) != (MAGIC, LAYOUT) {
            return Err(Errno::EPROTO);
        }
        Ok(Arc::new(state))
    }

    /// The same memory as a successor sees it: nothing remembered but what stands there.
    #[cfg(test)]
    pub(crate) fn anew(&self) -> Result<Arc<Self>, Errno> {
        Self::left_behind(self.memory.as_fd().try_clone_to_owned()?)
    }

    fn of(memory: Arc<SharedMemory>, bounds: Bounds) -> Result<Self, Errno> {
        let words = |region: Region| memory.words(region.at, region.words()).ok_or(Errno::EPROTO);
        Ok(Self {
            header: words(layout::HEADER)?,
            bounds,
            inodes: InodeRecords::new(words(layout::INODES)?),
            files: FileRecords::new(words(layout::FILES)?),
            locks: LockRecords::new(words(layout::LOCKS)?),
            waiting: WaitingRecords::new(words(layout::WAITING)?),
            mounts: MountRecords::new(words(layout::MOUNTS)?),
            session: SessionRecord::new(words(layout::SESSION)?),
            slots: Slots::new(
                Arc::clone(&memory),
                memory.words(layout::SLOTS.at, layout::PAGE / 8).ok_or(Errno::EPROTO)?,
            ),
            texts: Texts::new(words(layout::TEXTS)?),
            rules: RulesText::new(words(layout::RULES)?),
            memory,
        })
    }

    /// A number of the header.
    #[must_use]
    pub fn get(&self, word: HeaderWord) -> u64 {
        self.header[word.index()].load(Ordering::Acquire)
    }

    /// Sets a number of the header.
    pub fn set(&self, word: HeaderWord, value: u64) {
        self.header[word.index()].store(value, Ordering::Release);
    }

    /// Counts a number of the header up, and answers with what it was.
    pub fn count(&self, word: HeaderWord) -> u64 {
        moment();
        self.header[word.index()].fetch_add(1, Ordering::Relaxed)
    }

    /// Sets a number of the header, unless it is higher already.
    pub fn raise(&self, word: HeaderWord, value: u64) {
        self.header[word.index()].fetch_max(value, Ordering::Relaxed);
    }

    /// The worker has stopped for another program.
    pub fn begin_upgrade(&self) {
        self.set(HeaderWord::Upgrading, self.get(HeaderWord::Upgrades) + 1);
    }

    /// Whether another program is about to take over, which may still come to nothing.
    #[must_use]
    pub fn is_upgrading(&self) -> bool {
        self.get(HeaderWord::Upgrading) > self.get(HeaderWord::Upgrades)
    }

    /// It has taken over. One word says so: at no moment do both programs, or neither, have to go on.
    pub fn end_upgrade(&self) {
        self.count(HeaderWord::Upgrades);
    }

    /// The program goes on that was there before.
    pub fn take_back_upgrade(&self) {
        self.set(HeaderWord::Upgrading, 0);
    }

    /// Whether a worker has got as far as answering requests.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.session.device().is_some()
    }

    /// The descriptor of the memory itself.
    #[must_use]
    pub fn memory_fd(&self) -> RawFd {
        self.memory.as_fd().as_raw_fd()
    }

    /// Says which descriptors the keeper needs: a successor closes whatever it has no record of.
    pub fn keep_descriptors(&self, fds: &[RawFd]) {
        let first = HeaderWord::Kept.index();
        for (word, fd) in self.header[first..first + MAX_KEPT].iter().zip(0..MAX_KEPT) {
            let value = fds.get(fd).copied().map_or(0, fd_word);
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What [`Self::keep_descriptors`] was last told.
    #[must_use]
    pub fn kept_descriptors(&self) -> Vec<RawFd> {
        let first = HeaderWord::Kept.index();
        let kept = &self.header[first..first + MAX_KEPT];
        kept.iter().filter_map(|word| word_fd(word.load(Ordering::Relaxed))).collect()
    }

    /// The descriptors that stand in any record, or that the keeper needs.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        let mut fds = self.kept_descriptors();
        fds.extend(self.recorded_descriptors());
        fds
    }

    /// Those that stand in any record, and that of the memory.
    #[must_use]
    pub fn recorded_descriptors(&self) -> Vec<RawFd> {
        let mut fds = vec![self.memory_fd()];
        fds.extend(self.session.descriptors());
        fds.extend(self.mounts.descriptors());
        fds.extend(self.inodes.descriptors());
        fds.extend(self.files.descriptors());
        fds.extend(self.locks.descriptors());
        fds.extend(self.slots.descriptors());
        fds
    }
}

/// A descriptor as half a word: 0 is none.
fn fd_word(fd: RawFd) -> u64 {
    u64::try_from(fd).map_or(0, |fd| fd + 1)
}

/// The descriptor in the lower half of a word.
fn word_fd(word: u64) -> Option<RawFd> {
    RawFd::try_from((word & 0xffff_ffff).checked_sub(1)?).ok()
}
