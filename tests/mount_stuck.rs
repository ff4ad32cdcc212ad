//! A worker that was killed and cannot end, since the kernel holds a thread of it in a wait that no signal ends: for a page that
//! only its successor's answer unlocks, or for a server that is away. Its successor serves all the same, and leaves what the thread
//! has in hand alone until that is through.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use live::connection::{abort, waiting};
use live::mount::permfs;
use live::waits::until;
use live::{AIRFLOW, Backing, Mount, POD, TRANSPARENT};
use nix::fcntl::{FcntlArg, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Within which the mount answers beside a process that cannot end, on a machine that is busy: its keeper looks once a second,
/// and its successor may close for another one what was left. What waits for a server is not done before that is healed.
const SOON: Duration = Duration::from_secs(20);
/// When the servers are healed for which somebody waits who should not.
const HEALED: Duration = Duration::from_secs(30);
/// Within which `permfs status` answers (README).
const ANSWERED: Duration = Duration::from_secs(5);

/// One at a time: a process that another test starts has this one's files open until it executes something, and waits to close them
/// where that hangs.
static TURN: Mutex<()> = Mutex::new(());

/// A mount `pods` whose export has a directory `fine/` of its own, and on `hung/` a second mount, which has a third one on
/// `hung/in/`. Either can be stopped. A request that the second one has read and does not answer is waited for by the kernel
/// whatever happens to whoever asked; one that it has not read is given up at once.
struct Stage {
    pods: Mount,
    second: Mount,
    third: Mount,
    /// The workers of these two.
    servers: [u32; 2],
    /// Where the pods' mount says who serves it. Nobody is started to be asked while something hangs: a new process begins by closing
    /// its copies of all open files.
    record: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    fn new() -> Self {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
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
        pods.mount(&format!("{AIRFLOW}\n[profile.airflow.cache]\ndata = \"page\"\nattr_timeout = \"1h\"\n"));
        let servers = [second.daemon(), third.daemon()];
        let record = live::mount::runtime_dir().join(pods.keeper().to_string()).join("mount.json");
        Self { pods, second, third, servers, record, _turn }
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

    fn worker(&self) -> u32 {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(&self.record).unwrap()).unwrap();
        record["worker"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap()
    }

    /// The pods' worker, once a thread of it is in a wait that a kill does not end: others are for a moment only.
    fn worker_that_waits(&self) -> u32 {
        let waits = || states(self.worker()).contains(&b'D');
        let still = || {
            (0..20).all(|_| {
                waits() && {
                    sleep(Duration::from_millis(10));
                    true
                }
            })
        };
        until("a thread of the worker waits uninterruptibly", still);
        self.worker()
    }

    /// kill -9 of the worker; returns when another is about to serve.
    fn kill_worker(&self) -> u32 {
        let worker = self.worker();
        signal(worker, Signal::SIGKILL);
        until("another worker serves", || self.worker() != worker);
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
            let _ = abort(&self.pods.target());
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

fn bind(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

fn signal(process: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(process).unwrap()), signal).unwrap();
}

/// Stops a process, and returns when each thread of it has stopped, or is held elsewhere: until then one may still answer.
fn stop(process: u32) {
    signal(process, Signal::SIGSTOP);
    until("each thread has stopped", || states(process).iter().all(|state| b"TD".contains(state)));
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
    // A read asks for attributes that the kernel does not know.
    file.metadata().unwrap();
    // A close that is under way would be taken for the READ.
    for mount in [&stage.pods, &stage.second] {
        until("nothing is under way", || waiting(&mount.target()) == 0);
    }
    stop(stage.servers[0]);
    // A READ that nobody answers: its pages are locked.
    let (reader, locker) = (Arc::clone(&file), file);
    let read = thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    });
    until("the READ has come to who does not answer", || waiting(&stage.second.target()) > 0);
    // The lock is the node's, and set at once; then the kernel is to forget the pages.
    let locked = thread::spawn(move || lock(&locker, libc::F_WRLCK));
    // The READ at which a third worker died would be refused, and its page unlocked.
    for round in 0..2 {
        let dead = stage.worker_that_waits();
        assert_eq!(stage.kill_worker(), dead);
        assert!(states(dead).contains(&b'D'), "it is there yet");
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
    POD.run(|| {
        fs::write(stage.at("hung/in/known"), "content").unwrap();
        fs::write(stage.at("hung/in/log"), "first\n").unwrap();
    });
    let room = tempfile::tempdir().unwrap();
    fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let go = room.path().join("go");
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.uid(POD.uid).gid(POD.gid).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let script = script.replace("WAIT", "until test -e \"$2\"; do sleep 0.05; done");
        shell.args(["-c", script.as_str(), "sh"]).arg(stage.at("hung/in")).arg(&go).spawn().unwrap()
    };
    let callers = [
        "exec 3>>\"$1\"/log; WAIT; echo second >&3",
        "WAIT; exec mkdir \"$1\"/dir",
        "WAIT; exec mv -T \"$1\"/known \"$1\"/moved",
    ];
    let mut callers = callers.map(shell);
    let mut dies = shell("WAIT; exec cat \"$1\"/never");
    // The first one opens its file.
    sleep(Duration::from_secs(1));
    until("nothing is under way", || waiting(&stage.third.target()) == 0);
    stop(stage.servers[1]);
    fs::write(&go, "").unwrap();
    until("the second one has read what it cannot answer", || waiting(&stage.third.target()) > 0);
    sleep(Duration::from_secs(1));
    // From now on it does not see either that those whom it serves are dying.
    stop(stage.servers[0]);
    let dead = stage.worker();
    for round in 0..2 {
        stage.kill_worker();
        let took = stage.goes_on(round);
        assert!(took < SOON, "beside a worker that cannot end, something took {took:?}");
    }
    assert!(states(dead).contains(&b'D'), "it is there yet");
    let begin = Instant::now();
    let status = permfs().args(["status", "--json"]).arg(stage.pods.target()).output().unwrap();
    assert!(String::from_utf8_lossy(&status.stdout).contains("serving"), "{status:?}");
    assert!(begin.elapsed() < ANSWERED);
    dies.kill().unwrap();
    until("a killed caller goes away", || dies.try_wait().unwrap().is_some());
    assert!(callers.iter_mut().all(|caller| caller.try_wait().unwrap().is_none()), "they wait");
    stage.heal();
    for caller in &mut callers {
        until("a caller is through", || caller.try_wait().unwrap().is_some());
        assert!(caller.wait().unwrap().success());
    }
    until("the dead worker is gone", || states(dead).is_empty());
    let stored = |name: &str| stage.third.stored(name);
    assert_eq!(fs::read_to_string(stored("log")).unwrap(), "first\nsecond\n");
    assert!(stored("dir").is_dir() && stored("moved").is_file() && !stored("known").exists());
    assert!(stage.goes_on(9) < SOON);
}
