//! The operations: what is there before, what is done, and what that says.

use std::fmt::Debug;

use nix::fcntl::{FallocateFlags, OFlag, RenameFlags};
use nix::unistd::{AccessFlags, Whence};
use permfs::fs::{
    ByteRange, Errno, FileHandleId, LockKind, LockOwner, LockRequest, NewNode, NewTime, NodeId, Pid, SetAttr,
    WriteHow,
};
use permfs::policy::{FileKind, PodGid, PodUid};

use crate::world::{Listing, World, mode, named, pod};

/// What was made before: `f` with content and open, `g`, the directories `d` and `full`, and `full/x`.
pub struct Ready {
    file: NodeId,
    open: FileHandleId,
    other: FileHandleId,
    directory: NodeId,
    full: NodeId,
    link: NodeId,
}

pub struct Operation {
    pub name: &'static str,
    pub act: fn(&World, &Ready) -> Result<String, Errno>,
}

const fn operation(name: &'static str, act: fn(&World, &Ready) -> Result<String, Errno>) -> Operation {
    Operation { name, act }
}

pub fn prepare(world: &World) -> Result<Ready, Errno> {
    let (file, open) = world.create("f", OFlag::empty())?;
    world.fs.write(pod(), open, 0, b"content", WriteHow::default())?;
    let (other_file, other) = world.create("g", OFlag::empty())?;
    world.fs.setxattr(pod(), other_file, c"user.mark", b"1", 0)?;
    let (directory, full) = (world.mkdir("d")?, world.mkdir("full")?);
    let within = named("x", |name| world.fs.mkdir(pod(), full, name, mode(0o755), mode(0o022)))?;
    world.entered(within);
    let link = named("s", |name| world.fs.symlink(pod(), NodeId::ROOT, name, c"target"))?;
    Ok(Ready { file, open, other, directory, full, link: world.entered(link) })
}

pub const ALL: &[Operation] = &[
    operation("lookup", |w, _| said(w.find("f"))),
    operation("getattr", |w, r| said(w.fs.getattr(pod(), r.file, None))),
    operation("getattr of an open file", |w, r| said(w.fs.getattr(pod(), r.file, Some(r.open)))),
    operation("statfs", |w, _| said(w.fs.statfs(pod(), NodeId::ROOT))),
    operation("readlink", |w, r| said(w.fs.readlink(pod(), r.link))),
    operation("access", |w, r| said(w.fs.access(pod(), r.file, AccessFlags::W_OK))),
    operation("mkdir", |w, _| said(w.mkdir("new").map(drop))),
    operation("mkdir in a directory", |w, r| {
        let made = named("new", |name| w.fs.mkdir(pod(), r.directory, name, mode(0o700), mode(0o077)));
        said(made.map(|entry| _ = w.entered(entry)))
    }),
    operation("mknod", |w, _| {
        let new = NewNode { kind: FileKind::Fifo, permissions: mode(0o600), umask: mode(0o077), rdev: 0 };
        said(
            named("new", |name| w.fs.mknod(pod(), NodeId::ROOT, name, &new))
                .map(|entry| _ = w.entered(entry)),
        )
    }),
    operation("symlink", |w, _| {
        let made = named("new", |name| w.fs.symlink(pod(), NodeId::ROOT, name, c"target"));
        said(made.map(|entry| _ = w.entered(entry)))
    }),
    operation("link", |w, r| {
        let made = named("new", |name| w.fs.link(pod(), r.file, NodeId::ROOT, name));
        said(made.map(|entry| _ = w.entered(entry)))
    }),
    operation("create", |w, _| said(w.create("new", OFlag::empty()).map(drop))),
    operation("create O_EXCL", |w, _| said(w.create("new", OFlag::O_EXCL).map(drop))),
    operation("create over", |w, _| said(w.create("g", OFlag::O_TRUNC).map(drop))),
    operation("tmpfile", |w, _| {
        let made = w.fs.tmpfile(pod(), NodeId::ROOT, OFlag::O_RDWR, mode(0o600), mode(0o077));
        said(made.map(|(entry, opened)| _ = (w.entered(entry), w.opened(opened))))
    }),
    operation("open", |w, r| said(w.open(r.file, OFlag::O_RDWR).map(drop))),
    operation("open O_TRUNC", |w, r| said(w.open(r.file, OFlag::O_RDWR | OFlag::O_TRUNC).map(drop))),
    operation("read", |w, r| {
        let mut buffer = [0; 4];
        said(w.fs.read(pod(), r.file, r.open, 1, &mut buffer).map(|length| buffer[..length].to_vec()))
    }),
    operation("write", |w, r| said(w.fs.write(pod(), r.open, 2, b"XY", WriteHow::default()))),
    operation("flush", |w, r| said(w.fs.flush(r.file, r.open, LockOwner(1)))),
    operation("fsync", |w, r| said(w.fs.fsync(pod(), r.file, r.open, false))),
    operation("fallocate", |w, r| said(w.fs.fallocate(pod(), r.open, FallocateFlags::empty(), 0, 20))),
    operation("lseek", |w, r| said(w.fs.lseek(pod(), r.file, r.open, 0, Whence::SeekHole))),
    operation("copy_file_range", |w, r| said(w.fs.copy_file_range(pod(), r.open, 0, r.other, 0, 4))),
    operation("setlk", |w, r| said(w.fs.setlk(r.open, &lock(1, LockKind::Exclusive)))),
    operation("getlk", |w, r| said(w.fs.getlk(r.open, &lock(2, LockKind::Shared)))),
    operation("flock", |w, r| {
        said(w.fs.setlk(r.open, &LockRequest { flock: true, ..lock(3, LockKind::Shared) }))
    }),
    operation("chmod", |w, r| said(set(w, r, |set| set.permissions = Some(mode(0o640))))),
    operation("chown", |w, r| {
        said(set(w, r, |set| (set.uid, set.gid) = (PodUid::new(50000), PodGid::new(0))))
    }),
    operation("truncate", |w, r| said(set(w, r, |set| set.size = Some(3)))),
    operation("ftruncate", |w, r| {
        let open = r.open;
        let change = |set: &mut SetAttr| (set.size, set.handle) = (Some(3), Some(open));
        let mut asked = nothing();
        change(&mut asked);
        said(w.fs.setattr(pod(), r.file, &asked))
    }),
    operation("utimens", |w, r| said(set(w, r, |set| (set.atime, set.mtime) = (NewTime::Now, NewTime::Now)))),
    operation("readdir", |w, _| {
        let mut listing = Listing::default();
        w.fs.readdir(pod(), NodeId::ROOT, 0, &mut listing)?;
        said(Ok(listing.names))
    }),
    operation("readdirplus", |w, _| {
        let mut listing = Listing::default();
        let listed = w.fs.readdirplus(pod(), NodeId::ROOT, 0, &mut listing);
        listing.entries.into_iter().for_each(|entry| _ = w.entered(entry));
        listed?;
        said(Ok(listing.names))
    }),
    operation("fsyncdir", |w, r| said(w.fs.fsyncdir(pod(), r.full, false))),
    operation("unlink", |w, _| said(named("f", |name| w.fs.unlink(pod(), NodeId::ROOT, name)))),
    operation("rmdir", |w, _| said(named("d", |name| w.fs.rmdir(pod(), NodeId::ROOT, name)))),
    operation("rename", |w, _| said(rename(w, "f", "new", RenameFlags::empty()))),
    operation("rename over", |w, _| said(rename(w, "f", "g", RenameFlags::empty()))),
    operation("rename of a directory over another", |w, _| {
        said(rename(w, "full", "d", RenameFlags::empty()))
    }),
    operation("rename to elsewhere", |w, r| {
        let moved = named("f", |old| {
            named("new", |new| w.fs.rename(pod(), NodeId::ROOT, old, r.directory, new, RenameFlags::empty()))
        });
        said(moved)
    }),
    operation("setxattr", |w, r| said(w.fs.setxattr(pod(), r.file, c"user.mark", b"2", 0))),
    operation("getxattr", |w, r| {
        said(w.fs.getxattr(pod(), r.file, c"user.none", &mut [0; 8]).err().map_or_else(
            || Ok(String::new()),
            |error| if error == Errno::ENODATA { Ok("none".to_owned()) } else { Err(error) },
        ))
    }),
    operation("listxattr", |w, r| said(w.fs.listxattr(pod(), r.file, &mut [0; 64]))),
    operation("removexattr", |w, _| {
        let node = w.find("g")?;
        said(w.fs.removexattr(pod(), node, c"user.mark"))
    }),
];

fn said<T: Debug>(outcome: Result<T, Errno>) -> Result<String, Errno> {
    outcome.map(|what| format!("{what:?}"))
}

fn nothing() -> SetAttr {
    let (atime, mtime) = (NewTime::Omit, NewTime::Omit);
    SetAttr { permissions: None, uid: None, gid: None, size: None, atime, mtime, handle: None }
}

fn set(world: &World, ready: &Ready, change: impl FnOnce(&mut SetAttr)) -> Result<(), Errno> {
    let mut asked = nothing();
    change(&mut asked);
    world.fs.setattr(pod(), ready.file, &asked).map(drop)
}

fn rename(world: &World, old: &str, new: &str, flags: RenameFlags) -> Result<(), Errno> {
    named(old, |old| named(new, |new| world.fs.rename(pod(), NodeId::ROOT, old, NodeId::ROOT, new, flags)))
}

fn lock(owner: u64, kind: LockKind) -> LockRequest {
    let range = ByteRange { start: 0, end: 9 };
    LockRequest { owner: LockOwner(owner), flock: false, kind, range, pid: Pid(0) }
}
