//! INIT: what the kernel offers, what is wanted of it, and so what holds.
//!
//! Everything is decided by the flags that the kernel offers, never by its version. What is deliberately not asked for:
//! the writeback cache (it would make close-to-open a lie), splice (it costs more than the copy it saves), O_TRUNC at
//! the open (it comes before the kernel has seen that the file is a program that runs, ETXTBSY, and empties it), export
//! support (a lookup of `.` by node id must then work), explicit invalidation, DAX.

use serde::{Serialize, Serializer};
use zerocopy::FromZeros;

use super::wire::{InitIn, InitOut, MAJOR, MINOR};

/// The longest write, and read, in bytes: what the kernel takes without a raised fs.fuse.max_pages_limit.
pub const MAX_WRITE: u32 = 1 << 20;

/// The oldest protocol spoken (Linux 5.5): from here on no struct that is used here has an older, shorter form.
pub(crate) const OLDEST_MINOR: u32 = 31;

/// The longest request in pages where FUSE_MAX_PAGES is not offered (FUSE_DEFAULT_MAX_PAGES_PER_REQ).
const DEFAULT_MAX_PAGES: u16 = 32;
const PAGE: u32 = 4096;

/// Requests that the kernel may have going without anybody waiting for them (read-ahead, writeback, asynchronous I/O).
/// Fewer than there are workers at most, so that those never take the last one from somebody who waits.
const MAX_BACKGROUND: u16 = 48;
/// From here on the kernel holds read-ahead back; three quarters, as the kernel's own default has it.
const CONGESTION_THRESHOLD: u16 = MAX_BACKGROUND / 4 * 3;

/// FUSE_* flags of INIT; the upper half travels in `flags2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InitFlags(u64);

impl InitFlags {
    const fn bit(bit: u32) -> Self {
        Self(1 << bit)
    }

    pub(crate) const POSIX_LOCKS: Self = Self::bit(1);
    pub(crate) const FLOCK_LOCKS: Self = Self::bit(10);
    pub(crate) const POSIX_ACL: Self = Self::bit(20);
    pub(crate) const MAX_PAGES: Self = Self::bit(22);
    pub(crate) const SETXATTR_EXT: Self = Self::bit(29);
    pub(crate) const INIT_EXT: Self = Self::bit(30);
    pub(crate) const PASSTHROUGH: Self = Self::bit(37);

    const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What a pair of fields says; the second counts only with FUSE_INIT_EXT.
    fn from_fields(flags: u32, flags2: u32) -> Self {
        let low = Self(u64::from(flags));
        if low.contains(Self::INIT_EXT) { Self(low.0 | u64::from(flags2) << 32) } else { low }
    }

    fn fields(self) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.0.to_le_bytes();
        (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
    }
}

/// When a flag is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Always,
    ServerLocks,
    PosixAcl,
    Passthrough,
}

/// The flags that may be asked for, under the names that `permfs status` shows.
const FLAGS: &[(InitFlags, &str, Wanted)] = &[
    (InitFlags::bit(0), "async_read", Wanted::Always),
    (InitFlags::POSIX_LOCKS, "posix_locks", Wanted::ServerLocks),
    (InitFlags::bit(5), "big_writes", Wanted::Always),
    // The umask is the request's, and a default ACL comes before it.
    (InitFlags::bit(6), "dont_mask", Wanted::Always),
    (InitFlags::FLOCK_LOCKS, "flock_locks", Wanted::ServerLocks),
    (InitFlags::bit(12), "auto_inval_data", Wanted::Always),
    (InitFlags::bit(13), "readdirplus", Wanted::Always),
    (InitFlags::bit(14), "readdirplus_auto", Wanted::Always),
    (InitFlags::bit(15), "async_dio", Wanted::Always),
    (InitFlags::bit(18), "parallel_dirops", Wanted::Always),
    (InitFlags::POSIX_ACL, "posix_acl", Wanted::PosixAcl),
    (InitFlags::MAX_PAGES, "max_pages", Wanted::Always),
    (InitFlags::bit(23), "cache_symlinks", Wanted::Always),
    // Without it each write(2) costs a GETXATTR of security.capability.
    (InitFlags::bit(28), "killpriv_v2", Wanted::Always),
    (InitFlags::SETXATTR_EXT, "setxattr_ext", Wanted::Always),
    (InitFlags::INIT_EXT, "init_ext", Wanted::Always),
    (InitFlags::PASSTHROUGH, "passthrough", Wanted::Passthrough),
];

/// What the file system can make use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wishes {
    /// flock(2) and fcntl(2) locks are to reach the server.
    pub(crate) server_locks: bool,
    /// The export has POSIX ACLs.
    pub(crate) posix_acl: bool,
    /// Files may be read and written past the daemon.
    pub(crate) passthrough: bool,
}

impl Wishes {
    fn include(self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Always => true,
            Wanted::ServerLocks => self.server_locks,
            Wanted::PosixAcl => self.posix_acl,
            Wanted::Passthrough => self.passthrough,
        }
    }
}

/// What was agreed on with the kernel. Serialises as the list of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    flags: InitFlags,
    minor: u32,
}

impl Features {
    /// The names of what is in use, as `permfs status` shows them.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        FLAGS.iter().filter(|(flag, ..)| self.flags.contains(*flag)).map(|(_, name, _)| *name)
    }

    /// The protocol's minor version that both sides speak.
    #[must_use]
    pub const fn protocol_minor(&self) -> u32 {
        self.minor
    }

    /// As numbers, for a successor.
    pub(crate) const fn numbers(&self) -> (u64, u32) {
        (self.flags.0, self.minor)
    }

    /// What [`Self::numbers`] gave.
    pub(crate) const fn of_numbers(flags: u64, minor: u32) -> Self {
        Self { flags: InitFlags(flags), minor }
    }

    /// Whether files may be read and written past the daemon.
    #[must_use]
    pub const fn has_passthrough(&self) -> bool {
        self.has(InitFlags::PASSTHROUGH)
    }

    pub(crate) const fn has(&self, flag: InitFlags) -> bool {
        self.flags.contains(flag)
    }
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// What to answer an INIT with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// This, and then requests may come.
    Reached(InitOut, Features),
    /// This: the kernel speaks a newer major version, and will ask again in ours.
    AskAgain(InitOut),
    /// EPROTO: the kernel is older than [`OLDEST_MINOR`].
    TooOld,
}

/// Settles what holds for a mount.
pub(crate) fn negotiate(offer: &InitIn, wishes: Wishes) -> Agreement {
    if offer.major > MAJOR {
        return Agreement::AskAgain(InitOut { major: MAJOR, minor: MINOR, ..InitOut::new_zeroed() });
    }
    if (offer.major, offer.minor) < (MAJOR, OLDEST_MINOR) {
        return Agreement::TooOld;
    }
    let offered = InitFlags::from_fields(offer.flags, offer.flags2);
    let agreed = FLAGS
        .iter()
        .filter(|(flag, _, wanted)| offered.contains(*flag) && wishes.include(*wanted))
        .fold(0, |agreed, (flag, ..)| agreed | flag.0);
    let features = Features { flags: InitFlags(agreed), minor: offer.minor.min(MINOR) };
    Agreement::Reached(answer(offer, &features), features)
}

fn answer(offer: &InitIn, features: &Features) -> InitOut {
    let (flags, flags2) = features.flags.fields();
    let max_pages = if features.has(InitFlags::MAX_PAGES) {
        u16::try_from(MAX_WRITE / PAGE).expect("256 pages")
    } else {
        DEFAULT_MAX_PAGES
    };
    InitOut {
        major: MAJOR,
        minor: features.minor,
        // The kernel's own; what it should be is set on the mount's BDI (see `read_ahead`).
        max_readahead: offer.max_readahead,
        flags,
        max_background: MAX_BACKGROUND,
        congestion_threshold: CONGESTION_THRESHOLD,
        max_write: u32::from(max_pages) * PAGE,
        // Timestamps are exact to the nanosecond.
        time_gran: 1,
        max_pages,
        flags2,
        // How deep file systems may be stacked below this one: 1 is "not at all", and leaves room for an overlay above.
        max_stack_depth: u32::from(features.has(InitFlags::PASSTHROUGH)),
        ..InitOut::new_zeroed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::pool::MAX_WORKERS;

    fn offer(major: u32, minor: u32, flags: u64) -> InitIn {
        let (flags, flags2) = InitFlags(flags).fields();
        InitIn { major, minor, max_readahead: 131_072, flags, flags2, unused: [0; 11] }
    }

    fn reached(offer: &InitIn, wishes: Wishes) -> (InitOut, Features) {
        match negotiate(offer, wishes) {
            Agreement::Reached(answer, features) => (answer, features),
            other => panic!("{other:?}"),
        }
    }

    const ALL: Wishes = Wishes { server_locks: true, posix_acl: true, passthrough: true };

    #[test]
    fn what_is_not_offered_is_not_asked_for() {
        for bit in 0..64 {
            let (answer, features) = reached(&offer(7, 45, 1 << bit), ALL);
            let asked = u64::from(answer.flags) | u64::from(answer.flags2) << 32;
            assert_eq!(asked & !(1 << bit), 0, "bit {bit}");
            assert!(features.names().count() <= 1);
        }
    }

    #[test]
    fn of_everything_offered_only_what_is_wanted_is_taken() {
        let (answer, features) = reached(&offer(7, 45, u64::MAX), ALL);
        // ATOMIC_O_TRUNC 3, WRITEBACK_CACHE 16, SPLICE 7..=9, EXPORT_SUPPORT 4, EXPLICIT_INVAL_DATA 25 and the rest stay out.
        assert_eq!(answer.flags, 0b0111_0000_1101_0100_1111_0100_0110_0011);
        assert_eq!((answer.flags2, answer.max_stack_depth), (1 << 5, 1));
        let names: Vec<_> = features.names().collect();
        assert_eq!(names.len(), FLAGS.len());
        assert!(names.contains(&"killpriv_v2"));
        assert_eq!(serde_json::to_value(&features).unwrap(), serde_json::to_value(names).unwrap());
    }

    #[test]
    fn locks_and_acls_stay_with_the_kernel_where_the_export_has_none() {
        let (_, features) = reached(&offer(7, 45, u64::MAX), Wishes::default());
        let names: Vec<_> = features.names().collect();
        for absent in ["posix_locks", "flock_locks", "posix_acl", "passthrough"] {
            assert!(!names.contains(&absent));
        }
        assert_eq!(names.len(), FLAGS.len() - 4);
    }

    #[test]
    fn both_sides_speak_the_older_minor_version() {
        for (theirs, both) in [(31, 31), (34, 34), (37, 37), (45, 45), (46, 45), (1000, 45)] {
            let (answer, features) = reached(&offer(7, theirs, 0), ALL);
            assert_eq!((answer.major, answer.minor, features.protocol_minor()), (7, both, both));
        }
    }

    #[test]
    fn a_kernel_of_another_age_is_told_so() {
        assert_eq!(negotiate(&offer(7, 30, 0), ALL), Agreement::TooOld);
        assert_eq!(negotiate(&offer(6, 99, 0), ALL), Agreement::TooOld);
        let Agreement::AskAgain(answer) = negotiate(&offer(8, 0, u64::MAX), ALL) else { panic!() };
        assert_eq!((answer.major, answer.minor, answer.flags), (7, 45, 0));
    }

    #[test]
    fn flags2_counts_only_with_init_ext() {
        assert_eq!(InitFlags::from_fields(0, u32::MAX), InitFlags(0));
        assert_eq!(InitFlags::from_fields(1 << 30, 1), InitFlags(1 << 30 | 1 << 32));
    }

    #[test]
    fn a_write_is_as_long_as_the_pages_agreed_on() {
        let (long, _) = reached(&offer(7, 45, InitFlags::MAX_PAGES.0), ALL);
        assert_eq!((long.max_write, long.max_pages), (1 << 20, 256));
        let (short, _) = reached(&offer(7, 45, 0), ALL);
        assert_eq!((short.max_write, short.max_pages), (128 << 10, 32));
    }

    #[test]
    fn background_requests_leave_workers_for_those_who_wait() {
        assert!(usize::from(MAX_BACKGROUND) < MAX_WORKERS);
    }
}
