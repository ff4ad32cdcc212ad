//! A mount over an export that fails, from one operation's beginning until everything is given back.

use std::cell::RefCell;
use std::ffi::CString;
use std::sync::Arc;

use nix::fcntl::OFlag;
use permfs::backing::model::ModelBacking;
use permfs::backing::{BackingFs, Freshness};
use permfs::config::{Overrides, RulesFile};
use permfs::fs::{
    CallerId, DirEntry, DirSink, Entry, Errno, FileHandleId, Filesystem, Name, NodeId, Opened, Pid,
};
use permfs::policy::{Credentials, FileKind, NfsGid, NfsUid, Permissions, PodGid, PodUid};

use crate::faulty::Faulty;

const RULES: &str = include_str!("../../config/airflow.toml");

/// One mount, and what it was given that must be given back.
pub struct World {
    pub fs: Arc<Filesystem<Faulty>>,
    pub export: Faulty,
    lookups: RefCell<Vec<NodeId>>,
    files: RefCell<Vec<FileHandleId>>,
}

pub fn pod() -> CallerId {
    CallerId { uid: PodUid::new(50000), gid: PodGid::new(0), pid: Pid(0) }
}

pub fn mode(bits: u32) -> Permissions {
    Permissions::from_mode(bits)
}

pub fn named<T>(name: &str, act: impl FnOnce(Name<'_>) -> T) -> T {
    let name = CString::new(name).unwrap();
    act(Name::new(&name).unwrap())
}

impl World {
    pub fn new(local: bool) -> Self {
        let export = Faulty::new(local);
        let rules = RulesFile::parse(RULES, "test.toml").unwrap();
        let policy = rules.policy(None, &Overrides::default()).unwrap();
        let fs = Arc::new(Filesystem::new(export.clone(), Arc::new(policy)).unwrap());
        Self { fs, export, lookups: RefCell::default(), files: RefCell::default() }
    }

    /// Remembers that the kernel was given an inode.
    pub fn entered(&self, entry: Entry) -> NodeId {
        self.lookups.borrow_mut().push(entry.node);
        entry.node
    }

    /// And an open file.
    pub fn opened(&self, opened: Opened) -> FileHandleId {
        self.files.borrow_mut().push(opened.handle);
        opened.handle
    }

    pub fn find(&self, name: &str) -> Result<NodeId, Errno> {
        named(name, |name| self.fs.lookup(pod(), NodeId::ROOT, name)).map(|entry| self.entered(entry))
    }

    pub fn create(&self, name: &str, flags: OFlag) -> Result<(NodeId, FileHandleId), Errno> {
        let flags = flags | OFlag::O_RDWR | OFlag::O_CREAT;
        let made =
            named(name, |name| self.fs.create(pod(), NodeId::ROOT, name, flags, mode(0o644), mode(0o022)));
        made.map(|(entry, opened)| (self.entered(entry), self.opened(opened)))
    }

    pub fn mkdir(&self, name: &str) -> Result<NodeId, Errno> {
        let made = named(name, |name| self.fs.mkdir(pod(), NodeId::ROOT, name, mode(0o755), mode(0o022)));
        made.map(|entry| self.entered(entry))
    }

    pub fn open(&self, node: NodeId, flags: OFlag) -> Result<FileHandleId, Errno> {
        self.fs.open(pod(), node, flags).map(|opened| self.opened(opened))
    }

    /// Closes everything and has the kernel forget all; complains of what is left then.
    pub fn give_back(&self) -> Option<String> {
        self.files.take().into_iter().for_each(|handle| self.fs.release(handle));
        self.lookups.take().into_iter().for_each(|node| self.fs.forget(node, 1));
        self.fs.stale(NodeId::ROOT);
        let left = self.fs.population();
        ((left.inodes, left.open) != (1, 0)).then(|| format!("left: {left:?}"))
    }

    /// Whether it serves: something is made, found and removed.
    pub fn serves(&self) -> Result<(), Errno> {
        self.create("probe", OFlag::empty())?;
        self.find("probe")?;
        named("probe", |name| self.fs.unlink(pod(), NodeId::ROOT, name))
    }

    /// What stands on the export.
    pub fn tree(&self) -> String {
        let mut lines = Vec::new();
        let export = &self.export.inner;
        list(export, &export.root().unwrap().node, "", &mut lines);
        lines.sort();
        lines.join("\n")
    }
}

fn owner() -> Credentials {
    let (uid, gid) = (NfsUid::new(2001).unwrap(), NfsGid::new(2001).unwrap());
    Credentials { uid, gid, groups: Arc::default() }
}

fn list(
    export: &ModelBacking,
    directory: &<ModelBacking as BackingFs>::Node,
    path: &str,
    lines: &mut Vec<String>,
) {
    let who = owner();
    let open = export.opendir(&who, directory).unwrap();
    let mut names = Vec::new();
    export
        .read_dir(&open, 0, &mut |entry| {
            names.push(entry.name.to_owned());
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        let found = export.lookup(&who, directory, Name::new(name).unwrap()).unwrap();
        let path = format!("{path}/{}", name.to_str().unwrap());
        let attr = export.stat(&found.node, Freshness::AsStat).unwrap();
        let mut mark = [0; 16];
        let marked = export.getxattr(&who, &found.node, c"user.mark", &mut mark);
        let content = match attr.kind {
            FileKind::Regular => {
                let mut content = vec![0; 64];
                let file = export.open(&who, &found.node, OFlag::O_RDONLY).unwrap();
                let length = export.read(&file, &mut content, 0).unwrap();
                String::from_utf8_lossy(&content[..length]).into_owned()
            }
            FileKind::Symlink => String::from_utf8(export.readlink(&who, &found.node).unwrap()).unwrap(),
            _ => String::new(),
        };
        lines.push(format!(
            "{path} {:?} {:?} {:?}:{:?} {} {} {:?} {marked:?} {content}",
            attr.kind, attr.permissions, attr.uid, attr.gid, attr.nlink, attr.size, attr.mtime
        ));
        if attr.kind == FileKind::Directory {
            list(export, &found.node, &path, lines);
        }
    }
}

/// A listing as the kernel takes it.
#[derive(Default)]
pub struct Listing {
    pub names: Vec<String>,
    pub entries: Vec<Entry>,
}

impl DirSink for Listing {
    fn has_room(&self, _name_len: usize) -> bool {
        true
    }
    fn push(&mut self, entry: &DirEntry<'_>) {
        self.names.push(entry.name.to_str().unwrap().to_owned());
        self.entries.extend(entry.entry);
    }
}
