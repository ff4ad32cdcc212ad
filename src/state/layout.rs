//! Where everything lies in the memory. A change of anything here, or of any record, is a new [`LAYOUT`].

/// Says that this is permfs's.
pub const MAGIC: u64 = u64::from_be_bytes(*b"permfs\0\x01");

/// The version of all that this room describes.
pub const LAYOUT: u64 = 4;

/// Inodes that a mount remembers at once; a lookup of one more is ENFILE. The kernel forgets inodes that nobody uses when it is
/// short of memory, of which each takes it about a kilobyte.
pub const MAX_INODES: usize = 1 << 24;
/// Open files; one more is ENFILE.
pub const MAX_FILES: usize = 1 << 19;
/// Lock owners.
pub const MAX_LOCKS: usize = 1 << 16;
/// Lock requests that wait.
pub const MAX_WAITING: usize = 1 << 14;
/// Mounts that make up an export.
pub const MAX_MOUNTS: usize = 1 << 14;
/// Requests in hand at once: one for each thread that serves.
pub const MAX_SLOTS: usize = 1152;
/// Descriptors of the keeper's own.
pub const MAX_KEPT: usize = 64;

/// Bytes of a page: every part begins at one.
pub(super) const PAGE: usize = 4096;
const WORD: usize = 8;

/// Bytes of rules.
pub const MAX_RULES: usize = 1 << 20;

/// Bytes for the longest request or answer, and its head.
pub const SLOT_BUFFER: usize = (1 << 20) + PAGE;
/// Bytes for what is known of a request in hand.
pub const SLOT_CONTROL: usize = 4 * PAGE;
/// Bytes of a slot.
pub const SLOT: usize = SLOT_BUFFER + SLOT_CONTROL;

/// A part of the memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Region {
    /// Where it begins.
    pub at: usize,
    /// How long it is.
    pub length: usize,
}

impl Region {
    const fn after(before: Region, length: usize) -> Self {
        Self { at: before.at + before.length, length: length.next_multiple_of(PAGE) }
    }

    /// Its length in words.
    #[must_use]
    pub const fn words(self) -> usize {
        self.length / WORD
    }
}

/// Words in an inode's record.
pub const INODE_WORDS: usize = 12;
/// Words in an open file's record.
pub const FILE_WORDS: usize = 16;
/// Words in a lock owner's record.
pub const LOCK_WORDS: usize = 16;
/// Words in a waiting request's record.
pub const WAITING_WORDS: usize = 8;
/// Words in a mount's record.
pub const MOUNT_WORDS: usize = 4;

/// Single numbers.
pub const HEADER: Region = Region { at: 0, length: PAGE };
/// What was agreed with the kernel.
pub const SESSION: Region = Region::after(HEADER, PAGE);
/// Short texts.
pub const TEXTS: Region = Region::after(SESSION, 32 * PAGE);
/// The rules in force, twice.
pub const RULES: Region = Region::after(TEXTS, 2 * MAX_RULES + 2 * PAGE);
/// Requests in hand.
pub const SLOTS: Region = Region::after(RULES, PAGE + MAX_SLOTS * SLOT);
/// Mounts of the export.
pub const MOUNTS: Region = Region::after(SLOTS, MAX_MOUNTS * MOUNT_WORDS * WORD + PAGE);
/// Lock owners.
pub const LOCKS: Region = Region::after(MOUNTS, MAX_LOCKS * LOCK_WORDS * WORD + PAGE);
/// Waiting lock requests.
pub const WAITING: Region = Region::after(LOCKS, MAX_WAITING * WAITING_WORDS * WORD + PAGE);
/// Open files.
pub const FILES: Region = Region::after(WAITING, 2 * MAX_FILES * FILE_WORDS * WORD + PAGE);
/// Inodes. A record of a long handle, or a long list of groups, takes more than one.
pub const INODES: Region = Region::after(FILES, 2 * MAX_INODES * INODE_WORDS * WORD + PAGE);
/// All of it. What was never written to takes no memory.
pub const LENGTH: usize = INODES.at + INODES.length;

/// The numbers of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderWord {
    /// [`MAGIC`].
    Magic,
    /// [`LAYOUT`].
    Layout,
    /// The next inode's id.
    NextNode,
    /// The next open file's id.
    NextHandle,
    /// The highest id of a file registered for passthrough.
    HighestBacking,
    /// The worker's process.
    Worker,
    /// The keeper's process.
    Keeper,
    /// The last worker that has begun: its process.
    Begun,
    /// The process that becomes keeper when that one dies.
    Reserve,
    /// A pidfd of the worker, and one: of this very process, whatever becomes of its number.
    WorkerPidfd,
    /// How often a worker took over from another.
    Takeovers,
    /// Not 0 where the session has come to its end, and no successor is wanted.
    Ended,
    /// The number of the upgrade that a worker has stopped for; 0 where that came to nothing (`State::is_upgrading`).
    Upgrading,
    /// How often another program has taken over. With it an upgrade becomes final.
    Upgrades,
    /// Not 0 while new rules come in force.
    Reloading,
    /// Not 0 from the moment at which something is mounted.
    Mounted,
    /// Not 0 where the export keeps times of birth.
    HasBirth,
    /// Not 0 where the worker is to stop between two requests.
    Pausing,
    /// The first of [`MAX_KEPT`] descriptors.
    Kept,
}

impl HeaderWord {
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

const _: () = assert!(HeaderWord::Kept.index() + MAX_KEPT <= HEADER.words());
