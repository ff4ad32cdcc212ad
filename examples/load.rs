//! The verified load of the takeover tests, on any directory:
//!
//! ```text
//! cargo run --release --example load -- DIRECTORY [--seconds N] [--workers N] [--seed N] [--as UID:GID] [--processes]
//! ```
//!
//! It works in a new directory below DIRECTORY, prints each fault as a sentence and a summary as one line of JSON, and
//! ends with 1 where there was a fault. What is done is told in `tests/takeover_room`.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/takeover_room/mod.rs"]
mod takeover_room;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use takeover_room::{Options, Who, be_a_worker};

/// A load that verifies everything it does.
#[derive(Parser)]
struct Arguments {
    /// Where to work; nothing is left there
    directory: PathBuf,
    /// For how long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many at once
    #[arg(long, default_value_t = 8)]
    workers: u64,
    /// The same seed makes the same choices
    #[arg(long)]
    seed: Option<u64>,
    /// As whom, as UID:GID
    #[arg(long = "as", value_parser = who)]
    who: Option<Who>,
    /// Each worker is a process instead of a thread
    #[arg(long)]
    processes: bool,
}

fn main() -> ExitCode {
    if be_a_worker() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    let mut options = Options::new(arguments.directory.join(format!("permfs-load-{}", std::process::id())));
    options.seed = arguments.seed.unwrap_or(options.seed);
    options.workers = arguments.workers.max(1);
    options.who = arguments.who;
    options.processes = arguments.processes.then_some(itself);
    let report = options.run(Duration::from_secs(arguments.seconds));
    report.faults.iter().for_each(|fault| eprintln!("{fault}"));
    println!("{}", report.to_json());
    ExitCode::from(u8::from(report.fault_count > 0))
}

fn itself() -> Command {
    Command::new(std::env::current_exe().expect("/proc is there"))
}

fn who(text: &str) -> Result<Who, String> {
    let ids =
        text.split_once(':').and_then(|(uid, gid)| Some(Who::new(uid.parse().ok()?, gid.parse().ok()?)));
    ids.ok_or_else(|| format!("{text} is not UID:GID"))
}
