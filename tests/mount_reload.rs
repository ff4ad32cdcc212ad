//! New rules for a running mount: what the next access sees, what is refused, and that nobody who works notices.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use live::mount::permfs;
use live::waits::{PATIENCE, until, waits_in};
use live::{AIRFLOW, Backing, Mount, POD, Who, errno, list};
use nix::errno::Errno;

/// The pod of [`other`].
const OTHER: Who = Who::new(60000, 0);

/// [`AIRFLOW`] for another pod's uid, with long timeouts: what is seen anew was not merely out of date.
fn rules_for(uid: u32, more: &str) -> String {
    let cache = "[profile.airflow.cache]\nattr_timeout = \"1h\"\nentry_timeout = \"1h\"\n";
    // Root, as whom the tests look, is let in.
    let root = "[profile.airflow.unmapped]\nroot = \"keep\"\n";
    format!("{}\n{root}{cache}{more}", AIRFLOW.replace("50000", &uid.to_string()))
}

fn read_only(path: &str) -> String {
    format!("[[profile.airflow.path]]\nmatch = \"{path}\"\nread_only = true\n")
}

fn config(mount: &Mount) -> PathBuf {
    mount.outside().join("permfs.toml")
}

fn reload(mount: &Mount) -> Output {
    permfs().arg("reload").arg(mount.target()).output().unwrap()
}

/// Writes the rules and reloads; what was said.
#[track_caller]
fn put_in_force(mount: &Mount, rules: &str) -> String {
    fs::write(config(mount), rules).unwrap();
    let Output { status, stdout, stderr } = reload(mount);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// Writes the rules and reloads, which must be refused; what was said.
#[track_caller]
fn refused(mount: &Mount, rules: &str) -> String {
    fs::write(config(mount), rules).unwrap();
    let Output { status, stdout, stderr } = reload(mount);
    assert_eq!((status.code(), stdout.len()), (Some(2), 0));
    String::from_utf8(stderr).unwrap()
}

fn uid_of(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().uid()
}

/// FUSE_NOTIFY_INC_EPOCH: Linux 6.16.
fn kernel_forgets_names() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    (numbers[0], numbers[1]) >= (6, 16)
}

fn prepared(rules: &str) -> Mount {
    Mount::prepared(Backing::TempDir, rules, |export| {
        for directory in ["dags/deep/er", "other"] {
            fs::create_dir_all(export.join(directory)).unwrap();
        }
        for file in ["dags/f", "dags/deep/er/f", "other/f"] {
            fs::write(export.join(file), "x").unwrap();
        }
        let chowned = Command::new("chown").args(["-R", "2001:2001"]).arg(export).status();
        assert!(chowned.unwrap().success());
    })
}

#[test]
fn the_next_stat_shows_the_new_ids_whatever_the_kernel_had_cached() {
    let mount = prepared(&rules_for(50000, ""));
    let paths = ["", "dags", "dags/deep/er", "dags/f", "dags/deep/er/f"].map(|path| mount.at(path));
    let open = POD.run(|| File::open(mount.at("dags/f")).unwrap());
    for uid in [60000, 50000, 60001] {
        assert_eq!(
            put_in_force(&mount, &rules_for(uid, "")),
            format!("{}: changed: uid\n", mount.target().display())
        );
        for path in &paths {
            assert_eq!(uid_of(path), uid, "{}", path.display());
        }
        assert_eq!(open.metadata().unwrap().uid(), uid);
    }
}

#[test]
fn callers_are_judged_anew() {
    let mount = prepared(&rules_for(50000, ""));
    POD.run(|| fs::write(mount.at("dags/by pod"), "x").unwrap());
    OTHER.run(|| assert_eq!(errno(fs::write(mount.at("dags/by other"), "x")), Errno::EACCES));
    put_in_force(&mount, &rules_for(60000, ""));
    OTHER.run(|| {
        assert_eq!(list(mount.at("dags")).unwrap().len(), 3);
        fs::write(mount.at("dags/by other"), "x").unwrap();
    });
    POD.run(|| {
        assert_eq!(errno(fs::write(mount.at("dags/by pod"), "y")), Errno::EACCES);
        assert_eq!(errno(list(mount.at("other"))), Errno::EACCES);
    });
}

#[test]
fn path_rules_come_and_change_and_go() {
    let mount = prepared(&rules_for(50000, ""));
    let writes = |path: &str| POD.run(|| OpenOptions::new().append(true).open(mount.at(path)).map(drop));
    let files = ["dags/f", "dags/deep/er/f", "other/f"];
    let all = |expected: [bool; 3]| {
        for (file, writable) in files.into_iter().zip(expected) {
            match (writes(file), writable) {
                (Ok(()), true) => {}
                (Err(error), false) => assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{file}"),
                (outcome, _) => panic!("{file}: {outcome:?}, and should be writable: {writable}"),
            }
        }
    };
    all([true, true, true]);
    put_in_force(&mount, &rules_for(50000, &read_only("/dags")));
    all([false, false, true]);
    put_in_force(&mount, &rules_for(50000, &read_only("/dags/deep")));
    all([true, false, true]);
    put_in_force(&mount, &rules_for(50000, &read_only("/other")));
    all([true, true, false]);
    put_in_force(&mount, &rules_for(50000, ""));
    all([true, true, true]);
}

#[test]
fn what_is_reached_without_a_name_lies_under_the_new_path_rules_too() {
    let mount = prepared(&rules_for(50000, ""));
    let open_file = POD.run(|| OpenOptions::new().append(true).open(mount.at("dags/deep/er/f")).unwrap());
    let open_elsewhere = POD.run(|| OpenOptions::new().append(true).open(mount.at("other/f")).unwrap());
    let directory = POD.run(|| File::open(mount.at("dags/deep/er")).unwrap());
    put_in_force(&mount, &rules_for(50000, &read_only("/dags")));
    let chmod = |file: &File| POD.run(|| file.set_permissions(fs::Permissions::from_mode(0o600)));
    assert_eq!(errno(chmod(&open_file)), Errno::EROFS);
    assert_eq!(errno(chmod(&directory)), Errno::EROFS);
    chmod(&open_elsewhere).unwrap();
    let made = POD.run(|| {
        let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        rustix::fs::openat(&directory, "new", flags, rustix::fs::Mode::RWXU)
    });
    assert_eq!(made.unwrap_err(), rustix::io::Errno::ROFS);
    let mut open_file = open_file;
    open_file.write_all(b"what is open stays open").unwrap();
}

#[test]
fn a_directory_moved_while_there_were_no_path_rules_lies_where_it_was_moved_to() {
    let with = rules_for(50000, &read_only("/dags"));
    let mount = prepared(&with);
    POD.run(|| fs::create_dir_all(mount.at("other/tree/deep")).unwrap());
    put_in_force(&mount, &rules_for(50000, ""));
    let deep = POD.run(|| {
        fs::rename(mount.at("other/tree"), mount.at("dags/tree")).unwrap();
        File::open(mount.at("dags/tree/deep")).unwrap()
    });
    put_in_force(&mount, &with);
    let chmod = POD.run(|| deep.set_permissions(fs::Permissions::from_mode(0o700)));
    assert_eq!(errno(chmod), Errno::EROFS);
}

#[test]
fn a_file_with_a_name_in_a_read_only_directory_is_read_only_by_every_name() {
    let mount = prepared(&rules_for(50000, ""));
    POD.run(|| fs::hard_link(mount.at("dags/f"), mount.at("other/g")).unwrap());
    put_in_force(&mount, &rules_for(50000, &read_only("/nowhere")));
    let append = |path: &str| POD.run(|| OpenOptions::new().append(true).open(mount.at(path)).map(drop));
    append("dags/f").unwrap();
    append("other/g").unwrap();
    put_in_force(&mount, &rules_for(50000, &read_only("/dags")));
    assert_eq!(errno(append("other/g")), Errno::EROFS);
}

#[test]
fn a_bad_file_is_refused_as_check_refuses_it_and_the_old_rules_hold() {
    let mount = prepared(&rules_for(50000, ""));
    for bad in [
        rules_for(60000, "").replace("gid = [", "gidd = ["),
        rules_for(60000, "").replace("nfs = 2001", "nfs = 0"),
        "version = 1\n[profile.other]\n".to_owned(),
        "no toml".to_owned(),
        "x".repeat(2 << 20),
    ] {
        let said = refused(&mount, &bad);
        let check = permfs()
            .args(["check", "--profile", "airflow", "--config"])
            .arg(config(&mount))
            .output()
            .unwrap();
        assert!(said.starts_with(&String::from_utf8(check.stderr).unwrap()), "{said}");
        assert!(said.ends_with("the rules in force stay as they are\n"), "{said}");
        assert_eq!(uid_of(mount.at("dags/f")), 50000);
        let told = mount.status()["rules"]["refused"].as_str().unwrap().to_owned();
        assert!(told.contains("permfs.toml"), "{told}");
        POD.run(|| fs::write(mount.at("dags/new"), "x").unwrap());
    }
    fs::remove_file(config(&mount)).unwrap();
    assert_eq!(reload(&mount).status.code(), Some(2));
    put_in_force(&mount, &rules_for(50000, ""));
    assert!(mount.status()["rules"]["refused"].is_null());
}

#[test]
fn what_is_settled_with_the_kernel_is_refused_with_the_reason() {
    let trusting =
        "[profile.airflow.permissions]\nread_only = true\n[profile.airflow.cache]\nopen = \"trust\"\n";
    let plain = "version = 1\n[profile.airflow]\nuid = [ { pod = 50000, nfs = 2001 } ]\n";
    let with = |more: &str| format!("{plain}{more}");
    let mount = prepared(plain);
    let node_locks = with("[profile.airflow.locks]\nscope = \"node\"\n");
    assert!(refused(&mount, &node_locks).contains("locks.scope cannot change"));
    assert!(refused(&mount, &with(trusting)).contains("cache.open cannot change"));
    let data = |way: &str| with(&format!("[profile.airflow.cache]\ndata = \"{way}\"\n"));
    put_in_force(&mount, &data("page"));
    put_in_force(&mount, &data("none"));
    put_in_force(&mount, &data("auto"));
    drop(mount);
    let mount = prepared(&data("page"));
    assert!(refused(&mount, &data("auto")).contains("made without passthrough"));
    assert!(refused(&mount, &data("passthrough")).contains("made without passthrough"));
    drop(mount);
    let mount = prepared(&with(trusting));
    assert!(refused(&mount, plain).contains("cache.open cannot change"));
}

/// The kernel holds an inode to the way in which it is open, whatever the rules say by now.
#[test]
fn a_file_that_is_open_past_the_daemon_is_opened_under_rules_that_want_another_way() {
    let data = |way: &str| format!("{AIRFLOW}[profile.airflow.cache]\ndata = \"{way}\"\n");
    for (way, export) in [("page", Backing::TempDir), ("none", Backing::TempDir), ("none", Backing::Ramfs)] {
        let mount = Mount::on(export, &data("passthrough"));
        let path = mount.at("f");
        let mut held = POD.run(|| File::create_new(&path).unwrap());
        put_in_force(&mount, &data(way));
        POD.run(|| {
            held.write_all(b"text").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "text", "{way}");
            drop(held);
            assert_eq!(fs::read_to_string(&path).unwrap(), "text", "{way}");
        });
    }
}

#[test]
fn a_mount_of_flags_says_that_there_is_nothing_to_reload() {
    let mount = Mount::unmounted(Backing::TempDir);
    let begun = permfs()
        .arg("mount")
        .args([mount.source(), mount.target()])
        .args(["--map-uid", "50000:2001"])
        .stderr(File::create(mount.outside().join("log")).unwrap())
        .status();
    assert!(begun.unwrap().success());
    let Output { status, stderr, .. } = reload(&mount);
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(said.contains("there is no file to read anew"), "{said}");
    let watched = permfs()
        .arg("mount")
        .args([mount.source(), mount.target()])
        .args(["--map-uid", "50000:2001", "-o", "watch"])
        .output()
        .unwrap();
    assert_eq!(watched.status.code(), Some(2));
}

#[test]
fn where_nothing_is_mounted_there_is_nothing_to_reload() {
    let mount = Mount::unmounted(Backing::TempDir);
    let Output { status, stderr, .. } = reload(&mount);
    assert_eq!(status.code(), Some(1));
    assert!(String::from_utf8(stderr).unwrap().contains("nothing is mounted"));
}

#[test]
fn a_file_that_says_the_same_changes_nothing() {
    let mount = prepared(&rules_for(50000, ""));
    let since = mount.status()["rules"]["in_force_since"].as_u64().unwrap();
    let said = put_in_force(&mount, &format!("# moved by a line\n{}", rules_for(50000, "")));
    assert!(said.ends_with(": nothing changed\n"), "{said}");
    assert_eq!(mount.status()["rules"]["in_force_since"], since);
}

#[test]
fn a_hangup_reloads_and_the_mount_stays() {
    let mount = prepared(&rules_for(50000, ""));
    fs::write(config(&mount), rules_for(60000, "")).unwrap();
    let daemon = nix::unistd::Pid::from_raw(i32::try_from(mount.daemon()).unwrap());
    nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGHUP).unwrap();
    until("the hangup's reload", || uid_of(mount.at("dags/f")) == 60000);
}

#[test]
fn a_watched_file_is_followed_by_its_content() {
    let room = tempfile::tempdir().unwrap();
    let at = |name: &str| room.path().join(name);
    // As kubelet has it: rules.toml -> ..data/rules.toml, ..data -> a directory for each version.
    let publish = |version: &str, rules: &str| {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("rules.toml"), rules).unwrap();
        std::os::unix::fs::symlink(version, at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
    };
    publish("1", &rules_for(50000, ""));
    std::os::unix::fs::symlink("..data/rules.toml", at("rules.toml")).unwrap();
    let mount = Mount::unmounted(Backing::TempDir);
    let begun = permfs()
        .arg("mount")
        .args([mount.source(), mount.target()])
        .args(["--watch", "--config", "rules.toml"])
        .current_dir(room.path())
        .stderr(File::create(mount.outside().join("log")).unwrap())
        .status();
    assert!(begun.unwrap().success());
    assert_eq!(uid_of(mount.target()), 50000);
    publish("2", "not toml");
    until("the refusal", || mount.status()["rules"]["refused"].is_string());
    assert_eq!(uid_of(mount.target()), 50000);
    publish("3", &rules_for(60000, ""));
    until("the reload", || uid_of(mount.target()) == 60000);
    // What the rules show is there a moment before it is told that they are in force.
    until("nothing is refused any more", || mount.status()["rules"]["refused"].is_null());
}

/// A reload that waits for a writer: a FIFO is no file, which is seen only after it was opened.
fn hanging_reload(mount: &Mount) -> Child {
    fs::remove_file(config(mount)).unwrap();
    nix::unistd::mkfifo(&config(mount), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let hanging = permfs().arg("reload").arg(mount.target()).spawn().unwrap();
    let worker = mount.daemon();
    until("the reload waits for a writer", || waits_in(worker, "fifo_open"));
    hanging
}

#[test]
fn the_status_is_told_while_a_reload_hangs() {
    let mount = prepared(&rules_for(50000, ""));
    let mut hanging = hanging_reload(&mount);
    let begin = Instant::now();
    assert_eq!(mount.status()["state"], "serving");
    POD.run(|| fs::write(mount.at("dags/meanwhile"), "x").unwrap());
    let second = reload(&mount);
    assert!(String::from_utf8(second.stderr).unwrap().contains("another reload of this mount is under way"));
    assert!(begin.elapsed() < PATIENCE);
    drop(OpenOptions::new().write(true).open(config(&mount)).unwrap());
    assert_eq!(hanging.wait().unwrap().code(), Some(2));
}

#[test]
fn a_mount_can_be_unmounted_while_its_reload_hangs() {
    let mount = prepared(&rules_for(50000, ""));
    let mut hanging = hanging_reload(&mount);
    let begin = Instant::now();
    mount.unmount_when_idle();
    assert!(begin.elapsed() < PATIENCE);
    assert_eq!(hanging.wait().unwrap().code(), Some(1));
}

#[test]
fn the_control_socket_speaks_lines_of_json() {
    let mount = prepared(&rules_for(50000, ""));
    let runtime = std::env::var_os("PERMFS_RUNTIME_DIR").map_or_else(|| "/run/permfs".into(), PathBuf::from);
    let socket = runtime.join(mount.keeper().to_string()).join("control");
    let ask = |line: &str| {
        let mut connection = UnixStream::connect(&socket).unwrap();
        // Who says too much may be hung up on before it has said all.
        let _ = connection.write_all(line.as_bytes());
        let mut answer = String::new();
        let _ = BufReader::new(connection).read_line(&mut answer);
        answer
    };
    let told: serde_json::Value = serde_json::from_str(&ask("{\"ask\":\"status\"}\n")).unwrap();
    assert_eq!(told["pid"], mount.daemon());
    assert_eq!(ask("{\"ask\":\"reload\"}\n"), "{\"done\":\"nothing changed\"}\n");
    assert_eq!(ask(&"x".repeat(1 << 16)), "", "a request has a bound");
}

#[test]
fn a_hundred_reloads_under_load_disturb_nobody_and_each_shows_at_once() {
    // Both uids are admitted throughout, and what is made belongs to whoever comes first.
    let rules = |first: u32, path: &str| {
        let second = 110_000 - first;
        rules_for(first, &read_only(path)).replace(
            "uid = [ {",
            &format!("uid = [ {{ pod = {second}, nfs = 2001, direction = \"pod-to-nfs\" }}, {{"),
        )
    };
    let mount = prepared(&rules(50000, "/nowhere"));
    assert!(Command::new("chmod").args(["-R", "g+w"]).arg(mount.source()).status().unwrap().success());
    // The mode that was shown before.
    put_in_force(&mount, &rules(60000, "/nowhere"));
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let end = StopAtTheEnd(&stop);
        for worker in 0..6_u32 {
            let (mount, stop, done) = (&mount, &stop, &done);
            scope.spawn(move || {
                // Each is of the group, which is shown the same under all rules: what they may do does not change.
                let who = if worker % 2 == 0 { POD } else { OTHER };
                who.run(|| work(mount, worker, stop, done));
            });
        }
        for round in 0..100_u32 {
            let uid = if round % 2 == 0 { 50000 } else { 60000 };
            // Path rules come and go as well, where nobody works.
            let path = if round % 3 == 0 { "/dags" } else { "/nowhere" };
            put_in_force(&mount, &rules(uid, path));
            for path in ["", "dags/deep/er/f", "other/f"] {
                assert_eq!(uid_of(mount.at(path)), uid, "round {round}: {path:?}");
            }
            let append = POD.run(|| OpenOptions::new().append(true).open(mount.at("dags/f")));
            if kernel_forgets_names() {
                assert_eq!(append.is_err(), path == "/dags", "round {round}: {append:?}");
            }
        }
        drop(end);
    });
    eprintln!("{} pieces of work beside 100 reloads", done.load(Ordering::Relaxed));
    assert!(done.load(Ordering::Relaxed) > 100);
}

/// Also where the test fails: the workers are waited for.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Makes, reads, lists, looks at, renames and removes, until told to stop.
fn work(mount: &Mount, worker: u32, stop: &AtomicBool, done: &AtomicUsize) {
    let room = mount.at(format!("other/{worker}"));
    fs::create_dir(&room).unwrap();
    let mut log = OpenOptions::new().create(true).append(true).open(room.join("log")).unwrap();
    let mut logged = 0;
    while !stop.load(Ordering::Relaxed) {
        let text = format!("{worker} {logged}\n");
        fs::write(room.join("a"), &text).unwrap();
        fs::rename(room.join("a"), room.join("b")).unwrap();
        assert_eq!(fs::read_to_string(room.join("b")).unwrap(), text);
        assert!([50000, 60000].contains(&uid_of(room.join("b"))));
        fs::create_dir(room.join("d")).unwrap();
        assert_eq!(list(&room).unwrap().len(), 3);
        fs::remove_dir(room.join("d")).unwrap();
        fs::remove_file(room.join("b")).unwrap();
        log.write_all(text.as_bytes()).unwrap();
        logged += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
    let mut written = String::new();
    File::open(room.join("log")).unwrap().read_to_string(&mut written).unwrap();
    assert_eq!(written.lines().count(), logged);
}
