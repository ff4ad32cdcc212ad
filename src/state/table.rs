//! Records of a fixed number of words, and which of them are free.
//!
//! The first word of a record is not 0 exactly while it is one. What does not fit goes on in further records of the same
//! table, which a second mark tells apart. Which records are free is not shared: a successor sees it by the marks.

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::fault;
use crate::sys::shared_memory::SharedWords;
use crate::sys::sync::Mutex;

/// The first word of a record that continues another.
const CONTINUED: u64 = u64::MAX;

/// So many records, counted with the first place of a table, which is none, begin and end at a page, where they are of a multiple of
/// four words.
const BLOCK: u32 = 128;
const BLOCK_WORDS: usize = 128;

/// Which record of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordId(u32);

impl RecordId {
    /// As a number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// From what [`Self::get`] gave.
    #[must_use]
    pub fn from_raw(raw: u32) -> Self {
        Self(raw)
    }
}

/// Records of `WORDS` words. The region's first word says how many were ever in use.
#[derive(Debug)]
pub(super) struct Table<const WORDS: usize> {
    words: SharedWords,
    limit: u32,
    free: Mutex<Vec<u32>>,
}

impl<const WORDS: usize> Table<WORDS> {
    /// Records begin after a first one, which holds the table's own number.
    pub(super) fn new(words: SharedWords) -> Self {
        let limit = u32::try_from(words.len() / WORDS - 1).unwrap_or(u32::MAX - 1);
        Self { words, limit, free: Mutex::default() }
    }

    /// A free record for one writer, who makes it one by its first word. None where all are in use.
    pub(super) fn allocate(&self) -> Option<RecordId> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = free.pop() {
            return Some(RecordId(id));
        }
        let used = self.words[0].load(Ordering::Relaxed);
        let id = u32::try_from(used).ok().filter(|id| *id < self.limit)?;
        self.words[0].store(used + 1, Ordering::Release);
        fault::point!("table: taken");
        Some(RecordId(id))
    }

    /// The record is none any more.
    pub(super) fn release(&self, id: RecordId, more: Option<u64>) {
        let mut next = more;
        fault::point!("table: before a release");
        self.words(id)[0].store(0, Ordering::Release);
        fault::point!("table: released");
        let mut freed = vec![id.0];
        while let Some(id) = next.and_then(record_in) {
            let words = self.words(id);
            next = Some(words[1].load(Ordering::Relaxed));
            words[0].store(0, Ordering::Release);
            fault::point!("table: a continuation released");
            freed.push(id.0);
        }
        self.free.lock().unwrap_or_else(PoisonError::into_inner).extend(freed);
    }

    /// The words of a record.
    pub(super) fn words(&self, id: RecordId) -> &[AtomicU64] {
        let at = (usize::try_from(id.0).unwrap_or(usize::MAX) + 1) * WORDS;
        &self.words[at..at + WORDS]
    }

    /// Gives back the memory of blocks in which no record is in use. They are used again last.
    pub(super) fn give_back(&self) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let blocks = usize::try_from(self.ever_used() / BLOCK).unwrap_or_default() + 1;
        let mut free_in = vec![0_u32; blocks];
        let block = |id: &u32| usize::try_from((*id + 1) / BLOCK).unwrap_or_default();
        free.iter().for_each(|id| free_in[block(id)] += 1);
        let empty = |id: &u32| free_in[block(id)] == BLOCK;
        // While this holds the lock nobody has a record there.
        for at in (0..blocks).filter(|at| free_in[*at] == BLOCK) {
            let words = at * BLOCK_WORDS * WORDS..(at + 1) * BLOCK_WORDS * WORDS;
            if let Err(error) = self.words.give_back(words) {
                tracing::debug!(%error, "memory of records stays");
                return;
            }
        }
        let (mut last, first): (Vec<_>, Vec<_>) = free.iter().copied().partition(empty);
        last.extend(first);
        *free = last;
    }

    /// Records that were ever in use.
    fn ever_used(&self) -> u32 {
        u32::try_from(self.words[0].load(Ordering::Acquire)).unwrap_or(self.limit).min(self.limit)
    }

    /// Blocks of records that were ever in use, and whether their memory is there; where not, all are free.
    fn blocks(&self) -> impl Iterator<Item = (Range<u32>, bool)> {
        let used = self.ever_used();
        (0..=used / BLOCK).map(move |block| {
            let at = usize::try_from(block).unwrap_or_default() * BLOCK_WORDS * WORDS;
            let places = (block * BLOCK).max(1)..((block + 1) * BLOCK).min(used + 1);
            (places.start - 1..places.end - 1, self.words.take_memory(at..at + BLOCK_WORDS * WORDS))
        })
    }

    /// The records that there are.
    pub(super) fn records(&self) -> impl Iterator<Item = RecordId> {
        let there = self.blocks().filter_map(|(ids, there)| there.then_some(ids)).flatten().map(RecordId);
        there.filter(|id| !matches!(self.words(*id)[0].load(Ordering::Acquire), 0 | CONTINUED))
    }

    /// Sees what is free, after another process has used the table. `more` tells the word of a record that may be continued.
    pub(super) fn find_free(&self, more: impl Fn(&[AtomicU64]) -> u64) {
        let mut continued = std::collections::HashSet::new();
        for id in self.records() {
            let mut next = record_in(more(self.words(id)));
            while let Some(id) = next.filter(|id| continued.insert(id.0)) {
                next = record_in(self.words(id)[1].load(Ordering::Relaxed));
            }
        }
        let (mut free, mut without_memory) = (Vec::new(), Vec::new());
        for (ids, there) in self.blocks() {
            if !there {
                without_memory.extend(ids);
                continue;
            }
            for id in ids {
                let first = &self.words(RecordId(id))[0];
                match first.load(Ordering::Relaxed) {
                    0 => free.push(id),
                    // Its record was never completed, or is gone.
                    CONTINUED if !continued.contains(&id) => {
                        first.store(0, Ordering::Relaxed);
                        free.push(id);
                    }
                    _ => {}
                }
            }
        }
        // The first ones first, those without memory last.
        free.extend(without_memory);
        free.reverse();
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) = free;
    }

    /// Writes bytes to the words `place` of a record, and what does not fit to further ones. The answer tells where those
    /// begin, for a word of the record. None where no record is free.
    pub(super) fn put_bytes(&self, id: RecordId, place: Range<usize>, bytes: &[u8]) -> Option<u64> {
        let (here, mut rest) = bytes.split_at(bytes.len().min(place.len() * 8));
        fill(&self.words(id)[place], here);
        // From the last to the first, so that each is whole before it is named.
        let mut next = 0;
        while !rest.is_empty() {
            let room = (WORDS - 2) * 8;
            let begin = (rest.len() - 1) / room * room;
            let Some(id) = self.allocate() else {
                self.release_chain(next);
                return None;
            };
            let words = self.words(id);
            fill(&words[2..], &rest[begin..]);
            words[1].store(next, Ordering::Relaxed);
            fault::point!("table: before a continuation");
            words[0].store(CONTINUED, Ordering::Relaxed);
            fault::point!("table: a continuation written");
            next = u64::from(id.0) + 1;
            rest = &rest[..begin];
        }
        Some(next)
    }

    /// What [`Self::put_bytes`] wrote.
    pub(super) fn bytes(&self, id: RecordId, place: Range<usize>, length: usize, more: u64) -> Vec<u8> {
        let mut bytes = read(&self.words(id)[place]);
        let mut next = more;
        while bytes.len() < length
            && let Some(id) = record_in(next)
        {
            let words = self.words(id);
            bytes.extend(read(&words[2..]));
            next = words[1].load(Ordering::Relaxed);
        }
        bytes.truncate(length);
        bytes
    }

    fn release_chain(&self, next: u64) {
        if let Some(first) = record_in(next) {
            let more = self.words(first)[1].load(Ordering::Relaxed);
            self.release(first, Some(more));
        }
    }
}

fn record_in(word: u64) -> Option<RecordId> {
    u32::try_from(word.checked_sub(1)?).ok().map(RecordId)
}

fn fill(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
    }
}

fn read(words: &[AtomicU64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::shared_memory::SharedMemory;

    fn table() -> Table<4> {
        let memory = SharedMemory::new("test", 4096).unwrap();
        Table::new(memory.words(0, 44).unwrap())
    }

    fn enter(table: &Table<4>, bytes: &[u8]) -> Option<RecordId> {
        let id = table.allocate()?;
        let Some(more) = table.put_bytes(id, 2..4, bytes) else {
            table.release(id, None);
            return None;
        };
        table.words(id)[1].store(more, Ordering::Relaxed);
        table.words(id)[0].store(1, Ordering::Release);
        Some(id)
    }

    fn more(words: &[AtomicU64]) -> u64 {
        words[1].load(Ordering::Relaxed)
    }

    fn leave(table: &Table<4>, id: RecordId) {
        table.release(id, Some(more(table.words(id))));
    }

    #[test]
    fn bytes_come_back_however_long_they_are() {
        let table = table();
        for length in [0, 1, 15, 16, 17, 31, 32, 33, 64] {
            let bytes: Vec<u8> = (0..length).collect();
            let id = enter(&table, &bytes).unwrap();
            assert_eq!(table.bytes(id, 2..4, bytes.len(), more(table.words(id))), bytes);
            leave(&table, id);
        }
        // Nothing is lost: ten records are there.
        assert_eq!((0..).map_while(|_| enter(&table, &[])).count(), 10);
        assert_eq!(table.records().count(), 10);
    }

    #[test]
    fn what_does_not_fit_leaves_nothing() {
        let table = table();
        assert!(enter(&table, &[7; 16 + 10 * 16]).is_none());
        assert!(enter(&table, &[7; 16 + 9 * 16]).is_some());
    }

    #[test]
    fn memory_of_which_nothing_is_in_use_is_given_back_and_used_again() {
        let memory = SharedMemory::new("test", 1 << 16).unwrap();
        let anew = || Table::<4>::new(memory.words(0, 1 << 13).unwrap());
        let table = anew();
        let ids: Vec<_> = (0..).map_while(|_| enter(&table, &[])).collect();
        assert_eq!(ids.len(), (1 << 11) - 1);
        let there = |table: &Table<4>| table.blocks().filter(|(_, there)| *there).count();
        assert_eq!(there(&table), 16);
        let (kept, left): (Vec<_>, Vec<_>) = ids.into_iter().partition(|id| id.0 % 300 == 0);
        left.into_iter().for_each(|id| leave(&table, id));
        table.give_back();
        // The first block has the table's own number, the others one that was kept.
        let blocks = there(&table);
        assert!((1..=kept.len()).contains(&blocks), "{blocks}");
        assert_eq!(table.records().count(), kept.len());
        assert_eq!(there(&table), blocks, "looking took none");
        drop(table);

        let successor = anew();
        successor.find_free(more);
        assert_eq!(there(&successor), blocks);
        assert_eq!(
            successor.records().map(|id| id.0).collect::<Vec<_>>(),
            kept.iter().map(|id| id.0).collect::<Vec<_>>()
        );
        // What is there is used first, and nothing is lost.
        let again = enter(&successor, &[]).unwrap();
        assert_eq!(there(&successor), blocks, "{again:?}");
        assert_eq!((0..).map_while(|_| enter(&successor, &[])).count(), (1 << 11) - 2 - kept.len());
    }

    #[test]
    fn a_successor_sees_what_is_free() {
        let table = table();
        let (_kept, gone) = (enter(&table, &[1; 40]).unwrap(), enter(&table, &[2; 40]).unwrap());
        // A death in the middle of a release, and of an entry.
        table.words(gone)[0].store(0, Ordering::Relaxed);
        let half = table.allocate().unwrap();
        table.put_bytes(half, 2..4, &[3; 20]).unwrap();
        table.find_free(more);
        assert_eq!(table.records().count(), 1);
        let fit = (0..).map_while(|_| enter(&table, &[])).count();
        assert_eq!(fit, 10 - 3, "the one kept takes three");
    }
}
