//! The records of open files.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use super::layout::FILE_WORDS;
use super::table::{RecordId, Table};
use super::{fd_word, word_fd};
use crate::sys::Errno;
use crate::sys::fault;
use crate::sys::shared_memory::SharedWords;

const HANDLE: usize = 0;
const NODE: usize = 1;
/// The open file below, and above it what flock(2) was taken on.
const FDS: usize = 2;
/// The flags of open(2) below, above them how the kernel treats the content.
const FLAGS: usize = 3;
/// The file registered for passthrough below, above it where a long list of groups goes on.
const BACKING: usize = 4;
/// uid below, gid above.
const OPENER: usize = 5;
const GROUPS_LENGTH: usize = 6;
const GROUPS: std::ops::Range<usize> = 7..FILE_WORDS;

/// An open file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileData {
    /// The kernel's name for it.
    pub handle: u64,
    /// The inode.
    pub node: u64,
    /// The open file itself; none where no process has it open any more, and it is to be opened again.
    pub fd: Option<RawFd>,
    /// What flock(2) was taken on.
    pub flocked: Option<RawFd>,
    /// With which flags it was opened.
    pub flags: i32,
    /// How the kernel treats its content, as whoever wrote it numbers that.
    pub content: u8,
    /// The file registered for passthrough; 0 is none.
    pub backing: u32,
    /// As whom it was opened.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The other groups.
    pub groups: Vec<u32>,
}

/// The open files of a mount.
#[derive(Debug)]
pub struct FileRecords {
    table: Table<FILE_WORDS>,
}

impl FileRecords {
    pub(super) fn new(words: SharedWords) -> Self {
        Self { table: Table::new(words) }
    }

    /// Enters an open file.
    ///
    /// # Errors
    /// ENFILE where there is no room.
    pub fn enter(&self, data: &FileData) -> Result<RecordId, Errno> {
        let id = self.table.allocate().ok_or(Errno::ENFILE)?;
        let more = if data.groups.is_empty() {
            0
        } else {
            let groups: Vec<u8> = data.groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
            let Some(more) = self.table.put_bytes(id, GROUPS, &groups) else {
                self.table.release(id, None);
                return Err(Errno::ENFILE);
            };
            more
        };
        let words = self.table.words(id);
        let set = |index: usize, value: u64| words[index].store(value, Ordering::Relaxed);
        set(NODE, data.node);
        set(FDS, data.fd.map_or(0, fd_word) | data.flocked.map_or(0, fd_word) << 32);
        set(FLAGS, u64::from(u32::from_ne_bytes(data.flags.to_ne_bytes())) | u64::from(data.content) << 32);
        set(BACKING, u64::from(data.backing) | more << 32);
        set(OPENER, u64::from(data.uid) | u64::from(data.gid) << 32);
        set(GROUPS_LENGTH, u64::try_from(data.groups.len()).unwrap_or_default());
        fault::point!("file: before it is noted");
        super::journal::opening(id);
        fault::point!("file: noted");
        words[HANDLE].store(data.handle, Ordering::Release);
        fault::point!("file: it is one");
        Ok(id)
    }

    /// It is closed; comes before its descriptors are.
    pub fn forget(&self, id: RecordId) {
        fault::point!("file: before it is none");
        let more = self.table.words(id)[BACKING].load(Ordering::Relaxed) >> 32;
        self.table.release(id, Some(more));
        fault::point!("file: it is none");
    }

    /// Remembers what flock(2) was taken on.
    pub fn set_flocked(&self, id: RecordId, fd: RawFd) {
        fault::point!("file: before flocked");
        self.table.words(id)[FDS].fetch_or(fd_word(fd) << 32, Ordering::Release);
        fault::point!("file: flocked");
    }

    /// It is open again, under this number.
    pub fn set_descriptor(&self, id: RecordId, fd: RawFd) {
        self.table.words(id)[FDS].fetch_or(fd_word(fd), Ordering::Release);
    }

    /// Its descriptors were of processes that are gone with all that they had open.
    pub(super) fn disown(&self, id: RecordId) {
        self.table.words(id)[FDS].store(0, Ordering::Release);
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = RecordId> {
        self.table.records()
    }

    /// Sees which records are free, after another process has used them.
    pub fn find_free(&self) {
        self.table.find_free(|words| words[BACKING].load(Ordering::Relaxed) >> 32);
    }

    /// What was entered.
    #[must_use]
    pub fn read(&self, id: RecordId) -> FileData {
        let words = self.table.words(id);
        let get = |index: usize| words[index].load(Ordering::Relaxed);
        let low = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or_default();
        let (fds, flags, backing, opener) = (get(FDS), get(FLAGS), get(BACKING), get(OPENER));
        let length = usize::try_from(get(GROUPS_LENGTH)).unwrap_or_default().min(1 << 16);
        let bytes = self.table.bytes(id, GROUPS, length * 4, backing >> 32);
        let groups = bytes.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes)).collect();
        FileData {
            handle: get(HANDLE),
            node: get(NODE),
            fd: word_fd(fds),
            flocked: word_fd(fds >> 32),
            flags: i32::from_ne_bytes(low(flags).to_ne_bytes()),
            content: u8::try_from(flags >> 32 & 0xff).unwrap_or_default(),
            backing: low(backing),
            uid: low(opener),
            gid: low(opener >> 32),
            groups,
        }
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.all().flat_map(|id| {
            let fds = self.table.words(id)[FDS].load(Ordering::Relaxed);
            [word_fd(fds), word_fd(fds >> 32)].into_iter().flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn an_open_file_comes_back_as_it_was_entered() {
        let state = State::new().unwrap();
        for groups in [0, 1, 18, 19, 300] {
            let data = FileData {
                handle: 8,
                node: 9,
                fd: Some(0),
                flocked: None,
                flags: -2,
                content: 3,
                backing: u32::MAX,
                uid: 2001,
                gid: u32::MAX - 1,
                groups: (0..groups).collect(),
            };
            let id = state.files.enter(&data).unwrap();
            let heir = state.anew().unwrap();
            assert_eq!(heir.files.read(id), data.clone());
            state.files.set_flocked(id, 5);
            assert_eq!(heir.files.read(id), FileData { flocked: Some(5), ..data });
            assert_eq!(heir.files.descriptors().collect::<Vec<_>>(), [0, 5]);
            state.files.disown(id);
            assert_eq!((heir.files.read(id).fd, heir.files.read(id).flocked), (None, None));
            state.files.set_descriptor(id, 7);
            assert_eq!(heir.files.read(id).fd, Some(7));
            state.files.forget(id);
            assert_eq!(heir.files.all().count(), 0);
        }
    }
}
