//! What a load found: operations by kind, the longest pause of each, and every fault. One JSON object.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::journal::WAIT_FOR_A_LOCK;

/// One kind of operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub count: u64,
    /// The longest that one of them took, in milliseconds.
    pub worst_ms: f64,
}

impl Tally {
    pub fn add(&mut self, took: Duration) {
        self.join(Self { count: 1, worst_ms: milliseconds(took) });
    }

    fn join(&mut self, other: Self) {
        self.count += other.count;
        self.worst_ms = self.worst_ms.max(other.worst_ms);
    }
}

/// What workers do together and only all of them can tell to be right. Each counts by itself, in memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Lines appended to shared logs.
    pub lines: u64,
    /// Lines found in shared logs.
    pub lines_found: u64,
    /// The first shared log that nobody has verified and removed.
    pub first_log: u64,
    /// The log that was written last.
    pub last_log: u64,
    /// Names that every worker tried to make.
    pub races: u64,
    /// Names that this worker made.
    pub races_won: u64,
    /// Transactions on the shared ledger.
    pub transactions: u64,
}

impl Counts {
    fn join(&mut self, other: &Self) {
        self.lines += other.lines;
        self.lines_found += other.lines_found;
        self.first_log = self.first_log.max(other.first_log);
        self.last_log = self.last_log.max(other.last_log);
        self.races = self.races.max(other.races);
        self.races_won += other.races_won;
        self.transactions += other.transactions;
    }
}

/// The outcome of a load, or of one of its workers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// What to give as `--seed` for the same choices again.
    pub seed: u64,
    pub workers: usize,
    pub seconds: f64,
    /// What the file system does not do, and so was left out.
    pub unsupported: Vec<String>,
    pub operations: BTreeMap<String, Tally>,
    /// Sentences: who, when, in what, where, what. Not all, where there are many.
    pub faults: Vec<String>,
    pub fault_count: u64,
    pub counts: Counts,
}

impl Report {
    /// Adds what another worker did.
    pub fn join(&mut self, other: Self) {
        for (kind, tally) in other.operations {
            self.operations.entry(kind).or_default().join(tally);
        }
        self.faults.extend(other.faults);
        self.fault_count += other.fault_count;
        self.counts.join(&other.counts);
    }

    /// Adds a fault.
    pub fn add_fault(&mut self, sentence: String) {
        self.faults.push(sentence);
        self.fault_count += 1;
    }

    /// Operations of all kinds.
    pub fn total(&self) -> u64 {
        self.operations.values().map(|tally| tally.count).sum()
    }

    /// The longest that an operation took, and its kind. Waiting for somebody else's lock is not one.
    pub fn worst_pause(&self) -> (String, Duration) {
        let pauses = self.operations.iter().filter(|(kind, _)| *kind != WAIT_FOR_A_LOCK);
        let worst = pauses.max_by(|one, other| one.1.worst_ms.total_cmp(&other.1.worst_ms));
        worst.map_or_else(Default::default, |(kind, tally)| {
            (kind.clone(), Duration::from_secs_f64(tally.worst_ms / 1e3))
        })
    }

    /// Panics with every fault where there is one.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(
            self.fault_count == 0,
            "{} faults under seed {}:\n{}",
            self.fault_count,
            self.seed,
            self.faults.join("\n")
        );
    }

    /// As one line of JSON, the total and the worst pause beside the rest.
    pub fn to_json(&self) -> String {
        let mut value = serde_json::to_value(self).expect("numbers and strings");
        let (kind, pause) = self.worst_pause();
        value["total"] = self.total().into();
        value["worst_pause"] = serde_json::json!({ "kind": kind, "ms": milliseconds(pause) });
        value.to_string()
    }
}

/// To the microsecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
