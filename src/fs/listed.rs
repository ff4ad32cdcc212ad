//! What the kernel has of a directory's listing, as far as can be known here (fs/fuse/readdir.c, Linux 4.20 to 7.2).
//!
//! It fills its listing as long as what it is given goes on where that stands, and reads from it once somebody has come to the
//! end. A listing that was broken off is never thrown away: whoever reads the directory next completes it, with a beginning
//! from before. Only who then goes back in the directory (seekdir(3)) is shown that: from the start, it looks at the mtime.
//! And one that is not complete and loses a page is never filled again, nor thrown away, as long as the kernel knows the
//! directory: each later listing costs requests. So pages are taken away only where the listing is complete, as far as that is known;
//! where it is not, as after a process's death, what is shown comes before what it costs.

use std::sync::atomic::{AtomicU32, Ordering};

use super::trails::Fills;

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
    /// A beginning, and the directory has changed since.
    Outdated,
    /// An old beginning, and behind it what is given now.
    Mixed,
    /// All of it, at this moment.
    Whole(u32),
    /// All of it, or a beginning, at this moment.
    Perhaps(u32),
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
            (moment, 1) => Self::Whole(moment),
            (moment, _) => Self::Perhaps(moment),
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
            Self::Perhaps(moment) => moment.min(LATEST) << 2 | 2,
        }
    }
}

impl Listed {
    /// That of a directory that the kernel knew before this process began.
    pub(super) fn inherited() -> Self {
        Self(AtomicU32::new(Has::Unknown.code()))
    }

    /// The kernel asks for the directory's first names; those that it was given up to `patience` ago are as good. Whether it begins
    /// anew.
    pub(super) fn begins(&self, now: u32, patience: u32) -> bool {
        let had = self.becomes(|has| match has {
            // It may have asked before somebody else came to the end, and will then go on from what it has.
            Has::Whole(given) if now.saturating_sub(given) <= 1 => Has::Perhaps(now),
            Has::Nothing | Has::Whole(_) => Has::Begun(now),
            Has::Begun(since) if now.saturating_sub(since) < patience => has,
            Has::Begun(_) | Has::Outdated | Has::Mixed | Has::Perhaps(_) | Has::Unknown => Has::Mixed,
        });
        matches!(had, Has::Nothing | Has::Whole(_))
    }

    /// Somebody is told that there are no more names. Whether the kernel must forget the listing.
    pub(super) fn ends(&self, now: u32, fills: Fills) -> bool {
        let had = self.becomes(|has| match (has, fills) {
            (Has::Unknown, _) | (Has::Mixed, Fills::Yes | Fills::Perhaps) => Has::Nothing,
            (_, Fills::No) | (Has::Nothing | Has::Perhaps(_), _) => has,
            (Has::Begun(_) | Has::Whole(_), Fills::Yes) => Has::Whole(now),
            (Has::Whole(_), Fills::Perhaps) => has,
            // What stood where the kernel goes on may have gone meanwhile; then it has not come to the end.
            (Has::Outdated, _) | (Has::Begun(_), Fills::Perhaps) => Has::Perhaps(now),
        });
        had == Has::Unknown || had == Has::Mixed && fills != Fills::No
    }

    /// The directory is about to change. That a complete listing is older is seen by its mtime, and, within a tick, by its age.
    pub(super) fn changes(&self) {
        if let Has::Begun(_) = self.has() {
            self.becomes(|has| if let Has::Begun(_) = has { Has::Outdated } else { has });
        }
    }

    /// Whether there is anything that ages. One load, at nearly each look at a directory.
    #[inline]
    pub(super) fn ages(&self) -> bool {
        matches!(self.has(), Has::Whole(_) | Has::Perhaps(_) | Has::Unknown)
    }

    /// Whether the kernel must forget the listing, since it was given `patience` ago, or longer.
    pub(super) fn has_aged(&self, now: u32, patience: u32) -> bool {
        let aged = |has| match has {
            Has::Whole(given) | Has::Perhaps(given) => now.saturating_sub(given) >= patience,
            Has::Unknown => true,
            Has::Nothing | Has::Begun(_) | Has::Outdated | Has::Mixed => false,
        };
        aged(self.becomes(|has| if aged(has) { Has::Nothing } else { has }))
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

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: u32 = 10;

    #[test]
    fn a_listing_is_forgotten_when_it_has_aged_and_not_before() {
        let listed = Listed::default();
        assert!(listed.begins(100, PATIENCE));
        assert!(!listed.has_aged(900, PATIENCE), "it is not complete");
        assert!(!listed.ends(900, Fills::No));
        assert!(!listed.has_aged(901, PATIENCE), "nor yet");
        assert!(!listed.ends(901, Fills::Yes));
        assert!(!listed.has_aged(910, PATIENCE));
        assert!(listed.has_aged(911, PATIENCE));
        assert!(!listed.has_aged(999, PATIENCE), "it is no more");
    }

    #[test]
    fn what_is_put_behind_an_old_beginning_is_forgotten_at_its_end() {
        let old: [fn(&Listed); 3] = [
            |listed| _ = listed.begins(80, PATIENCE),
            |listed| {
                listed.begins(99, PATIENCE);
                listed.changes();
            },
            |listed| {
                listed.begins(98, PATIENCE);
                listed.changes();
                assert!(!listed.ends(99, Fills::Yes), "its own end");
            },
        ];
        for begin in old {
            for fills in [Fills::Yes, Fills::Perhaps] {
                let listed = Listed::default();
                begin(&listed);
                assert!(!listed.begins(100, PATIENCE));
                // Between its portions.
                listed.changes();
                assert!(!listed.ends(101, Fills::No), "somebody else's end");
                assert!(listed.ends(101, fills));
                assert!(listed.begins(102, PATIENCE));
                assert!(!listed.ends(103, fills), "the kernel had nothing any more");
            }
        }
    }

    #[test]
    fn a_listing_of_a_process_that_has_died_is_forgotten_at_the_first_end_or_look() {
        for fills in [Fills::Yes, Fills::No, Fills::Perhaps] {
            assert!(Listed::inherited().ends(1, fills));
        }
        assert!(Listed::inherited().has_aged(1, PATIENCE));
        let listed = Listed::inherited();
        assert!(!listed.begins(1, PATIENCE));
        assert!(listed.ends(2, Fills::Yes));
    }

    #[test]
    fn two_who_read_at_once_are_given_the_same() {
        let listed = Listed::default();
        assert!(listed.begins(100, PATIENCE));
        assert!(!listed.begins(101, PATIENCE));
        assert!(!listed.ends(102, Fills::Yes) && !listed.ends(103, Fills::Perhaps));
        assert!(listed.has_aged(112, PATIENCE));
    }

    #[test]
    fn whoever_asked_before_another_came_to_the_end_does_not_keep_the_listing_from_ageing() {
        let listed = Listed::default();
        listed.begins(100, PATIENCE);
        listed.ends(101, Fills::Yes);
        listed.begins(102, PATIENCE);
        assert!(listed.has_aged(112, PATIENCE));
    }

    #[test]
    fn whoever_comes_to_the_end_may_have_completed_it() {
        let listed = Listed::default();
        listed.begins(100, PATIENCE);
        assert!(!listed.ends(101, Fills::Perhaps));
        assert!(listed.has_aged(111, PATIENCE));
        // A change within one tick of the mtime.
        listed.begins(120, PATIENCE);
        listed.changes();
        assert!(!listed.ends(121, Fills::Yes));
        assert!(listed.has_aged(131, PATIENCE));
    }

    #[test]
    fn a_moment_keeps_its_place_beside_the_others() {
        for has in [Has::Nothing, Has::Unknown, Has::Outdated, Has::Mixed] {
            assert_eq!(Has::of(has.code()), has);
        }
        for moment in [1, 2, LATEST] {
            for has in [Has::Begun(moment), Has::Whole(moment), Has::Perhaps(moment)] {
                assert_eq!(Has::of(has.code()), has);
            }
        }
        assert_eq!(Has::of(Has::Whole(u32::MAX).code()), Has::Whole(LATEST));
    }
}
