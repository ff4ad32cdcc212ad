//! Opening SOURCE, and finding out what it can do.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
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
use crate::state::State;
use crate::state::session::ExportData;
use crate::sys::descriptors;
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
        Self::open_into(source, None)
    }

    /// As [`Self::open`], and writes down in `state` what a successor needs to go on without asking the export again.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_for_a_mount(source: &Path, state: &Arc<State>) -> Result<Self, Errno> {
        let opened = Self::open_into(source, Some(Arc::clone(state)))?;
        let features = pack(opened.features);
        state.session.set_export(ExportData { root: opened.root.as_raw_fd(), features });
        Ok(opened)
    }

    /// The export as another process has left it. Asks no file system.
    ///
    /// # Errors
    /// ESTALE where nothing was left, EBADF where what was left is not open.
    pub fn left_in(state: &Arc<State>) -> Result<Self, Errno> {
        let left = state.session.export().ok_or(Errno::ESTALE)?;
        let root = descriptors::adopt(left.root)?;
        Ok(Self { root, mounts: MountTable::left_in(Arc::clone(state))?, features: unpack(left.features) })
    }

    fn open_into(source: &Path, state: Option<Arc<State>>) -> Result<Self, Errno> {
        act_as_root()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(source, flags, Mode::empty())?;
        let stat = statx(root.as_fd(), false)?;
        let opened = MountTable::new(root.as_fd(), &stat, state).and_then(|mounts| {
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

fn pack(features: BackingFeatures) -> u64 {
    let BackingFeatures { nfs, local, posix_acl, handles } = features;
    [nfs, local, posix_acl, handles].into_iter().rev().fold(0, |bits, feature| bits << 1 | u64::from(feature))
}

fn unpack(bits: u64) -> BackingFeatures {
    let has = |bit: u32| bits >> bit & 1 == 1;
    BackingFeatures { nfs: has(0), local: has(1), posix_acl: has(2), handles: has(3) }
}

/// Asked as the directory's owner, since root may be squashed; whatever else than "not supported" is a yes.
fn has_posix_acl(root: BorrowedFd<'_>, stat: &Statx) -> Result<bool, Errno> {
    let attr = attr::stored(stat, MountIndex(0))?;
    act_as(&Credentials { uid: attr.uid, gid: attr.gid, groups: Arc::default() })?;
    let path = ProcFdPath::new(root);
    let probed = xattr::get(path.as_c_str(), c"system.posix_acl_access", &mut []);
    Ok(!matches!(probed, Err(Errno::EOPNOTSUPP)))
}
