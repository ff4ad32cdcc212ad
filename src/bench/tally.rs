//! What has come out of a row so far: for each side the work of each round, or why there is none.

use super::report::RowReport;
use super::row::{Row, Work};
use super::sides::Turn;

/// What is known of a row.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) row: &'static Row,
    /// How much is done in one go.
    pub(super) count: u64,
    /// Round by round; empty where there is no bare directory.
    source: Vec<Work>,
    targets: Vec<Samples>,
}

/// Round by round, or why not.
type Samples = Result<Vec<Work>, String>;

impl Tally {
    pub(super) fn of(row: &'static Row, targets: usize) -> Self {
        Self { row, count: 0, source: Vec::new(), targets: vec![Ok(Vec::new()); targets] }
    }

    pub(super) fn is_missing(&self, turn: Turn) -> bool {
        match turn {
            // Without anybody to compare it with, the bare directory need not work either.
            Turn::Source => self.targets.iter().all(Samples::is_err),
            Turn::Target(target) => self.targets[target].is_err(),
        }
    }

    pub(super) fn add(&mut self, turn: Turn, work: Work) {
        match turn {
            Turn::Source => self.source.push(work),
            Turn::Target(target) => {
                if let Ok(samples) = &mut self.targets[target] {
                    samples.push(work);
                }
            }
        }
    }

    /// Leaves out what cannot be measured: without the bare directory nothing can be.
    pub(super) fn give_up(&mut self, turn: Turn, why: &str) {
        match turn {
            Turn::Source => self.targets.fill_with(|| Err(why.to_owned())),
            Turn::Target(target) => self.targets[target] = Err(why.to_owned()),
        }
    }

    pub(super) fn report(&self, target: usize) -> RowReport {
        RowReport::of(self.row, &self.source, &self.targets[target])
    }
}
