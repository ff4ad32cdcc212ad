//! Why a mount could not be made, or not be taken down: one sentence with the value and the next step.
//!
//! An enum, not strings, so that the mount(8) helper and the CSI plugin can choose their codes by cause.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::Errno;

/// A refusal or failure of `mount` or `unmount`.
#[derive(Debug, thiserror::Error)]
pub enum MountFailure {
    /// Not root, or root without CAP_SYS_ADMIN.
    #[error(
        "mounting needs CAP_SYS_ADMIN, which this process (uid {uid}) does not have: run permfs as root, or give its \
         container the capability SYS_ADMIN"
    )]
    NoPrivilege {
        /// The effective uid.
        uid: u32,
    },
    /// /dev/fuse is absent or cannot be opened.
    #[error(
        "cannot open /dev/fuse: {0}; load the module with `modprobe fuse`, or give the container the device /dev/fuse"
    )]
    NoFuseDevice(Errno),
    /// TARGET does not exist.
    #[error("the target {} does not exist: make it with `mkdir -p {}`", .0.display(), .0.display())]
    TargetMissing(PathBuf),
    /// TARGET is a file.
    #[error("the target {} is not a directory: name a directory to mount on", .0.display())]
    TargetNotDirectory(PathBuf),
    /// TARGET cannot be looked at.
    #[error("cannot look at the target {}: {errno}; name a directory that root can reach", path.display())]
    TargetUnreachable {
        /// TARGET as given.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Something is mounted on TARGET.
    #[error("the target {} is busy: {kind} of {from} is mounted there; {next}", path.display())]
    TargetBusy {
        /// TARGET.
        path: PathBuf,
        /// Type of the mounted filesystem.
        kind: String,
        /// What is mounted.
        from: String,
        /// What to do about it.
        next: String,
    },
    /// SOURCE does not exist.
    #[error(
        "the source {} does not exist: name a directory, or an NFS export as server:/export", .0.display()
    )]
    SourceMissing(PathBuf),
    /// SOURCE is a file.
    #[error("the source {} is not a directory: name the directory to show", .0.display())]
    SourceNotDirectory(PathBuf),
    /// SOURCE cannot be looked at.
    #[error("cannot look at the source {}: {errno}; check that root may reach it and that its server answers", path.display())]
    SourceUnreachable {
        /// SOURCE as given.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// SOURCE does not answer.
    #[error(
        "the source {} does not answer within {} s: check the server and the mount it lies on", path.display(), waited.as_secs()
    )]
    SourceHangs {
        /// SOURCE as given.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// SOURCE and TARGET are one directory.
    #[error("source and target are the same directory {}: mount on another one", .0.display())]
    SamePlace(PathBuf),
    /// SOURCE would be hidden by the mount.
    #[error(
        "the source {} lies inside the target {}, which the mount would hide: choose a target outside of it",
        source_dir.display(), target.display()
    )]
    SourceInsideTarget {
        /// SOURCE.
        source_dir: PathBuf,
        /// TARGET.
        target: PathBuf,
    },
    /// The mount would contain itself.
    #[error(
        "the target {} lies inside the source {}, so the mount would contain itself: choose a target outside of it",
        target.display(), source_dir.display()
    )]
    TargetInsideSource {
        /// SOURCE.
        source_dir: PathBuf,
        /// TARGET.
        target: PathBuf,
    },
    /// mount.nfs is not installed.
    #[error("cannot run mount.nfs for {export}: {errno}; install it (Debian: nfs-common, RHEL: nfs-utils)")]
    NoNfsTools {
        /// server:/export.
        export: String,
        /// Why.
        errno: Errno,
    },
    /// mount.nfs refused.
    #[error("cannot mount the NFS export {export}: {said}")]
    Nfs {
        /// server:/export.
        export: String,
        /// What mount.nfs said.
        said: String,
    },
    /// The runtime directory cannot be used.
    #[error("cannot use the runtime directory {}: {errno}; set PERMFS_RUNTIME_DIR to one that root may write", path.display())]
    Runtime {
        /// Which path.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The runtime directory is another user's.
    #[error("cannot look into the runtime directory {}, which says who serves a mount: run permfs as root", .0.display())]
    RuntimePrivate(PathBuf),
    /// The kernel's mount table cannot be read.
    #[error("cannot read the mount table /proc/self/mountinfo: {0}; mount proc on /proc")]
    MountTable(Errno),
    /// mount(2), or the FUSE handshake, failed.
    #[error("cannot mount on {}: {reason}", target.display())]
    Fuse {
        /// TARGET.
        target: PathBuf,
        /// What the FUSE room said.
        reason: String,
    },
    /// The rules ask for passthrough, and the kernel has none.
    #[error(
        "cache.data = \"passthrough\": this kernel has no FUSE passthrough (Linux 6.9 or newer has it where it is built with \
        CONFIG_FUSE_PASSTHROUGH); write cache.data = \"auto\", which uses it where it is there"
    )]
    NoPassthrough,
    /// The mount is there and says nothing.
    #[error("the mount on {} did not answer within {} s and was taken down: {}", target.display(), waited.as_secs(), "see if the source's server answers")]
    NeverAnswered {
        /// TARGET.
        target: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The mount answers with an error.
    #[error("the mount on {} answers with an error and was taken down: {errno}", target.display())]
    AnswersWrongly {
        /// TARGET.
        target: PathBuf,
        /// What stat(2) of TARGET said.
        errno: Errno,
    },
    /// The background process ended before it was ready.
    #[error("the mount process ended before the mount was ready ({0}): run it with --foreground to see why")]
    DiedEarly(String),
    /// What the background process said before it ended.
    #[error("{sentence}")]
    Told {
        /// Its sentence.
        sentence: String,
        /// See [`Self::is_usage`].
        usage: bool,
    },
    /// A process could not be started.
    #[error("cannot start the mount process: {0}; see the limits on processes and memory (ulimit -u)")]
    NoProcess(Errno),

    /// The mount goes on with the program that it has.
    #[error("{} goes on with the program that it has: {why}", path.display())]
    NotUpgraded {
        /// TARGET.
        path: PathBuf,
        /// Why.
        why: String,
    },

    /// What the service manager has kept is not to be gone on with.
    #[error(
        "the mount on {} that the service manager has kept cannot be gone on with: {why}; run `permfs unmount {}`, and start the service again",
        path.display(), path.display()
    )]
    NotResumed {
        /// TARGET.
        path: PathBuf,
        /// Why.
        why: String,
    },

    /// Nothing is mounted at TARGET.
    #[error("nothing is mounted on {}: `permfs status` lists what is", .0.display())]
    NotMounted(PathBuf),
    /// Something else is mounted at TARGET.
    #[error("{} is not a permfs mount but {kind} of {from}: use umount(8) for it", path.display())]
    NotPermfs {
        /// TARGET.
        path: PathBuf,
        /// Type of the mounted filesystem.
        kind: String,
        /// What is mounted.
        from: String,
    },
    /// The mount's process says nothing.
    #[error("the process of the mount on {} does not answer: {why}; see `permfs status`", path.display())]
    NoAnswer {
        /// TARGET.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// TARGET is in use.
    #[error("{} is busy: {users}; end that first, or use `permfs unmount --lazy {}`", path.display(), path.display())]
    InUse {
        /// TARGET.
        path: PathBuf,
        /// Who uses it, as far as /proc tells.
        users: String,
    },
    /// umount(2) failed.
    #[error("cannot unmount {}: {errno}; {next}", path.display())]
    Unmount {
        /// TARGET.
        path: PathBuf,
        /// Why.
        errno: Errno,
        /// What to do about it.
        next: &'static str,
    },
    /// The mount is gone from TARGET but lives on elsewhere.
    #[error("{} is unmounted, but the same mount is still there {elsewhere}: its process {pid} goes on for that", path.display())]
    Elsewhere {
        /// TARGET.
        path: PathBuf,
        /// Where.
        elsewhere: String,
        /// The daemon.
        pid: u32,
    },
    /// The daemon is stuck.
    #[error("{} is unmounted, but its process {pid} does not end: it waits for the source's server", path.display())]
    StuckDaemon {
        /// TARGET.
        path: PathBuf,
        /// The daemon.
        pid: u32,
    },
}

impl MountFailure {
    /// What went wrong at this path of the runtime directory.
    pub(super) fn runtime(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Runtime { path, errno: error.into() }
    }

    /// Whether the caller asked for something that cannot be, rather than something having gone wrong on the way:
    /// mount(8) knows the difference.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoPrivilege { .. } | Self::NotPermfs { .. } | Self::Told { usage: true, .. })
    }
}
