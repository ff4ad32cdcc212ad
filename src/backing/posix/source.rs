//! Opening SOURCE, and finding out what it can do.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};

use super::super::{BackingFeatures, MountIndex, ObjectId};
use super::acting::{act_as, act_as_root};
use super::mounts::{MountTable, handle_of};
use super::{Node, PosixBacking, attr, resolve};
use crate::policy::Credentials;
use crate::state::State;
use crate::state::session::ExportData;
use crate::sys::descriptors;
use crate::sys::proc_fd::ProcFdPath;
use crate::sys::stat::{Statx, is_known_to_server, statx};
use crate::sys::{Errno, FileHandle, xattr};

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

    /// The export as another process has left it. Asks no server.
    ///
    /// # Errors
    /// ESTALE where nothing was left, EBADF where what was left is not open.
    pub fn left_in(state: &Arc<State>, source: &Path) -> Result<Self, Errno> {
        let left = state.session.export().ok_or(Errno::ESTALE)?;
        let root = descriptors::adopt(left.root)?;
        let features = unpack(left.features);
        // What is there is the directory that was opened first, whatever has become of its path.
        let stat = statx(root.as_fd(), true)?;
        let handle = if features.handles { handle_of(root.as_fd())? } else { None };
        let way = Way { path: source.to_owned(), ino: stat.ino(), handle, nfs: features.nfs };
        Ok(Self { root, way, mounts: MountTable::left_in(Arc::clone(state))?, features })
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
                asks_after_changes: kind == NFS_SUPER_MAGIC && is_nfs4(&stat),
                posix_acl: has_posix_acl(root.as_fd(), &stat)?,
                handles: mounts.has_handles(MountIndex(0)),
            };
            let handle = if features.handles { handle_of(root.as_fd())? } else { None };
            let way = Way { path: source.to_owned(), ino: stat.ino(), handle, nfs: features.nfs };
            Ok(Self { root, way, mounts, features })
        });
        act_as_root()?;
        opened
    }
}

fn pack(features: BackingFeatures) -> u64 {
    let BackingFeatures { nfs, local, posix_acl, handles, asks_after_changes } = features;
    [nfs, local, posix_acl, handles, asks_after_changes]
        .into_iter()
        .rev()
        .fold(0, |bits, feature| bits << 1 | u64::from(feature))
}

fn unpack(bits: u64) -> BackingFeatures {
    let has = |bit: u32| bits >> bit & 1 == 1;
    BackingFeatures {
        nfs: has(0),
        local: has(1),
        posix_acl: has(2),
        handles: has(3),
        asks_after_changes: has(4),
    }
}

/// Whether what was looked at lies on a mount of NFSv4, by the kernel's mount table.
fn is_nfs4(stat: &Statx) -> bool {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let (major, minor) = stat.mount().device();
    has_type(&table, &format!("{major}:{minor}"), b"nfs4")
}

/// Whether the filesystem on that device has that type (proc_pid_mountinfo(5): the third word, and the one behind the lone dash).
fn has_type(table: &[u8], device: &str, fstype: &[u8]) -> bool {
    table.split(|&byte| byte == b'\n').any(|line| {
        let mut words = line.split(|&byte| byte == b' ');
        words.nth(2) == Some(device.as_bytes())
            && words.by_ref().any(|word| word == b"-")
            && words.next() == Some(fstype)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_filesystem_is_read_from_the_mount_table() {
        let table = b"36 22 0:47 / /data/one rw shared:8 - nfs s:/x rw\n\
            37 22 0:48 / /data/two rw master:3 shared:9 - nfs4 s:/x rw\n";
        assert!(has_type(table, "0:48", b"nfs4") && has_type(table, "0:47", b"nfs"));
        assert!(
            !has_type(table, "0:47", b"nfs4")
                && !has_type(table, "0:4", b"nfs4")
                && !has_type(b"", "0:48", b"nfs4")
        );
    }
}

/// SOURCE as it was given, and as it was found.
///
/// Everything else is found again by its name in a directory, which the kernel does by itself when a handle is stale; SOURCE has
/// no such name, only the path. Without this, a directory that the server restores from a copy would be gone for good.
#[derive(Debug)]
pub(super) struct Way {
    path: PathBuf,
    ino: u64,
    /// None where objects have no handles: then SOURCE is held by its descriptor, and never lost.
    handle: Option<FileHandle>,
    nfs: bool,
}

impl Way {
    /// Whether `id` is SOURCE as it was first found.
    pub(super) fn leads_to(&self, id: &ObjectId) -> bool {
        id.mount == MountIndex(0) && id.ino == self.ino && self.handle.is_some() && id.handle == self.handle
    }

    /// SOURCE: by its handle, and where the server knows that no more by its path. What is there now must lie on the same
    /// mount, or on NFS again: an export that was unmounted must not become the directory that it had covered.
    pub(super) fn root_again(
        &self,
        mounts: &MountTable,
        who: &Credentials,
        id: &ObjectId,
    ) -> Result<Node, Errno> {
        // A client hands out what it remembers of the handle, so the server is asked.
        let by_handle = resolve::resolve(mounts, who, id).and_then(|node| {
            if self.nfs { is_known_to_server(node.as_fd()).map(|()| node) } else { Ok(node) }
        });
        if !matches!(by_handle, Err(Errno::ESTALE)) {
            return by_handle;
        }
        act_as_root()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(&self.path, flags, Mode::empty()).map_err(|_gone| Errno::ESTALE)?;
        let stat = statx(root.as_fd(), false)?;
        let still_nfs = self.nfs && fstatfs(&root)?.filesystem_type() == NFS_SUPER_MAGIC;
        if !still_nfs && !mounts.is(MountIndex(0), &stat) {
            return Err(Errno::ESTALE);
        }
        tracing::warn!(path = %self.path.display(), "SOURCE was replaced on the server; going on with what is there now");
        Ok(resolve::root_node(root))
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
