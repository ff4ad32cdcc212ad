//! What one operation asks for: each is repeated, with the counter read before and after.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use permfs::bench::Identity;
use permfs::sys::credentials;

use super::counting::{Counter, Counts};
use super::outcome::Count;

/// Repetitions of each operation.
const TIMES: u32 = 50;
/// What comes after the call has returned (release, forget) has come by then.
const SETTLE: Duration = Duration::from_millis(60);
/// For how long a file must have been as it is, to be one that nobody writes.
const AT_REST: Duration = Duration::from_millis(200);
/// A second is how long names are believed.
const EXPIRY: Duration = Duration::from_millis(1200);

/// Counts all operations in a new directory below `parent`, which is removed.
pub fn count(parent: &Path, identity: Identity, counter: &Counter) -> Result<Vec<Count>, String> {
    // One thread does it all under its ids, as an NFS client remembers what a thread may do; this one, still root, reads.
    let (ask, asked) = channel();
    let (tell, told) = channel::<Result<Counts, String>>();
    let counted = thread::scope(|scope| {
        let acting = scope.spawn(move || {
            credentials::assume(identity.uid, identity.gid, std::iter::empty()).map_err(io::Error::from)?;
            let dir = parent.join(".permfs-bench-count");
            fs::create_dir(&dir)?;
            let read = move || {
                ask.send(()).map_err(io::Error::other)?;
                told.recv().map_err(io::Error::other)?.map_err(io::Error::other)
            };
            let counted = Counting { dir: dir.clone(), read, counts: Vec::new() }.all();
            fs::remove_dir_all(&dir)?;
            counted
        });
        while let Ok(()) = asked.recv() {
            // Nobody listens only where it has panicked.
            let _ = tell.send(counter.read());
        }
        acting.join().unwrap_or_else(|_| Err(io::Error::other("the counting thread panicked")))
    });
    counted.map_err(|error| format!("cannot count in {}: {error}", parent.display()))
}

struct Counting<R> {
    dir: PathBuf,
    read: R,
    counts: Vec<Count>,
}

impl<R: Fn() -> io::Result<Counts>> Counting<R> {
    fn all(mut self) -> io::Result<Vec<Count>> {
        let dir = self.dir.clone();
        let at = |what: &str, number: u32| dir.join(format!("{what}-{number}"));
        let kibibyte = [b'x'; 1024];
        self.each("create + write + close", |turn| {
            let mut file = File::create_new(at("file", turn))?;
            file.write_all(&kibibyte)
        })?;
        let mut log = File::options().append(true).create_new(true).open(at("log", 0))?;
        self.each("append 100 bytes", |_| log.write_all(&kibibyte[..100]))?;
        drop(log);

        let mut page = [0; 1024];
        // Content that was just written is not kept yet when it is first read.
        for _ in 0..2 {
            File::open(at("file", 0))?.read_exact_at(&mut page, 0)?;
            thread::sleep(AT_REST);
        }
        self.each("open + read + close, hot", |_| File::open(at("file", 0))?.read_exact_at(&mut page, 0))?;
        fs::metadata(at("file", 0))?;
        self.each("stat, hot", |_| fs::metadata(at("file", 0)).map(drop))?;
        thread::sleep(EXPIRY);
        self.each("stat, expired", |turn| fs::metadata(at("file", turn)).map(drop))?;

        let tree = at("tree", 0);
        fs::create_dir(&tree)?;
        (0..TIMES).try_for_each(|number| File::create_new(tree.join(number.to_string())).map(drop))?;
        walk(&tree)?;
        walk(&tree)?;
        self.once("walk of a directory of 50, hot", || walk(&tree))?;
        thread::sleep(EXPIRY);
        self.once("walk of a directory of 50, expired", || walk(&tree))?;

        // As a program that has just seen the names.
        (0..TIMES).try_for_each(|number| fs::metadata(at("file", number)).map(drop))?;
        self.each("rename", |turn| fs::rename(at("file", turn), at("renamed", turn)))?;
        self.each("unlink", |turn| fs::remove_file(at("renamed", turn)))?;
        self.each("mkdir", |turn| fs::create_dir(at("directory", turn)))?;
        self.each("rmdir", |turn| fs::remove_dir(at("directory", turn)))?;
        Ok(self.counts)
    }

    fn each(
        &mut self,
        operation: &'static str,
        mut act: impl FnMut(u32) -> io::Result<()>,
    ) -> io::Result<()> {
        self.counted(operation, TIMES, || (0..TIMES).try_for_each(&mut act))
    }

    fn once(&mut self, operation: &'static str, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.counted(operation, 1, act)
    }

    fn counted(
        &mut self,
        operation: &'static str,
        times: u32,
        act: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        thread::sleep(SETTLE);
        let before = (self.read)()?;
        act()?;
        thread::sleep(SETTLE);
        let after = (self.read)()?;
        self.counts.push(difference(operation, times, &before, &after));
        Ok(())
    }
}

fn difference(operation: &'static str, times: u32, before: &Counts, after: &Counts) -> Count {
    let more = |(kind, count): (&String, &u64)| {
        let more = count - before.get(kind).unwrap_or(&0);
        (more > 0).then(|| (kind.clone(), more as f64 / f64::from(times)))
    };
    let by_kind: BTreeMap<_, _> = after.iter().filter_map(more).collect();
    // A sum of nothing is -0.0 (f64's neutral element): it is told as it is meant.
    let total = by_kind.values().sum::<f64>() + 0.0;
    Count { operation, total, by_kind }
}

fn walk(dir: &Path) -> io::Result<()> {
    fs::read_dir(dir)?.try_for_each(|entry| entry?.metadata().map(drop))
}
