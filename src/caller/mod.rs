//! Who asks.

use crate::policy::{PodGid, PodUid};

/// A process or thread id in the daemon's pid namespace; 0 where the caller is not visible from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pid(pub u32);

/// What a FUSE request says of its caller. The ids are absent where the kernel did not tell (4294967295).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerId {
    /// fsuid of the calling thread.
    pub uid: Option<PodUid>,
    /// fsgid of the calling thread.
    pub gid: Option<PodGid>,
    /// The calling thread.
    pub pid: Pid,
}
