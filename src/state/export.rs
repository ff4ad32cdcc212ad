//! The records of the mounts that an export is made of. They are numbered as they are found, and never go.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use super::layout::MOUNT_WORDS;
use super::{fd_word, word_fd};
use crate::sys::Errno;
use crate::sys::shared_memory::SharedWords;
use crate::sys::stat::MountKey;

/// A mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountData {
    /// What tells it from others.
    pub key: MountKey,
    /// The directory by which its handles are opened, where it has any.
    pub anchor: Option<RawFd>,
}

/// The mounts of an export, by their numbers. The region's first word tells how many there are.
#[derive(Debug)]
pub struct MountRecords {
    words: SharedWords,
}

impl MountRecords {
    pub(super) fn new(words: SharedWords) -> Self {
        Self { words }
    }

    /// Enters the next one; by one thread at a time.
    ///
    /// # Errors
    /// ENFILE where there is no room.
    pub fn enter(&self, data: MountData) -> Result<(), Errno> {
        let count = self.words[0].load(Ordering::Relaxed);
        let record = self.record(count).ok_or(Errno::ENFILE)?;
        let [id, dev] = data.key.to_words();
        for (word, value) in record.iter().zip([id, dev, data.anchor.map_or(0, fd_word)]) {
            word.store(value, Ordering::Relaxed);
        }
        self.words[0].store(count + 1, Ordering::Release);
        Ok(())
    }

    /// All of them, by their numbers.
    pub fn all(&self) -> impl Iterator<Item = MountData> {
        (0..self.words[0].load(Ordering::Acquire)).map_while(|index| {
            let get = |word: usize| self.record(index).map(|record| record[word].load(Ordering::Relaxed));
            Some(MountData { key: MountKey::from_words([get(0)?, get(1)?]), anchor: word_fd(get(2)?) })
        })
    }

    /// What is open of them is only this, by their numbers, where anything is. One of which nothing is open is told from all others by
    /// nothing from now on: its number in the kernel may have become another's.
    pub(super) fn disown(&self, anchors: &HashMap<u64, RawFd>) {
        for index in 0..self.words[0].load(Ordering::Acquire) {
            let Some(record) = self.record(index) else { return };
            match anchors.get(&index) {
                Some(fd) => record[2].store(fd_word(*fd), Ordering::Release),
                None => record.iter().for_each(|word| word.store(0, Ordering::Release)),
            }
        }
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.all().filter_map(|mount| mount.anchor)
    }

    fn record(&self, index: u64) -> Option<&[std::sync::atomic::AtomicU64]> {
        let at = (usize::try_from(index).ok()? + 1) * MOUNT_WORDS;
        self.words.get(at..at + MOUNT_WORDS)
    }
}
