//! The verified load on an ordinary mount: nothing is wrong there, and a mount that stops, hangs or breaks is told.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;
mod takeover_room;

use std::fs;
use std::time::Duration;

use live::connection::abort;
use live::waits::until;
use live::{AIRFLOW, Backing, Mount, TRANSPARENT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use takeover_room::{Load, Options, Report, Who};

/// The pod of the airflow rules.
const POD: Who = Who::new(50000, 0);
/// How long a load runs here.
const A_WHILE: Duration = Duration::from_millis(1500);

#[test]
fn the_load_finds_nothing_wrong_where_the_kernel_passes_files_through() {
    finds_nothing_wrong(AIRFLOW, Backing::TempDir);
}

#[test]
fn the_load_finds_nothing_wrong_in_the_page_cache() {
    finds_nothing_wrong(&format!("{AIRFLOW}\n[profile.airflow.cache]\ndata = \"page\"\n"), Backing::TempDir);
}

#[test]
fn the_load_finds_nothing_wrong_on_a_tmpfs() {
    finds_nothing_wrong(AIRFLOW, Backing::Tmpfs);
}

#[test]
fn the_load_finds_nothing_wrong_where_nothing_is_translated() {
    let mount = Mount::of(TRANSPARENT);
    Options::new(mount.at("load")).run(A_WHILE).assert_clean();
}

#[test]
fn a_mount_that_stops_for_a_moment_is_a_pause_of_that_length() {
    let stopped = Duration::from_millis(1500);
    let mount = Mount::on(Backing::Tmpfs, AIRFLOW);
    let load = Load::start(options(&mount));
    let served = Stopped::for_the_moment(&mount);
    std::thread::sleep(stopped);
    drop(served);
    let report = load.finish();
    report.assert_clean();
    let (kind, pause) = report.worst_pause();
    assert!(pause >= stopped.mul_f32(0.8), "{kind} took {pause:?}");
}

#[test]
fn a_mount_that_does_not_answer_any_more_is_told_and_not_waited_for() {
    let mount = Mount::on(Backing::Tmpfs, AIRFLOW);
    let load = Load::start(Options { patience: Duration::from_millis(500), ..options(&mount) });
    let served = Stopped::for_the_moment(&mount);
    let report = load.finish();
    drop(served);
    told(&report, "has not returned for");
    // The workers go on to their end, in this process.
    until("the workers have ended", || {
        !fs::read_dir(mount.stored("room/load")).unwrap().any(|entry| worker(&entry.unwrap()))
    });
}

#[test]
fn a_broken_connection_is_told() {
    let mount = Mount::on(Backing::Tmpfs, AIRFLOW);
    let load = Load::start(options(&mount));
    std::thread::sleep(Duration::from_millis(300));
    abort(&mount.target()).unwrap();
    told(&load.finish(), "Transport endpoint is not connected");
}

#[track_caller]
fn finds_nothing_wrong(rules: &str, backing: Backing) {
    let mount = Mount::on(backing, rules);
    let load = Load::start(options(&mount));
    std::thread::sleep(A_WHILE);
    until("the load gets on", || load.operations() > 1_000);
    load.finish().assert_clean();
    assert_eq!(fs::read_dir(mount.source()).unwrap().count(), 1, "only the load's room is left");
}

/// As the pod, in a directory that is the pod's.
fn options(mount: &Mount) -> Options {
    let room = mount.at("room");
    POD.run(|| fs::create_dir(&room).unwrap());
    Options { who: Some(POD), ..Options::new(room.join("load")) }
}

#[track_caller]
fn told(report: &Report, words: &str) {
    assert!(report.faults.iter().any(|fault| fault.contains(words)), "{}", report.faults.join("\n"));
}

fn worker(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with("worker-")
}

/// The mount's process is stopped until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn for_the_moment(mount: &Mount) -> Self {
        let pid = Pid::from_raw(i32::try_from(mount.daemon()).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        kill(pid, Signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}
