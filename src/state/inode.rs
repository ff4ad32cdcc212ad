//! The records of inodes.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use super::layout::INODE_WORDS;
use super::table::{RecordId, Table};
use super::{fd_word, word_fd};
use crate::sys::shared_memory::SharedWords;
use crate::sys::sync::moment;
use crate::sys::{Errno, FileHandle, fault};

const NODE: usize = 0;
const LOOKUPS: usize = 1;
const INO: usize = 2;
/// The mount below, and above it where a long handle goes on.
const MOUNT: usize = 3;
const OWNER: usize = 4;
/// From below: kind (8 bits), the handle's length and one (8), whether it is lost (1), nothing (15), and the handle's own kind (32).
const SMALL: usize = 5;
const LOST: u64 = 1 << 16;
/// What pins it below, and above it what it was when it was removed.
const FDS: usize = 6;
const HANDLE: std::ops::Range<usize> = 7..INODE_WORDS;

const LOW: u64 = 0xffff_ffff;

/// What is known of an inode, apart from what changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InodeData {
    /// The kernel's name for it.
    pub node: u64,
    /// The mount that it lies on.
    pub mount: u32,
    /// Its number there.
    pub ino: u64,
    /// Its handle, where there are such.
    pub handle: Option<FileHandle>,
    /// Its kind, as whoever wrote it numbers kinds.
    pub kind: u8,
    /// What pins it, where there are no handles.
    pub pin: Option<RawFd>,
}

/// The inodes of a mount.
#[derive(Debug)]
pub struct InodeRecords {
    table: Table<INODE_WORDS>,
}

impl InodeRecords {
    pub(super) fn new(words: SharedWords) -> Self {
        Self { table: Table::new(words) }
    }

    /// Enters an inode, with no lookups yet.
    ///
    /// # Errors
    /// ENFILE where there is no room.
    pub fn enter(&self, data: &InodeData, owner: u64) -> Result<RecordId, Errno> {
        let id = self.table.allocate().ok_or(Errno::ENFILE)?;
        let words = self.table.words(id);
        let (bytes, handle_kind) =
            data.handle.as_ref().map_or((&[][..], 0), |handle| (handle.bytes(), handle.kind()));
        let length = if data.handle.is_some() { bytes.len() + 1 } else { 0 };
        let Some(more) = self.table.put_bytes(id, HANDLE, bytes) else {
            self.table.release(id, None);
            return Err(Errno::ENFILE);
        };
        let set = |index: usize, value: u64| words[index].store(value, Ordering::Relaxed);
        set(LOOKUPS, 0);
        set(INO, data.ino);
        set(MOUNT, u64::from(data.mount) | more << 32);
        set(OWNER, owner);
        let length = u64::try_from(length).unwrap_or_default();
        let handle_kind = u64::from(u32::from_ne_bytes(handle_kind.to_ne_bytes()));
        set(SMALL, u64::from(data.kind) | length << 8 | handle_kind << 32);
        set(FDS, data.pin.map_or(0, fd_word));
        fault::point!("inode: before it is one");
        words[NODE].store(data.node, Ordering::Release);
        fault::point!("inode: it is one");
        Ok(id)
    }

    /// The inode is forgotten. Its record is not used for another before [`Self::give_back`].
    pub fn forget(&self, id: RecordId) {
        fault::point!("inode: before it is none");
        self.table.words(id)[NODE].store(0, Ordering::Release);
        fault::point!("inode: it is none");
    }

    /// Nobody works with the inode any more. Without effect while it is not forgotten.
    pub fn give_back(&self, id: RecordId) {
        let words = self.table.words(id);
        moment();
        if words[NODE].load(Ordering::Acquire) == 0 {
            self.table.release(id, Some(words[MOUNT].load(Ordering::Relaxed) >> 32));
        }
    }

    /// What was entered.
    #[must_use]
    pub fn read(&self, id: RecordId) -> InodeData {
        let get = |index: usize| self.get(id, index);
        let (mount, small) = (get(MOUNT), get(SMALL));
        let length = usize::try_from(small >> 8 & 0xff).unwrap_or_default();
        let handle_kind = i32::from_ne_bytes(low(small >> 32).to_ne_bytes());
        let handle = length.checked_sub(1).and_then(|length| {
            let bytes = self.table.bytes(id, HANDLE, length, mount >> 32);
            FileHandle::new(handle_kind, &bytes).ok()
        });
        let kind = u8::try_from(small & 0xff).unwrap_or_default();
        InodeData { node: get(NODE), mount: low(mount), ino: get(INO), handle, kind, pin: word_fd(get(FDS)) }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = RecordId> {
        self.table.records()
    }

    /// Gives back the memory of records that are free, as far as it lies together. Takes a moment for each.
    pub fn give_back_memory(&self) {
        self.table.give_back();
    }

    /// Sees which records are free, after another process has used them.
    pub fn find_free(&self) {
        self.table.find_free(|words| words[MOUNT].load(Ordering::Relaxed) >> 32);
    }

    /// Lookups that the kernel has not forgotten.
    #[must_use]
    pub fn lookups(&self, id: RecordId) -> u64 {
        self.get(id, LOOKUPS)
    }

    /// Sets them; by one thread at a time.
    pub fn set_lookups(&self, id: RecordId, lookups: u64) {
        fault::point!("inode: before lookups");
        self.table.words(id)[LOOKUPS].store(lookups, Ordering::Release);
        fault::point!("inode: lookups");
    }

    /// The owner when last seen, as whoever wrote it packs owners.
    #[must_use]
    pub fn owner(&self, id: RecordId) -> u64 {
        self.get(id, OWNER)
    }

    /// Sets it.
    pub fn set_owner(&self, id: RecordId, owner: u64) {
        let word = &self.table.words(id)[OWNER];
        if word.load(Ordering::Relaxed) != owner {
            word.store(owner, Ordering::Relaxed);
        }
    }

    /// The descriptor that was kept when it was removed.
    #[must_use]
    pub fn removed(&self, id: RecordId) -> Option<RawFd> {
        word_fd(self.get(id, FDS) >> 32)
    }

    /// Remembers it.
    pub fn set_removed(&self, id: RecordId, fd: Option<RawFd>) {
        fault::point!("inode: before removed");
        let pin = self.get(id, FDS) & LOW;
        self.table.words(id)[FDS].store(pin | fd.map_or(0, fd_word) << 32, Ordering::Release);
        fault::point!("inode: removed");
    }

    /// Whether [`State::disown`](super::State::disown) has said so of it.
    #[must_use]
    pub fn is_lost(&self, id: RecordId) -> bool {
        self.get(id, SMALL) & LOST != 0
    }

    /// Whoever has it open has lost something with it that cannot be had again.
    pub(super) fn set_lost(&self, id: RecordId) {
        self.table.words(id)[SMALL].fetch_or(LOST, Ordering::Release);
    }

    /// Its descriptors were of processes that are gone with all that they had open. What one pinned is lost.
    pub(super) fn disown(&self, id: RecordId) {
        if word_fd(self.get(id, FDS)).is_some() {
            self.set_lost(id);
        }
        // Most have none: their memory is not touched.
        if self.get(id, FDS) != 0 {
            self.table.words(id)[FDS].store(0, Ordering::Release);
        }
    }

    /// The kernel's name for it.
    pub(super) fn node(&self, id: RecordId) -> u64 {
        self.get(id, NODE)
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.all().flat_map(|id| {
            let fds = self.get(id, FDS);
            [word_fd(fds), word_fd(fds >> 32)].into_iter().flatten()
        })
    }

    fn get(&self, id: RecordId, index: usize) -> u64 {
        moment();
        self.table.words(id)[index].load(Ordering::Relaxed)
    }
}

fn low(word: u64) -> u32 {
    u32::try_from(word & LOW).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn an_inode_comes_back_as_it_was_entered() {
        let state = State::new().unwrap();
        for length in [0, 8, 40, 41, 128] {
            let handle = FileHandle::new(-7, &vec![0xab; length]).unwrap();
            let data =
                InodeData { node: 77, mount: 3, ino: u64::MAX, handle: Some(handle), kind: 9, pin: Some(0) };
            let id = state.inodes.enter(&data, 5).unwrap();
            state.inodes.set_removed(id, Some(12));
            let heir = state.anew().unwrap();
            assert_eq!(heir.inodes.read(id), data);
            assert_eq!(heir.inodes.owner(id), 5);
            assert_eq!(heir.inodes.removed(id), Some(12));
            assert_eq!(heir.inodes.all().count(), 1);
            state.inodes.forget(id);
            state.inodes.give_back(id);
            assert_eq!(heir.inodes.all().count(), 0);
        }
        let bare = InodeData { node: 1, mount: 0, ino: 0, handle: None, kind: 0, pin: None };
        let id = state.inodes.enter(&bare, 0).unwrap();
        assert_eq!(state.inodes.read(id), bare);
    }
}
