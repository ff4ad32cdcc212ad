//! Close-to-open: whoever opens a file sees what everybody has closed before, on whichever mount of the export, or at the export
//! itself. Random sequences, one step after the other, against what the files must have.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use live::mapping::with_shared_mapping;
use live::{Backing, Mount, OWNER, POD};

/// The export itself, and a mount for each way to the content.
const PLACES: usize = 4;
const WAYS: [&str; PLACES - 1] = ["auto", "page", "none"];
/// Where nothing can be mapped shared.
const NONE: usize = 3;
const FILES: u8 = 4;
const SIZES: [usize; 6] = [1, 100, 4096, 5000, 70_000, 200_000];

#[derive(Debug, Clone, Copy)]
enum Step {
    Write { place: usize, file: u8, change: Change, keeps_mtime: bool },
    Read { place: usize, file: u8, how: How, stays_open: bool },
    Pause(u64),
}

#[derive(Debug, Clone, Copy)]
enum Change {
    /// By O_TRUNC.
    Anew(usize),
    /// By another file, which is renamed over it.
    Replaced(usize),
    /// The same, where the old file has another name from then on.
    SetAside(usize),
    Overwritten,
    Mapped,
    Appended,
    /// By ftruncate(2), to this part in 256.
    Cut(u8),
}

#[derive(Debug, Clone, Copy)]
enum How {
    Reading,
    ForWriting,
    /// As far as fstat(2) says that it reaches.
    Mapping,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = || (0..SIZES.len()).prop_map(|index| SIZES[index]);
    let change = prop_oneof![
        size().prop_map(Change::Anew),
        size().prop_map(Change::Replaced),
        size().prop_map(Change::SetAside),
        Just(Change::Overwritten),
        Just(Change::Mapped),
        Just(Change::Appended),
        any::<u8>().prop_map(Change::Cut),
    ];
    let how = prop_oneof![Just(How::Reading), Just(How::ForWriting), Just(How::Mapping)];
    let pause = prop_oneof![Just(1), Just(5), Just(22), Just(110), Just(300)];
    let write = (0..PLACES, 0..FILES, change, proptest::bool::weighted(0.15))
        .prop_map(|(place, file, change, keeps_mtime)| Step::Write { place, file, change, keeps_mtime });
    let read = (0..PLACES, 0..FILES, how, proptest::bool::weighted(0.1))
        .prop_map(|(place, file, how, stays_open)| Step::Read { place, file, how, stays_open });
    let step = prop_oneof![10 => write, 10 => read, 1 => pause.prop_map(Step::Pause)];
    proptest::collection::vec(step, 30..150)
}

/// What happens on one export.
struct World {
    /// By place.
    directories: Vec<PathBuf>,
    expected: BTreeMap<u8, Vec<u8>>,
    version: usize,
    open: Vec<File>,
}

impl World {
    fn act<T: Send>(place: usize, work: impl FnOnce() -> T + Send) -> T {
        if place == 0 { OWNER.run(work) } else { POD.run(work) }
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Pause(milliseconds) => sleep(Duration::from_millis(milliseconds)),
            Step::Write { place, file, change, keeps_mtime } => {
                self.version += 1;
                let path = self.directories[place].join(format!("f{file}"));
                let old = self.expected.get(&file).cloned();
                let mtime = if keeps_mtime && old.is_some() { Some(mtime(place, &path)) } else { None };
                let version = self.version;
                let new = Self::act(place, || write(place, &path, change, old.as_deref(), version));
                if let Some(mtime) = mtime {
                    Self::act(place, || {
                        OpenOptions::new().write(true).open(&path).unwrap().set_modified(mtime).unwrap();
                    });
                }
                self.expected.insert(file, new);
            }
            Step::Read { place, file, how, stays_open } => {
                let Some(expected) = self.expected.get(&file) else { return Ok(()) };
                let path = self.directories[place].join(format!("f{file}"));
                let (open, found) = Self::act(place, || read(place, &path, how));
                if found != *expected {
                    return Err(format!("{} bytes instead of {}", found.len(), expected.len()));
                }
                if stays_open {
                    self.open.push(open);
                }
            }
        }
        Ok(())
    }
}

fn mtime(place: usize, path: &Path) -> SystemTime {
    World::act(place, || File::open(path).unwrap().metadata().unwrap().modified().unwrap())
}

fn text(version: usize, size: usize) -> Vec<u8> {
    format!("{version:08}").into_bytes().into_iter().cycle().take(size).collect()
}

fn write(place: usize, path: &Path, change: Change, old: Option<&[u8]>, version: usize) -> Vec<u8> {
    let to_write = || OpenOptions::new().write(true).open(path).unwrap();
    let (Some(old), aside) = (old, path.with_extension(version.to_string())) else {
        let new = text(version, 100);
        fs::write(path, &new).unwrap();
        return new;
    };
    match change {
        Change::Anew(size) => {
            let new = text(version, size);
            fs::write(path, &new).unwrap();
            new
        }
        Change::Replaced(size) => {
            let new = text(version, size);
            fs::write(&aside, &new).unwrap();
            fs::rename(&aside, path).unwrap();
            new
        }
        Change::SetAside(size) => {
            let new = text(version, size);
            fs::rename(path, &aside).unwrap();
            fs::write(path, &new).unwrap();
            new
        }
        Change::Mapped if place != NONE && !old.is_empty() => {
            let new = text(version, old.len());
            let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
            // As everybody does who maps a file, and must on FUSE: a mapping does not ask for the size.
            assert_eq!(file.metadata().unwrap().len(), u64::try_from(old.len()).unwrap());
            with_shared_mapping(&file, old.len(), |mapped| mapped.copy_from_slice(&new));
            file.sync_all().unwrap();
            new
        }
        Change::Overwritten | Change::Mapped => {
            let new = text(version, old.len());
            to_write().write_all_at(&new, 0).unwrap();
            new
        }
        Change::Appended => {
            let more = text(version, 8);
            OpenOptions::new().append(true).open(path).unwrap().write_all(&more).unwrap();
            [old, &more].concat()
        }
        Change::Cut(part) => {
            let length = old.len() * usize::from(part) / 256;
            to_write().set_len(u64::try_from(length).unwrap()).unwrap();
            old[..length].to_vec()
        }
    }
}

fn read(place: usize, path: &Path, how: How) -> (File, Vec<u8>) {
    let writes = !matches!(how, How::Reading);
    let mut file = OpenOptions::new().read(true).write(writes).open(path).unwrap();
    let mut found = Vec::new();
    let length = usize::try_from(file.metadata().unwrap().size()).unwrap();
    if matches!(how, How::Mapping) && place != NONE && length > 0 {
        with_shared_mapping(&file, length, |mapped| found.extend_from_slice(mapped));
    } else {
        file.read_to_end(&mut found).unwrap();
    }
    assert_eq!(length, found.len(), "what fstat(2) says");
    (file, found)
}

fn every_open_sees_what_was_closed_on(backing: Backing) {
    let rules = |way: &str| format!("{}\n[profile.airflow.cache]\ndata = \"{way}\"\n", live::AIRFLOW);
    let export = Mount::on(backing, &rules(WAYS[0]));
    let others = WAYS[1..].iter().map(|way| {
        let mut other = Mount::unmounted(Backing::TempDir);
        other.share(&export);
        other.mount(&rules(way));
        other
    });
    let others: Vec<_> = others.collect();
    let runs = AtomicUsize::new(0);
    let config = Config { cases: 16, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    TestRunner::new(config)
        .run(&steps(), |steps| {
            let name = format!("run-{}", runs.fetch_add(1, Ordering::Relaxed));
            OWNER.run(|| fs::create_dir(export.source().join(&name)).unwrap());
            let tops = [export.source(), export.target()].into_iter().chain(others.iter().map(Mount::target));
            let directories = tops.map(|top| top.join(&name)).collect();
            let (expected, open) = (BTreeMap::new(), Vec::new());
            let mut world = World { directories, expected, version: 0, open };
            for (number, step) in steps.iter().enumerate() {
                world.take(*step).map_err(|wrong| TestCaseError::fail(format!("step {number}: {wrong}")))?;
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_open_sees_what_was_closed_on_a_file_system_of_this_kernel() {
    every_open_sees_what_was_closed_on(Backing::TempDir);
}

#[test]
fn every_open_sees_what_was_closed_on_one_that_has_no_handles() {
    every_open_sees_what_was_closed_on(Backing::Ramfs);
}
