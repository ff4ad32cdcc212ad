//! What one worker has done: every operation counted and timed, every fault a sentence.
//!
//! It is shared with whoever watches the worker, so that one that hangs can be told from one that is busy.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::report::{Counts, Report, Tally};

/// So many faults of one worker are told; more are counted.
const FAULTS_TOLD: usize = 25;

/// The kind of the one operation that may take long by itself: it waits for another worker's lock.
pub const WAIT_FOR_A_LOCK: &str = "wait for a lock";

/// An operation that went wrong, or a byte that is not as it was written: a sentence.
#[derive(Debug)]
pub struct Fault(String);

/// What a chore's step gives.
pub type Outcome<T = ()> = Result<T, Fault>;

/// The books of one worker.
#[derive(Debug)]
pub struct Journal {
    worker: String,
    begun: Instant,
    books: Mutex<Books>,
    /// The operation under way, or the last one that ended, and when that was.
    latest: Mutex<(&'static str, PathBuf, Instant)>,
}

#[derive(Debug, Default)]
struct Books {
    operations: BTreeMap<&'static str, Tally>,
    faults: Vec<String>,
    fault_count: u64,
    counts: Counts,
}

impl Journal {
    pub fn new(worker: String, begun: Instant) -> Self {
        Self { worker, begun, books: Mutex::default(), latest: Mutex::new(("start", PathBuf::new(), begun)) }
    }

    /// Does `operation`, which must succeed, and notes how long it took.
    pub fn must<T, E: Into<io::Error>>(
        &self,
        kind: &'static str,
        path: &Path,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Outcome<T> {
        let (result, took) = self.timed(kind, path, operation);
        result.map_err(|error| self.fault(kind, path, &format!("{error}, after {} ms", took.as_millis())))
    }

    /// Does `operation`, which must be refused with one of these error numbers.
    pub fn must_not<T, E: Into<io::Error>>(
        &self,
        kind: &'static str,
        path: &Path,
        refusals: &[i32],
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Outcome {
        match self.timed(kind, path, operation).0 {
            Ok(_) => Err(self.fault(kind, path, "succeeded, and should have been refused")),
            Err(error) if error.raw_os_error().is_some_and(|number| refusals.contains(&number)) => Ok(()),
            Err(error) => Err(self.fault(kind, path, &format!("refused with the wrong error: {error}"))),
        }
    }

    /// Does `operation`, which may fail with this one error: then none.
    pub fn may<T, E: Into<io::Error>>(
        &self,
        kind: &'static str,
        path: &Path,
        refusal: i32,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Outcome<Option<T>> {
        match self.timed(kind, path, operation).0 {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(refusal) => Ok(None),
            Err(error) => Err(self.fault(kind, path, &error.to_string())),
        }
    }

    /// A sentence: who, when, in what, where, what.
    pub fn fault(&self, kind: &str, path: &Path, what: &str) -> Fault {
        let at = self.begun.elapsed().as_secs_f64();
        Fault(format!("{}, {at:.3} s in: {kind}: {}: {what}", self.worker, path.display()))
    }

    /// Fails unless both are the same.
    pub fn same<T: PartialEq + std::fmt::Debug>(
        &self,
        kind: &str,
        path: &Path,
        found: T,
        expected: T,
    ) -> Outcome {
        if found == expected {
            return Ok(());
        }
        Err(self.fault(kind, path, &format!("{found:?}, not {expected:?}")))
    }

    /// Fails unless these are the expected bytes; says which are not.
    pub fn same_bytes(&self, kind: &str, path: &Path, found: &[u8], expected: &[u8]) -> Outcome {
        match difference(found, expected) {
            None => Ok(()),
            Some(what) => Err(self.fault(kind, path, &what)),
        }
    }

    pub fn note(&self, fault: Fault) {
        let mut books = self.books();
        books.fault_count += 1;
        if books.faults.len() < FAULTS_TOLD {
            books.faults.push(fault.0);
        }
    }

    /// Changes what is added up over all workers.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.books().counts);
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.books().operations.values().map(|tally| tally.count).sum()
    }

    /// A fault where this worker, which has not ended, has begun and ended no operation for longer than `patience`.
    pub fn stuck(&self, patience: Duration) -> Option<Fault> {
        let (kind, path, since) = self.latest.lock().unwrap().clone();
        let silent = since.elapsed();
        let what = || format!("has not returned for {} ms", silent.as_millis());
        (silent > patience).then(|| self.fault(kind, &path, &what()))
    }

    /// What is in the books.
    pub fn report(&self) -> Report {
        let books = self.books();
        Report {
            operations: books.operations.iter().map(|(kind, tally)| ((*kind).to_owned(), *tally)).collect(),
            faults: books.faults.clone(),
            fault_count: books.fault_count,
            counts: books.counts.clone(),
            ..Report::default()
        }
    }

    fn timed<T, E: Into<io::Error>>(
        &self,
        kind: &'static str,
        path: &Path,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> (Result<T, io::Error>, Duration) {
        let begin = Instant::now();
        *self.latest.lock().unwrap() = (kind, path.to_owned(), begin);
        let result = operation().map_err(Into::into);
        let took = begin.elapsed();
        *self.latest.lock().unwrap() = ("after the last", path.to_owned(), Instant::now());
        self.books().operations.entry(kind).or_default().add(took);
        (result, took)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }
}

/// How these bytes differ from the expected ones; none where they do not.
fn difference(found: &[u8], expected: &[u8]) -> Option<String> {
    if found == expected {
        return None;
    }
    let differing = found.iter().zip(expected).filter(|(found, expected)| found != expected).count();
    let first = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let mut what = match first {
        Some(at) => format!(
            "byte {at} is {:#04x}, not {:#04x}; {differing} of {} bytes differ",
            found[at],
            expected[at],
            expected.len()
        ),
        None => String::from("all bytes agree as far as they go"),
    };
    if found.len() != expected.len() {
        what.push_str(&format!("; {} bytes, not {}", found.len(), expected.len()));
    }
    Some(what)
}
