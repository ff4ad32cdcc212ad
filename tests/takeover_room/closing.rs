//! After all workers have ended: what only the sum of them can tell to be right. Nothing is left behind.

use std::fs;
use std::path::Path;

use super::chores::{race_name, share_path, verify_ledger, verify_log};
use super::desk::remove_directory;
use super::journal::{Journal, Outcome};
use super::report::Counts;

/// Verifies and removes what the workers shared.
pub fn close(journal: &Journal, directory: &Path, seed: u64, workers: u64, counts: &Counts) -> Outcome {
    let shared = directory.join("shared");
    let mut found = counts.lines_found;
    for log in counts.first_log..=counts.last_log {
        let shares: Vec<_> =
            (0..workers).map(|worker| share(journal, &shared, log, worker)).collect::<Outcome<_>>()?;
        verify_log(journal, &shared, seed, log, &shares)?;
        found += shares.iter().sum::<u64>();
    }
    journal.same("lines of all logs", &shared, found, counts.lines)?;
    verify_ledger(journal, &shared, seed, workers, counts.transactions)?;
    for number in 0..counts.races {
        let path = shared.join(race_name(number));
        journal.must("unlink", &path, || fs::remove_file(&path))?;
    }
    journal.same("names won in races", &shared, counts.races_won, counts.races)?;
    remove_directory(journal, &shared)?;
    remove_directory(journal, directory)
}

/// How many lines of a log are this worker's; none where it has told nothing.
fn share(journal: &Journal, shared: &Path, log: u64, worker: u64) -> Outcome<u64> {
    let path = share_path(shared, log, worker);
    let text = journal.may("read a share", &path, libc::ENOENT, || fs::read_to_string(&path))?;
    text.map_or(Ok(0), |text| {
        text.parse().map_err(|_| journal.fault("read a share", &path, &format!("{text:?} is no number")))
    })
}
