//! What the requests alone allow: an operation of native time T for which a daemon is waited for k times cannot take less than
//! T + k r, where r is what a request costs a daemon that does nothing (`round_trip`). Over NFS each RPC more than on the
//! bare mount costs as much as one there. What permfs is below that is its own work, and the kernel's at the second file.

use super::outcome::{Count, CountPair, Measured, Outcome};
use super::table;

/// Which counted operation a row consists of.
const ROWS: [(&str, &str); 8] = [
    ("append", "append 100 bytes"),
    ("stat_hot", "stat, hot"),
    ("create", "create + write + close"),
    ("open_read", "open + read + close, hot"),
    ("unlink", "unlink"),
    ("rename", "rename"),
    ("mkdir", "mkdir"),
    ("rmdir", "rmdir"),
];

/// Requests that come after the call has returned.
const NOT_WAITED_FOR: [&str; 3] = ["release", "forget", "batch_forget"];

/// One row: what it is, and what it could be.
#[derive(Debug, PartialEq)]
pub struct Bound {
    pub row: &'static str,
    /// Of one operation on the bare side, in microseconds.
    pub bare: f64,
    /// Requests that are waited for.
    pub requests: f64,
    /// RPCs more than on the bare mount.
    pub rpcs: f64,
    /// The ratio that these allow, and what permfs has.
    pub allows: f64,
    pub has: f64,
}

/// The heading of what [`lines`] gives.
pub fn heading(outcome: &Outcome) -> Option<String> {
    let request = outcome.request?;
    Some(format!("a request of a daemon that does nothing takes {request:.1} µs here, so permfs can have"))
}

/// A line for each row.
pub fn lines(outcome: &Outcome) -> Vec<String> {
    let line = |bound: &Bound| {
        let Bound { row, bare, allows, has, .. } = bound;
        let more = if bound.rpcs > 0.0 {
            format!(", RPCs more {}", table::number(bound.rpcs))
        } else {
            String::new()
        };
        let requests = table::number(bound.requests);
        format!(
            "  {row:<12}{allows:.2} at most, has {has:.2}   bare {bare:.1} µs, waits for requests {requests}{more}"
        )
    };
    all(outcome).iter().map(line).collect()
}

fn all(outcome: &Outcome) -> Vec<Bound> {
    let (Some(request), Some(permfs)) = (outcome.request, outcome.candidates.first()) else {
        return Vec::new();
    };
    ROWS.iter().filter_map(|(row, operation)| of(permfs, row, operation, request)).collect()
}

fn of(permfs: &Measured, row: &'static str, operation: &str, request: f64) -> Option<Bound> {
    let measured = permfs.report.rows.iter().find(|measured| measured.name == row)?;
    let (bare, has) = (1e6 / measured.source?.median, measured.ratio?.median);
    let requests = waited_for(permfs.requests.iter().find(|count| count.operation == operation)?);
    let pair = permfs.rpcs.iter().find(|pair| pair.permfs.operation == operation);
    let (rpcs, time) = pair.map_or((0.0, 0.0), |pair| rpcs_more(pair, bare));
    Some(Bound { row, bare, requests, rpcs, allows: bare / (bare + requests * request + time), has })
}

fn waited_for(count: &Count) -> f64 {
    let kinds = count.by_kind.iter().filter(|(kind, _)| !NOT_WAITED_FOR.contains(&kind.as_str()));
    // The sum of nothing is -0.0.
    kinds.map(|(_, count)| count).sum::<f64>() + 0.0
}

/// How many, and the time that they take where the bare operation is made of RPCs.
fn rpcs_more(pair: &CountPair, bare: f64) -> (f64, f64) {
    let more = (pair.permfs.total - pair.bare.total).max(0.0);
    if more < 0.5 || pair.bare.total < 0.5 { (0.0, 0.0) } else { (more, more * bare / pair.bare.total) }
}
