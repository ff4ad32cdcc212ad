//! An export in memory, for tests and benchmarks of what stands on a backing: no root, no mount, and a clock that stands still.
//!
//! It keeps modes, owners and the server's permission checks, since those are what permfs is about. Not here: ACLs,
//! device numbers, times of changes, holes, and every filesystem's own quirks; the real ones have their own tests.

use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::fcntl::{FallocateFlags, OFlag, RenameFlags};
use nix::unistd::{AccessFlags, Whence};

use super::{
    BackingFeatures, BackingFs, ByteRange, Errno, Found, Freshness, Identified, LockKind, Name, NewTime,
    ObjectId, RawEntry, StatFs, SuidBits, WriteHow,
};
use crate::policy::{Credentials, FileKind, NewMode, NfsGid, NfsUid, Permissions, StoredAttr, Timestamp};

mod outside;
mod state;

use state::{State, guard};

/// The number of the root.
const ROOT: u64 = 1;

/// An export in memory.
#[derive(Debug, Clone)]
pub struct ModelBacking {
    state: Arc<Mutex<State>>,
    features: BackingFeatures,
}

/// An open file of the model.
#[derive(Debug)]
pub struct ModelFile {
    state: Arc<Mutex<State>>,
    ino: u64,
    open: u64,
}

impl Drop for ModelFile {
    fn drop(&mut self) {
        let mut state = guard(&self.state);
        if let Some(object) = state.objects.get_mut(&self.ino) {
            object.opens -= 1;
            object.locks.retain(|(open, ..)| *open != self.open);
            object.flocks.retain(|(open, _)| *open != self.open);
        }
        state.bury(self.ino);
    }
}

impl ModelBacking {
    fn enter(&self, call: &'static str, who: &Credentials) -> MutexGuard<'_, State> {
        let mut state = guard(&self.state);
        state.log.push((call, who.clone()));
        state
    }

    fn found(
        &self,
        call: &'static str,
        who: &Credentials,
        parent: u64,
        name: Name<'_>,
    ) -> Result<Found<u64>, Errno> {
        let state = self.enter(call, who);
        state.allow(who, parent, 1)?;
        let ino = state.child(parent, name)?;
        Ok(state.object(ino)?.found())
    }

    fn opened(&self, state: &mut State, ino: u64, flags: OFlag) -> Result<ModelFile, Errno> {
        let open = state.next_open;
        state.next_open += 1;
        let object = state.object_mut(ino)?;
        object.opens += 1;
        if flags.contains(OFlag::O_TRUNC) {
            object.resize(0)?;
        }
        Ok(ModelFile { state: Arc::clone(&self.state), ino, open })
    }
}

fn index(offset: u64) -> Result<usize, Errno> {
    usize::try_from(offset).map_err(|_| Errno::EFBIG)
}

fn fill(buffer: &mut [u8], value: &[u8]) -> Result<usize, Errno> {
    if !buffer.is_empty() {
        buffer.get_mut(..value.len()).ok_or(Errno::ERANGE)?.copy_from_slice(value);
    }
    Ok(value.len())
}

impl BackingFs for ModelBacking {
    type Node = u64;
    type File = ModelFile;
    type Dir = u64;

    fn enter_thread(&self) -> Result<(), Errno> {
        Ok(())
    }

    fn features(&self) -> BackingFeatures {
        self.features
    }

    fn root(&self) -> Result<Found<u64>, Errno> {
        Ok(guard(&self.state).object(ROOT)?.found())
    }

    fn resolve(&self, who: &Credentials, id: &ObjectId) -> Result<u64, Errno> {
        let state = self.enter("resolve", who);
        if state.object(id.ino)?.id() == *id { Ok(id.ino) } else { Err(Errno::ESTALE) }
    }

    fn lookup(&self, who: &Credentials, parent: &u64, name: Name<'_>) -> Result<Found<u64>, Errno> {
        self.found("lookup", who, *parent, name)
    }

    fn find_known(&self, who: &Credentials, parent: &u64, name: Name<'_>) -> Result<Identified<u64>, Errno> {
        self.found("find known", who, *parent, name).map(Identified::from)
    }

    fn stat(&self, node: &u64, freshness: Freshness) -> Result<StoredAttr, Errno> {
        let mut state = guard(&self.state);
        state.asked += u64::from(freshness == Freshness::AsStat);
        Ok(state.object(*node)?.attr)
    }

    fn stat_file(&self, file: &ModelFile, freshness: Freshness) -> Result<StoredAttr, Errno> {
        self.stat(&file.ino, freshness)
    }

    fn identify(&self, file: &ModelFile) -> Result<Identified<u64>, Errno> {
        Ok(guard(&self.state).object(file.ino)?.found().into())
    }

    fn reference(&self, file: &ModelFile) -> Result<u64, Errno> {
        Ok(file.ino)
    }

    fn readlink(&self, who: &Credentials, node: &u64) -> Result<Vec<u8>, Errno> {
        Ok(self.enter("readlink", who).object(*node)?.target.to_bytes().to_vec())
    }

    fn access(&self, who: &Credentials, node: &u64, mask: AccessFlags) -> Result<(), Errno> {
        let want = u32::try_from(mask.bits()).map_err(|_| Errno::EINVAL)?;
        self.enter("access", who).allow(who, *node, want)
    }

    fn statfs(&self, _node: &u64) -> Result<StatFs, Errno> {
        let files = u64::try_from(guard(&self.state).objects.len()).unwrap_or(u64::MAX);
        Ok(StatFs {
            blocks: 1 << 20,
            blocks_free: 1 << 19,
            blocks_available: 1 << 19,
            files,
            files_free: 1 << 20,
            block_size: 4096,
            fragment_size: 4096,
            name_max: 255,
        })
    }

    fn mkdir(&self, who: &Credentials, parent: &u64, name: Name<'_>, mode: NewMode) -> Result<(), Errno> {
        self.enter("mkdir", who).make(who, *parent, Some(name), FileKind::Directory, mode).map(|_| ())
    }

    fn mknod(
        &self,
        who: &Credentials,
        parent: &u64,
        name: Name<'_>,
        kind: FileKind,
        mode: NewMode,
        rdev: u64,
    ) -> Result<(), Errno> {
        let mut state = self.enter("mknod", who);
        if matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) && !who.uid.is_root() {
            return Err(Errno::EPERM);
        }
        let ino = state.make(who, *parent, Some(name), kind, mode)?;
        state.object_mut(ino)?.attr.rdev = rdev;
        Ok(())
    }

    fn symlink(&self, who: &Credentials, target: &CStr, parent: &u64, name: Name<'_>) -> Result<(), Errno> {
        let mode =
            NewMode { permissions: Permissions::from_mode(0o777), umask: Permissions::NONE, setgid: false };
        let mut state = self.enter("symlink", who);
        let ino = state.make(who, *parent, Some(name), FileKind::Symlink, mode)?;
        state.object_mut(ino)?.target = target.to_owned();
        Ok(())
    }

    fn link(&self, who: &Credentials, node: &u64, parent: &u64, name: Name<'_>) -> Result<(), Errno> {
        let mut state = self.enter("link", who);
        state.allow(who, *parent, 3)?;
        if state.child(*parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        state.object_mut(*node)?.attr.nlink += 1;
        state.object_mut(*parent)?.names.insert(name.as_c_str().to_owned(), *node);
        Ok(())
    }

    fn unlink(&self, who: &Credentials, parent: &u64, name: Name<'_>) -> Result<(), Errno> {
        let mut state = self.enter("unlink", who);
        state.allow(who, *parent, 3)?;
        let ino = state.child(*parent, name)?;
        if state.object(ino)?.attr.kind == FileKind::Directory {
            return Err(Errno::EISDIR);
        }
        state.unname(*parent, name)
    }

    fn rmdir(&self, who: &Credentials, parent: &u64, name: Name<'_>) -> Result<(), Errno> {
        let mut state = self.enter("rmdir", who);
        state.allow(who, *parent, 3)?;
        let ino = state.child(*parent, name)?;
        match state.object(ino)? {
            object if object.attr.kind != FileKind::Directory => Err(Errno::ENOTDIR),
            object if !object.names.is_empty() => Err(Errno::ENOTEMPTY),
            _ => state.unname(*parent, name),
        }
    }

    fn rename(
        &self,
        who: &Credentials,
        from: &u64,
        name: Name<'_>,
        to: &u64,
        new_name: Name<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let mut state = self.enter("rename", who);
        state.allow(who, *from, 3)?;
        state.allow(who, *to, 3)?;
        let ino = state.child(*from, name)?;
        match state.child(*to, new_name) {
            Ok(_) if flags.contains(RenameFlags::RENAME_NOREPLACE) => return Err(Errno::EEXIST),
            _ if !flags.is_empty() => return Err(Errno::EINVAL),
            Ok(other) if other == ino => return Ok(()),
            Ok(other) if state.is_directory(ino)? != state.is_directory(other)? => {
                return Err(if state.is_directory(ino)? { Errno::ENOTDIR } else { Errno::EISDIR });
            }
            Ok(other) if !state.object(other)?.names.is_empty() => return Err(Errno::ENOTEMPTY),
            Ok(_) => state.unname(*to, new_name)?,
            Err(_) => {}
        }
        state.object_mut(*from)?.names.remove(name.as_c_str());
        state.object_mut(*to)?.names.insert(new_name.as_c_str().to_owned(), ino);
        state.object_mut(ino)?.parent = *to;
        Ok(())
    }

    fn chmod(&self, who: &Credentials, node: &u64, permissions: Permissions) -> Result<(), Errno> {
        let mut state = self.enter("chmod", who);
        state.owns(who, *node)?;
        let attr = &mut state.object_mut(*node)?.attr;
        let keeps_setgid = who.uid.is_root() || who.is_member(attr.gid);
        attr.permissions = if keeps_setgid { permissions } else { permissions.without(Permissions::SETGID) };
        Ok(())
    }

    fn chmod_file(&self, who: &Credentials, file: &ModelFile, permissions: Permissions) -> Result<(), Errno> {
        self.chmod(who, &file.ino, permissions)
    }

    fn chown(
        &self,
        who: &Credentials,
        node: &u64,
        uid: Option<NfsUid>,
        gid: Option<NfsGid>,
    ) -> Result<(), Errno> {
        let mut state = self.enter("chown", who);
        state.owns(who, *node)?;
        let attr = &mut state.object_mut(*node)?.attr;
        let stays = uid.is_none_or(|uid| uid == attr.uid)
            && gid.is_none_or(|gid| gid == attr.gid || who.is_member(gid));
        if !who.uid.is_root() && !stays {
            return Err(Errno::EPERM);
        }
        (attr.uid, attr.gid) = (uid.unwrap_or(attr.uid), gid.unwrap_or(attr.gid));
        Ok(())
    }

    fn truncate(&self, who: &Credentials, node: &u64, size: u64) -> Result<(), Errno> {
        let mut state = self.enter("truncate", who);
        state.allow(who, *node, 2)?;
        state.object_mut(*node)?.resize(size)
    }

    fn truncate_file(&self, _who: &Credentials, file: &ModelFile, size: u64) -> Result<(), Errno> {
        guard(&self.state).object_mut(file.ino)?.resize(size)
    }

    fn set_times(&self, who: &Credentials, node: &u64, atime: NewTime, mtime: NewTime) -> Result<(), Errno> {
        let mut state = self.enter("set_times", who);
        state.owns(who, *node)?;
        let attr = &mut state.object_mut(*node)?.attr;
        for (place, time) in [(&mut attr.atime, atime), (&mut attr.mtime, mtime)] {
            if let NewTime::At(time) = time {
                *place = time;
            }
        }
        Ok(())
    }

    fn open(&self, who: &Credentials, node: &u64, flags: OFlag) -> Result<ModelFile, Errno> {
        let mut state = self.enter("open", who);
        let want = match flags & OFlag::O_ACCMODE {
            OFlag::O_RDONLY => 4,
            OFlag::O_WRONLY => 2,
            _ => 6,
        };
        state.allow(who, *node, want)?;
        self.opened(&mut state, *node, flags)
    }

    fn open_name(
        &self,
        who: &Credentials,
        parent: &u64,
        name: Name<'_>,
        id: &ObjectId,
        flags: OFlag,
        _only_its: Option<Timestamp>,
    ) -> Result<(ModelFile, StoredAttr), Errno> {
        let found = self.lookup(who, parent, name).map_err(|error| match error {
            Errno::ENOENT => Errno::ESTALE,
            error => error,
        })?;
        if found.id != *id {
            return Err(Errno::ESTALE);
        }
        let file = self.open(who, &found.node, flags.difference(OFlag::O_TRUNC))?;
        Ok((file, found.attr))
    }

    fn hand_over<T>(
        &self,
        _who: &Credentials,
        _file: &ModelFile,
        _call: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn create_identified(
        &self,
        who: &Credentials,
        parent: &u64,
        name: Name<'_>,
        flags: OFlag,
        mode: NewMode,
    ) -> Result<(ModelFile, Identified<u64>), Errno> {
        let mut state = self.enter("create", who);
        let ino = match state.child(*parent, name) {
            Ok(_) if flags.contains(OFlag::O_EXCL) => return Err(Errno::EEXIST),
            Ok(ino) => ino,
            Err(_) => state.make(who, *parent, Some(name), FileKind::Regular, mode)?,
        };
        Ok((self.opened(&mut state, ino, flags)?, state.object(ino)?.found().into()))
    }

    fn tmpfile(
        &self,
        who: &Credentials,
        parent: &u64,
        flags: OFlag,
        mode: NewMode,
    ) -> Result<ModelFile, Errno> {
        let mut state = self.enter("tmpfile", who);
        let ino = state.make(who, *parent, None, FileKind::Regular, mode)?;
        self.opened(&mut state, ino, flags)
    }

    fn read(&self, file: &ModelFile, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        let state = guard(&self.state);
        let content = &state.object(file.ino)?.content;
        let rest = content.get(index(offset)?..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write(
        &self,
        _who: &Credentials,
        file: &ModelFile,
        data: &[u8],
        offset: u64,
        how: WriteHow,
    ) -> Result<usize, Errno> {
        let mut state = guard(&self.state);
        let object = state.object_mut(file.ino)?;
        let start = if how.append { object.content.len() } else { index(offset)? };
        let end = start.checked_add(data.len()).ok_or(Errno::EFBIG)?;
        if object.content.len() < end {
            object.resize(u64::try_from(end).map_err(|_| Errno::EFBIG)?)?;
        }
        object.content[start..end].copy_from_slice(data);
        if how.suid == SuidBits::Clear {
            object.attr.permissions =
                object.attr.permissions.without(Permissions::SETUID).without(Permissions::SETGID);
        }
        Ok(data.len())
    }

    fn flush(&self, _file: &ModelFile) -> Result<(), Errno> {
        Ok(())
    }

    fn fsync(&self, _file: &ModelFile, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn fallocate(
        &self,
        _who: &Credentials,
        file: &ModelFile,
        flags: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        if !flags.is_empty() {
            return Err(Errno::EOPNOTSUPP);
        }
        let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
        let mut state = guard(&self.state);
        let object = state.object_mut(file.ino)?;
        if object.attr.size < end { object.resize(end) } else { Ok(()) }
    }

    fn seek(&self, file: &ModelFile, offset: u64, whence: Whence) -> Result<u64, Errno> {
        let size = guard(&self.state).object(file.ino)?.attr.size;
        match whence {
            _ if offset >= size => Err(Errno::ENXIO),
            Whence::SeekData => Ok(offset),
            Whence::SeekHole => Ok(size),
            _ => Err(Errno::EINVAL),
        }
    }

    fn copy_range(
        &self,
        who: &Credentials,
        from: &ModelFile,
        from_offset: u64,
        to: &ModelFile,
        to_offset: u64,
        length: usize,
    ) -> Result<usize, Errno> {
        let mut buffer = vec![0; length.min(1 << 20)];
        let read = self.read(from, &mut buffer, from_offset)?;
        self.write(who, to, &buffer[..read], to_offset, WriteHow::default())
    }

    fn test_lock(
        &self,
        file: &ModelFile,
        kind: LockKind,
        range: ByteRange,
    ) -> Result<Option<(LockKind, ByteRange)>, Errno> {
        let state = guard(&self.state);
        let conflict = state.object(file.ino)?.locks.iter().find(|(open, held, at)| {
            *open != file.open
                && at.start <= range.end
                && range.start <= at.end
                && (kind == LockKind::Exclusive || *held == LockKind::Exclusive)
        });
        Ok(conflict.map(|(_, held, at)| (*held, *at)))
    }

    fn set_lock(&self, file: &ModelFile, kind: LockKind, range: ByteRange) -> Result<(), Errno> {
        if kind != LockKind::Unlock && self.test_lock(file, kind, range)?.is_some() {
            return Err(Errno::EAGAIN);
        }
        let mut state = guard(&self.state);
        let locks = &mut state.object_mut(file.ino)?.locks;
        locks.retain(|(open, _, at)| *open != file.open || at.end < range.start || range.end < at.start);
        if kind != LockKind::Unlock {
            locks.push((file.open, kind, range));
        }
        Ok(())
    }

    fn flock(&self, file: &ModelFile, kind: LockKind) -> Result<(), Errno> {
        let mut state = guard(&self.state);
        let flocks = &mut state.object_mut(file.ino)?.flocks;
        let conflict = flocks.iter().any(|(open, held)| {
            *open != file.open && (kind == LockKind::Exclusive || *held == LockKind::Exclusive)
        });
        if kind != LockKind::Unlock && conflict {
            return Err(Errno::EAGAIN);
        }
        flocks.retain(|(open, _)| *open != file.open);
        if kind != LockKind::Unlock {
            flocks.push((file.open, kind));
        }
        Ok(())
    }

    fn opendir(&self, who: &Credentials, node: &u64) -> Result<u64, Errno> {
        self.enter("opendir", who).allow(who, *node, 4)?;
        Ok(*node)
    }

    fn read_dir(
        &self,
        dir: &u64,
        from: u64,
        each: &mut dyn FnMut(RawEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        let entries: Vec<(CString, u64, FileKind)> = {
            let state = guard(&self.state);
            let object = state.object(*dir)?;
            let dots = [(c".".to_owned(), *dir), (c"..".to_owned(), object.parent)];
            let names = object.names.iter().map(|(name, ino)| (name.clone(), *ino));
            dots.into_iter()
                .chain(names)
                .filter_map(|(name, ino)| Some((name, ino, state.objects.get(&ino)?.attr.kind)))
                .collect()
        };
        for (next, (name, ino, kind)) in (1..).zip(entries).skip(index(from)?) {
            if each(RawEntry { name: &name, ino, kind: Some(kind), next }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn fsync_dir(&self, _node: &u64, _data_only: bool) -> Result<(), Errno> {
        Ok(())
    }

    fn getxattr(
        &self,
        who: &Credentials,
        node: &u64,
        name: &CStr,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        let state = self.enter("getxattr", who);
        fill(buffer, state.object(*node)?.xattrs.get(name).ok_or(Errno::ENODATA)?)
    }

    fn listxattr(&self, who: &Credentials, node: &u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let state = self.enter("listxattr", who);
        let names = state.object(*node)?.xattrs.keys().flat_map(|name| name.to_bytes_with_nul());
        fill(buffer, &names.copied().collect::<Vec<_>>())
    }

    fn setxattr(
        &self,
        who: &Credentials,
        node: &u64,
        name: &CStr,
        value: &[u8],
        flags: i32,
    ) -> Result<(), Errno> {
        let mut state = self.enter("setxattr", who);
        let xattrs = &mut state.object_mut(*node)?.xattrs;
        match (flags, xattrs.contains_key(name)) {
            (libc::XATTR_CREATE, true) => return Err(Errno::EEXIST),
            (libc::XATTR_REPLACE, false) => return Err(Errno::ENODATA),
            _ => {}
        }
        xattrs.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    fn removexattr(&self, who: &Credentials, node: &u64, name: &CStr) -> Result<(), Errno> {
        let mut state = self.enter("removexattr", who);
        state.object_mut(*node)?.xattrs.remove(name).map(|_| ()).ok_or(Errno::ENODATA)
    }
}
