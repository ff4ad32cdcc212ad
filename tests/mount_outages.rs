//! A part of the export that does not answer: a second permfs mounted below SOURCE, whose process is stopped, hangs exactly as
//! a dead server does. Who has nothing to do with it goes on, who waits can be killed, and in the end everything is done.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use live::mount::permfs;
use live::waits::{IN_A_REQUEST, until, waits_in};
use live::{AIRFLOW, Backing, Mount, POD, TRANSPARENT};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What "at once" means where 200 processes have just been started on two CPUs that others use as well. What hangs is not done before
/// the server is healed.
const SOON: Duration = Duration::from_secs(20);
/// When a server is healed for which somebody waits who should not.
const HEALED: Duration = Duration::from_secs(30);
/// Within which whoever asks about a mount, or takes it down, gets an answer (README).
const ANSWERED: Duration = Duration::from_secs(5);

/// One at a time: a process that another test starts has this one's files open until it executes something, and waits to close them
/// where that hangs.
static TURN: Mutex<()> = Mutex::new(());

/// An export with a directory `fine/` of its own and another file system on `hung/`, which can be made to hang.
struct Stage {
    pods: Mount,
    beneath: Mount,
    server: Pid,
    _turn: MutexGuard<'static, ()>,
}

/// Heals the stage when it is dropped: before what was made earlier, and is to be closed.
struct Heals<'a>(&'a Stage);

impl Drop for Heals<'_> {
    fn drop(&mut self) {
        self.0.heal();
    }
}

impl Stage {
    fn new() -> Self {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let beneath = Mount::of(TRANSPARENT);
        let mut pods = Mount::unmounted(Backing::TempDir);
        for name in ["fine", "hung"] {
            fs::create_dir(pods.stored(name)).unwrap();
            std::os::unix::fs::chown(pods.stored(name), Some(2001), Some(2001)).unwrap();
        }
        let nothing = None::<&str>;
        mount(Some(&beneath.target()), &pods.stored("hung"), nothing, MsFlags::MS_BIND, nothing).unwrap();
        pods.mount(AIRFLOW);
        POD.run(|| {
            fs::write(pods.at("hung/known"), "content").unwrap();
            fs::write(pods.at("fine/known"), "content").unwrap();
        });
        let server = Pid::from_raw(i32::try_from(beneath.daemon()).unwrap());
        Self { pods, beneath, server, _turn }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.pods.at(path)
    }

    fn hang(&self) {
        kill(self.server, Signal::SIGSTOP).unwrap();
    }

    fn heal(&self) {
        kill(self.server, Signal::SIGCONT).unwrap();
    }

    /// A shell of the pod's that does `script` with `$1`, and is at it when this returns.
    fn waiting(&self, script: &str, path: &str) -> Child {
        let mut child = shell(script, &self.at(path));
        // For an answer, or for somebody who does and has locked the directory meanwhile.
        let waits = || [IN_A_REQUEST, "rwsem_down"].into_iter().any(|call| waits_in(child.id(), call));
        until(&format!("{script} of {path} waits"), waits);
        assert!(child.try_wait().unwrap().is_none(), "{script} of {path} does not wait");
        child
    }

    /// Things done in the directory that has nothing to do with it; the longest that one of them took.
    fn goes_on(&self, round: usize) -> Duration {
        let file = self.at(&format!("fine/{round}"));
        let moved = self.at(&format!("fine/{round}.moved"));
        let steps: [&(dyn Fn() + Sync); 6] = [
            &|| fs::write(&file, "content").unwrap(),
            &|| fs::rename(&file, &moved).unwrap(),
            &|| assert_eq!(fs::read_to_string(&moved).unwrap(), "content"),
            &|| assert!(live::list(self.at("")).unwrap().len() >= 2),
            &|| fs::remove_file(&moved).unwrap(),
            &|| assert_eq!(fs::metadata(self.at("fine/known")).unwrap().len(), 7),
        ];
        let timed = |step: &&(dyn Fn() + Sync)| {
            let begin = Instant::now();
            // Where it does hang, the server comes back, so that the test ends.
            thread::scope(|scope| {
                let done = scope.spawn(|| POD.run(*step));
                while !done.is_finished() && begin.elapsed() < HEALED {
                    sleep(Duration::from_millis(1));
                }
                let took = begin.elapsed();
                if !done.is_finished() {
                    self.heal();
                }
                took
            })
        };
        steps.iter().map(timed).max().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.heal();
        if self.pods.mount_line().is_some() && !self.pods.unmount(&[]).status.success() {
            let _ = umount2(&self.pods.target(), MntFlags::MNT_DETACH);
        }
        let _ = umount2(&self.pods.stored("hung"), MntFlags::MNT_DETACH);
        let _ = &self.beneath;
    }
}

fn shell(script: &str, path: &Path) -> Child {
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(path)
        .uid(POD.uid)
        .gid(POD.gid)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[track_caller]
fn ends(what: &str, child: &mut Child) -> std::process::ExitStatus {
    until(&format!("{what} ends"), || child.try_wait().unwrap().is_some());
    child.wait().unwrap()
}

#[track_caller]
fn answers(what: &str, command: impl FnOnce() -> Output) -> Output {
    let begin = Instant::now();
    let output = command();
    assert!(begin.elapsed() < ANSWERED, "{what} took {:?}", begin.elapsed());
    output
}

#[test]
fn a_killed_caller_goes_away_although_the_server_has_its_request() {
    let stage = Stage::new();
    // Each is another request that waits: a lookup, a create, a mkdir, a rename, a write, and the flush of a close.
    let scripts = [
        ("exec cat \"$1\"", "hung/never-seen"),
        (": > \"$1\"", "hung/made"),
        ("exec mkdir \"$1\"", "hung/dir"),
        ("exec mv -T \"$1\" \"$1.new\"", "hung/known"),
        ("exec 3>>\"$1\"; sleep 1; echo more >&3; exec sleep 60", "hung/log"),
        ("exec 3>>\"$1\"; echo more >&3; sleep 1; exec 3>&-; exec sleep 60", "hung/closed"),
    ];
    let mut callers: Vec<_> = Vec::new();
    for (script, path) in &scripts[4..] {
        callers.push((script, shell(script, &stage.at(path))));
    }
    // Each is a second before what is to hang.
    until("one is open", || stage.beneath.stored("log").exists());
    until("one is written", || {
        fs::read(stage.beneath.stored("closed")).is_ok_and(|content| content == b"more\n")
    });
    stage.hang();
    for (script, path) in &scripts[..4] {
        callers.push((script, stage.waiting(script, path)));
    }
    sleep(Duration::from_secs(1));
    for (script, mut caller) in callers {
        caller.kill().unwrap();
        assert_eq!(ends(script, &mut caller).signal(), Some(libc::SIGKILL), "{script}");
    }
    stage.heal();
    POD.run(|| fs::write(stage.at("hung/after"), "content").unwrap());
    assert!(stage.goes_on(0) < SOON);
}

#[test]
fn a_process_that_is_killed_with_an_open_file_goes_away() {
    let stage = Stage::new();
    let mut caller = shell("exec 3>>\"$1\"; echo more >&3; exec sleep 60", &stage.at("hung/open"));
    let written = || fs::read(stage.beneath.stored("open")).is_ok_and(|content| content == b"more\n");
    until("it has written", written);
    stage.hang();
    caller.kill().unwrap();
    // Its end closes the file, and that close asks the server.
    assert_eq!(ends("the process", &mut caller).signal(), Some(libc::SIGKILL));
    stage.heal();
}

#[test]
fn a_signal_that_is_handled_interrupts_nothing() {
    let stage = Stage::new();
    stage.hang();
    let mut caller = stage.waiting("trap : USR1; : > \"$1\"", "hung/made");
    let pid = Pid::from_raw(i32::try_from(caller.id()).unwrap());
    kill(pid, Signal::SIGUSR1).unwrap();
    sleep(Duration::from_secs(1));
    assert!(caller.try_wait().unwrap().is_none(), "it waits on");
    stage.heal();
    assert!(ends("the create", &mut caller).success());
    assert!(stage.beneath.stored("made").exists());
    // SIGKILL does, also after such a one, of which alone the kernel has told the daemon.
    stage.hang();
    let mut caller = stage.waiting("trap : USR1; : > \"$1\"", "hung/another");
    let pid = Pid::from_raw(i32::try_from(caller.id()).unwrap());
    kill(pid, Signal::SIGUSR1).unwrap();
    sleep(Duration::from_millis(500));
    caller.kill().unwrap();
    assert_eq!(ends("the create", &mut caller).signal(), Some(libc::SIGKILL));
}

#[test]
fn one_hung_directory_holds_up_none_but_its_own_callers() {
    const CALLERS: usize = 200;
    let stage = Stage::new();
    assert!(stage.goes_on(0) < SOON);
    stage.hang();
    let mut callers: Vec<_> = (0..CALLERS)
        .map(|number| shell("echo content > \"$1\"", &stage.at(&format!("hung/{number}"))))
        .collect();
    sleep(Duration::from_secs(2));
    let longest = (1..=20).map(|round| stage.goes_on(round)).max().unwrap();
    assert!(longest < SOON, "beside {CALLERS} callers that wait, something took {longest:?}");
    assert!(callers.iter_mut().all(|caller| caller.try_wait().unwrap().is_none()), "they wait");

    let target = stage.pods.target();
    let status = answers("status", || permfs().args(["status", "--json"]).arg(&target).output().unwrap());
    assert!(String::from_utf8_lossy(&status.stdout).contains("serving"), "{status:?}");
    let busy = answers("unmount", || stage.pods.unmount(&[]));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("use"), "{busy:?}");

    stage.heal();
    for (number, caller) in callers.iter_mut().enumerate() {
        assert!(ends("a caller", caller).success());
        assert_eq!(fs::read_to_string(stage.beneath.stored(number.to_string())).unwrap(), "content\n");
    }
    assert!(stage.goes_on(99) < SOON);
}

#[test]
fn a_lazy_unmount_is_answered_while_callers_wait() {
    let stage = Stage::new();
    stage.hang();
    let mut callers: Vec<_> =
        (0..8).map(|number| stage.waiting("echo content > \"$1\"", &format!("hung/{number}"))).collect();
    let gone = answers("unmount --lazy", || stage.pods.unmount(&["--lazy"]));
    assert!(gone.status.success(), "{gone:?}");
    assert!(stage.pods.mount_line().is_none());
    stage.heal();
    for caller in &mut callers {
        assert!(ends("a caller", caller).success());
    }
}

#[test]
fn a_process_that_hangs_in_the_middle_of_execve_holds_up_none_but_itself() {
    let stage = Stage::new();
    // Each program that is started from here on closes its copy of this file while it begins, and that close asks the server.
    let file = POD.run(|| fs::OpenOptions::new().append(true).open(stage.at("hung/known")).unwrap());
    let _heals = Heals(&stage);
    stage.hang();
    let starts = thread::spawn(|| Command::new("true").status().unwrap());
    // For whoever looks for callers that are dying to have looked at this one.
    sleep(Duration::from_secs(1));
    assert!(!starts.is_finished(), "it hangs");
    let waiting: Vec<_> = (0..8)
        .map(|number| {
            let path = stage.at(&format!("hung/{number}"));
            thread::spawn(move || POD.run(|| fs::metadata(path).is_err()))
        })
        .collect();
    sleep(Duration::from_millis(500));
    let longest = stage.goes_on(0);
    assert!(longest < SOON, "beside one in the middle of execve(2), something took {longest:?}");
    stage.heal();
    assert!(starts.join().unwrap().success());
    assert!(waiting.into_iter().all(|caller| caller.join().unwrap()));
    drop(file);
}
