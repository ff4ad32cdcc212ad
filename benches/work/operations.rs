//! The operations that a mount is asked for most, over an export in memory: what permfs itself adds, without the kernel.
//!
//! The export is a model (`backing::model`) whose own cost is in every number: numbers are compared with themselves.

use std::hint::black_box;

use nix::fcntl::{OFlag, RenameFlags};
use permfs::fs::{DirEntry, DirSink, FileHandleId, NodeId, WriteHow};

use super::stage::{Stage, cstring, mode, name, pod};
use super::{BATCH, Batch, Work, batch};

pub static ALL: &[Work] = &[
    Work { name: "fs/lookup", prepare: lookup },
    Work { name: "fs/lookup_missing", prepare: lookup_missing },
    Work { name: "fs/getattr", prepare: getattr },
    Work { name: "fs/create_release", prepare: create_release },
    Work { name: "fs/open_release", prepare: open_release },
    Work { name: "fs/open_read_release", prepare: open_read_release },
    Work { name: "fs/read_4k", prepare: read },
    Work { name: "fs/write_4k", prepare: write },
    Work { name: "fs/readdir_entry", prepare: readdir },
    Work { name: "fs/readdirplus_entry", prepare: readdirplus },
    Work { name: "fs/unlink", prepare: unlink },
    Work { name: "fs/rename", prepare: rename },
    Work { name: "fs/mkdir", prepare: mkdir },
];

/// Bytes of one read or write.
const PAGE: usize = 4096;

/// A place in a list for the `turn`-th of a batch.
fn at(turn: u32) -> usize {
    usize::try_from(turn).unwrap()
}

fn lookup() -> Batch {
    let stage = Stage::new();
    let files = stage.files(BATCH);
    batch(move |turn| {
        black_box(stage.fs.lookup(pod(), stage.dir, name(&files[at(turn)].0)).unwrap());
    })
}

fn lookup_missing() -> Batch {
    let stage = Stage::new();
    stage.files(BATCH);
    let absent = cstring("absent");
    batch(move |_| {
        black_box(stage.fs.lookup(pod(), stage.dir, name(&absent)).unwrap_err());
    })
}

fn getattr() -> Batch {
    let stage = Stage::new();
    let files = stage.files(BATCH);
    batch(move |turn| {
        black_box(stage.fs.getattr(pod(), files[at(turn)].1, None).unwrap());
    })
}

fn create_release() -> Batch {
    let stage = Stage::new();
    let names = Stage::names(BATCH);
    batch(move |turn| {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let made = stage.fs.create(pod(), stage.dir, name(&names[at(turn)]), flags, mode(0o666), mode(0o022));
        let (_, opened) = made.unwrap();
        stage.fs.release(opened.handle);
    })
}

fn open_release() -> Batch {
    let stage = Stage::new();
    let files = stage.files(BATCH);
    batch(move |turn| {
        let node = files[at(turn)].1;
        let opened = stage.fs.open(pod(), node, OFlag::O_RDONLY).unwrap();
        stage.fs.release(opened.handle);
    })
}

fn open_read_release() -> Batch {
    let (stage, node, writer) = with_content();
    stage.fs.release(writer);
    let mut page = vec![0; PAGE];
    batch(move |_| {
        let opened = stage.fs.open(pod(), node, OFlag::O_RDONLY).unwrap();
        assert_eq!(stage.fs.read(pod(), node, opened.handle, 0, &mut page), Ok(PAGE));
        stage.fs.release(opened.handle);
    })
}

fn read() -> Batch {
    let (stage, node, handle) = with_content();
    let mut page = vec![0; PAGE];
    batch(move |_| assert_eq!(stage.fs.read(pod(), node, handle, 0, &mut page), Ok(PAGE)))
}

fn write() -> Batch {
    let (stage, _, handle) = with_content();
    let page = vec![7; PAGE];
    batch(move |_| {
        assert_eq!(stage.fs.write(pod(), handle, 0, &page, WriteHow::default()), Ok(PAGE));
    })
}

/// One entry of one long listing.
fn readdir() -> Batch {
    listing(|stage, from, sink| stage.fs.readdir(pod(), stage.dir, from, sink).unwrap())
}

fn readdirplus() -> Batch {
    listing(|stage, from, sink| {
        stage.fs.readdirplus(pod(), stage.dir, from, sink).unwrap();
    })
}

fn unlink() -> Batch {
    let stage = Stage::new();
    let files = stage.files(BATCH);
    batch(move |turn| stage.fs.unlink(pod(), stage.dir, name(&files[at(turn)].0)).unwrap())
}

fn rename() -> Batch {
    let stage = Stage::new();
    let files = stage.files(BATCH);
    let renamed: Vec<_> = (0..BATCH).map(|number| cstring(format!("renamed-{number:05}"))).collect();
    batch(move |turn| {
        let (from, to) = (name(&files[at(turn)].0), name(&renamed[at(turn)]));
        stage.fs.rename(pod(), stage.dir, from, stage.dir, to, RenameFlags::empty()).unwrap();
    })
}

fn mkdir() -> Batch {
    let stage = Stage::new();
    let names = Stage::names(BATCH);
    batch(move |turn| {
        let made = stage.fs.mkdir(pod(), stage.dir, name(&names[at(turn)]), mode(0o777), mode(0o022));
        black_box(made.unwrap());
    })
}

/// A file of one page, and a handle that may read and write it.
fn with_content() -> (Stage, NodeId, FileHandleId) {
    let stage = Stage::new();
    let node = stage.files(1)[0].1;
    let handle = stage.fs.open(pod(), node, OFlag::O_RDWR).unwrap().handle;
    stage.fs.write(pod(), handle, 0, &[7; PAGE], WriteHow::default()).unwrap();
    (stage, node, handle)
}

/// Lists a directory of [`BATCH`] files in one go; `.` and `..` come on top.
fn listing(list: impl Fn(&Stage, u64, &mut dyn DirSink) + 'static) -> Batch {
    let stage = Stage::new();
    stage.files(BATCH);
    Box::new(move || {
        let mut sink = Count(0);
        list(&stage, 0, &mut sink);
        assert_eq!(sink.0, BATCH + 2);
    })
}

/// Has room for everything and keeps nothing.
struct Count(u32);

impl DirSink for Count {
    fn has_room(&self, _name_len: usize) -> bool {
        true
    }

    fn push(&mut self, entry: &DirEntry<'_>) {
        black_box(entry);
        self.0 += 1;
    }
}
