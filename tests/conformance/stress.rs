//! Four processes at once, each doing whatever to a tree that they share and keeping books on a tree of its own: in the
//! manner of fsstress, which Debian does not package.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::live::tree::{listing, same_trees};
use super::live::{Mount, TRANSPARENT};

const PROCESSES: usize = 4;
const OPERATIONS: usize = 4_000;
/// Names in the shared tree: few, so that the processes meet.
const NAMES: u64 = 40;
/// The longest file.
const LONGEST: u64 = 200_000;

#[test]
fn four_processes_at_once_leave_what_they_wrote_and_the_same_tree_on_both_sides() {
    let mount = Mount::of(TRANSPARENT);
    let seed = std::env::var("PERMFS_STRESS_SEED").ok().map_or(0x5eed, |seed| seed.parse().unwrap());
    let mut processes: Vec<_> = (0..PROCESSES).map(|number| start(&mount.target(), number, seed)).collect();
    let ended: Vec<_> = processes.iter_mut().map(|process| process.wait().unwrap()).collect();
    assert!(ended.iter().all(std::process::ExitStatus::success), "seed {seed}: {ended:?}");

    let diff = Command::new("diff")
        .arg("-r")
        .arg("--no-dereference")
        .args([mount.source(), mount.target()])
        .output();
    let diff = diff.unwrap();
    // A fifo or socket that diff cannot read would also be 1; the stress makes none.
    assert!(diff.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&diff.stdout));
    same_trees("the mount", &listing(&mount.source()), &listing(&mount.target())).unwrap();
}

/// Runs this binary again, as one of the processes.
fn start(directory: &Path, number: usize, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "stress::one_of_the_processes", "--nocapture"])
        .env("PERMFS_STRESS_DIRECTORY", directory)
        .env("PERMFS_STRESS_NUMBER", number.to_string())
        .env("PERMFS_STRESS_SEED", seed.to_string())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "a part of four_processes_at_once_..., which runs it"]
fn one_of_the_processes() {
    let variable =
        |name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the test that runs this"));
    let directory = PathBuf::from(variable("PERMFS_STRESS_DIRECTORY"));
    let number: u64 = variable("PERMFS_STRESS_NUMBER").parse().unwrap();
    let seed: u64 = variable("PERMFS_STRESS_SEED").parse().unwrap();
    let mut dice = Dice(seed.wrapping_mul(31).wrapping_add(number + 1));
    let own = directory.join(format!("own{number}"));
    fs::create_dir(&own).unwrap();
    let mut books = Books { directory: own, files: BTreeMap::new() };
    for _ in 0..OPERATIONS {
        if dice.below(2) == 0 {
            books.operate(&mut dice);
        } else {
            tolerate(meddle(&directory, &mut dice));
        }
    }
    books.check_all();
}

/// xorshift64*: the same sequence for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    fn bytes(&mut self, longest: u64) -> Vec<u8> {
        let (length, first) = (self.below(longest), self.next());
        (0..length).map(|at| u8::try_from((first.wrapping_add(at * at)) & 0xff).unwrap()).collect()
    }
}

/// A tree that only one process touches, and what it knows to be in it.
struct Books {
    directory: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
}

impl Books {
    fn operate(&mut self, dice: &mut Dice) {
        let name = format!("f{}", dice.below(20));
        let path = self.directory.join(&name);
        match dice.below(8) {
            0 => {
                let data = dice.bytes(LONGEST);
                fs::write(&path, &data).unwrap();
                self.files.insert(name, data);
            }
            1 | 2 => self.overwrite(dice, name),
            3 => {
                let data = dice.bytes(5_000);
                OpenOptions::new().append(true).create(true).open(&path).unwrap().write_all(&data).unwrap();
                self.files.entry(name).or_default().extend(data);
            }
            4 => {
                let size = dice.below(LONGEST);
                let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).unwrap();
                file.set_len(size).unwrap();
                self.files.entry(name).or_default().resize(usize::try_from(size).unwrap(), 0);
            }
            5 => {
                let existed = self.files.remove(&name).is_some();
                assert_eq!(fs::remove_file(&path).is_ok(), existed, "{}", path.display());
            }
            6 => {
                let new_name = format!("f{}", dice.below(20));
                if let Some(data) = self.files.remove(&name) {
                    fs::rename(&path, self.directory.join(&new_name)).unwrap();
                    self.files.insert(new_name, data);
                }
            }
            _ => self.check(&name),
        }
    }

    fn overwrite(&mut self, dice: &mut Dice, name: String) {
        let (offset, data) = (dice.below(LONGEST), dice.bytes(20_000));
        let path = self.directory.join(&name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
        file.write_all_at(&data, offset).unwrap();
        let known = self.files.entry(name).or_default();
        let start = usize::try_from(offset).unwrap();
        // A write of nothing beyond the end does not lengthen the file.
        if !data.is_empty() {
            known.resize(known.len().max(start + data.len()), 0);
            known[start..start + data.len()].copy_from_slice(&data);
        }
    }

    fn check(&self, name: &str) {
        let path = self.directory.join(name);
        match self.files.get(name) {
            Some(known) => {
                assert!(fs::read(&path).unwrap() == *known, "{} has another content", path.display())
            }
            None => assert!(!path.exists(), "{} exists", path.display()),
        }
    }

    fn check_all(&self) {
        for name in self.files.keys() {
            self.check(name);
        }
        let mut found: Vec<_> = fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, self.files.keys().cloned().collect::<Vec<_>>());
    }
}

/// Something to the shared tree, where others may be doing the opposite.
fn meddle(directory: &Path, dice: &mut Dice) -> io::Result<()> {
    let path = shared(directory, dice);
    let other = shared(directory, dice);
    match dice.below(16) {
        0 | 1 => File::create(&path)?.write_all(&dice.bytes(10_000)),
        2 => OpenOptions::new().append(true).open(&path)?.write_all(&dice.bytes(1_000)),
        3 | 4 => fs::create_dir(&path),
        5 => fs::remove_file(&path),
        6 => fs::remove_dir(&path),
        7 | 8 => fs::rename(&path, &other),
        9 => fs::hard_link(&path, &other),
        10 => symlink("a/b", &path),
        11 => fs::set_permissions(
            &path,
            Permissions::from_mode(0o600 + u32::try_from(dice.below(0o200)).unwrap()),
        ),
        12 => fs::read_dir(&path)?.try_for_each(|entry| entry.map(drop)),
        13 => File::open(&path)?.read_to_end(&mut Vec::new()).map(drop),
        14 => OpenOptions::new().write(true).open(&path)?.set_len(dice.below(LONGEST)),
        _ => {
            let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
            let _ = fs::remove_file(&path);
            file.write_all(b"after the name is gone")?;
            file.seek(SeekFrom::Start(0))?;
            file.sync_all()
        }
    }
}

/// A path of one to three components in the shared tree.
fn shared(directory: &Path, dice: &mut Dice) -> PathBuf {
    (0..=dice.below(3)).fold(directory.to_owned(), |path, _| path.join(format!("s{}", dice.below(NAMES))))
}

/// The errors that two processes in each other's way may meet; any other is a bug.
fn tolerate(result: io::Result<()>) {
    const EXPECTED: &[i32] = &[
        libc::ENOENT,
        libc::EEXIST,
        libc::ENOTDIR,
        libc::EISDIR,
        libc::ENOTEMPTY,
        libc::EPERM,
        libc::EINVAL,
        libc::ELOOP,
    ];
    if let Err(error) = result {
        assert!(EXPECTED.contains(&error.raw_os_error().unwrap()), "{error}");
    }
}
