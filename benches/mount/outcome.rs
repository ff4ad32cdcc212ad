//! What came out: a report for each candidate, all against the same bare directory, and the counts of each operation.

use std::collections::BTreeMap;

use permfs::bench::Report;
use serde::Serialize;

/// A run.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// local, pinned or nfs.
    pub kind: &'static str,
    /// What the bare directory lies on, in words.
    pub place: String,
    /// What a request takes that a daemon answers which does nothing else, in microseconds.
    pub request: Option<f64>,
    /// What a reader has to know, beside what is in the reports.
    pub notes: Vec<String>,
    /// permfs first.
    pub candidates: Vec<Measured>,
}

#[derive(Debug, Serialize)]
pub struct Measured {
    pub name: &'static str,
    /// The command line, as far as it matters.
    pub how: String,
    pub report: Report,
    /// Where they can be told: of permfs the FUSE requests, over NFS the RPCs.
    pub requests: Vec<Count>,
    /// The RPCs of the bare mount beside those of permfs; empty where there is no NFS.
    pub rpcs: Vec<CountPair>,
}

/// What one operation asks for.
#[derive(Debug, Clone, Serialize)]
pub struct Count {
    pub operation: &'static str,
    pub total: f64,
    pub by_kind: BTreeMap<String, f64>,
}

/// The same operation on the bare mount and through permfs.
#[derive(Debug, Clone, Serialize)]
pub struct CountPair {
    pub bare: Count,
    pub permfs: Count,
}

impl Outcome {
    pub fn to_json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n").map_err(|error| error.to_string())
    }
}
