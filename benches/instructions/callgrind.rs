//! Has valgrind's callgrind count one piece of work, done by this very program in a process of its own: so that no
//! count depends on what was counted before it.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use super::work::{Batch, Work};

/// The function that callgrind looks for by name: only what happens in it is counted.
const COUNTED: &str = "*one_batch_is_counted*";

/// What is done under valgrind: a batch to warm up, and one more, counted.
pub fn be_counted(work: &Work) {
    (work.prepare)()();
    one_batch_is_counted(&mut (work.prepare)());
}

#[inline(never)]
fn one_batch_is_counted(batch: &mut Batch) {
    batch();
    // Something to do after the call, so that it is a call.
    std::hint::black_box(&batch);
}

/// The C library's allocator without what it puts off (mallopt(3), M_MXFAST): how often it tidies up depends on where the heap lies.
const ALLOCATOR: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.mxfast=0");

/// By so many bytes more of environment the stack begins elsewhere: it is aligned to as many.
const PADDING: usize = 16;

/// Runs this program under callgrind with these arguments: the instructions that it needs for the batch, in the so-manieth run.
///
/// # Errors
/// A sentence: valgrind is missing, or failed.
pub fn count(arguments: &[&str], run: usize) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let counts = directory.path().join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(program)
        .args(arguments)
        .env(ALLOCATOR.0, ALLOCATOR.1)
        .env("PADDING", "x".repeat(run * PADDING))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind does not run ({error}): scripts/install-test-deps has it"))?;
    if !output.status.success() {
        return Err(format!("valgrind: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let text = fs::read_to_string(&counts).map_err(|error| format!("{}: {error}", counts.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    match total.and_then(|total| total.trim().parse().ok()) {
        Some(0) | None => Err(format!("callgrind counted nothing of {arguments:?}")),
        Some(total) => Ok(total),
    }
}
