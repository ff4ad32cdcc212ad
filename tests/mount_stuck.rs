//! A worker that was killed and cannot end, since the kernel holds a thread of it in a wait that no signal ends: for a page that
//! only its successor's answer unlocks, or for a server that is away. Its successor serves all the same, and leaves what the thread
//! has in hand alone until that is through.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use live::mount::permfs;
use live::{AIRFLOW, Backing, Mount, POD, TRANSPARENT};
use nix::fcntl::{FcntlArg, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Within which a successor serves beside a process that cannot end.
const SOON: Duration = Duration::from_secs(2);
/// Within which everything is through once nothing is in the way.
const HEALED: Duration = Duration::from_secs(10);

/// A mount `pods` whose export has a directory `fine/` of its own, and on `hung/` a second mount, which has a third one on
/// `hung/in/`. Either can be stopped. A request that the second one has read and does not answer is waited for by the kernel
/// whatever happens to whoever asked; one that it has not read is given up at once.
struct Stage {
    pods: Mount,
    second: Mount,
    third: Mount,
    /// The workers of these two.
    servers: [u32; 2],
}

impl Stage {
    fn new() -> Self {
        let beneath = format!(
            "{TRANSPARENT}\n[profile.transparent.cache]\ndata = \"none\"\n[profile.transparent.locks]\nscope = \"node\"\n"
        );
        let third = Mount::of(&beneath);
        let mut second = Mount::unmounted(Backing::TempDir);
        bind(&third.target(), &second.stored("in"));
        second.mount(&beneath);
        let mut pods = Mount::unmounted(Backing::TempDir);
        fs::create_dir(pods.stored("fine")).unwrap();
        chown(pods.stored("fine"), Some(2001), Some(2001)).unwrap();
        bind(&second.target(), &pods.stored("hung"));
        pods.mount(&format!("{AIRFLOW}\n[profile.airflow.cache]\ndata = \"page\"\n"));
        let servers = [second.daemon(), third.daemon()];
        Self { pods, second, third, servers }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.pods.at(path)
    }

    /// What the pods' mount needs none of the others for; how long it took.
    fn goes_on(&self, round: usize) -> Duration {
        let begin = Instant::now();
        let file = self.at(&format!("fine/{round}"));
        let work = thread::spawn(move || {
            POD.run(|| {
                fs::write(&file, "content").unwrap();
                assert_eq!(fs::read(&file).unwrap(), b"content");
                fs::remove_file(&file).unwrap();
            });
        });
        while !work.is_finished() && begin.elapsed() < HEALED {
            sleep(Duration::from_millis(5));
        }
        let took = begin.elapsed();
        if !work.is_finished() {
            self.heal();
        }
        took
    }

    /// The pods' worker, once a thread of it is in a wait that a kill does not end.
    fn worker_that_waits(&self) -> u32 {
        let worker = self.pods.daemon();
        until("a thread of the worker waits uninterruptibly", || states(worker).contains(&b'D'));
        worker
    }

    fn heal(&self) {
        for server in self.servers.into_iter().rev() {
            signal(server, Signal::SIGCONT);
            // What hangs in the second one is through before that one can look who still waits for it.
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.heal();
        if thread::panicking() {
            // Who waits for an answer that nobody gives would wait for ever, and this process could not end.
            let _ = connection(&self.pods.target()).map(|abort| fs::write(abort, "1"));
        }
        if !self.pods.unmount(&[]).status.success() {
            let _ = umount2(&self.pods.target(), MntFlags::MNT_DETACH);
        }
        let _ = umount2(&self.pods.stored("hung"), MntFlags::MNT_DETACH);
        if !self.second.unmount(&[]).status.success() {
            let _ = umount2(&self.second.target(), MntFlags::MNT_DETACH);
        }
        let _ = umount2(&self.second.stored("in"), MntFlags::MNT_DETACH);
    }
}

/// What ends the connection of a FUSE mount when it is written to.
fn connection(target: &Path) -> std::io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == target.to_str());
    let minor = line.and_then(|line| line.split(' ').nth(2)?.split(':').nth(1));
    Ok(Path::new("/sys/fs/fuse/connections").join(minor.unwrap_or_default()).join("abort"))
}

fn bind(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

fn signal(process: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(process).unwrap()), signal).unwrap();
}

/// The letters of proc_pid_stat(5), field 3, of all threads of a process.
fn states(process: u32) -> Vec<u8> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let state = |task: fs::DirEntry| {
        let stat = fs::read(task.path().join("stat")).ok()?;
        let name_ends = stat.iter().rposition(|&byte| byte == b')')?;
        stat.get(name_ends + 2).copied()
    };
    tasks.filter_map(|task| state(task.ok()?)).collect()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < HEALED, "not so: {what}");
        sleep(Duration::from_millis(10));
    }
}

fn lock(file: &File, kind: i32) {
    let kind = libc::c_short::try_from(kind).unwrap();
    let whole = libc::flock { l_type: kind, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(file, FcntlArg::F_SETLKW(&whole)).unwrap();
}

#[test]
fn a_thread_that_waits_for_a_page_that_its_successor_must_fill_keeps_nobody_from_succeeding() {
    let stage = Stage::new();
    let file = POD.run(|| {
        fs::write(stage.at("hung/f"), vec![7; 64 << 10]).unwrap();
        Arc::new(OpenOptions::new().read(true).write(true).open(stage.at("hung/f")).unwrap())
    });
    // The owner has a file for its locks from here on, and the kernel no page of the file.
    lock(&file, libc::F_WRLCK);
    lock(&file, libc::F_UNLCK);
    signal(stage.servers[0], Signal::SIGSTOP);
    // A READ that nobody answers: its pages are locked.
    let (reader, locker) = (Arc::clone(&file), file);
    let read = thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    });
    sleep(Duration::from_millis(300));
    // The lock is the node's, and set at once; then the kernel is to forget the pages.
    let locked = thread::spawn(move || lock(&locker, libc::F_WRLCK));
    for round in 0..3 {
        signal(stage.worker_that_waits(), Signal::SIGKILL);
        sleep(Duration::from_millis(50));
        let took = stage.goes_on(round);
        assert!(took < SOON, "beside a worker that cannot end, something took {took:?}");
    }
    assert!(!read.is_finished());
    stage.heal();
    until("both are through", || read.is_finished() && locked.is_finished());
    assert_eq!(read.join().unwrap(), vec![7; 64 << 10]);
    assert!(stage.goes_on(9) < SOON);
}

#[test]
fn a_worker_that_the_server_holds_on_to_is_succeeded_and_its_requests_are_done_once() {
    let stage = Stage::new();
    let mut log = POD.run(|| {
        fs::write(stage.at("hung/in/known"), "content").unwrap();
        OpenOptions::new().append(true).create(true).open(stage.at("hung/in/log")).unwrap()
    });
    log.write_all(b"first\n").unwrap();
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        std::os::unix::process::CommandExt::uid(&mut shell, POD.uid);
        std::os::unix::process::CommandExt::gid(&mut shell, POD.gid);
        let shell = shell.args(["-c", script, "sh"]).arg(stage.at("hung/in")).stdin(Stdio::null());
        shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    signal(stage.servers[1], Signal::SIGSTOP);
    let append = thread::spawn(move || {
        log.write_all(b"second\n").unwrap();
        log.sync_all().unwrap();
    });
    let mut makes = shell("exec mkdir \"$1\"/dir");
    let mut moves = shell("exec mv -T \"$1\"/known \"$1\"/moved");
    let mut dies = shell("exec cat \"$1\"/never");
    sleep(Duration::from_millis(500));
    // From now on it does not see either that those whom it serves are dying.
    signal(stage.servers[0], Signal::SIGSTOP);
    let dead = stage.worker_that_waits();
    for round in 0..2 {
        signal(stage.pods.daemon(), Signal::SIGKILL);
        sleep(Duration::from_millis(50));
        let took = stage.goes_on(round);
        assert!(took < SOON, "beside a worker that cannot end, something took {took:?}");
    }
    assert!(states(dead).contains(&b'D'), "it is there yet");
    let begin = Instant::now();
    let status = permfs().args(["status", "--json"]).arg(stage.pods.target()).output().unwrap();
    assert!(String::from_utf8_lossy(&status.stdout).contains("serving"), "{status:?}");
    assert!(begin.elapsed() < SOON);
    dies.kill().unwrap();
    until("a killed caller goes away", || dies.try_wait().unwrap().is_some());
    assert_eq!(dies.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(makes.try_wait().unwrap().is_none() && moves.try_wait().unwrap().is_none(), "they wait");
    stage.heal();
    until("all are through", || append.is_finished() && states(dead).is_empty());
    append.join().unwrap();
    assert!(makes.wait().unwrap().success() && moves.wait().unwrap().success());
    let stored = |name: &str| stage.third.stored(name);
    assert_eq!(fs::read_to_string(stored("log")).unwrap(), "first\nsecond\n");
    assert!(stored("dir").is_dir() && stored("moved").is_file() && !stored("known").exists());
    assert!(stage.goes_on(9) < SOON);
}
