//! What a mount's processes have given up, and that nothing is missing for it.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use live::waits::{PATIENCE, until};
use live::{AIRFLOW, Mount, POD, ROOT, TRANSPARENT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// By number, capabilities(7): CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID, SETUID, SYS_PTRACE, SYS_ADMIN,
/// SYS_RESOURCE, MKNOD, SETFCAP.
const NEEDED: [u32; 12] = [0, 1, 2, 3, 4, 6, 7, 19, 21, 24, 27, 31];
const SYS_RESOURCE: u32 = 24;

#[test]
fn keeper_reserve_and_worker_have_the_capabilities_of_a_mount_and_no_others() {
    let mount = Mount::of(AIRFLOW);
    // A container may lack some of them.
    let needed = NEEDED.iter().fold(0_u64, |all, number| all | 1 << number) & ours("CapPrm");
    for process in processes(&mount) {
        let said = Said::of(process);
        for set in ["CapPrm", "CapBnd"] {
            assert_eq!(said.hex(set), needed, "{set} of {}", said.word("Name"));
        }
        assert_eq!((said.hex("CapInh"), said.hex("CapAmb")), (0, 0));
        assert_eq!(said.word("NoNewPrivs"), "1");
    }
}

#[test]
fn all_are_filtered_and_every_thread_that_serves_is_held_to_a_list() {
    let mount = Mount::of(AIRFLOW);
    for process in processes(&mount) {
        assert_eq!(Said::of(process).word("Seccomp"), "2", "a filter");
    }
    let filters = |process: u32| Said::of(process).word("Seccomp_filters").parse::<u32>().unwrap();
    let (keeper, worker) = (filters(mount.keeper()), filters(mount.daemon()));
    assert_eq!((keeper, worker), (1, 4));
    for thread in fs::read_dir(format!("/proc/{}/task", mount.daemon())).unwrap() {
        // Who has just answered `permfs status` ends meanwhile.
        let Ok(said) = fs::read_to_string(thread.unwrap().path().join("status")) else { continue };
        let said = Said(parse(&said));
        assert_eq!(said.word("Seccomp_filters"), "4", "thread {}", said.word("Name"));
    }
}

#[test]
fn who_asks_for_the_status_leaves_nothing_in_the_kernels_log() {
    let mount = Mount::of(AIRFLOW);
    let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").unwrap();
    log.seek(SeekFrom::End(0)).unwrap();
    let worker = format!(" pid={} ", mount.daemon());
    (0..5).for_each(|_| drop(mount.status()));
    // It is written by a thread of the kernel's, by and by.
    sleep(Duration::from_millis(300));
    // A record at a time, until there are no more; some may have been overwritten (EPIPE).
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let record = String::from_utf8_lossy(&record[..length]);
                assert!(!record.contains(&worker), "{record}");
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::BrokenPipe),
        }
    }
}

#[test]
fn the_worker_is_what_the_oom_killer_takes_and_the_keeper_is_spared() {
    let mount = Mount::of(AIRFLOW);
    let score = |process: u32| -> i32 {
        fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    let before = score(std::process::id());
    // Where this test may not lower a score, the mount may not either.
    let spared = if ours("CapEff") >> SYS_RESOURCE & 1 == 1 { -1000 } else { before };
    let mut scores: Vec<_> = processes(&mount).into_iter().map(score).collect();
    scores.sort_unstable();
    assert_eq!(scores, [spared, spared, before]);
    assert_eq!((score(mount.keeper()), score(mount.daemon())), (spared, before));
}

/// A successor answers `permfs status` a moment before it has given up the last.
#[track_caller]
fn comes_to<T: PartialEq + Debug>(expected: &T, found: impl Fn() -> T) {
    let begun = Instant::now();
    while found() != *expected {
        assert!(begun.elapsed() < PATIENCE, "{:?}, not {expected:?}", found());
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_successor_is_held_to_the_same_and_serves() {
    let mount = Mount::of(AIRFLOW);
    POD.run(|| fs::write(mount.at("before"), "x").unwrap());
    let first = mount.daemon();
    let held = |process: u32| {
        let said = Said::of(process);
        ["CapPrm", "CapBnd", "NoNewPrivs", "Seccomp_filters"].map(|key| said.word(key).to_owned())
    };
    let before = held(first);
    kill(Pid::from_raw(first.try_into().unwrap()), Signal::SIGKILL).unwrap();
    POD.run(|| {
        assert_eq!(fs::read_to_string(mount.at("before")).unwrap(), "x");
        fs::write(mount.at("after"), "y").unwrap();
        fs::rename(mount.at("after"), mount.at("moved")).unwrap();
    });
    let second = mount.daemon();
    assert_ne!(first, second);
    comes_to(&before, || held(second));
}

#[test]
fn a_new_keeper_is_held_to_the_same_and_takes_the_mount_down_in_the_end() {
    let mount = Mount::of(AIRFLOW);
    let keeper = mount.keeper();
    kill(Pid::from_raw(keeper.try_into().unwrap()), Signal::SIGKILL).unwrap();
    until("a new keeper", || mount.keeper() != keeper);
    let said = Said::of(mount.keeper());
    assert_eq!((said.word("Seccomp_filters"), said.word("NoNewPrivs")), ("1", "1"));
    kill(Pid::from_raw(mount.keeper().try_into().unwrap()), Signal::SIGTERM).unwrap();
    until("it is unmounted", || mount.mount_line().is_none());
}

#[test]
fn an_upgraded_mount_is_held_to_the_same() {
    let mount = Mount::of(AIRFLOW);
    let held = |process: u32| {
        let said = Said::of(process);
        let score = fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap();
        (["CapPrm", "CapBnd", "NoNewPrivs", "Seccomp_filters"].map(|key| said.word(key).to_owned()), score)
    };
    let before = (held(mount.keeper()), held(mount.daemon()));
    let worker = mount.daemon();
    let upgraded = live::mount::permfs().arg("upgrade").arg(mount.target()).output().unwrap();
    assert!(upgraded.status.success(), "{upgraded:?}");
    assert_ne!(mount.daemon(), worker);
    comes_to(&before, || (held(mount.keeper()), held(mount.daemon())));
    POD.run(|| fs::write(mount.at("after"), "x").unwrap());
}

#[test]
fn root_of_a_transparent_mount_may_what_root_may() {
    let mount = Mount::of(TRANSPARENT);
    ROOT.run(|| {
        let file = mount.at("f");
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::chown(&file, Some(4000), Some(4001)).unwrap();
        fs::write(&file, "still").unwrap();
        rustix::fs::setxattr(&file, "trusted.t", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        // VFS_CAP_REVISION_2, nothing permitted.
        let none = [[0, 0, 0, 2].as_slice(), &[0; 16]].concat();
        rustix::fs::setxattr(&file, "security.capability", &none, rustix::fs::XattrFlags::empty()).unwrap();
        let device = rustix::fs::makedev(1, 3);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            mount.at("null"),
            rustix::fs::FileType::CharacterDevice,
            mode,
            device,
        )
        .unwrap();
    });
}

/// A set of this test's own capabilities.
fn ours(set: &str) -> u64 {
    Said::of(std::process::id()).hex(set)
}

/// Keeper, reserve and worker: all of the mount's process group.
fn processes(mount: &Mount) -> Vec<u32> {
    let keeper = mount.keeper();
    let begun = Instant::now();
    loop {
        let group = Said::of(keeper).word("NSpgid").to_owned();
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let number = entry.unwrap().file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(format!("/proc/{number}/status")).ok()?;
            (Said(parse(&status)).0.get("NSpgid") == Some(&group)).then_some(number)
        });
        let all: Vec<u32> = all.collect();
        if all.len() == 3 {
            return all;
        }
        // The reserve is made once the mount answers.
        assert!(begun.elapsed() < PATIENCE, "{all:?}");
        sleep(Duration::from_millis(10));
    }
}

/// proc_pid_status(5).
struct Said(BTreeMap<String, String>);

impl Said {
    fn of(process: u32) -> Self {
        Self(parse(&fs::read_to_string(format!("/proc/{process}/status")).unwrap()))
    }

    fn word(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("{key} of {:?}", self.0))
    }

    fn hex(&self, key: &str) -> u64 {
        u64::from_str_radix(self.word(key), 16).unwrap()
    }
}

fn parse(status: &str) -> BTreeMap<String, String> {
    let pairs = status.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}
