//! `permfs bench` removes what it makes: after a signal at any moment, on a disk that fills up; and leaves small disks alone.

#![allow(missing_docs, clippy::unwrap_used)]

mod bench_room;
mod live;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use bench_room::{Room, assert_empty, bench, complaint, entries};
use live::{AIRFLOW, Mount};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long what must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the run has begun to work in `dir`.
fn wait_for_work_in(dir: &Path, child: &mut Child) {
    let end = Instant::now() + PATIENCE;
    while entries(dir).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended before it worked");
        assert!(Instant::now() < end, "it does not work");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_signal_at_any_moment_leaves_nothing_behind() {
    for (signal, code) in
        [(Signal::SIGINT, 130), (Signal::SIGQUIT, 131), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)]
    {
        for pause in [0, 3, 40, 300, 1200] {
            let room = Room::in_memory();
            let mut child = room.bench(&[]).spawn().unwrap();
            wait_for_work_in(&room.target(), &mut child);
            thread::sleep(Duration::from_millis(pause));
            kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
            let sent = Instant::now();
            let output = child.wait_with_output().unwrap();
            assert!(sent.elapsed() < PATIENCE, "it took {:?}", sent.elapsed());
            assert_eq!(output.status.code(), Some(code), "{signal} after {pause} ms: {}", complaint(&output));
            assert!(complaint(&output).contains("interrupted"), "{}", complaint(&output));
            assert_empty(&[room.source(), room.target()]);
        }
    }
}

#[test]
fn a_signal_during_a_run_on_a_mount_leaves_nothing_behind() {
    let mounted = Mount::of(AIRFLOW);
    let options = ["--source-as", "2001:2001", "--target-as", "50000:0"];
    let mut child = bench(&mounted.source(), &mounted.target(), &options).spawn().unwrap();
    wait_for_work_in(&mounted.source(), &mut child);
    thread::sleep(Duration::from_millis(1500));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_empty(&[mounted.source()]);
}

/// A small filesystem of its own, for as long as this lives.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn on(dir: PathBuf, options: &str) -> Self {
        mount(Some("permfs-bench-test"), &dir, Some("tmpfs"), MsFlags::empty(), Some(options))
            .expect("tests run as root");
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Busy for as long as a child that another test's thread has just forked holds copies of this one's open files.
        let begun = Instant::now();
        while let Err(errno) = umount(&self.0) {
            assert!(errno == Errno::EBUSY && begun.elapsed() < PATIENCE, "{}: {errno}", self.0.display());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_disk_that_fills_up_meanwhile_ends_the_run_and_leaves_nothing_behind() {
    let room = Room::new();
    let disk = Tmpfs::on(room.target(), "size=32m");
    let mut child = room.bench(&["--rounds", "1000"]).spawn().unwrap();
    wait_for_work_in(&disk.0, &mut child);
    let full = disk.0.join("full");
    let mut file = File::create(&full).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        // Whatever the run frees is taken again; an error means that there is nothing to take.
        let _ = file.write(&[1; 4096]);
        assert!(Instant::now() < end, "it does not notice");
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("No space left on device"), "{}", complaint(&output));
    fs::remove_file(&full).unwrap();
    assert_empty(&[room.source(), room.target()]);
}

#[test]
fn a_disk_with_little_room_is_not_worked_on() {
    let room = Room::new();
    for options in ["size=4m", "size=1g,nr_inodes=100"] {
        let disk = Tmpfs::on(room.target(), options);
        let output = room.bench(&["--quick"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains("free: permfs bench takes at most"), "{}", complaint(&output));
        assert_empty(&[room.source(), disk.0.clone()]);
    }
}

#[test]
fn a_disk_of_an_odd_size_has_whole_blocks_to_read() {
    // Once a sixteenth of the free bytes was not a whole number of blocks, and random reads met the end of the file.
    let room = Room::new();
    let disk = Tmpfs::on(room.target(), "size=28m");
    let output = room.bench(&["--only", "rand_read,mmap_read", "--rounds", "1"]).output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    assert_empty(&[room.source(), disk.0.clone()]);
}
