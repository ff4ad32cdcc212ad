//! The mount as such: its flags, many at once on it, taking it down while busy and after its process died.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::thread;

use live::mount::{permfs, unmount_when_idle};
use live::waits::until;
use live::{AIRFLOW, Mount, POD, TRANSPARENT, errno};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

#[test]
fn the_mount_is_nosuid_and_nodev_always() {
    for rules in [AIRFLOW, TRANSPARENT] {
        let mount = Mount::of(rules);
        let line = mount.mount_line().unwrap();
        let [_, _, kind, options, ..] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(kind.starts_with("fuse"), "{line}");
        for flag in ["nosuid", "nodev", "default_permissions", "allow_other"] {
            assert!(options.split(',').any(|option| option == flag), "{flag}: {line}");
        }
    }
}

#[test]
fn eight_threads_of_mixed_work_all_find_what_they_wrote() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 150;
    let mount = Mount::of(AIRFLOW);
    POD.run(|| fs::create_dir(mount.at("shared")).unwrap());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let mount = &mount;
            scope.spawn(move || POD.run(|| mixed_work(mount, number, ROUNDS)));
        }
    });
    assert_eq!(fs::read_dir(mount.stored("shared")).unwrap().count(), 0);
    for number in 0..THREADS {
        let left = fs::read_dir(mount.stored(format!("own{number}"))).unwrap().count();
        assert_eq!(left, ROUNDS / 3);
    }
}

/// What one thread does, checking each result as it goes.
fn mixed_work(mount: &Mount, number: usize, rounds: usize) {
    let own = mount.at(format!("own{number}"));
    fs::create_dir(&own).unwrap();
    for round in 0..rounds {
        let content: Vec<_> =
            (0..round * 97 + number).map(|at| u8::try_from((at * 31 + round) % 256).unwrap()).collect();
        let (path, moved) = (own.join(format!("f{round}")), own.join(format!("g{round}")));
        fs::write(&path, &content).unwrap();
        fs::rename(&path, &moved).unwrap();
        OpenOptions::new().append(true).open(&moved).unwrap().write_all(b"end").unwrap();
        let read = fs::read(&moved).unwrap();
        assert!(read.len() == content.len() + 3 && read.starts_with(&content) && read.ends_with(b"end"));
        assert_eq!(fs::metadata(&moved).unwrap().len(), u64::try_from(read.len()).unwrap());

        // All threads in one directory, each with names of its own.
        let theirs = mount.at(format!("shared/{number}-{round}"));
        fs::hard_link(&moved, &theirs).unwrap();
        assert_eq!(fs::metadata(&theirs).unwrap().nlink(), 2);
        let listed = fs::read_dir(mount.at("shared")).unwrap();
        assert!(listed.map(Result::unwrap).any(|entry| entry.path() == theirs));
        fs::remove_file(&theirs).unwrap();
        assert_eq!(fs::metadata(&moved).unwrap().nlink(), 1);
        if round % 3 != 0 {
            fs::remove_file(&moved).unwrap();
        }
    }
}

#[test]
fn a_busy_mount_is_not_unmounted_and_goes_on() {
    let mount = Mount::of(AIRFLOW);
    let mut file = POD.run(|| File::create(mount.at("f")).unwrap());
    let refused = mount.unmount(&[]);
    assert_eq!(refused.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(complaint.contains("busy") || complaint.contains("in use"), "{complaint}");
    file.write_all(b"still here").unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(mount.stored("f")).unwrap(), "still here");
    mount.unmount_when_idle();
    assert!(mount.mount_line().is_none());
}

#[test]
fn a_lazy_unmount_lets_open_files_finish() {
    let mount = Mount::of(AIRFLOW);
    let pid = daemon(&mount);
    let mut file =
        POD.run(|| OpenOptions::new().read(true).write(true).create_new(true).open(mount.at("f")).unwrap());
    assert!(mount.unmount(&["--lazy"]).status.success());
    assert!(mount.mount_line().is_none());
    file.write_all(b"finished").unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(mount.stored("f")).unwrap(), "finished");
    gone(pid);
}

#[test]
fn an_unmount_leaves_no_process_behind() {
    let mount = Mount::of(AIRFLOW);
    let pid = daemon(&mount);
    POD.run(|| fs::write(mount.at("f"), "x").unwrap());
    mount.unmount_when_idle();
    gone(pid);
}

#[test]
fn umount_8_is_as_good() {
    let mount = Mount::of(AIRFLOW);
    let pid = daemon(&mount);
    assert!(std::process::Command::new("umount").arg(mount.target()).status().unwrap().success());
    gone(pid);
}

#[test]
fn a_mount_whose_process_died_can_be_unmounted_and_mounted_again() {
    let mut mount = Mount::of(AIRFLOW);
    // All of them at once: keeper, reserve and worker are one process group.
    killpg(keeper(&mount), Signal::SIGKILL).unwrap();
    until("the mount of a dead process answers no more", || {
        fs::metadata(mount.at("x")).is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN))
    });
    assert!(mount.unmount(&[]).status.success());
    assert!(mount.mount_line().is_none());
    mount.mount(AIRFLOW);
    POD.run(|| fs::write(mount.at("f"), "x").unwrap());
}

#[test]
fn a_second_mount_of_the_same_export_sees_what_the_first_wrote() {
    let one = Mount::of(AIRFLOW);
    let other_target = one.outside().join("other");
    fs::create_dir(&other_target).unwrap();
    let rules = one.outside().join("permfs.toml");
    let mounted = permfs()
        .arg("mount")
        .args([&one.source(), &other_target])
        .arg("--config")
        .arg(&rules)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(mounted.unwrap().success());
    POD.run(|| {
        fs::write(one.at("f"), "first").unwrap();
        assert_eq!(fs::read_to_string(other_target.join("f")).unwrap(), "first");
        OpenOptions::new().append(true).open(other_target.join("f")).unwrap().write_all(b" second").unwrap();
        assert_eq!(fs::read_to_string(one.at("f")).unwrap(), "first second");
    });
    unmount_when_idle(&other_target);
}

#[test]
fn a_mount_that_ends_takes_no_other_down() {
    // The kernel gives a device number out again as soon as a mount is gone: it does not tell one mount from the next.
    const ROUNDS: usize = 40;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    let mount = Mount::of(AIRFLOW);
                    assert!(mount.mount_line().is_some(), "round {round}: somebody took it down");
                    POD.run(|| fs::write(mount.at("f"), "x").unwrap());
                    assert!(mount.stored("f").exists(), "round {round}");
                    mount.unmount_when_idle();
                }
            });
        }
    });
}

#[test]
fn a_mount_on_a_mount_is_refused_and_the_first_goes_on() {
    let mount = Mount::of(AIRFLOW);
    let refused = mount.try_mount(AIRFLOW);
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    POD.run(|| fs::write(mount.at("f"), "x").unwrap());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let target = mount.target();
    assert_eq!(mounts.lines().filter(|line| line.split(' ').nth(1) == target.to_str()).count(), 1);
}

#[test]
fn what_changes_on_the_export_shows_when_the_timeout_is_over() {
    let rules =
        format!("{AIRFLOW}\n[profile.airflow.cache]\nattr_timeout = \"0s\"\nentry_timeout = \"0s\"\n");
    let mount = Mount::of(&rules);
    POD.run(|| {
        fs::write(mount.at("f"), "x").unwrap();
        let ino = fs::metadata(mount.at("f")).unwrap().ino();
        assert_eq!(errno(fs::metadata(mount.at("g"))), Errno::ENOENT);
        (ino, ())
    });
    fs::rename(mount.stored("f"), mount.stored("g")).unwrap();
    POD.run(|| {
        assert_eq!(errno(fs::metadata(mount.at("f"))), Errno::ENOENT);
        let mut read = String::new();
        File::open(mount.at("g")).unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, "x");
    });
    fs::write(mount.stored("g"), "longer").unwrap();
    assert_eq!(POD.run(|| fs::metadata(mount.at("g")).unwrap().len()), 6);
    fs::remove_file(mount.stored("g")).unwrap();
    fs::create_dir(mount.stored("g")).unwrap();
    assert!(POD.run(|| fs::metadata(mount.at("g")).unwrap().is_dir()));
}

/// The process that serves the mount.
fn daemon(mount: &Mount) -> Pid {
    Pid::from_raw(i32::try_from(mount.daemon()).unwrap())
}

fn keeper(mount: &Mount) -> Pid {
    Pid::from_raw(i32::try_from(mount.keeper()).unwrap())
}

/// Waits until a process has ended.
fn gone(pid: Pid) {
    until(&format!("process {pid} is gone"), || kill(pid, None).is_err() || is_zombie(pid));
}

/// Where nobody reaps it (a container without an init), a process that ended stays listed.
fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}
