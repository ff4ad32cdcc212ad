//! What an open finds of a file's content, and from when on a change of it must show in its times.
//!
//! Whoever keeps content by these (`content.rs`), or takes a file for the one it was (`open.rs`), may do so then.

use std::time::{Duration, Instant};

use super::clocks::Clocks;
use crate::policy::{StoredAttr, Timestamp};

/// For how long a change leaves doubt: within one tick of the clock that dates changes a second one has the first one's times. Counted
/// from when the first was seen, by our own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ticks {
    /// This kernel's, of 10 ms at most (CONFIG_HZ).
    Ours,
    /// A server's, of 1 to 16 ms (Linux, Windows); by far more is waited for.
    Servers,
}

impl Ticks {
    const fn pass_in(self) -> Duration {
        match self {
            Self::Ours => Duration::from_millis(20),
            Self::Servers => Duration::from_millis(100),
        }
    }
}

/// The same where times come in whole seconds. A change that lies back further is beyond doubt when it is first seen: generous,
/// since how long ago it was is reckoned from two clocks.
const DOUBT: Duration = Duration::from_secs(2);

/// What tells two contents of a file apart, as far as a file system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) size: u64,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
}

impl Version {
    pub(super) fn of(attr: &StoredAttr) -> Self {
        Self { size: attr.size, mtime: attr.mtime, ctime: attr.ctime }
    }
}

/// A content, and how far it can be told from another.
#[derive(Debug)]
pub(super) struct Seen {
    version: Version,
    since: Instant,
    /// Whatever changes it from now on gives it another time.
    pub(super) is_beyond_doubt: bool,
    /// It was beyond doubt when the kernel began to cache it.
    pub(super) is_cached: bool,
}

impl Seen {
    /// An open finds a file like this: what is known of that content, if it is the one that was seen last.
    pub(super) fn at<'a>(
        last: &'a mut Option<Self>,
        attr: &StoredAttr,
        ticks: Ticks,
        clocks: &Clocks,
    ) -> &'a mut Self {
        let version = Version::of(attr);
        last.take_if(|seen| seen.version != version);
        let is_known = last.is_some();
        let seen = last.get_or_insert_with(|| Self::new(version, clocks));
        seen.is_beyond_doubt = seen.is_beyond_doubt || is_known && seen.has_aged(ticks);
        seen
    }

    pub(super) fn ctime(&self) -> Timestamp {
        self.version.ctime
    }

    fn new(version: Version, clocks: &Clocks) -> Self {
        let is_beyond_doubt = clocks.age(version.mtime.max(version.ctime)) > DOUBT;
        Self { version, since: Instant::now(), is_beyond_doubt, is_cached: false }
    }

    fn has_aged(&self, ticks: Ticks) -> bool {
        let Version { mtime, ctime, .. } = self.version;
        let in_whole_seconds = mtime.nanoseconds == 0 && ctime.nanoseconds == 0;
        let enough = if in_whole_seconds { DOUBT } else { ticks.pass_in() };
        self.since.elapsed() >= enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    /// So many seconds ago; in whole seconds where there are no nanoseconds.
    fn time(ago: i64, nanoseconds: u32) -> Timestamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp { seconds: i64::try_from(now.as_secs()).unwrap() - ago, nanoseconds }
    }

    fn changed(mtime: Timestamp, ctime: Timestamp) -> Version {
        Version { size: 1, mtime, ctime }
    }

    /// Seen for the first time so long ago, and changed just before that.
    fn seen(ago: Duration, nanoseconds: u32) -> Seen {
        let since = Instant::now().checked_sub(ago).unwrap();
        let version = changed(time(0, nanoseconds), time(0, nanoseconds));
        Seen { since, ..Seen::new(version, &Clocks::default()) }
    }

    #[test]
    fn a_moment_is_enough_where_times_are_finer_than_seconds() {
        for ticks in [Ticks::Ours, Ticks::Servers] {
            assert!(!seen(ticks.pass_in() / 2, 1).has_aged(ticks));
            assert!(seen(ticks.pass_in(), 1).has_aged(ticks));
            assert!(!seen(ticks.pass_in(), 0).has_aged(ticks) && seen(DOUBT, 0).has_aged(ticks));
        }
    }

    #[test]
    fn what_lies_back_further_is_beyond_doubt_at_once() {
        let is_beyond_doubt = |mtime, ctime, clocks: &Clocks| {
            Seen::new(changed(time(mtime, 0), time(ctime, 0)), clocks).is_beyond_doubt
        };
        let clocks = Clocks::default();
        assert!(!is_beyond_doubt(0, 10, &clocks), "the mtime is new");
        assert!(is_beyond_doubt(10, 10, &clocks));
        clocks.learn(time(10, 0));
        assert!(!is_beyond_doubt(10, 10, &clocks), "the server's clock is behind");
        assert!(is_beyond_doubt(20, 20, &clocks));
    }
}
