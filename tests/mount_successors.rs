//! What must not be lost when a mount's processes are replaced: what is open without a name, and the mount itself where the program
//! that is to take over cannot.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use live::mount::permfs;
use live::{AIRFLOW, Backing, Mount, Who};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use permfs::state::State;

/// The pod of the airflow rules.
const POD: Who = Who::new(50000, 0);

#[test]
fn worker_and_keeper_may_die_together() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| fs::write(mount.at("f"), "x").unwrap());
    for _ in 0..5 {
        let before = (mount.daemon(), mount.keeper());
        signal(before.1);
        signal(before.0);
        until(|| status(&mount).is_some_and(|(worker, keeper)| worker != before.0 && keeper != before.1));
        POD.run(|| assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "x"));
    }
}

/// Else a file that a worker had open under such a number when it died would stay open for ever.
#[test]
fn a_keeper_keeps_no_number_that_it_has_closed() {
    let mount = Mount::of(AIRFLOW);
    let open = PathBuf::from(format!("/proc/{}/fd", mount.keeper()));
    let is_state =
        |path: &PathBuf| fs::read_link(path).is_ok_and(|of| of.to_string_lossy().contains("permfs-state"));
    let state = fs::read_dir(&open).unwrap().map(|entry| entry.unwrap().path()).find(is_state).unwrap();
    let state = fs::OpenOptions::new().read(true).write(true).open(state).unwrap();
    let state = State::left_behind(state.into()).unwrap();
    // Whoever has mounted hears of it a moment before the keeper is through with that.
    until(|| state.kept_descriptors().iter().all(|fd| open.join(fd.to_string()).symlink_metadata().is_ok()));
    assert!(state.kept_descriptors().len() > 5);
}

#[test]
fn what_is_open_removed_locked_or_stood_in_stays_so() {
    let mount = Mount::on(Backing::TempDir, AIRFLOW);
    let at = |name: &str| mount.at(name);
    let mut removed = POD.run(|| {
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create_new(true).open(at("removed")).unwrap();
        file.write_all(b"still here").unwrap();
        fs::remove_file(at("removed")).unwrap();
        file
    });
    let reference = POD.run(|| {
        fs::create_dir(at("gone")).unwrap();
        let reference = fs::File::open(at("gone")).unwrap();
        fs::remove_dir(at("gone")).unwrap();
        reference
    });
    for _ in 0..3 {
        let before = mount.daemon();
        signal(before);
        until(|| status(&mount).is_some_and(|(worker, _)| worker != before));
        let mut content = String::new();
        removed.seek(SeekFrom::Start(0)).unwrap();
        removed.read_to_string(&mut content).unwrap();
        assert_eq!(content, "still here");
        assert_eq!(nix::sys::stat::fstat(&reference).unwrap().st_uid, 50000);
    }
}

#[test]
fn a_program_that_cannot_read_the_state_is_refused_and_the_mount_goes_on() {
    let mount = Mount::of(AIRFLOW);
    let socket = live_control(&mount);
    let before = (mount.daemon(), mount.keeper());
    let request = r#"{"ask":"upgrade","path":"/bin/true","version":"9","layouts":[999]}"#;
    let answer = ask(&socket, request);
    assert!(answer.contains("refused") && answer.contains("cannot read"), "{answer}");
    assert_eq!((mount.daemon(), mount.keeper()), before);
}

#[test]
fn a_program_that_ends_at_once_leaves_the_mount_to_the_old_one() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| fs::write(mount.at("f"), "x").unwrap());
    let socket = live_control(&mount);
    let before = mount.daemon();
    // It is a program, and takes the keeper's place; it is none of ours, and ends.
    let layout = permfs::state::layout::LAYOUT;
    let request = format!(r#"{{"ask":"upgrade","path":"/bin/true","version":"9","layouts":[{layout}]}}"#);
    let answer = ask(&socket, &request);
    assert!(answer.contains("begun"), "{answer}");
    until(|| status(&mount).is_some_and(|(worker, _)| worker != before));
    POD.run(|| assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "x"));
    let upgraded = permfs().arg("upgrade").arg(mount.target()).output().unwrap();
    assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
    POD.run(|| assert_eq!(fs::read_to_string(mount.at("f")).unwrap(), "x"));
}

fn signal(process: u32) {
    kill(Pid::from_raw(i32::try_from(process).unwrap()), Signal::SIGKILL).unwrap();
}

/// Worker and keeper, where somebody answers.
fn status(mount: &Mount) -> Option<(u32, u32)> {
    let output = permfs().args(["status", "--json"]).arg(mount.target()).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let pid = |key: &str| status[0][key].as_u64().and_then(|pid| u32::try_from(pid).ok());
    (status[0]["state"] == "serving").then_some(())?;
    Some((pid("pid")?, pid("keeper_pid")?))
}

#[track_caller]
fn until(holds: impl Fn() -> bool) {
    live::waits::until("somebody takes over", holds);
}

fn live_control(mount: &Mount) -> std::path::PathBuf {
    let runtime =
        std::env::var_os("PERMFS_RUNTIME_DIR").map_or_else(|| "/run/permfs".into(), std::path::PathBuf::from);
    runtime.join(mount.keeper().to_string()).join("control")
}

fn ask(socket: &std::path::Path, request: &str) -> String {
    let mut connection = std::os::unix::net::UnixStream::connect(socket).unwrap();
    writeln!(connection, "{request}").unwrap();
    let mut answer = String::new();
    let _ = connection.read_to_string(&mut answer);
    answer
}
