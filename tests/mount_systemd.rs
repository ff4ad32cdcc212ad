//! `deploy/systemd/permfs@.service` under a systemd of its own: it starts, stops, and is killed whole while people work, and the mount
//! goes on with what systemd has kept of it.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;
mod systemd_room;
mod takeover_room;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use live::AIRFLOW;
use live::waits::until;
use systemd_room::Machine;
use takeover_room::{Load, Options, Who};

/// The pod of the airflow rules.
const POD: Who = Who::new(50000, 0);
/// /dev/fuse, the memory, SOURCE, and the one file system of it.
const KEPT: &str = "4";
const PAGE: &str = "\n[profile.airflow.cache]\ndata = \"page\"\n";
/// A lock of the server's would be lost with the processes (README).
const NODE_LOCKS: &str = "\n[profile.airflow.locks]\nscope = \"node\"\n";

#[test]
fn the_load_sees_nothing_of_a_unit_that_is_killed_whole_five_times() {
    let machine = Machine::with(&format!("{AIRFLOW}{NODE_LOCKS}"));
    machine.start();
    assert_eq!(machine.show("NFileDescriptorStore"), KEPT);
    let options = Options { who: Some(POD), names_only: true, ..Options::new(machine.at("load")) };
    let load = Load::start(options);
    for kill in 1..=5 {
        let goal = load.operations() + 500;
        until("the load goes on", || load.operations() > goal);
        machine.kill_all();
        until("systemd starts the next", || machine.show("NRestarts") == kill.to_string());
    }
    let goal = load.operations() + 500;
    until("the load goes on", || load.operations() > goal);
    let report = load.finish();
    report.assert_clean();
    let (kind, pause) = report.worst_pause();
    println!("{} operations, worst pause {pause:?} ({kind})", report.total());
    // A restart is half a second later (RestartSec).
    assert!(pause > Duration::from_millis(400), "they were killed while it worked");
    assert_eq!(machine.show("NFileDescriptorStore"), KEPT);
    machine.stop();
}

#[test]
fn a_mount_that_loses_its_keeper_stays_the_unit_that_it_was() {
    let machine = Machine::with(AIRFLOW);
    machine.start();
    let mut log =
        live::POD.run(|| OpenOptions::new().append(true).create(true).open(machine.at("log")).unwrap());
    for line in 0..3 {
        machine.kill_main();
        writeln!(log, "line {line}").unwrap();
    }
    assert_eq!((&*machine.show("ActiveState"), &*machine.show("NRestarts")), ("active", "0"));
    assert_eq!(machine.show("NFileDescriptorStore"), KEPT, "kept as before");
    machine.systemctl("reload");
    drop(log);
    let stored = machine.stored("log");
    assert_eq!(fs::read_to_string(&stored).unwrap(), "line 0\nline 1\nline 2\n");
    let stored = fs::metadata(&stored).unwrap();
    assert_eq!((stored.uid(), stored.gid(), stored.mode() & 0o777), (2001, 2001, 0o664));
    machine.stop();
}

#[test]
fn who_unmounts_by_hand_ends_the_unit_also_after_its_keeper_was_killed() {
    let machine = Machine::with(AIRFLOW);
    machine.start();
    machine.kill_main();
    machine.unmount();
    until("the unit ends", || machine.show("ActiveState") == "inactive");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((&*machine.show("ActiveState"), &*machine.show("NRestarts")), ("inactive", "0"));
}

#[test]
fn what_is_in_use_is_taken_down_with_the_unit() {
    // A file that is passed through would be written on.
    let machine = Machine::with(&format!("{AIRFLOW}{PAGE}"));
    machine.start();
    let mut held = live::POD.run(|| fs::File::create(machine.at("f")).unwrap());
    machine.stop();
    assert_eq!(held.write_all(b"too late").unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
}

#[test]
fn a_start_that_fails_says_why_and_is_tried_until_it_does_not() {
    let machine = Machine::with("version = 2\n");
    assert!(!machine.try_systemctl("start").status.success());
    until("it says why", || machine.said().contains("version = 2"));
    assert_eq!(machine.show("NFileDescriptorStore"), "0");
    machine.rules_are(AIRFLOW);
    until("it comes up", || machine.show("ActiveState") == "active");
    live::POD.run(|| fs::write(machine.at("f"), "content").unwrap());
    machine.stop();
}
