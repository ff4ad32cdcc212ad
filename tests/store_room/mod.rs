//! A service manager as small as can be: it starts `permfs mount`, keeps the descriptors that it is sent (sd_notify(3)), and gives them
//! to whoever it starts next (sd_listen_fds(3)).

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use permfs::sys::{descriptors, passing};

use crate::live::mount::permfs;
use crate::live::waits::PATIENCE;

/// The manager of one service: a thread with a table of open files of its own. Its children must have no file of the mount open that
/// they are to serve, as those of the test's other threads would: to close one they would wait for themselves.
pub struct Manager {
    room: tempfile::TempDir,
    seen: Arc<Mutex<Seen>>,
    errands: Sender<Errand>,
}

type Errand = Box<dyn FnOnce() + Send>;

/// What it was told. The numbers of descriptors are those of its own table.
#[derive(Default)]
pub struct Seen {
    kept: Vec<Kept>,
    told: Vec<String>,
}

pub struct Kept {
    pub name: String,
    pub fd: OwnedFd,
    polled: bool,
}

/// A service that runs: `permfs mount --foreground` and all that it has started.
pub struct Service {
    main: Child,
    log: PathBuf,
    seen: Arc<Mutex<Seen>>,
    /// Messages, and bytes of the log, before it was started.
    before: usize,
    log_before: usize,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Manager {
    pub fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let (errands, to_run) = channel::<Errand>();
        let (heard, path) = (Arc::clone(&seen), room.path().join("notify"));
        thread::spawn(move || work(&path, &heard, &to_run));
        let this = Self { room, seen, errands };
        this.on_its_thread(|_| ());
        this
    }

    /// The names of what is kept, sorted.
    pub fn kept(&self) -> Vec<String> {
        self.on_its_thread(|seen| {
            seen.forget_what_has_ended();
            let mut names: Vec<_> = seen.kept.iter().map(|kept| kept.name.clone()).collect();
            names.sort();
            names
        })
    }

    /// Writes into something that is kept.
    pub fn write_into(&self, name: &'static str, offset: u64, bytes: [u8; 8]) {
        self.on_its_thread(move |seen| {
            let kept = seen.kept.iter().find(|kept| kept.name == name).unwrap();
            File::from(kept.fd.try_clone().unwrap()).write_all_at(&bytes, offset).unwrap();
        });
    }

    /// Starts a mount with what is kept, and does not wait for it.
    pub fn start(&self, source: &Path, target: &Path, rules: &str) -> Service {
        let (config, log) = (self.room.path().join("rules.toml"), self.room.path().join("log"));
        fs::write(&config, rules).unwrap();
        let program = permfs();
        let mut command = Command::new("bash");
        command.env("NOTIFY_SOCKET", self.room.path().join("notify")).env("FDSTORE", "64");
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let mut words = vec![program.get_program().to_owned(), "mount".into(), "--foreground".into()];
        words.extend([source.into(), target.into(), "--config".into(), config.into()]);
        let told_in = log.clone();
        let (main, before, log_before) = self.on_its_thread(move |seen| {
            seen.forget_what_has_ended();
            let names: Vec<_> = seen.kept.iter().map(|kept| kept.name.as_str()).collect();
            command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
            let log = OpenOptions::new().create(true).append(true).open(told_in).unwrap();
            let log_before = usize::try_from(log.metadata().unwrap().len()).unwrap();
            command.stderr(log);
            let (script, _open) = seen.begin();
            (command.arg("-c").arg(script).args(words).spawn().unwrap(), seen.told.len(), log_before)
        });
        Service { main, log, seen: Arc::clone(&self.seen), before, log_before }
    }

    fn on_its_thread<T: Send + 'static>(&self, act: impl FnOnce(&mut Seen) -> T + Send + 'static) -> T {
        let (answer, wait) = channel();
        let seen = Arc::clone(&self.seen);
        let errand = move || {
            let done = act(&mut lock(&seen));
            let _ = answer.send(done);
        };
        self.errands.send(Box::new(errand)).unwrap();
        wait.recv().expect("the manager's thread works")
    }
}

/// Listens, and runs errands, until there is nobody for whom.
fn work(path: &Path, seen: &Mutex<Seen>, errands: &Receiver<Errand>) {
    leave_open_files_behind();
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    loop {
        hear_all(&socket, seen);
        match errands.try_recv() {
            Ok(errand) => {
                // What was said before it: the last words of a service that was killed are not the next one's.
                hear_all(&socket, seen);
                errand();
            }
            Err(TryRecvError::Empty) => {}
            // What it keeps is open in its own table alone.
            Err(TryRecvError::Disconnected) => return lock(seen).kept.clear(),
        }
    }
}

fn hear_all(socket: &UnixDatagram, seen: &Mutex<Seen>) {
    while let Ok((words, fds)) = passing::receive(socket.as_fd(), 4096) {
        lock(seen).hear(&String::from_utf8(words).unwrap(), fds);
    }
}

/// The calling thread goes on with a table of open files that has only the standard ones.
#[allow(unsafe_code)]
fn leave_open_files_behind() {
    // SAFETY: the descriptors are closed in a table that nobody but this thread will use, and it owns none of them.
    let left = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_UNSHARE.cast_signed()) };
    assert_eq!(left, 0, "close_range: {}", std::io::Error::last_os_error());
}

impl Seen {
    /// What a shell does to become a program that has what is kept from 3 on. Not between a fork(2) and an execve(2) of this process: a
    /// copy of its memory would have its mappings of the mount, and whoever ends one waits for what was stored through it.
    fn begin(&self) -> (String, Vec<OwnedFd>) {
        let open: Vec<_> =
            self.kept.iter().map(|kept| passing::above(kept.fd.as_fd(), 100).unwrap()).collect();
        descriptors::keep_over_exec(open.iter().map(AsRawFd::as_raw_fd)).unwrap();
        let place = |(number, fd): (RawFd, &OwnedFd)| format!("exec {number}<&{0} {0}<&-; ", fd.as_raw_fd());
        let placed: String = (3..).zip(&open).map(place).collect();
        // Only the process itself knows its number before it runs.
        (format!("{placed} export LISTEN_PID=$$; exec \"$0\" \"$@\""), open)
    }

    fn hear(&mut self, words: &str, fds: Vec<OwnedFd>) {
        let value = |key: &str| words.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let name = value("FDNAME").unwrap_or("stored").to_owned();
        if value("FDSTORE") == Some("1") {
            let polled = value("FDPOLL") != Some("0");
            for fd in fds {
                if !self.kept.iter().any(|kept| kept.name == name) {
                    self.kept.push(Kept { name: name.clone(), fd, polled });
                }
            }
        }
        if value("FDSTOREREMOVE") == Some("1") {
            self.kept.retain(|kept| kept.name != name);
        }
        self.told.push(words.to_owned());
    }

    fn forget_what_has_ended(&mut self) {
        self.kept.retain(|kept| !(kept.polled && descriptors::has_error(kept.fd.as_raw_fd())));
    }
}

impl Service {
    /// Waits until it says that it is ready.
    #[track_caller]
    pub fn ready(self) -> Self {
        let begun = Instant::now();
        let is_ready = || lock(&self.seen).told[self.before..].iter().any(|words| words.contains("READY=1"));
        while !is_ready() {
            assert!(begun.elapsed() < PATIENCE, "not ready: {}", self.said());
            sleep(Duration::from_millis(2));
        }
        self
    }

    /// What it has logged, it and those before it.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// What it has logged, and nobody before it.
    pub fn said_itself(&self) -> String {
        self.said()[self.log_before..].to_owned()
    }

    /// kill -9 of all its processes at once; returns when they are gone.
    pub fn kill(mut self) {
        let group = self.group();
        killpg(group, Signal::SIGKILL).unwrap();
        self.main.wait().unwrap();
        let begun = Instant::now();
        while lives(group) {
            assert!(begun.elapsed() < PATIENCE, "killed, and still there");
            sleep(Duration::from_millis(1));
        }
    }

    /// SIGTERM to its main process, and its end.
    pub fn stop(self) -> ExitStatus {
        kill(self.group(), Signal::SIGTERM).unwrap();
        self.end()
    }

    /// Waits for its end.
    pub fn end(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.main.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it goes on: {}", self.said());
            sleep(Duration::from_millis(2));
        }
    }

    /// The number of its main process.
    pub fn main(&self) -> u32 {
        self.main.id()
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.main.id()).unwrap())
    }
}

/// Whether a process of the group is there that has not ended.
fn lives(group: Pid) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        // Of a process that is in the middle of an execve(2) anything else cannot be read.
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if !comm.starts_with("permfs") {
            return false;
        }
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { return false };
        let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
        // State, parent, group.
        let words: Vec<_> = rest.split(' ').collect();
        words[0] != "Z" && words[0] != "X" && words[2] == group.to_string()
    })
}
