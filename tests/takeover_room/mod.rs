//! The verified load under which a mount's worker is killed, upgraded, or cut off: several workers do everything that
//! pods do to a directory, and each knows what must be there. Every error, and every byte that is wrong, lost or there
//! twice, is a fault told in a sentence; the longest pause of each kind of operation is measured.
//!
//! The workers are threads, or processes where [`Options::processes`] says how to start one. What they do is in
//! `chores`; `desk` is what they do it with, `journal` their books, `closing` what only all of them together can tell to
//! be right. The load knows nothing of permfs: `examples/load.rs` runs it on any directory, and `tests/load_oracle.rs`
//! proves that it sees what it is there to see.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

mod abilities;
mod chores;
mod closing;
mod desk;
mod dice;
pub mod fcntl;
mod journal;
pub mod mapped;
mod neighbour;
mod process;
mod report;
#[allow(clippy::duplicate_mod, reason = "an example has this room, and not the one of live mounts")]
#[path = "../live/who.rs"]
mod who;
mod worker;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use abilities::Abilities;
use journal::Journal;
use process::WorkerProcess;
use worker::{Part, work};

#[allow(unused_imports, reason = "where all workers are threads")]
pub use process::be_a_worker;
pub use report::Report;
pub use who::Who;

/// What a load is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Made by the load, and gone at its end where nothing was wrong.
    pub directory: PathBuf,
    pub workers: u64,
    pub seed: u64,
    /// Works as them; none works as whoever runs this.
    pub who: Option<Who>,
    /// An operation that takes longer than this when the load is to end has hung.
    pub patience: Duration,
    /// Starts this program so that it calls [`be_a_worker`]; none makes the workers threads.
    pub processes: Option<fn() -> Command>,
    /// Holds nothing open that has no name: it is gone with the mount's last process.
    pub names_only: bool,
}

/// A load that is running.
pub struct Load {
    options: Options,
    begun: Instant,
    abilities: Abilities,
    stop: Arc<AtomicBool>,
    crew: Vec<Member>,
}

enum Member {
    Thread { journal: Arc<Journal>, handle: thread::JoinHandle<()> },
    Process(WorkerProcess),
}

impl Options {
    /// Eight threads, as whoever runs this, under a seed from the clock.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            directory: directory.into(),
            workers: 8,
            seed: since.map_or(0, |since| u64::from(since.subsec_nanos())),
            who: None,
            patience: Duration::from_secs(60),
            processes: None,
            names_only: false,
        }
    }

    /// Runs a load for so long.
    pub fn run(self, duration: Duration) -> Report {
        let load = Load::start(self);
        sleep(duration);
        load.finish()
    }

    fn act<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match self.who {
            Some(who) => who.run(work),
            None => work(),
        }
    }
}

impl Load {
    /// Makes the directory, finds out what its file system can do, and starts the workers. Panics where it cannot.
    pub fn start(options: Options) -> Self {
        eprintln!("load: seed {} in {}", options.seed, options.directory.display());
        let directory = &options.directory;
        let mut abilities = options.act(|| {
            fs::create_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
            let abilities = Abilities::of(directory);
            fs::create_dir(directory.join("shared")).unwrap();
            abilities.unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        });
        if options.names_only {
            (abilities.nameless_files, abilities.removed_files) = (false, false);
        }
        let mut this =
            Self { begun: Instant::now(), abilities, stop: Arc::default(), crew: Vec::new(), options };
        this.crew = (0..this.options.workers).map(|number| this.member(number)).collect();
        this
    }

    /// Operations so far. Only threads can be asked.
    pub fn operations(&self) -> u64 {
        self.journals().map(|journal| journal.operations()).sum()
    }

    /// Faults so far. Only threads can be asked.
    pub fn faults(&self) -> Vec<String> {
        self.journals().flat_map(|journal| journal.report().faults).collect()
    }

    /// Has the workers verify and remove what they have made, then verifies what they did together.
    pub fn finish(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report {
            seed: self.options.seed,
            workers: usize::try_from(self.options.workers).unwrap(),
            unsupported: self.abilities.missing(),
            ..Report::default()
        };
        let mut all_ended = true;
        for member in std::mem::take(&mut self.crew) {
            let (part, ended) = member.end(self.options.patience);
            report.join(part);
            all_ended &= ended;
        }
        if all_ended {
            report.join(close(&self.options, self.begun, &report));
        }
        report.seconds = self.begun.elapsed().as_secs_f64();
        report
    }

    fn member(&self, number: u64) -> Member {
        let Options { directory, workers, seed, who, .. } = self.options.clone();
        let part = Part { number, workers, seed, who, abilities: self.abilities };
        if let Some(start) = self.options.processes {
            return Member::Process(WorkerProcess::start(start(), part, &directory));
        }
        let journal = Arc::new(Journal::new(format!("worker {number}"), self.begun));
        let (books, stop) = (Arc::clone(&journal), Arc::clone(&self.stop));
        let work = move || work(part, &directory, &books, &stop);
        let handle = thread::Builder::new().name(format!("load-{number}")).spawn(work).unwrap();
        Member::Thread { journal, handle }
    }

    fn journals(&self) -> impl Iterator<Item = &Arc<Journal>> {
        self.crew.iter().filter_map(|member| match member {
            Member::Thread { journal, .. } => Some(journal),
            Member::Process(_) => None,
        })
    }
}

fn close(options: &Options, begun: Instant, report: &Report) -> Report {
    options.act(|| {
        let journal = Journal::new("at the end".to_owned(), begun);
        let Options { directory, seed, workers, .. } = options;
        if let Err(fault) = closing::close(&journal, directory, *seed, *workers, &report.counts) {
            journal.note(fault);
        }
        journal.report()
    })
}

impl Member {
    /// Its report, and whether it has ended.
    fn end(self, patience: Duration) -> (Report, bool) {
        let (journal, handle) = match self {
            Self::Thread { journal, handle } => (journal, handle),
            Self::Process(process) => return process.end(patience),
        };
        while !handle.is_finished() {
            if let Some(fault) = journal.stuck(patience) {
                journal.note(fault);
                return (journal.report(), false);
            }
            sleep(Duration::from_millis(5));
        }
        let mut report = journal.report();
        if handle.join().is_err() {
            report.add_fault("a worker panicked: the test's output says where".to_owned());
        }
        (report, true)
    }
}
