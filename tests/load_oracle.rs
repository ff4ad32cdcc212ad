//! The verified load of the takeover tests sees what it is there to see: on a plain directory, where nothing goes wrong by
//! itself, somebody else damages something, and the load must say so.

#![allow(missing_docs, clippy::unwrap_used)]

mod takeover_room;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use permfs::sys::process::open_file_of;
use rustix::fs::{FlockOperation, XattrFlags, flock, setxattr};
use takeover_room::fcntl::{self, Owner};
use takeover_room::{Load, Options, Report, Who, be_a_worker};
use tempfile::TempDir;

/// How long damage may be done again until it is noticed: what was damaged may just have been replaced.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_sound_directory_is_found_sound_and_left_empty() {
    let room = room();
    let report = options(room.path()).run(Duration::from_secs(1));
    report.assert_clean();
    assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
    assert_eq!(report.counts.races, report.counts.races_won);
    for kind in ["create", "fsync", "rename", "read back", "pread", "pwrite", "getdents", "mkdir", "rmdir"] {
        assert!(report.operations[kind].count > 0, "{kind} was never done: {}", report.to_json());
    }
}

#[test]
fn workers_may_be_processes_of_another_user() {
    let room = room();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let options =
        Options { who: Some(Who::new(50000, 0)), processes: Some(a_process), ..options(room.path()) };
    let report = options.run(Duration::from_millis(700));
    report.assert_clean();
    assert!(report.total() > 100 && report.counts.lines > 0, "{}", report.to_json());
}

#[test]
fn a_worker_process_that_dies_is_a_fault() {
    let room = room();
    let options = Options { processes: Some(a_process_that_fails), ..options(room.path()) };
    told(&options.run(Duration::from_millis(100)), &["ended without a report"]);
}

#[test]
fn a_byte_changed_in_a_file_at_rest_is_told() {
    damage("replacing-0", |directory| flip(&any(directory, "file-"), &[0]), &["read back", "byte 0 is"]);
}

#[test]
fn bytes_changed_in_a_file_held_open_are_told() {
    let places = [500, 3_000, 9_000, 14_000];
    damage("held-0", |directory| flip(&any(directory, "held-"), &places), &["bytes differ"]);
}

#[test]
fn bytes_lost_from_a_file_held_open_are_told() {
    // One at a time: whoever has a file mapped whose pages are gone is ended by SIGBUS, and the rest of a page stays.
    let cut = |directory: &Path| {
        let file = File::options().write(true).open(any(directory, "held-"))?;
        file.set_len(file.metadata()?.len().saturating_sub(1))
    };
    damage("held-0", cut, &["held-0/held-"]);
}

#[test]
fn a_line_that_is_there_twice_is_told() {
    damage_shared(|shared| append(shared, |log| last_line(log).to_vec()), &["again or late"]);
}

#[test]
fn a_line_that_is_torn_is_told() {
    damage_shared(|shared| append(shared, |_| b"0 ".to_vec()), &["line", "of the log"]);
}

#[test]
fn a_line_that_is_lost_is_told() {
    let lose = |shared: &Path| {
        let path = any(shared, "log-");
        let text = fs::read(&path)?;
        let kept = text.len() - last_line(&text).len();
        File::options().write(true).open(path)?.set_len(u64::try_from(kept).unwrap())
    };
    damage_shared(lose, &["log"]);
}

#[test]
fn a_file_that_is_lost_is_told() {
    damage("replacing-0", |directory| fs::remove_file(any(directory, "file-")), &["No such file"]);
}

#[test]
fn a_file_that_comes_back_is_told() {
    let revive = |directory: &Path| (0..12).try_for_each(|at| touch(&directory.join(format!("file-{at}"))));
    damage("replacing-0", revive, &["stat", "should have been refused"]);
}

#[test]
fn a_creation_done_twice_is_told() {
    let ahead = |directory: &Path| {
        let newest = fs::read_dir(directory)?.count();
        (newest..newest + 2_000).try_for_each(|at| touch(&directory.join(format!("once-{at}"))))
    };
    damage("once-0", ahead, &["create", "File exists"]);
}

#[test]
fn a_race_that_nobody_wins_is_told() {
    let ahead = |shared: &Path| (0..400).try_for_each(|at| touch(&shared.join(format!("race-{at}"))));
    damage_at_the_end(ahead, &["names won in races"]);
}

#[test]
fn a_transaction_that_is_lost_is_told() {
    let restore = |shared: &Path| {
        let path = shared.join("ledger");
        let (old, begun) = (fs::read(&path)?, Instant::now());
        if old.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        while fs::read(&path)? == old && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(5));
        }
        // Between two others: one in the middle would write what it has read before.
        let ledger = File::options().read(true).write(true).open(path)?;
        fcntl::lock_waiting(&ledger, 0, 1)?;
        ledger.write_all_at(&old, 0)?;
        fcntl::unlock(&ledger, Owner::OpenFile, 0, 1)
    };
    damage_at_the_end(restore, &["the ledger"]);
}

#[test]
fn a_name_that_nobody_made_is_told() {
    damage("directories-0", |directory| touch(&directory.join("stray")), &["list", "unknown [\"stray\"]"]);
}

#[test]
fn a_name_missing_from_a_large_directory_is_told() {
    let hide = |directory: &Path| fs::rename(any(directory, "staying-"), directory.join("moving-x"));
    damage("large-directory-0", hide, &["large-directory-0"]);
}

#[test]
fn a_changed_mode_is_told() {
    let change = |file: PathBuf| fs::set_permissions(file, fs::Permissions::from_mode(0o600));
    damage("attributes-0", |directory| change(directory.join("attributes")), &["mode: ", "\"0600\", not"]);
}

#[test]
fn a_changed_time_is_told() {
    let change = |directory: &Path| {
        File::open(directory.join("attributes"))?.set_modified(std::time::SystemTime::UNIX_EPOCH)
    };
    damage("attributes-0", change, &["time of modification"]);
}

#[test]
fn a_changed_attribute_is_told() {
    let change = |directory: &Path| {
        Ok(setxattr(directory.join("attributes"), "user.load-0", b"another", XattrFlags::empty())?)
    };
    damage("attributes-0", change, &["xattr"]);
}

#[test]
fn a_changed_symlink_is_told() {
    let change = |directory: &Path| {
        fs::remove_file(directory.join("symlink"))?;
        symlink("elsewhere", directory.join("symlink"))
    };
    damage("names-0", change, &["symlink"]);
}

#[test]
fn a_name_too_many_is_told() {
    let add = |directory: &Path| {
        // The object may lose all its own names before the load looks at it.
        let _ = fs::remove_file(directory.join("another"));
        fs::hard_link(any(directory, "name-"), directory.join("another"))
    };
    damage("names-0", add, &["number of names"]);
}

#[test]
fn a_posix_lock_that_is_lost_is_told() {
    // Closing any descriptor of the file drops the process's locks on it (fcntl(2)).
    damage("locks-0", |directory| File::open(directory.join("posix")).map(drop), &["posix", "refused"]);
}

#[test]
fn a_lock_of_an_open_file_that_is_lost_is_told() {
    let drop_lock = |directory: &Path| {
        let file = opened_by_this_process(&directory.join("ofd"))?;
        let range = libc::flock {
            l_type: i16::try_from(libc::F_UNLCK).unwrap(),
            l_whence: 0,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_SETLK(&range))?;
        Ok(())
    };
    damage("locks-0", drop_lock, &["ofd", "refused"]);
}

#[test]
fn a_flock_that_is_lost_is_told() {
    let drop_lock = |directory: &Path| {
        Ok(flock(opened_by_this_process(&directory.join("flock"))?, FlockOperation::Unlock)?)
    };
    damage("locks-0", drop_lock, &["flock", "refused"]);
}

#[test]
fn a_full_file_system_is_told() {
    let room = room();
    mount(Some("tmpfs"), room.path(), Some("tmpfs"), MsFlags::empty(), Some("size=2M")).unwrap();
    let load = Load::start(options(room.path()));
    let begun = Instant::now();
    while load.faults().is_empty() && begun.elapsed() < PATIENCE {
        sleep(Duration::from_millis(20));
    }
    let report = load.finish();
    umount2(room.path(), MntFlags::MNT_DETACH).unwrap();
    told(&report, &["No space left on device"]);
}

#[test]
#[ignore = "a worker of the loads above, which run it"]
fn a_worker_of_the_load() {
    assert!(be_a_worker(), "only a load runs this");
}

fn a_process() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "a_worker_of_the_load", "--nocapture"]);
    command
}

fn a_process_that_fails() -> Command {
    Command::new("false")
}

fn room() -> TempDir {
    tempfile::Builder::new().prefix("permfs-oracle-").tempdir().unwrap()
}

fn options(room: &Path) -> Options {
    Options { workers: 2, ..Options::new(room.join("load")) }
}

/// Does this to the first worker's directory of that name until the load says so, in a sentence with all these words.
fn damage(chore: &str, sabotage: impl Fn(&Path) -> std::io::Result<()>, words: &[&str]) {
    sabotaged(&Path::new("worker-0").join(chore), sabotage, true, words);
}

/// The same to what the workers share.
fn damage_shared(sabotage: impl Fn(&Path) -> std::io::Result<()>, words: &[&str]) {
    sabotaged(Path::new("shared"), sabotage, true, words);
}

/// The same, once: what only the end can tell.
fn damage_at_the_end(sabotage: impl Fn(&Path) -> std::io::Result<()>, words: &[&str]) {
    sabotaged(Path::new("shared"), sabotage, false, words);
}

#[track_caller]
fn sabotaged(below: &Path, sabotage: impl Fn(&Path) -> std::io::Result<()>, often: bool, words: &[&str]) {
    let room = room();
    let load = Load::start(options(room.path()));
    let directory = room.path().join("load").join(below);
    let begun = Instant::now();
    let mut done = false;
    while load.faults().is_empty() && begun.elapsed() < PATIENCE && (often || !done) {
        // Where it fails, what it was to damage is not there yet, or not any more.
        done = sabotage(&directory).is_ok();
        sleep(Duration::from_millis(100));
    }
    told(&load.finish(), words);
}

#[track_caller]
fn told(report: &Report, words: &[&str]) {
    let fits = |fault: &String| words.iter().all(|word| fault.contains(word));
    assert!(
        report.faults.iter().any(fits),
        "no fault with {words:?} among {}:\n{}",
        report.fault_count,
        report.faults.join("\n")
    );
}

/// Some file whose name begins so; one that does not exist where there is none.
fn any(directory: &Path, beginning: &str) -> PathBuf {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    directory.join(names.filter(|name| name.starts_with(beginning)).max().unwrap_or("none".to_owned()))
}

/// Turns over every bit of the bytes at these places.
fn flip(path: &Path, places: &[u64]) -> std::io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    for &place in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, place)?;
        file.write_all_at(&[!byte[0]], place)?;
    }
    Ok(())
}

fn append(shared: &Path, what: impl Fn(&[u8]) -> Vec<u8>) -> std::io::Result<()> {
    let path = any(shared, "log-");
    let text = fs::read(&path)?;
    OpenOptions::new().append(true).open(path)?.write_all(&what(&text))
}

/// With its newline; nothing where there is no line.
fn last_line(text: &[u8]) -> &[u8] {
    text.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default()
}

fn touch(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).map(drop)
}

/// The very open file that a worker holds; not found where none does at the moment.
fn opened_by_this_process(path: &Path) -> std::io::Result<OwnedFd> {
    let is_it = |fd: RawFd| fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|target| target == path);
    let numbers =
        fs::read_dir("/proc/self/fd")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Other threads close their files all the while, and what they open next has the same number.
    numbers
        .filter(|&fd| is_it(fd))
        .filter_map(|fd| open_file_of(std::process::id(), fd).ok())
        .find(|file| is_it(file.as_raw_fd()))
        .ok_or_else(|| ErrorKind::NotFound.into())
}
