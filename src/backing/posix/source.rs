//! Opening SOURCE, and finding out what it can do.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};

use super::super::{BackingFeatures, MountIndex};
use super::acting::{act_as, act_as_root};
use super::mounts::MountTable;
use super::{PosixBacking, attr};
use crate::policy::Credentials;
use crate::sys::proc_fd::ProcFdPath;
use crate::sys::stat::{Statx, statx};
use crate::sys::{Errno, xattr};

/// File systems known to be this kernel's own; any other may look at who reads and writes.
const LOCAL: &[FsType] = &[EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC];

impl PosixBacking {
    /// Opens the directory `source`, following symlinks on the way, as root. Leaves the calling thread as root.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EACCES and others of open(2); EPERM where the process may not become another user.
    pub fn open(source: &Path) -> Result<Self, Errno> {
        act_as_root()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(source, flags, Mode::empty())?;
        let stat = statx(root.as_fd(), false)?;
        let opened = MountTable::new(root.as_fd(), &stat).and_then(|mounts| {
            let kind = fstatfs(&root)?.filesystem_type();
            let features = BackingFeatures {
                nfs: kind == NFS_SUPER_MAGIC,
                local: LOCAL.contains(&kind),
                posix_acl: has_posix_acl(root.as_fd(), &stat)?,
                handles: mounts.has_handles(MountIndex(0)),
            };
            Ok(Self { root, mounts, features })
        });
        act_as_root()?;
        opened
    }
}

/// Asked as the directory's owner, since root may be squashed; whatever else than "not supported" is a yes.
fn has_posix_acl(root: BorrowedFd<'_>, stat: &Statx) -> Result<bool, Errno> {
    let attr = attr::stored(stat, MountIndex(0))?;
    act_as(&Credentials { uid: attr.uid, gid: attr.gid, groups: Arc::default() })?;
    let path = ProcFdPath::new(root);
    let probed = xattr::get(path.as_c_str(), c"system.posix_acl_access", &mut []);
    Ok(!matches!(probed, Err(Errno::EOPNOTSUPP)))
}
