//! What the kernel has of a directory's listing, as far as can be known here (fs/fuse/readdir.c, Linux 4.20 to 7.2).
//!
//! It fills its listing as long as what it is given goes on where that stands, and reads from it once somebody has come to the
//! end. A listing that was broken off is never thrown away: whoever reads the directory next completes it, with a beginning
//! from before. Only who then goes back in the directory (seekdir(3)) is shown that: from the start, it looks at the mtime.
//! And of one that is not complete no page may be taken away: it is never filled again, nor thrown away, as long as the kernel
//! knows the directory.

use std::sync::atomic::{AtomicU32, Ordering};

/// Of one directory.
#[derive(Debug, Default)]
pub(super) struct Listed(AtomicU32);

/// A moment is a number of tenths of a second, and never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    Nothing,
    /// A process before this one gave it, and knew how much and when.
    Unknown,
    /// A beginning, given from this moment on.
    Begun(u32),
    /// The directory has changed since the beginning was given. Whether it is complete then nobody knows: what is added last may have
    /// gone meanwhile.
    Outdated,
    /// An old beginning, and behind it what is given now.
    Mixed,
    /// All of it, at this moment.
    Whole(u32),
}

const LATEST: u32 = u32::MAX >> 2;

impl Has {
    fn of(code: u32) -> Self {
        match (code >> 2, code & 3) {
            (0, 0) => Self::Nothing,
            (0, 1) => Self::Unknown,
            (0, 2) => Self::Outdated,
            (0, _) => Self::Mixed,
            (moment, 0) => Self::Begun(moment),
            (moment, _) => Self::Whole(moment),
        }
    }

    fn code(self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::Unknown => 1,
            Self::Outdated => 2,
            Self::Mixed => 3,
            Self::Begun(moment) => moment.min(LATEST) << 2,
            Self::Whole(moment) => moment.min(LATEST) << 2 | 1,
        }
    }
}

impl Listed {
    /// That of a directory that the kernel knew before this process began.
    pub(super) fn inherited() -> Self {
        Self(AtomicU32::new(Has::Unknown.code()))
    }

    /// The kernel is given the directory's first names; those that it was given up to `patience` ago are as good.
    pub(super) fn begins(&self, now: u32, patience: u32) {
        self.becomes(|has| match has {
            Has::Nothing | Has::Whole(_) => Has::Begun(now),
            Has::Begun(since) if now.saturating_sub(since) < patience => has,
            Has::Begun(_) | Has::Outdated | Has::Mixed | Has::Unknown => Has::Mixed,
        });
    }

    /// Somebody who began at the first name is told that there are no more. Whether the kernel must forget the listing.
    pub(super) fn ends(&self, now: u32) -> bool {
        let had = self.becomes(|has| match has {
            Has::Begun(_) | Has::Whole(_) => Has::Whole(now),
            Has::Mixed => Has::Nothing,
            Has::Nothing | Has::Unknown | Has::Outdated => has,
        });
        had == Has::Mixed
    }

    /// The directory is about to change. A listing that is complete is found to be older by its mtime.
    pub(super) fn changes(&self) {
        if let Has::Begun(_) = self.has() {
            self.becomes(|has| if let Has::Begun(_) = has { Has::Outdated } else { has });
        }
    }

    /// Whether the kernel must forget the listing, since it was given `patience` ago, or longer.
    pub(super) fn has_aged(&self, now: u32, patience: u32) -> bool {
        let aged = |has| match has {
            Has::Whole(given) => now.saturating_sub(given) >= patience,
            Has::Unknown => true,
            Has::Nothing | Has::Begun(_) | Has::Outdated | Has::Mixed => false,
        };
        // One load where nothing is done, as at nearly each look at a directory.
        aged(self.has()) && aged(self.becomes(|has| if aged(has) { Has::Nothing } else { has }))
    }

    /// Whether the kernel must forget the listing, since nothing is as it was.
    pub(super) fn is_out_of_date(&self) -> bool {
        self.changes();
        self.has_aged(0, 0)
    }

    fn has(&self) -> Has {
        Has::of(self.0.load(Ordering::Relaxed))
    }

    /// What it was.
    fn becomes(&self, next: impl Fn(Has) -> Has) -> Has {
        let update = |code| Some(next(Has::of(code)).code());
        let (Ok(had) | Err(had)) = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        Has::of(had)
    }
}
