//! What a mount costs: the bare directory, permfs and its peers at the same work, in turns, and what each operation asks
//! of permfs, or of an NFS server.
//!
//! ```text
//! cargo bench --bench mount                     on an ext4 in memory, each process where the kernel puts it
//! cargo bench --bench mount -- --pinned         everything on one CPU: the least that a round trip costs
//! cargo bench --bench mount -- --nfs            bare NFS v4.2 against permfs, in a machine with a server of its own
//! ```
//!
//! The work and the arithmetic are `permfs bench`'s (`src/bench/`); here are the candidates (`candidates`, on an
//! `export`), the counting of requests and RPCs (`counting`), the machine (`machine`), and what is shown of it all
//! (`table`, `chart`, `record`); what could be had at best is measured and
//! reckoned in `round_trip` and `bound`. `benches/README.md` tells how to read it.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod bound;
mod candidates;
mod chart;
mod counting;
mod export;
mod machine;
mod operations;
mod options;
mod outcome;
mod record;
mod round_trip;
mod run;
mod table;

use std::process::ExitCode;

use options::Options;
use outcome::Outcome;
use permfs::bench::{Halt, Stop};

/// Why a run failed: a sentence, or an interruption.
pub enum Failure {
    Sentence(String),
    Interrupted(i32),
}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self::Sentence(sentence)
    }
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Interrupted { signal } => Self::Interrupted(signal),
            other => Self::Sentence(other.to_string()),
        }
    }
}

fn main() -> ExitCode {
    if let Some(ended) = round_trip::was_daemon() {
        return ended.map_or_else(
            |error| {
                eprintln!("mount: a daemon that does nothing: {error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    let options = Options::from_command_line();
    let ended = if options.nfs && !options.inside {
        machine::run_inside(&options).map_err(Failure::Sentence)
    } else {
        measure(&options).and_then(|outcome| show(&options, &outcome))
    };
    match ended {
        Ok(code) => code,
        Err(Failure::Sentence(why)) => {
            eprintln!("mount: {why}");
            ExitCode::FAILURE
        }
        Err(Failure::Interrupted(signal)) => {
            eprintln!("mount: interrupted; everything is unmounted and removed");
            ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
    }
}

fn measure(options: &Options) -> Result<Outcome, Failure> {
    let stop = Stop::on_signals().map_err(|error| format!("cannot prepare for signals: {error}"))?;
    if options.nfs { run::over_nfs(options, &stop) } else { run::locally(options, &stop) }
}

/// Fails where a threshold is not reached.
fn show(options: &Options, outcome: &Outcome) -> Result<ExitCode, Failure> {
    print!("{}", table::text(outcome));
    if let Some(file) = &options.json {
        options::write(file, &outcome.to_json()?)?;
    }
    if let Some(file) = &options.svg {
        options::write(file, &chart::draw(outcome))?;
    }
    if options.record {
        record::record(outcome)?;
    }
    let failures = options.failures(outcome)?;
    failures.iter().for_each(|failure| eprintln!("mount: {failure}"));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
