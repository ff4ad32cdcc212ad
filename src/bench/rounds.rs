//! Conducts a run: enter both sides, find how much work makes a sample, take turns, leave.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::data::{BLOCK, LINE};
use super::halt::Attempt as _;
use super::pair::{Pair, Turn};
use super::report::{Place, Report, RowReport};
use super::row::{Before, Bound, Row, Work};
use super::side::Identity;
use super::{Halt, Stop, place};

/// How long one sample should take on the mount.
const SAMPLE: Duration = Duration::from_millis(100);
/// The same in a quick run.
const SAMPLE_QUICK: Duration = Duration::from_millis(20);
/// How much a first try does.
const FIRST_COUNT: u64 = 16;
/// What a try may grow by from one to the next.
const GROWTH: u64 = 16;
/// The most that is done in one go where only time bounds it.
const MAX_COUNT: u64 = 1 << 32;
/// After this, names and attributes that a mount has cached for a second (permfs's default) have expired.
const EXPIRY: Duration = Duration::from_millis(1100);
/// Filesystems whose data is nowhere but in the page cache: nothing of it can be dropped.
const IN_MEMORY: [&str; 3] = ["tmpfs", "ramfs", "devtmpfs"];
/// Drops dentries and inodes of the whole node when "2" is written to it, proc_sys_vm(5).
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The bare directory.
    pub source: PathBuf,
    /// The mount of it.
    pub target: PathBuf,
    /// As whom to work in the source; absent: as this process.
    pub source_as: Option<Identity>,
    /// As whom to work in the target.
    pub target_as: Option<Identity>,
    /// Which rows, in the order of the table.
    pub rows: Vec<&'static Row>,
    /// How many rounds.
    pub rounds: u32,
    /// Short samples and small files.
    pub quick: bool,
    /// Whether the node's caches of names may be dropped.
    pub drop_caches: bool,
}

/// What is being done, for whoever watches.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// 0: how much work makes a sample is being found out.
    pub round: u32,
    /// Of how many.
    pub rounds: u32,
    /// Which row.
    pub row: &'static Row,
    /// How much is done, from 0 to 1.
    pub done: f64,
}

/// Measures. Whatever was made is removed before this returns, whatever it returns.
///
/// # Errors
/// Where the target cannot be worked in, a call fails, or a signal has come.
pub fn run(plan: &Plan, stop: &Stop, watch: &mut dyn FnMut(Step)) -> Result<Report, Halt> {
    let started = place::now();
    let mut run = Run::enter(plan, stop)?;
    let measured = run.measure(watch);
    let report = run.report(started);
    // What is left behind matters more than why the run ended.
    if let Err(left) = run.pair.leave() {
        if let Err(cause) = measured {
            tracing::warn!("{cause}");
        }
        return Err(left);
    }
    measured.map(|()| report)
}

struct Run<'a> {
    plan: &'a Plan,
    stop: &'a Stop,
    pair: Pair,
    budget: Budget,
    notes: Vec<String>,
    tallies: Vec<Tally>,
    names_seen: Instant,
}

/// What is known of a row.
struct Tally {
    row: &'static Row,
    count: u64,
    rounds: Vec<(Option<Work>, Work)>,
    missing: Option<String>,
}

impl<'a> Run<'a> {
    fn enter(plan: &'a Plan, stop: &'a Stop) -> Result<Self, Halt> {
        let (pair, notes) = Pair::enter(plan, stop)?;
        let budget = pair.share_budget()?;
        let tallies = plan.rows.iter().map(|&row| Tally { row, count: 0, rounds: Vec::new(), missing: None });
        let tallies = tallies.collect();
        Ok(Self { plan, stop, pair, budget, notes, tallies, names_seen: Instant::now() })
    }

    fn measure(&mut self, watch: &mut dyn FnMut(Step)) -> Result<(), Halt> {
        let rounds = self.plan.rounds;
        let total = f64::from(rounds + 1);
        for round in 0..=rounds {
            for index in 0..self.tallies.len() {
                let (row, missing) = (self.tallies[index].row, self.tallies[index].missing.is_some());
                let within = fraction(index, self.tallies.len());
                watch(Step { round, rounds, row, done: (f64::from(round) + within) / total });
                if missing {
                    continue;
                }
                let done = if round == 0 { self.calibrate(index) } else { self.take_turns(index, round) };
                match done {
                    Err(Halt::NotHere(why)) => self.tallies[index].missing = Some(why),
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Finds how much work makes a sample, on the mount; both sides then do exactly that much. It warms both, too.
    fn calibrate(&mut self, index: usize) -> Result<(), Halt> {
        let row = self.tallies[index].row;
        self.refuse_what_cannot_be_cold(row)?;
        let sample = if self.plan.quick { SAMPLE_QUICK } else { SAMPLE };
        let most = most(row.bound, self.budget);
        let mut count = FIRST_COUNT.min(most);
        loop {
            let elapsed = self.turn(row, Turn::Target, count)?.elapsed;
            if count >= most || elapsed >= sample / 2 {
                break;
            }
            let short = sample.as_nanos() / elapsed.as_nanos().max(1);
            count = (count * u64::try_from(short).unwrap_or(GROWTH).clamp(2, GROWTH)).min(most);
        }
        if self.pair.is_compared() {
            self.turn(row, Turn::Source, count)?;
        }
        self.names_seen = Instant::now();
        self.tallies[index].count = count;
        Ok(())
    }

    /// A row of a round: one side, then the other; which one first alternates.
    fn take_turns(&mut self, index: usize, round: u32) -> Result<(), Halt> {
        let Tally { row, count, .. } = self.tallies[index];
        if row.before == Before::ExpireNames {
            self.expire_names()?;
        }
        let compared = self.pair.is_compared();
        let pair = if !compared {
            (None, self.turn(row, Turn::Target, count)?)
        } else if round % 2 == 1 {
            let source = self.turn(row, Turn::Source, count)?;
            (Some(source), self.turn(row, Turn::Target, count)?)
        } else {
            let target = self.turn(row, Turn::Target, count)?;
            (Some(self.turn(row, Turn::Source, count)?), target)
        };
        if row.before == Before::ExpireNames {
            self.names_seen = Instant::now();
        }
        self.tallies[index].rounds.push(pair);
        Ok(())
    }

    fn turn(&mut self, row: &'static Row, turn: Turn, count: u64) -> Result<Work, Halt> {
        if row.before == Before::DropData
            && let Some(note) = self.pair.drop_data(turn)?
        {
            self.note(note);
        }
        self.pair.work(turn, row, count)
    }

    fn refuse_what_cannot_be_cold(&mut self, row: &Row) -> Result<(), Halt> {
        if row.before != Before::DropData {
            return Ok(());
        }
        let kinds = [place::filesystem(&self.plan.source), place::filesystem(&self.plan.target)];
        if let Some(kind) = kinds.iter().find(|kind| IN_MEMORY.contains(&kind.as_str())) {
            return Err(Halt::NotHere(format!("{kind} keeps its data in memory: it is never cold")));
        }
        if !self.pair.is_mirrored() && kinds[1].starts_with("fuse") {
            self.note(
                "seq_read_cold: only the mount's own cache was dropped, not the source's below it".to_owned(),
            );
        }
        Ok(())
    }

    fn expire_names(&mut self) -> Result<(), Halt> {
        if !self.plan.drop_caches {
            return self.stop.wait_until(self.names_seen + EXPIRY);
        }
        self.note("walk_cold: the node's cached names were dropped before each walk".to_owned());
        // What is not written yet cannot be dropped.
        self.pair.sync()?;
        fs::write(DROP_CACHES, "2").attempt("write to", DROP_CACHES.as_ref())
    }

    fn note(&mut self, sentence: String) {
        if !self.notes.contains(&sentence) {
            self.notes.push(sentence);
        }
    }

    fn report(&self, started: String) -> Report {
        let place = |path: &PathBuf, compared| Place {
            path: path.display().to_string(),
            filesystem: place::filesystem(path),
            compared,
        };
        let (schema, permfs) = Report::stamp();
        let rows = self.tallies.iter();
        Report {
            schema,
            permfs,
            started,
            kernel: place::kernel(),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            rounds: self.plan.rounds,
            quick: self.plan.quick,
            source: place(&self.plan.source, self.pair.is_compared()),
            target: place(&self.plan.target, true),
            notes: self.notes.clone(),
            rows: rows.map(|tally| RowReport::of(tally.row, &tally.rounds, tally.missing.clone())).collect(),
        }
    }
}

/// The most of a row that may be done in one go.
fn most(bound: Bound, budget: Budget) -> u64 {
    match bound {
        Bound::Time => MAX_COUNT,
        Bound::Blocks => budget.file / BLOCK,
        Bound::Lines => budget.file / LINE,
        // The trees and the small files take their part.
        Bound::Names => budget.names / 2,
        Bound::Once => 1,
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 rows")]
fn fraction(index: usize, len: usize) -> f64 {
    index as f64 / len.max(1) as f64
}
