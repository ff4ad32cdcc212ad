//! What was agreed with the kernel, and what was found at the export: a successor asks neither again.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use super::{fd_word, word_fd};
use crate::sys::shared_memory::SharedWords;

/// The export, as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportData {
    /// SOURCE.
    pub root: RawFd,
    /// What it can do, as whoever wrote it packs that.
    pub features: u64,
}

/// The session with the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionData {
    /// `/dev/fuse`.
    pub device: RawFd,
    /// What was negotiated: the flags of INIT.
    pub flags: u64,
    /// The protocol's minor version.
    pub minor: u32,
}

const ROOT: usize = 1;
const FEATURES: usize = 2;
const DEVICE: usize = 4;
const FLAGS: usize = 5;
const MINOR: usize = 6;

/// The record of both.
#[derive(Debug)]
pub struct SessionRecord {
    words: SharedWords,
}

impl SessionRecord {
    pub(super) fn new(words: SharedWords) -> Self {
        Self { words }
    }

    /// Remembers the export.
    pub fn set_export(&self, data: ExportData) {
        self.words[FEATURES].store(data.features, Ordering::Relaxed);
        self.words[ROOT].store(fd_word(data.root), Ordering::Release);
    }

    /// The export, once it was found.
    #[must_use]
    pub fn export(&self) -> Option<ExportData> {
        let root = word_fd(self.words[ROOT].load(Ordering::Acquire))?;
        Some(ExportData { root, features: self.words[FEATURES].load(Ordering::Relaxed) })
    }

    /// Remembers the session.
    pub fn set(&self, data: SessionData) {
        self.words[FLAGS].store(data.flags, Ordering::Relaxed);
        self.words[MINOR].store(data.minor.into(), Ordering::Relaxed);
        self.words[DEVICE].store(fd_word(data.device), Ordering::Release);
    }

    /// The session, once there is one.
    #[must_use]
    pub fn get(&self) -> Option<SessionData> {
        let device = self.device()?;
        let minor = u32::try_from(self.words[MINOR].load(Ordering::Relaxed)).ok()?;
        Some(SessionData { device, flags: self.words[FLAGS].load(Ordering::Relaxed), minor })
    }

    /// `/dev/fuse`.
    #[must_use]
    pub fn device(&self) -> Option<RawFd> {
        word_fd(self.words[DEVICE].load(Ordering::Acquire))
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [self.export().map(|export| export.root), self.device()].into_iter().flatten()
    }
}
