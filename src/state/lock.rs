//! The records of lock owners, and of lock requests that wait.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use super::layout::{LOCK_WORDS, WAITING_WORDS};
use super::table::{RecordId, Table};
use super::{fd_word, word_fd};
use crate::sys::Errno;
use crate::sys::fault;
use crate::sys::shared_memory::SharedWords;

const LOW: u64 = 0xffff_ffff;

/// An owner of byte-range locks on an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockData {
    /// The kernel's name for the owner.
    pub owner: u64,
    /// The inode.
    pub node: u64,
    /// The open file through which it last asked.
    pub handle: u64,
    /// Its process.
    pub pid: u32,
    /// What its locks hang on.
    pub fd: RawFd,
    /// Some of its locks, to name the holder of one: exclusive or not, first and last byte. At most [`NAMED`].
    pub ranges: Vec<(bool, u64, u64)>,
    /// Whether those are all that it has.
    pub all_named: bool,
}

/// A record's first word: all that it holds is in its ranges, or it may hold more than they tell.
const NAMED_ALL: u64 = 1;
const NOT_NAMED_ALL: u64 = 2;
const OWNER: usize = 1;
const NODE: usize = 2;
const HANDLE: usize = 3;
/// The process below, the descriptor above.
const PID: usize = 4;
const COUNT: usize = 5;
const RANGES: usize = 6;
/// An exclusive lock's last byte has this bit; no offset does.
const EXCLUSIVE: u64 = 1 << 63;

/// Ranges that are remembered of one owner.
pub const NAMED: usize = (LOCK_WORDS - RANGES) / 2;

/// The lock owners of a mount.
#[derive(Debug)]
pub struct LockRecords {
    table: Table<LOCK_WORDS>,
}

impl LockRecords {
    pub(super) fn new(words: SharedWords) -> Self {
        Self { table: Table::new(words) }
    }

    /// Enters an owner.
    ///
    /// # Errors
    /// ENOLCK where there is no room.
    pub fn enter(&self, data: &LockData) -> Result<RecordId, Errno> {
        let id = self.table.allocate().ok_or(Errno::ENOLCK)?;
        let words = self.table.words(id);
        words[OWNER].store(data.owner, Ordering::Relaxed);
        words[NODE].store(data.node, Ordering::Relaxed);
        words[PID].store(u64::from(data.pid) | fd_word(data.fd) << 32, Ordering::Relaxed);
        self.write(id, data);
        fault::point!("lock: before it is one");
        words[0].store(told(data), Ordering::Release);
        fault::point!("lock: it is one");
        Ok(id)
    }

    /// Writes what has changed of it: through which file and process it last asked, and what it holds.
    pub fn update(&self, id: RecordId, data: &LockData) {
        let words = self.table.words(id);
        words[0].store(NOT_NAMED_ALL, Ordering::Release);
        self.write(id, data);
        words[0].store(told(data), Ordering::Release);
    }

    fn write(&self, id: RecordId, data: &LockData) {
        let words = self.table.words(id);
        words[HANDLE].store(data.handle, Ordering::Relaxed);
        // While it is being written it names nobody.
        words[COUNT].store(0, Ordering::Release);
        fault::point!("lock: it names nobody");
        words[PID].store(u64::from(data.pid) | fd_word(data.fd) << 32, Ordering::Relaxed);
        let named = &data.ranges[..data.ranges.len().min(NAMED)];
        for ((exclusive, start, end), pair) in named.iter().zip(words[RANGES..].chunks_exact(2)) {
            pair[0].store(*start, Ordering::Relaxed);
            pair[1].store(end | if *exclusive { EXCLUSIVE } else { 0 }, Ordering::Relaxed);
        }
        words[COUNT].store(u64::try_from(named.len()).unwrap_or_default(), Ordering::Release);
        fault::point!("lock: it names its ranges");
    }

    /// Whether it may hold anything.
    pub(super) fn may_hold(&self, id: RecordId) -> bool {
        let words = self.table.words(id);
        words[0].load(Ordering::Acquire) != NAMED_ALL || words[COUNT].load(Ordering::Acquire) != 0
    }

    /// The inode that it has locks on.
    pub(super) fn node(&self, id: RecordId) -> u64 {
        self.table.words(id)[NODE].load(Ordering::Relaxed)
    }

    /// It holds nothing any more; comes before its descriptor is closed.
    pub fn forget(&self, id: RecordId) {
        self.table.release(id, None);
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = RecordId> {
        self.table.records()
    }

    /// Sees which records are free, after another process has used them.
    pub fn find_free(&self) {
        self.table.find_free(|_| 0);
    }

    /// What was entered; none where it is no owner.
    #[must_use]
    pub fn read(&self, id: RecordId) -> Option<LockData> {
        let words = self.table.words(id);
        let get = |index: usize| words[index].load(Ordering::Relaxed);
        let count = usize::try_from(get(COUNT)).unwrap_or_default().min(NAMED);
        let ranges = words[RANGES..].chunks_exact(2).take(count).map(|pair| {
            let end = pair[1].load(Ordering::Relaxed);
            (end & EXCLUSIVE != 0, pair[0].load(Ordering::Relaxed), end & !EXCLUSIVE)
        });
        Some(LockData {
            owner: get(OWNER),
            node: get(NODE),
            handle: get(HANDLE),
            pid: u32::try_from(get(PID) & LOW).unwrap_or_default(),
            fd: word_fd(get(PID) >> 32)?,
            ranges: ranges.collect(),
            all_named: get(0) == NAMED_ALL,
        })
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.all().filter_map(|id| word_fd(self.table.words(id)[PID].load(Ordering::Relaxed) >> 32))
    }
}

/// See [`NAMED_ALL`].
fn told(data: &LockData) -> u64 {
    if data.all_named && data.ranges.len() <= NAMED { NAMED_ALL } else { NOT_NAMED_ALL }
}

/// A lock request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingData {
    /// The request to answer.
    pub request: u64,
    /// The open file.
    pub handle: u64,
    /// Whose lock it would be.
    pub owner: u64,
    /// First and last byte.
    pub range: (u64, u64),
    /// The process that asks.
    pub pid: u32,
    /// Not shared.
    pub exclusive: bool,
    /// flock(2) instead of fcntl(2).
    pub flock: bool,
}

/// The answer, and one.
const ANSWERED: usize = 6;

/// The lock requests of a mount that wait.
#[derive(Debug)]
pub struct WaitingRecords {
    table: Table<WAITING_WORDS>,
}

impl WaitingRecords {
    pub(super) fn new(words: SharedWords) -> Self {
        Self { table: Table::new(words) }
    }

    /// Enters one, which from then on is not the slot's business any more.
    ///
    /// # Errors
    /// ENOLCK where there is no room.
    pub fn enter(&self, data: &WaitingData) -> Result<RecordId, Errno> {
        let id = self.table.allocate().ok_or(Errno::ENOLCK)?;
        let words = self.table.words(id);
        let bits = u64::from(data.exclusive) << 32 | u64::from(data.flock) << 33;
        let values = [data.handle, data.owner, data.range.0, data.range.1, u64::from(data.pid) | bits];
        words[1..].iter().zip(values).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        words[ANSWERED].store(0, Ordering::Relaxed);
        // Requests of the kernel are never 0: that is a notification.
        fault::point!("waiting: before it is one");
        words[0].store(data.request, Ordering::Release);
        fault::point!("waiting: it is one");
        Ok(id)
    }

    /// The answer is about to be sent: 0, or an error's number. What it asked for is not tried again.
    pub fn answer(&self, id: RecordId, error: i32) {
        let error = u64::try_from(error).unwrap_or_default();
        fault::point!("waiting: before it is answered");
        self.table.words(id)[ANSWERED].store(error + 1, Ordering::Release);
        fault::point!("waiting: answered");
    }

    /// The answer that may not have been sent.
    #[must_use]
    pub fn answered(&self, id: RecordId) -> Option<i32> {
        i32::try_from(self.table.words(id)[ANSWERED].load(Ordering::Acquire).checked_sub(1)?).ok()
    }

    /// It is answered.
    pub fn forget(&self, id: RecordId) {
        self.table.release(id, None);
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = RecordId> {
        self.table.records()
    }

    /// Sees which records are free, after another process has used them.
    pub fn find_free(&self) {
        self.table.find_free(|_| 0);
    }

    /// What was entered.
    #[must_use]
    pub fn read(&self, id: RecordId) -> WaitingData {
        let words = self.table.words(id);
        let get = |index: usize| words[index].load(Ordering::Relaxed);
        let last = get(5);
        WaitingData {
            request: get(0),
            handle: get(1),
            owner: get(2),
            range: (get(3), get(4)),
            pid: u32::try_from(last & LOW).unwrap_or_default(),
            exclusive: last >> 32 & 1 == 1,
            flock: last >> 33 & 1 == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn a_lock_owner_comes_back_as_it_was_last_written() {
        let state = State::new().unwrap();
        let mut data = LockData {
            owner: 0,
            node: 7,
            handle: 8,
            pid: 9,
            fd: 10,
            ranges: vec![(true, 0, i64::MAX.unsigned_abs()), (false, 5, 5)],
            all_named: true,
        };
        let id = state.locks.enter(&data).unwrap();
        assert_eq!(state.anew().unwrap().locks.read(id), Some(data.clone()));
        (data.pid, data.handle, data.ranges) = (11, 12, vec![(false, 1, 2); NAMED + 2]);
        state.locks.update(id, &data);
        data.ranges.truncate(NAMED);
        data.all_named = false;
        let heir = state.anew().unwrap();
        assert_eq!(heir.locks.read(id), Some(data.clone()));
        assert_eq!(heir.locks.descriptors().collect::<Vec<_>>(), [10]);
        assert!(heir.locks.may_hold(id) && heir.locks.node(id) == 7);
        (data.ranges, data.all_named) = (Vec::new(), true);
        state.locks.update(id, &data);
        assert!(!heir.locks.may_hold(id));
        data.all_named = false;
        state.locks.update(id, &data);
        assert!(heir.locks.may_hold(id));
    }

    #[test]
    fn a_waiting_request_comes_back_as_it_was_entered() {
        let state = State::new().unwrap();
        let data = WaitingData {
            request: 3,
            handle: 4,
            owner: u64::MAX,
            range: (1, 2),
            pid: u32::MAX,
            exclusive: false,
            flock: true,
        };
        let id = state.waiting.enter(&data).unwrap();
        let heir = state.anew().unwrap();
        assert_eq!(heir.waiting.read(id), data);
        state.waiting.forget(id);
        assert_eq!(heir.waiting.all().count(), 0);
    }
}
