//! Who serves a mount, from `permfs status`: killed, replaced, and looked at for what a successor may have left open.

#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};

use super::takeover_room::{Load, Report};

/// How long a successor may take to say that it serves, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the load may take to get on between two blows.
const PROGRESS: Duration = Duration::from_secs(120);

/// A mount, and the program that is asked of it.
pub struct Served {
    pub target: PathBuf,
    pub permfs: fn() -> Command,
}

/// Who serves a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids {
    pub worker: Pid,
    pub keeper: Pid,
}

/// What grows where something is left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// Open files of the worker.
    pub open_files: usize,
    /// Processes of the mount.
    pub processes: usize,
    /// Inodes that the worker knows.
    pub inodes: u64,
    /// Files that it has open for somebody.
    pub open: u64,
    /// Memory that belongs to the worker alone, in KiB.
    pub memory: u64,
}

/// Where a test fails, what the mount's processes have said is told as well.
pub struct TellsTheLog(PathBuf);

impl Drop for TellsTheLog {
    fn drop(&mut self) {
        if panicking() {
            eprintln!("{}", fs::read_to_string(&self.0).unwrap_or_default());
        }
    }
}

/// What is done to a mount under load.
pub type Blow = fn(&Served);

impl Served {
    /// None while nobody says so.
    pub fn pids(&self) -> Option<Pids> {
        let status = self.status()?;
        let pid = |key: &str| Some(Pid::from_raw(i32::try_from(status[key].as_i64()?).ok()?));
        (status["state"] == "serving").then_some(())?;
        Some(Pids { worker: pid("pid")?, keeper: pid("keeper_pid")? })
    }

    /// Tells what they have said, they and their successors, where the test fails before this is dropped.
    pub fn tells_its_log(&self, runtime_dir: &Path) -> TellsTheLog {
        let keeper = self.wait_for(|_| true).keeper;
        TellsTheLog(runtime_dir.join(keeper.to_string()).join("log"))
    }

    /// kill -9 of the worker; returns when another one serves.
    pub fn kill_worker(&self) {
        let before = self.wait_for(|_| true);
        kill(before.worker, Signal::SIGKILL).unwrap();
        let after = self.wait_for(|pids| pids.worker != before.worker);
        assert_eq!(after.keeper, before.keeper, "the keeper stays");
    }

    /// kill -9 of the keeper; returns when another one keeps. The worker goes on.
    pub fn kill_keeper(&self) {
        // One that has just taken another's place may have nobody in reserve yet: who kills that one kills the mount.
        let has_reserve =
            |pids: &Pids| getpgid(Some(pids.keeper)).is_ok_and(|group| processes_of_the_group(group) >= 3);
        let before = self.wait_for(has_reserve);
        kill(before.keeper, Signal::SIGKILL).unwrap();
        let after = self.wait_for(|pids| pids.keeper != before.keeper);
        assert_eq!(after.worker, before.worker, "the worker goes on");
    }

    /// `permfs upgrade`.
    pub fn upgrade(&self) {
        let before = self.wait_for(|_| true);
        let output = (self.permfs)().arg("upgrade").arg(&self.target).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.wait_for(|pids| pids.worker != before.worker);
    }

    /// `times` blows, each after the load has done `operations` more.
    pub fn strike(&self, load: &Load, times: usize, operations: u64, blow: Blow) {
        for number in 0..times {
            let (begun, goal) = (Instant::now(), load.operations() + operations);
            while load.operations() < goal {
                assert!(
                    begun.elapsed() < PROGRESS,
                    "the load stands still before blow {number}: {:?}",
                    load.faults()
                );
                sleep(Duration::from_millis(2));
            }
            blow(self);
        }
    }

    /// Once the kernel has forgotten what it need not know, and nothing changes any more: forgets and closes are sent in the
    /// background.
    pub fn vitals(&self) -> Vitals {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        let what_changes = |vitals: &Vitals| (vitals.processes, vitals.inodes, vitals.open);
        let (begun, mut latest) = (Instant::now(), self.look());
        loop {
            sleep(Duration::from_millis(500));
            let before = std::mem::replace(&mut latest, self.look());
            if what_changes(&before) == what_changes(&latest) || begun.elapsed() > PATIENCE {
                return latest;
            }
        }
    }

    fn look(&self) -> Vitals {
        let pids = self.wait_for(|_| true);
        let status = self.status().expect("it has just answered");
        let count = |name: &str| status["counters"][name].as_u64().expect("a counter");
        Vitals {
            open_files: fs::read_dir(format!("/proc/{}/fd", pids.worker)).unwrap().count(),
            processes: processes_of_the_group(getpgid(Some(pids.keeper)).unwrap()),
            inodes: count("inodes"),
            open: count("open"),
            memory: private_memory(pids.worker),
        }
    }

    fn wait_for(&self, condition: impl Fn(&Pids) -> bool) -> Pids {
        let begun = Instant::now();
        loop {
            match self.pids() {
                Some(pids) if condition(&pids) => return pids,
                pids => assert!(begun.elapsed() < PATIENCE, "still {pids:?} on {}", self.target.display()),
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn status(&self) -> Option<serde_json::Value> {
        let output = (self.permfs)().args(["status", "--json"]).arg(&self.target).output().ok()?;
        serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()?.get(0).cloned()
    }
}

/// No fault, no pause longer than `pause`, and nothing left behind: `before` is of the same mount at rest.
#[track_caller]
pub fn assert_unharmed(served: &Served, report: &Report, pause: Duration, before: Vitals) {
    report.assert_clean();
    let (kind, worst) = report.worst_pause();
    assert!(worst < pause, "a {kind} took {worst:?} under seed {}", report.seed);
    let (begun, mut after) = (Instant::now(), served.vitals());
    // What nobody waits for may come late where others keep the processors busy.
    while !is_flat(before, after) && begun.elapsed() < PATIENCE {
        after = served.vitals();
    }
    println!("{} operations, worst pause {worst:?} ({kind}); {before:?} -> {after:?}", report.total());
    assert_flat(before, after);
}

/// Nothing has grown between two rests.
#[track_caller]
pub fn assert_flat(before: Vitals, after: Vitals) {
    assert!(is_flat(before, after), "{before:?} -> {after:?}");
}

fn is_flat(before: Vitals, after: Vitals) -> bool {
    after.open_files <= before.open_files + SLACK_FILES
        && after.processes == before.processes
        && after.inodes <= before.inodes + SLACK_INODES
        && after.open == before.open
        && after.memory <= before.memory + SLACK_MEMORY
}

/// Descriptors that are cached: 64 of listings, one for each of at most 64 threads, and those of directories in use.
const SLACK_FILES: usize = 64 + 64 + 32;
/// The mount's own directories.
const SLACK_INODES: u64 = 8;
/// Buffers of the threads that the load has called up, and what the allocator keeps, in KiB.
const SLACK_MEMORY: u64 = 32 * 1024;

/// Those that have ended are not counted: it is init's to take note of them, when it likes.
pub fn processes_of_the_group(group: Pid) -> usize {
    let stats = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        // Of a process that is in the middle of an execve(2) anything else cannot be read, and who asks waits with it.
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        comm.starts_with("permfs").then(|| fs::read_to_string(entry.path().join("stat")).ok())?
    });
    let belongs = |stat: &String| {
        // After the name in parentheses: state, parent, group.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let words: Vec<_> = rest.split(' ').collect();
        words.first() != Some(&"Z") && words.get(2) == Some(&&*group.to_string())
    };
    stats.filter(belongs).count()
}

fn private_memory(process: Pid) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a kernel since 4.5");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
