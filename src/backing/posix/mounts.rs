//! The mounts that make up the export: SOURCE's own, those below it, and NFS exports that the client mounts by itself.
//!
//! Each gets a [`MountIndex`] when an object on it is first seen, and an anchor: a real (not O_PATH) descriptor of a
//! directory there, which open_by_handle_at(2) wants. The anchor keeps the mount busy, and with it the kernel's number
//! for it. Where a mount has no handles, or nobody may open a directory there, its objects have no handle either: this
//! is decided once per mount, since an object must not change its identity.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError, RwLock};

use nix::fcntl::OFlag;

use super::super::MountIndex;
use super::acting::{act_as, act_as_root};
use super::attr;
use super::files::reopen;
use crate::policy::{Credentials, FileKind};
use crate::state::State;
use crate::state::export::MountData;
use crate::state::layout;
use crate::sys::descriptors;
use crate::sys::handle::name_to_handle;
use crate::sys::stat::{MountKey, Statx};
use crate::sys::{Errno, FileHandle};

/// How many mounts one export may be made of; each costs a descriptor. Beyond it a lookup that enters another is ENFILE.
const MOUNTS_MAX: usize = layout::MAX_MOUNTS;

/// Where an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) mount: MountIndex,
    /// Whether objects there are known by handles.
    pub(super) handles: bool,
}

/// The mounts seen so far. They are never taken out: inodes refer to them.
#[derive(Debug)]
pub(super) struct MountTable {
    /// SOURCE's, index 0: without a lock, since nearly everything lies there.
    root: Mount,
    /// Index 1 and up.
    below: RwLock<Below>,
    limit: usize,
    /// Where a successor finds them.
    state: Option<Arc<State>>,
}

#[derive(Debug)]
struct Mount {
    key: MountKey,
    anchor: Option<OwnedFd>,
}

#[derive(Debug, Default)]
struct Below {
    by_key: HashMap<MountKey, MountIndex>,
    by_index: Vec<Arc<Mount>>,
}

impl MountTable {
    /// A table of SOURCE's mount alone, on which `root` lies; it is written down in `state`, if there is one.
    pub(super) fn new(root: BorrowedFd<'_>, stat: &Statx, state: Option<Arc<State>>) -> Result<Self, Errno> {
        let root = Mount { key: stat.mount(), anchor: anchor(root, stat, None)? };
        if let Some(state) = &state {
            state.mounts.enter(root.data())?;
        }
        Ok(Self { root, below: RwLock::default(), limit: MOUNTS_MAX, state })
    }

    /// The table that another process has left in `state`.
    ///
    /// # Errors
    /// EBADF where an anchor is not open, ESTALE where nothing was left.
    pub(super) fn left_in(state: Arc<State>) -> Result<Self, Errno> {
        let mut mounts = state.mounts.all().map(|left| {
            Ok(Mount { key: left.key, anchor: left.anchor.map(descriptors::adopt).transpose()? })
        });
        let root = mounts.next().unwrap_or(Err(Errno::ESTALE))?;
        let mut below = Below::default();
        for mount in mounts {
            below.enter(mount?, MOUNTS_MAX)?;
        }
        Ok(Self { root, below: RwLock::new(below), limit: MOUNTS_MAX, state: Some(state) })
    }

    /// Where the object `fd` lies, of which `stat` tells; a mount not seen before is entered, with `who` as the last of
    /// those who may be able to open a directory there. May change the thread's identity.
    ///
    /// # Errors
    /// ENFILE beyond [`MOUNTS_MAX`], and what opening the anchor fails with other than for want of permission.
    pub(super) fn place(&self, who: &Credentials, fd: BorrowedFd<'_>, stat: &Statx) -> Result<Place, Errno> {
        let key = stat.mount();
        if key == self.root.key {
            return Ok(self.root.place(MountIndex(0)));
        }
        {
            let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = below.find(key) {
                return Ok(place);
            }
        }
        let anchor = anchor(fd, stat, Some(who))?;
        let mut below = self.below.write().unwrap_or_else(PoisonError::into_inner);
        match below.find(key) {
            Some(place) => Ok(place),
            None => {
                let mount = Mount { key, anchor };
                let data = mount.data();
                let place = below.enter(mount, self.limit)?;
                if let Some(state) = &self.state {
                    // There is room for as many as the limit allows.
                    state.mounts.enter(data)?;
                }
                Ok(place)
            }
        }
    }

    /// Whether an object of which `stat` tells lies on `mount`.
    pub(super) fn is(&self, mount: MountIndex, stat: &Statx) -> bool {
        let key = stat.mount();
        if key == self.root.key {
            return mount.0 == 0;
        }
        let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
        below.by_key.get(&key) == Some(&mount)
    }

    /// What `call` makes of the anchor of `mount`; none where there is no such mount, or it has no anchor.
    pub(super) fn with_anchor<T>(
        &self,
        mount: MountIndex,
        call: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Option<T> {
        if mount.0 == 0 {
            return self.root.anchor.as_ref().map(|anchor| call(anchor.as_fd()));
        }
        let found = {
            let below = self.below.read().unwrap_or_else(PoisonError::into_inner);
            below.by_index.get(usize::try_from(mount.0).ok()? - 1).cloned()
        };
        found?.anchor.as_ref().map(|anchor| call(anchor.as_fd()))
    }

    /// Whether objects on `mount` are known by handles.
    pub(super) fn has_handles(&self, mount: MountIndex) -> bool {
        self.with_anchor(mount, |_anchor| ()).is_some()
    }
}

impl Mount {
    fn data(&self) -> MountData {
        MountData { key: self.key, anchor: self.anchor.as_ref().map(AsRawFd::as_raw_fd) }
    }

    fn place(&self, mount: MountIndex) -> Place {
        Place { mount, handles: self.anchor.is_some() }
    }
}

impl Below {
    fn find(&self, key: MountKey) -> Option<Place> {
        let &index = self.by_key.get(&key)?;
        let mount = self.by_index.get(usize::try_from(index.0).ok()? - 1)?;
        Some(mount.place(index))
    }

    fn enter(&mut self, mount: Mount, limit: usize) -> Result<Place, Errno> {
        // One more than are here already, since SOURCE's own is index 0.
        let count = self.by_index.len() + 1;
        let index = u32::try_from(count).map(MountIndex).map_err(|_beyond| Errno::ENFILE)?;
        if count >= limit {
            return Err(Errno::ENFILE);
        }
        let place = mount.place(index);
        self.by_key.insert(mount.key, index);
        self.by_index.push(Arc::new(mount));
        Ok(place)
    }
}

/// An object's number, unique across the export's mounts: its own on SOURCE's mount, mixed with the mount's elsewhere.
pub(super) fn unique_ino(ino: u64, mount: MountIndex) -> u64 {
    if mount.0 == 0 { ino } else { ino ^ splitmix64(mount.0.into()) }
}

/// The handle of `fd` on a mount that has some; none where this very object's is too long (NFSv4 servers may).
pub(super) fn handle_of(fd: BorrowedFd<'_>) -> Result<Option<FileHandle>, Errno> {
    match name_to_handle(fd) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::EOVERFLOW | Errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A descriptor of the directory `fd` that open_by_handle_at(2) accepts; none where it would be of no use, or where
/// neither root, nor the directory's owner (root may be squashed), nor `who` may open it.
fn anchor(fd: BorrowedFd<'_>, stat: &Statx, who: Option<&Credentials>) -> Result<Option<OwnedFd>, Errno> {
    let attr = attr::stored(stat, MountIndex(0))?;
    // Opening anything else than a directory may have side effects.
    if attr.kind != FileKind::Directory || handle_of(fd)?.is_none() {
        return Ok(None);
    }
    let owner = Credentials { uid: attr.uid, gid: attr.gid, groups: Arc::default() };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let attempts = [None, Some(&owner), who];
    for identity in attempts.iter().take(if who.is_some() { 3 } else { 2 }) {
        match identity {
            Some(identity) => act_as(identity)?,
            None => act_as_root()?,
        }
        match reopen(fd, flags) {
            Ok(anchor) => return Ok(Some(anchor)),
            Err(Errno::EACCES | Errno::EPERM) => {}
            // Not for want of permission, so perhaps only for now: no verdict on the mount.
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The mixing function of Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
fn splitmix64(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stat::statx;

    /// A table of which `limit` mounts fit; its root is /.
    fn table(limit: usize) -> MountTable {
        let root = std::fs::File::open("/").unwrap();
        let stat = statx(root.as_fd(), false).unwrap();
        MountTable { limit, ..MountTable::new(root.as_fd(), &stat, None).unwrap() }
    }

    fn place(table: &MountTable, path: &str) -> Result<Place, Errno> {
        let dir = std::fs::File::open(path).unwrap();
        let stat = statx(dir.as_fd(), false).unwrap();
        let root = Credentials {
            uid: crate::policy::NfsUid::ROOT,
            gid: crate::policy::NfsGid::ROOT,
            groups: Arc::default(),
        };
        table.place(&root, dir.as_fd(), &stat)
    }

    #[test]
    fn each_mount_has_one_number_and_sources_is_0() {
        let table = table(8);
        assert_eq!(place(&table, "/").unwrap().mount, MountIndex(0));
        assert_eq!(place(&table, "/proc").unwrap().mount, MountIndex(1));
        assert_eq!(place(&table, "/sys").unwrap().mount, MountIndex(2));
        assert_eq!(place(&table, "/proc/self").unwrap().mount, MountIndex(1));
    }

    #[test]
    fn a_mount_beyond_the_bound_is_enfile_and_the_others_stay() {
        let table = table(2);
        assert_eq!(place(&table, "/proc").unwrap().mount, MountIndex(1));
        assert_eq!(place(&table, "/sys"), Err(Errno::ENFILE));
        assert_eq!(place(&table, "/proc").unwrap().mount, MountIndex(1));
    }

    #[test]
    fn a_mount_that_is_not_in_the_table_has_no_anchor() {
        assert!(table(2).with_anchor(MountIndex(7), |_| ()).is_none());
    }

    #[test]
    fn equal_numbers_on_two_mounts_are_shown_as_different_ones() {
        let shown: Vec<_> = (0..1000).map(|mount| unique_ino(2, MountIndex(mount))).collect();
        assert_eq!(shown[0], 2);
        assert_eq!(shown.iter().collect::<std::collections::HashSet<_>>().len(), shown.len());
    }
}
