//! What came out of a run; serialised, it is the JSON of `--json`, whose form is public: keys are added, never changed.

use serde::Serialize;

use super::row::{Row, Unit, Work};
use super::stats::Spread;

/// The number of the JSON's form.
const SCHEMA: u32 = 1;

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The number of this form: 1.
    pub schema: u32,
    /// The version of permfs that measured.
    pub permfs: &'static str,
    /// When it began, in UTC, RFC 3339.
    pub started: String,
    /// The kernel's release.
    pub kernel: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Rounds measured.
    pub rounds: u32,
    /// Whether the samples were short.
    pub quick: bool,
    /// The bare directory; `compared` is false where it could not be worked in.
    pub source: Place,
    /// The mount.
    pub target: Place,
    /// What a reader has to know to read the numbers, in sentences.
    pub notes: Vec<String>,
    /// In the order of the table.
    pub rows: Vec<RowReport>,
}

/// One of the directories.
#[derive(Debug, Clone, Serialize)]
pub struct Place {
    /// As it was given; what is not UTF-8 is replaced.
    pub path: String,
    /// Its type, as the mount table has it.
    pub filesystem: String,
    /// Whether work was done there.
    pub compared: bool,
}

/// One row.
#[derive(Debug, Clone, Serialize)]
pub struct RowReport {
    /// Its name.
    pub name: &'static str,
    /// What was done.
    pub what: &'static str,
    /// What the rates count.
    pub unit: Unit,
    /// Mount by native, of the rates of each round: 1 is as fast, 0.5 half as fast.
    pub ratio: Option<Spread>,
    /// Units per second in the bare directory.
    pub source: Option<Spread>,
    /// Units per second in the mount.
    pub target: Option<Spread>,
    /// Round by round.
    pub samples: Vec<Sample>,
    /// Why there are no numbers.
    pub not_measured: Option<String>,
}

/// The rates of one round, in units per second.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// In the bare directory.
    pub source: Option<f64>,
    /// In the mount.
    pub target: f64,
}

impl Report {
    /// Whether there are ratios at all.
    #[must_use]
    pub fn is_compared(&self) -> bool {
        self.source.compared
    }

    /// The form's number and the program's version, for whoever builds one.
    pub(super) const fn stamp() -> (u32, &'static str) {
        (SCHEMA, env!("CARGO_PKG_VERSION"))
    }
}

impl RowReport {
    /// What the rounds of a row say; there are none of the bare directory where it cannot be worked in.
    pub(super) fn of(row: &'static Row, source: &[Work], target: &Result<Vec<Work>, String>) -> Self {
        let rounds = target.as_deref().unwrap_or(&[]).iter().enumerate();
        let samples: Vec<_> = rounds
            .map(|(round, target)| {
                let source = source.get(round).map(|work| work.rate());
                Sample { source, target: target.rate() }
            })
            .collect();
        let ratios = samples.iter().filter_map(|sample| Some(sample.target / sample.source?));
        Self {
            name: row.name,
            what: row.what,
            unit: row.unit,
            ratio: Spread::of(ratios),
            source: Spread::of(samples.iter().filter_map(|sample| sample.source)),
            target: Spread::of(samples.iter().map(|sample| sample.target)),
            samples,
            not_measured: target.as_ref().err().cloned(),
        }
    }
}
