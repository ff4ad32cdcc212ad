//! One step of a sequence as data. Everything prints as the Rust that builds it, so that a shrunk sequence can be pasted
//! into `regressions.rs`.

use std::fmt;

/// Who does a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// 0:0.
    Root,
    /// 1234:1234, the owner of the case's directory.
    User,
    /// 1235:1235, who also belongs to group 1234.
    Colleague,
    /// 0:0 without a capability: root in a pod that drops them all.
    Powerless,
}

/// One of the few open files.
pub type Slot = usize;
/// How many open files a sequence can have.
pub const SLOTS: usize = 4;

/// A path, from the case's directory or from an open one.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    pub from: Option<Slot>,
    pub path: String,
}

/// The path from the case's directory: for regressions.
pub fn at(path: &str) -> Place {
    Place { from: None, path: path.to_owned() }
}

/// The path from an open directory: for regressions.
#[allow(dead_code, reason = "a shrunk sequence prints it; not every regression needs it")]
pub fn below(slot: Slot, path: &str) -> Place {
    Place { from: Some(slot), path: path.to_owned() }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            None => write!(f, "at({:?})", self.path),
            Some(slot) => write!(f, "below({slot}, {:?})", self.path),
        }
    }
}

/// What a symlink points to.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(pub String);

/// A target: for regressions.
#[allow(dead_code, reason = "a shrunk sequence prints it; not every regression needs it")]
pub fn target(path: &str) -> Target {
    Target(path.to_owned())
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "target({:?})", self.0)
    }
}

/// Access mode and flags of an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(pub u32);

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    Now,
    Omit,
    At(i64, i64),
}

/// Where lseek(2) counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    Start,
    Here,
    End,
}

/// What is asked of a lock, without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Shared,
    Exclusive,
    None,
}

/// An ACL to set, as the kernel's xattr has it: (tag, permissions, id).
pub type Acl = Vec<(u16, u16, u32)>;

/// A system call with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Open { slot: Slot, at: Place, flags: Flags, mode: u32 },
    Close { slot: Slot },
    Write { slot: Slot, offset: Option<u64>, length: usize, byte: u8 },
    Read { slot: Slot, offset: Option<u64>, length: usize },
    Truncate { at: Place, size: u64 },
    Ftruncate { slot: Slot, size: u64 },
    Fallocate { slot: Slot, mode: u32, offset: u64, length: u64 },
    SeekData { slot: Slot, offset: u64 },
    SeekHole { slot: Slot, offset: u64 },
    CopyRange { from: Slot, from_offset: u64, to: Slot, to_offset: u64, length: usize },
    Fsync { slot: Slot },
    Mkdir { at: Place, mode: u32 },
    Mknod { at: Place, kind: u32, mode: u32 },
    Symlink { at: Place, target: Target },
    Link { from: Place, to: Place, follow: bool },
    LinkOpen { slot: Slot, to: Place },
    Rename { from: Place, to: Place, flags: u32 },
    Unlink { at: Place },
    Rmdir { at: Place },
    Readlink { at: Place },
    Readdir { at: Place },
    Stat { at: Place, follow: bool },
    Fstat { slot: Slot },
    Access { at: Place, mask: u32, effective: bool },
    Chmod { at: Place, mode: u32 },
    Fchmod { slot: Slot, mode: u32 },
    Chown { at: Place, uid: Option<u32>, gid: Option<u32>, follow: bool },
    Fchown { slot: Slot, uid: Option<u32>, gid: Option<u32> },
    Utimens { at: Place, atime: Time, mtime: Time, follow: bool },
    Futimens { slot: Slot, atime: Time, mtime: Time },
    SetXattr { at: Place, name: &'static str, length: usize, flags: u32, follow: bool },
    GetXattr { at: Place, name: &'static str, room: usize, follow: bool },
    ListXattr { at: Place, follow: bool },
    RemoveXattr { at: Place, name: &'static str, follow: bool },
    SetAcl { at: Place, default: bool, acl: Acl },
    GetAcl { at: Place, default: bool },
    Umask { mask: u32 },
    ReadDirect { at: Place, page: u64, pages: usize },
    WriteDirect { at: Place, page: u64, pages: usize, byte: u8 },
    Duplicate { from: Slot, to: Slot },
    OpenAgain { from: Slot, to: Slot, flags: Flags },
    OpenWithin { slot: Slot, at: Place, flags: Flags, resolve: u64 },
    SetAppend { slot: Slot, on: bool },
    Seek { slot: Slot, from: Whence, by: i64 },
    List { slot: Slot },
    SendFile { from: Slot, to: Slot, offset: Option<u64>, length: usize },
    WriteWith { slot: Slot, offset: u64, length: usize, flags: u32 },
    ReadMapped { slot: Slot, offset: u64, length: usize },
    WriteMapped { slot: Slot, offset: u64, length: usize, byte: u8 },
    Flock { slot: Slot, lock: Lock },
    LockRange { slot: Slot, lock: Lock, start: u64, length: u64 },
    TestRange { slot: Slot, lock: Lock, start: u64, length: u64 },
    LinkHeld { slot: Slot, to: Place },
    ChownHeld { slot: Slot, uid: Option<u32>, gid: Option<u32> },
    ChmodHeld { slot: Slot, mode: u32 },
    TimesHeld { slot: Slot, atime: Time, mtime: Time },
    SetXattrHeld { slot: Slot, name: &'static str, length: usize, flags: u32 },
    GetXattrHeld { slot: Slot, name: &'static str, room: usize },
    ListXattrHeld { slot: Slot },
    RemoveXattrHeld { slot: Slot, name: &'static str },
}

/// Who does what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub who: Actor,
    pub what: Operation,
}

impl Step {
    /// The same, but that no file has suid or sgid: under a translation root does not keep them on what it writes.
    pub fn without_set_ids(mut self) -> Self {
        match &mut self.what {
            Operation::Open { mode, .. }
            | Operation::Mknod { mode, .. }
            | Operation::Chmod { mode, .. }
            | Operation::Fchmod { mode, .. }
            | Operation::ChmodHeld { mode, .. } => *mode &= 0o1777,
            _ => {}
        }
        self
    }

    /// The same, but for what cannot be the same under passthrough (README, "What a pod can tell"): it sets neither suid nor
    /// sgid on what is there, no file that appends stops doing so, and who might find no mapping writes without one.
    pub fn under_passthrough(mut self) -> Self {
        match &mut self.what {
            Operation::Chmod { mode, .. }
            | Operation::Fchmod { mode, .. }
            | Operation::ChmodHeld { mode, .. } => *mode &= 0o1777,
            Operation::SetAppend { on, .. } => *on = true,
            &mut Operation::WriteMapped { slot, offset, length, byte } => {
                self.what = Operation::Write { slot, offset: Some(offset), length, byte };
            }
            _ => {}
        }
        self
    }
}
