//! Instructions per hot operation, counted by valgrind, and held to the record in `benches/instructions.toml`.
//!
//! Unlike time, this number repeats, also on a machine that is busy: so it can fail a build. It says nothing of caches,
//! of the kernel or of locks; `mount/` and `operations.rs` have those.
//!
//! ```text
//! cargo bench --bench instructions                exits 1 where an operation has grown by more than 3 %
//! cargo bench --bench instructions -- --record    writes what is counted now
//! ```

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../work/mod.rs"]
mod work;

mod callgrind;
mod gate;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::{env, fs, thread};

use gate::{Counts, Record};

/// The least of so many runs counts. By some percent an operation is dearer where two keys meet at every look into a hash table, which
/// has another seed each time, and where the stack begins at another place, which [`callgrind::count`] sees to.
const RUNS: usize = 30;
/// What valgrind runs this program with, and what it does then.
const COUNT: &str = "--count";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [COUNT, name] => {
            callgrind::be_counted(work::all().find(|work| work.name == name).expect("a name of the list"));
            Ok(true)
        }
        [] => compare(),
        ["--record"] => record(),
        _ => Err("usage: cargo bench --bench instructions [-- --record]".to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("instructions: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing has grown.
fn compare() -> Result<bool, String> {
    let text = fs::read_to_string(file()).map_err(|error| format!("{}: {error}", file().display()))?;
    let record: Record = toml::from_str(&text).map_err(|error| format!("{}: {error}", file().display()))?;
    let mut counted = Record { rustc: rustc_version()?, instructions: Counts::new() };
    count(&mut counted.instructions, 0, |_| true)?;
    for run in 1..RUNS {
        let grown = gate::grown(&record, &counted);
        if grown.is_empty() {
            break;
        }
        count(&mut counted.instructions, run, |name| grown.iter().any(|grown| grown == name))?;
    }
    let judgement = gate::judge(&record, &counted);
    print!("{}", judgement.text);
    Ok(judgement.passes)
}

fn record() -> Result<bool, String> {
    let mut counted = Record { rustc: rustc_version()?, instructions: Counts::new() };
    for run in 0..RUNS {
        count(&mut counted.instructions, run, |_| true)?;
    }
    let text = toml::to_string(&counted).map_err(|error| error.to_string())?;
    let heading = "# Instructions per hot operation: cargo bench --bench instructions -- --record\n";
    fs::write(file(), format!("{heading}{text}"))
        .map_err(|error| format!("{}: {error}", file().display()))?;
    print!("{text}");
    Ok(true)
}

/// Counts what is `wanted`, as much at a time as there are CPUs, and keeps the least that was ever counted.
fn count(counts: &mut Counts, run: usize, wanted: impl Fn(&str) -> bool) -> Result<(), String> {
    let wanted: Vec<_> = work::all().filter(|work| wanted(work.name)).collect();
    let (queue, counted) = (Mutex::new(wanted.into_iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(work) = next() {
                    let total = callgrind::count(&[COUNT, work.name], run);
                    counted.lock().unwrap().push((work.name, total));
                }
            });
        }
    });
    for (name, total) in counted.into_inner().unwrap() {
        // To a tenth: what is behind it is the overhead of the loop.
        let each = (total? as f64 / f64::from(work::BATCH) * 10.0).round() / 10.0;
        let least = counts.entry(name.to_owned()).or_insert(each);
        *least = least.min(each);
    }
    Ok(())
}

fn rustc_version() -> Result<String, String> {
    // Cargo tells a bench neither the compiler nor its version; in the project's folder rustup chooses the same one.
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc).arg("--version").current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.map_err(|error| format!("{}: {error}", Path::new(&rustc).display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.toml")
}
