//! A worker that is a process of its own. It is told its part in its arguments, works until its standard input ends, so
//! also when whoever started it dies, and says in one line of JSON what came of it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::abilities::Abilities;
use super::journal::Journal;
use super::report::Report;
use super::who::Who;
use super::worker::{Part, work};

/// Tells a program that it is a worker, and of what: number, workers, seed, uid and gid, what the file
/// system can do, directory.
const PART: &str = "PERMFS_LOAD_PART";
/// How much longer than an operation's patience a worker's verifying at its end may take.
const CLEARING: Duration = Duration::from_secs(60);
/// What its line begins with.
const ANSWER: &str = "load-report ";

/// A worker, seen from outside.
pub struct WorkerProcess {
    number: u64,
    child: Child,
    output: Receiver<String>,
}

impl WorkerProcess {
    /// Starts `command`, which is to call [`be_a_worker`].
    pub fn start(mut command: Command, part: Part, directory: &Path) -> Self {
        let (uid, gid) = part.who.map_or((u32::MAX, u32::MAX), |who| (who.uid, who.gid));
        let abilities = serde_json::to_string(&part.abilities).expect("truth values");
        let words = format!("{} {} {} {uid} {gid} {abilities} ", part.number, part.workers, part.seed);
        let mut child = command
            .env(PART, words + directory.to_str().expect("a path of the load's own"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the load starts itself");
        let mut stdout = child.stdout.take().expect("it is piped");
        let (said, output) = channel();
        thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            let _ = said.send(text);
        });
        Self { number: part.number, child, output }
    }

    /// Its report, and whether it has ended.
    pub fn end(mut self, patience: Duration) -> (Report, bool) {
        drop(self.child.stdin.take());
        let output = self.output.recv_timeout(patience + CLEARING);
        let Ok(output) = output else {
            let mut report = Report::default();
            report.add_fault(format!("worker {} (process {}) hangs", self.number, self.child.id()));
            let _ = self.child.kill();
            return (report, false);
        };
        let status = self.child.wait().expect("it is our child");
        let line = output.lines().find_map(|line| line.split_once(ANSWER)).map(|(_, json)| json);
        let report = line.and_then(|line| serde_json::from_str::<Report>(line).ok());
        let mut report = report.unwrap_or_else(|| {
            let mut report = Report::default();
            report.add_fault(format!("worker {} ended without a report: {status}", self.number));
            report
        });
        if !status.success() && report.fault_count == 0 {
            report.add_fault(format!("worker {} ended: {status}", self.number));
        }
        (report, true)
    }
}

/// What a program started by [`super::Options::processes`] does; returns when the load is over. Does nothing and says
/// so in a program that is none of a load's.
pub fn be_a_worker() -> bool {
    let Ok(words) = std::env::var(PART) else { return false };
    let mut words = words.splitn(7, ' ');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
    let (own, workers, seed) = (number(), number(), number());
    let (uid, gid) = (u32::try_from(number()).unwrap(), u32::try_from(number()).unwrap());
    let abilities = words.next().and_then(|word| serde_json::from_str::<Abilities>(word).ok());
    let abilities = abilities.expect("what the file system can do");
    let directory = PathBuf::from(words.next().expect("a directory"));
    let who = (uid != u32::MAX).then(|| Who::new(uid, gid));
    who.inspect(|who| who.become_them());

    let begun = Instant::now();
    let journal = Arc::new(Journal::new(format!("worker {own} (process)"), begun));
    let stop = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&stop);
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        ended.store(true, Ordering::Relaxed);
    });
    work(Part { number: own, workers, seed, who, abilities }, &directory, &journal, &stop);
    println!("\n{ANSWER}{}", serde_json::to_string(&journal.report()).expect("numbers and strings"));
    true
}
