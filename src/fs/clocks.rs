//! The clock of the export's server, held against this node's.
//!
//! A file's times are the server's. How long ago they were is told by what was made just now: it has the server's time, and the
//! difference is how far the two clocks are apart. Until something was made they are taken for the same.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::policy::Timestamp;

/// By how much more they may differ than is known, for something to be said to lie before something else.
const IN_DOUBT: Duration = Duration::from_secs(10);

/// What is known of one export's.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// Milliseconds by which the server's is ahead, or a little less.
    ahead: AtomicI64,
}

/// Of a file system whose times are this node's.
pub(super) static OUR_OWN: Clocks = Clocks { ahead: AtomicI64::new(0) };

impl Clocks {
    /// Something was made at this time, and has been since.
    pub(super) fn learn(&self, made: Timestamp) {
        // The answer took its time: it was earlier than now that the server's clock showed that.
        self.ahead.store(milliseconds(made).saturating_sub(now()), Ordering::Relaxed);
    }

    /// How long ago that time was, or a little less.
    pub(super) fn age(&self, time: Timestamp) -> Duration {
        let age = now().saturating_sub(self.here(time));
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }

    /// Whether that time certainly lies before `begun`, which is since the epoch by this node's clock.
    pub(super) fn is_older(&self, time: Timestamp, begun: Duration) -> bool {
        self.here(time).saturating_add(whole(IN_DOUBT)) < whole(begun)
    }

    /// What this node's clock showed then, or a little more.
    fn here(&self, time: Timestamp) -> i64 {
        milliseconds(time).saturating_sub(self.ahead.load(Ordering::Relaxed))
    }
}

fn now() -> i64 {
    whole(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(time: Timestamp) -> i64 {
    time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanoseconds / 1_000_000))
}

fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn in_seconds(seconds: i64) -> Timestamp {
        Timestamp { seconds: now() / 1000 + seconds, nanoseconds: 0 }
    }

    fn just_now() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
    }

    #[test]
    fn clocks_are_taken_for_the_same_until_something_was_made() {
        let clocks = Clocks::default();
        assert!(clocks.is_older(in_seconds(-20), just_now()) && !clocks.is_older(in_seconds(-5), just_now()));
        assert!(clocks.age(in_seconds(-20)) >= Duration::from_secs(20));
        assert_eq!(clocks.age(in_seconds(HOUR)), Duration::ZERO);
    }

    #[test]
    fn a_server_whose_clock_is_wrong_has_times_of_its_own() {
        for wrong in [-HOUR, HOUR] {
            let clocks = Clocks::default();
            clocks.learn(in_seconds(wrong));
            assert!(!clocks.is_older(in_seconds(wrong), just_now()));
            assert!(clocks.is_older(in_seconds(wrong - 20), just_now()));
            let age = clocks.age(in_seconds(wrong - 20)).as_secs();
            assert!((18..=20).contains(&age), "{age}");
        }
    }

    #[test]
    fn times_at_the_ends_of_what_can_be_said_are_times() {
        for seconds in [i64::MIN, 0, i64::MAX] {
            let clocks = Clocks::default();
            let time = Timestamp { seconds, nanoseconds: 0 };
            clocks.learn(time);
            let _ = (clocks.age(time), clocks.is_older(time, just_now()));
        }
    }
}
