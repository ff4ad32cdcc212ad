//! Eight threads of work that checks itself, in a process of its own: whoever starts a process while the server is away must
//! have no file of the mount open, as [`super::stage::Outage`] explains.
//!
//! Each thread makes, writes, syncs, renames, reads back, lists and removes, and appends one line a round to a log of its own
//! and to one that all share, both held open. What is left at the server tells whether anything was lost or done twice.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::live::POD;

const THREADS: usize = 8;

/// The work, until it is told to stop.
pub struct Load {
    process: Child,
}

impl Load {
    /// Begins in the directory `at`, which is the mount's; returns once every thread has done a round.
    pub fn begin(at: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("--load")
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "working\n");
        Self { process }
    }

    /// Rounds done so far by all threads, as the server has it.
    pub fn rounds(at_server: &Path) -> usize {
        fs::read_to_string(at_server.join("shared.log")).map_or(0, |log| log.lines().count())
    }

    /// Lets every thread finish its round and looks at what they have left at the server.
    #[track_caller]
    pub fn end(mut self, at_server: &Path) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success(), "the work met an error; see above");
        let shared = fs::read_to_string(at_server.join("shared.log")).unwrap();
        let mut shared: Vec<_> = shared.lines().map(str::to_owned).collect();
        let mut expected = Vec::new();
        for thread in 0..THREADS {
            let log = fs::read_to_string(at_server.join(format!("{thread}.log"))).unwrap();
            let rounds = log.lines().count();
            let lines: Vec<_> = (0..rounds).map(|round| line(thread, round)).collect();
            assert_eq!(log.lines().collect::<Vec<_>>(), lines, "the log of thread {thread}");
            for round in 0..rounds {
                let kept = at_server.join(format!("{thread}/{round}.kept"));
                assert_eq!(kept.exists(), round % 2 == 0, "{}", kept.display());
                if round % 2 == 0 {
                    assert_eq!(fs::read(&kept).unwrap(), content(thread, round), "{}", kept.display());
                }
            }
            assert_eq!(fs::read_dir(at_server.join(thread.to_string())).unwrap().count(), rounds.div_ceil(2));
            expected.extend(lines);
        }
        shared.sort();
        expected.sort();
        assert_eq!(shared, expected, "the log that all share");
    }
}

/// The other side of [`Load::begin`].
pub fn run(arguments: &mut impl Iterator<Item = String>) -> ExitCode {
    let directory = arguments.next().expect("a directory");
    let (directory, stop) = (Path::new(&directory), AtomicBool::new(false));
    thread::scope(|scope| {
        let begun: Vec<_> = (0..THREADS)
            .map(|number| {
                let (done, begun) = std::sync::mpsc::channel();
                let stop = &stop;
                scope.spawn(move || POD.run(|| work(directory, number, stop, &done)));
                begun
            })
            .collect();
        begun.iter().for_each(|thread| thread.recv().unwrap());
        println!("working");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        stop.store(true, Ordering::Relaxed);
    });
    ExitCode::SUCCESS
}

fn work(directory: &Path, thread: usize, stop: &AtomicBool, done: &std::sync::mpsc::Sender<()>) {
    let own = directory.join(thread.to_string());
    fs::create_dir(&own).unwrap();
    let append = |name: &str| -> File {
        OpenOptions::new().append(true).create(true).open(directory.join(name)).unwrap()
    };
    let (mut log, mut shared) = (append(&format!("{thread}.log")), append("shared.log"));
    for round in 0.. {
        if stop.load(Ordering::Relaxed) && round > 0 {
            return;
        }
        let (new, kept) = (own.join(format!("{round}.new")), own.join(format!("{round}.kept")));
        let mut file = File::create(&new).unwrap();
        file.write_all(&content(thread, round)).unwrap();
        file.sync_all().unwrap();
        drop(file);
        fs::rename(&new, &kept).unwrap();
        assert_eq!(fs::read(&kept).unwrap(), content(thread, round));
        let inner = own.join("inner");
        fs::create_dir(&inner).unwrap();
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
        fs::remove_dir(&inner).unwrap();
        if round % 2 == 1 {
            fs::remove_file(&kept).unwrap();
        }
        for log in [&mut log, &mut shared] {
            log.write_all(format!("{}\n", line(thread, round)).as_bytes()).unwrap();
        }
        let _ = done.send(());
    }
}

fn line(thread: usize, round: usize) -> String {
    format!("thread {thread} round {round:06}")
}

fn content(thread: usize, round: usize) -> Vec<u8> {
    let length = 1 + (round * 997) % 20_000;
    (0..length).map(|at| u8::try_from((at * 31 + round + thread) % 256).unwrap()).collect()
}
