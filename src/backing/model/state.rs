//! What the model keeps: objects by number, and the server's permission checks on them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backing::{ByteRange, Errno, FileHandle, Found, LockKind, MountIndex, Name, ObjectId};
use crate::policy::{
    Attr, Credentials, FileKind, NewMode, NfsGid, NfsUid, Permissions, StoredAttr, Timestamp,
};

/// Bytes of a file: all are in memory, also where nothing was written.
const LARGEST: usize = 1 << 26;

/// An object of the model.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) attr: StoredAttr,
    /// How many objects had its number before it.
    pub(super) generation: u32,
    pub(super) names: BTreeMap<CString, u64>,
    pub(super) parent: u64,
    pub(super) content: Vec<u8>,
    pub(super) target: CString,
    pub(super) xattrs: BTreeMap<CString, Vec<u8>>,
    /// Open files: the object lives as long as it has a name or one of these.
    pub(super) opens: u32,
    pub(super) locks: Vec<(u64, LockKind, ByteRange)>,
    pub(super) flocks: Vec<(u64, LockKind)>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) objects: HashMap<u64, Object>,
    pub(super) next: u64,
    /// Numbers that are dealt out again, as servers do, and how many objects have had them.
    pub(super) free: Vec<(u64, u32)>,
    pub(super) next_open: u64,
    /// Every call that was made with credentials, by name, in order.
    pub(super) log: Vec<(&'static str, Credentials)>,
    /// What its clock, which does not go by itself, shows.
    pub(super) now: Timestamp,
    /// As whom everybody is taken, if so (`all_squash`, exports(5)).
    pub(super) squashed: Option<Credentials>,
    /// How often attributes were asked for as stat(2) would have them.
    pub(super) asked: u64,
}

pub(super) fn guard(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    pub(super) fn object(&self, ino: u64) -> Result<&Object, Errno> {
        self.objects.get(&ino).ok_or(Errno::ESTALE)
    }

    pub(super) fn object_mut(&mut self, ino: u64) -> Result<&mut Object, Errno> {
        self.objects.get_mut(&ino).ok_or(Errno::ESTALE)
    }

    /// The server's check: owner, else group, else others; root may everything.
    pub(super) fn allow(&self, who: &Credentials, ino: u64, want: u32) -> Result<(), Errno> {
        let (attr, who) = (&self.object(ino)?.attr, self.taken_for(who));
        let bits = attr.permissions.bits();
        let granted = if who.uid.is_root() {
            7
        } else if who.uid == attr.uid {
            bits >> 6
        } else if who.is_member(attr.gid) {
            bits >> 3
        } else {
            bits
        };
        if granted & want == want { Ok(()) } else { Err(Errno::EACCES) }
    }

    fn taken_for<'a>(&'a self, who: &'a Credentials) -> &'a Credentials {
        self.squashed.as_ref().unwrap_or(who)
    }

    pub(super) fn owns(&self, who: &Credentials, ino: u64) -> Result<(), Errno> {
        let (owner, who) = (self.object(ino)?.attr.uid, self.taken_for(who));
        if who.uid.is_root() || who.uid == owner { Ok(()) } else { Err(Errno::EPERM) }
    }

    pub(super) fn is_directory(&self, ino: u64) -> Result<bool, Errno> {
        Ok(self.object(ino)?.attr.kind == FileKind::Directory)
    }

    pub(super) fn child(&self, parent: u64, name: Name<'_>) -> Result<u64, Errno> {
        let parent = self.object(parent)?;
        if parent.attr.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        parent.names.get(name.as_c_str()).copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn make(
        &mut self,
        who: &Credentials,
        parent: u64,
        name: Option<Name<'_>>,
        kind: FileKind,
        mode: NewMode,
    ) -> Result<u64, Errno> {
        self.allow(who, parent, 3)?;
        let inherits = {
            let parent = self.object(parent)?;
            if name.is_some_and(|name| parent.names.contains_key(name.as_c_str())) {
                return Err(Errno::EEXIST);
            }
            parent.attr.permissions.contains(Permissions::SETGID).then_some(parent.attr.gid)
        };
        let mut permissions = mode.permissions.without(mode.umask);
        if kind == FileKind::Directory {
            permissions = permissions.without(Permissions::SETGID);
            if inherits.is_some() {
                permissions = permissions.with(Permissions::SETGID);
            }
        }
        let (ino, generation) = self.free.pop().unwrap_or((self.next, 0));
        self.next = self.next.max(ino + 1);
        let owner = self.taken_for(who);
        let mut attr = new_attr(ino, kind, permissions, owner.uid, inherits.unwrap_or(owner.gid));
        (attr.atime, attr.mtime, attr.ctime) = (self.now, self.now, self.now);
        if kind != FileKind::Directory {
            attr.nlink = u32::from(name.is_some());
        }
        self.objects.insert(ino, Object { generation, ..Object::new(attr, parent) });
        if let Some(name) = name {
            self.object_mut(parent)?.names.insert(name.as_c_str().to_owned(), ino);
        }
        Ok(ino)
    }

    pub(super) fn unname(&mut self, parent: u64, name: Name<'_>) -> Result<(), Errno> {
        let ino = self.object_mut(parent)?.names.remove(name.as_c_str()).ok_or(Errno::ENOENT)?;
        let object = self.object_mut(ino)?;
        object.attr.nlink = if object.attr.kind == FileKind::Directory { 0 } else { object.attr.nlink - 1 };
        self.bury(ino);
        Ok(())
    }

    pub(super) fn bury(&mut self, ino: u64) {
        if self.objects.get(&ino).is_some_and(|object| object.attr.nlink == 0 && object.opens == 0) {
            let generations = self.objects.remove(&ino).map_or(0, |gone| gone.generation + 1);
            self.free.push((ino, generations));
        }
    }
}

impl Object {
    pub(super) fn new(attr: StoredAttr, parent: u64) -> Self {
        Self {
            attr,
            generation: 0,
            names: BTreeMap::new(),
            parent,
            content: Vec::new(),
            target: CString::default(),
            xattrs: BTreeMap::new(),
            opens: 0,
            locks: Vec::new(),
            flocks: Vec::new(),
        }
    }

    pub(super) fn id(&self) -> ObjectId {
        let ino = self.attr.ino;
        let bytes = (ino | u64::from(self.generation) << 32).to_le_bytes();
        let handle = FileHandle::new(1, &bytes).expect("eight bytes fit");
        ObjectId { mount: MountIndex(0), ino, handle: Some(handle) }
    }

    pub(super) fn found(&self) -> Found<u64> {
        Found { node: self.attr.ino, id: self.id(), attr: self.attr }
    }
}

impl Object {
    pub(super) fn resize(&mut self, size: u64) -> Result<(), Errno> {
        let length = usize::try_from(size).ok().filter(|length| *length <= LARGEST).ok_or(Errno::EFBIG)?;
        self.content.resize(length, 0);
        self.attr.size = size;
        Ok(())
    }
}

/// The attributes of an object just made; two links, as a directory has.
pub(super) fn new_attr(
    ino: u64,
    kind: FileKind,
    permissions: Permissions,
    uid: NfsUid,
    gid: NfsGid,
) -> StoredAttr {
    Attr {
        ino,
        kind,
        permissions,
        nlink: 2,
        uid,
        gid,
        rdev: 0,
        size: 0,
        blocks: 0,
        block_size: 4096,
        atime: Timestamp::default(),
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
        btime: None,
    }
}
