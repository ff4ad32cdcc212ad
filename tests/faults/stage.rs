//! A mount whose processes die where they are told to, and how it is seen that nothing is left of that.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, killpg};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use permfs::sys::fault::{Points, VARIABLE};

use crate::live::mount::permfs;
use crate::live::{Backing, Mount, POD};
use crate::operations::Operation;

/// How long what is left may take to go: the kernel closes and forgets behind its callers' backs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long `permfs` may take to do something to a mount. Where somebody dies at that, perhaps nobody ever answers it.
const CLIENT_PATIENCE: Duration = Duration::from_secs(8);
/// How long one operation may take, deaths included.
pub const LONGEST: Duration = Duration::from_secs(120);
/// How long the last of the deaths may be waited for: those that follow a first one come while a successor begins, beside fifteen other
/// mounts.
const DEATHS_COME: Duration = Duration::from_millis(500);
/// Nothing comes after this long without a point.
pub const QUIET: Duration = Duration::from_millis(15);
/// The same where it is found out which points are passed: what is not seen then is not tried.
pub const ALL_IS_SEEN: Duration = Duration::from_millis(150);

pub struct Stage {
    pub points: Points,
    mount: Mount,
    inodes: u64,
    round: u64,
    /// The first keeper's number is the number of all its successors' process group.
    group: Pid,
}

/// Where one run of an operation takes place: the same directory, seen from both sides.
pub struct Ground {
    pub pods: PathBuf,
    pub stored: PathBuf,
    /// The whole mount, and its rules.
    pub target: PathBuf,
    pub rules: PathBuf,
}

impl Ground {
    pub fn at(&self, name: &str) -> PathBuf {
        self.pods.join(name)
    }

    /// Has permfs do this to the mount; whether it says that it did.
    pub fn permfs(&self, what: &str) -> bool {
        let mut client =
            permfs().arg(what).arg(&self.target).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        loop {
            if let Some(status) = client.try_wait().unwrap() {
                return status.success();
            }
            if begun.elapsed() > CLIENT_PATIENCE {
                client.kill().unwrap();
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// Other rules, and the next time these again.
    pub fn toggle_rules(&self) {
        const OTHER: &str = "negative_timeout = \"1ms\"\n";
        let rules = fs::read_to_string(&self.rules).unwrap();
        let toggled = rules.strip_suffix(OTHER).map_or_else(|| rules.clone() + OTHER, str::to_owned);
        fs::write(&self.rules, toggled).unwrap();
    }
}

impl Stage {
    pub fn new(rules: &str) -> Self {
        let mount = Mount::unmounted(Backing::Tmpfs);
        let points = Points::new().unwrap();
        let config = mount.outside().join("permfs.toml");
        fs::write(&config, rules).unwrap();
        let log = fs::File::create(mount.outside().join("mount.log")).unwrap();
        let shared = format!("/proc/{}/fd/{}", std::process::id(), points.descriptor().as_raw_fd());
        let mounted = permfs()
            .arg("mount")
            .args([&mount.source(), &mount.target()])
            .arg("--config")
            .arg(&config)
            .env(VARIABLE, shared)
            .stdout(Stdio::null())
            .stderr(log)
            .status()
            .unwrap();
        assert!(mounted.success());
        let group = Pid::from_raw(i32::try_from(mount.keeper()).unwrap());
        let mut stage = Self { points, mount, inodes: 0, round: 0, group };
        stage.inodes = stage.free_inodes();
        stage
    }

    /// Does it with these deaths on the way: what came of it, how many were died, and the points passed since, until none is for so long.
    pub fn run(
        &mut self,
        operation: &Operation,
        deaths: &[(&str, u64)],
        quiet: Duration,
    ) -> (String, u64, Vec<String>) {
        self.round += 1;
        let name = format!("d{}", self.round);
        let ground = Ground {
            pods: self.mount.at(&name),
            stored: self.mount.stored(&name),
            target: self.mount.target(),
            rules: self.mount.outside().join("permfs.toml"),
        };
        POD.run(|| {
            fs::create_dir(&ground.pods).unwrap();
            (operation.prepare)(&ground);
        });
        for name in operation.hidden {
            let path = ground.stored.join(name);
            let made = ground.stored.join("made elsewhere");
            fs::write(&made, "content, hidden").unwrap();
            chown(&made, Some(2001), Some(2001)).unwrap();
            fs::rename(&made, &path).unwrap();
        }
        self.settle(quiet);
        self.points.arm(deaths);
        self.points.record();
        let said =
            if operation.by_root { (operation.act)(&ground) } else { POD.run(|| (operation.act)(&ground)) };
        if operation.forgets {
            self.make_the_kernel_forget();
        }
        self.settle_after(u64::try_from(deaths.len()).unwrap(), quiet);
        let died = self.points.died();
        self.points.arm(&[]);
        let passed = self.points.recorded();
        let outcome = format!("{said}\n{}", stored(&ground));
        POD.run(|| fs::remove_dir_all(&ground.pods).unwrap());
        (outcome, died, passed)
    }

    /// Of this mount only: `drop_caches` would change what other mounts' operations come to, beside this one. A remount drops the names of
    /// its superblock that nobody uses (`reconfigure_super` in Linux's fs/super.c).
    fn make_the_kernel_forget(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(None::<&str>, &self.mount.target(), None::<&str>, flags, None::<&str>).unwrap();
    }

    /// Waits until no point has been passed for a moment.
    fn settle(&self, quiet: Duration) {
        self.points.record();
        self.quiet(quiet);
        let _ = self.points.recorded();
    }

    fn quiet(&self, quiet: Duration) {
        let mut count = self.points.count();
        let mut since = Instant::now();
        while since.elapsed() < quiet {
            sleep(Duration::from_millis(1));
            if self.points.count() != count {
                (count, since) = (self.points.count(), Instant::now());
            }
        }
    }

    /// The same, once all deaths have been died; or long enough that none will be any more.
    fn settle_after(&self, deaths: u64, quiet: Duration) {
        let begun = Instant::now();
        while self.points.died() < deaths && begun.elapsed() < DEATHS_COME {
            sleep(Duration::from_millis(1));
        }
        if deaths > 0 {
            // Who died is followed by somebody.
            let _ = fs::metadata(self.mount.at("nothing"));
        }
        self.quiet(quiet);
    }

    /// Complaints of what is left on the export: whatever is still held there, a descriptor, a registered file, has an inode.
    pub fn left_on_export(&mut self) -> Option<String> {
        let begun = Instant::now();
        loop {
            let free = self.free_inodes();
            if free == self.inodes {
                return None;
            }
            if begun.elapsed() > PATIENCE {
                let before = std::mem::replace(&mut self.inodes, free);
                return Some(format!("{} inodes of the export are still held", before.abs_diff(free)));
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Complaints of what the worker still knows of, when nobody uses anything.
    pub fn left_in_worker(&self) -> Option<String> {
        let begun = Instant::now();
        loop {
            let output = permfs().args(["status", "--json"]).arg(self.mount.target()).output().unwrap();
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let counters = &status[0]["counters"];
            let known = (counters["inodes"].as_u64(), counters["open"].as_u64());
            if known == (Some(1), Some(0)) {
                return None;
            }
            if begun.elapsed() > PATIENCE {
                return Some(format!("inodes and open files are {known:?}"));
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Ends the mount of which nothing can be expected any more: whoever hangs there gets an error.
    pub fn executioner(&self) -> impl Fn() + Send + use<> {
        let group = self.group;
        move || {
            threads_of(group).iter().for_each(|thread| println!("  {thread}"));
            _ = killpg(group, Signal::SIGKILL);
        }
    }

    pub fn log(&self) -> String {
        let runtime = fs::read_to_string(self.mount.outside().join("mount.log")).unwrap_or_default();
        runtime.lines().rev().take(12).collect::<Vec<_>>().join("\n")
    }

    /// Unmounts, as far as others let it: a mount namespace made meanwhile has a copy.
    pub fn end(self) {
        drop(self);
    }

    fn free_inodes(&self) -> u64 {
        statvfs(&self.mount.source()).unwrap().files_free()
    }
}

/// What each thread of a process group waits for in the kernel.
fn threads_of(group: Pid) -> Vec<String> {
    let pattern = |process: &Path| {
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(3)?.parse().ok())
            == Some(group.as_raw())
    };
    let entries =
        |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let told = |thread: PathBuf| {
        let (name, place) = (read(thread.join("comm")), read(thread.join("wchan")));
        let status = read(thread.join("status"));
        let state = status.lines().find(|line| line.starts_with("State")).unwrap_or_default();
        format!("{} {name}: {state}, {place}, {}", thread.display(), read(thread.join("syscall")))
    };
    entries("/proc".into())
        .filter(|process| pattern(process))
        .flat_map(|process| entries(process.join("task")))
        .map(told)
        .collect()
}

/// What stands on the export in the end: names, kinds, owners, modes, links, sizes, content, times that were set.
fn stored(ground: &Ground) -> String {
    crate::live::tree::listing(&ground.stored).join("\n")
}
