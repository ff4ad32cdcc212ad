//! Conducts a run: enter both sides, find how much work makes a sample, take turns, leave.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::data::{BLOCK, LINE};
use super::halt::Attempt as _;
use super::report::{Place, Report};
use super::row::{Before, Bound, Row, Work};
use super::side::Identity;
use super::sides::{Sides, Turn};
use super::tally::Tally;
use super::{Halt, Stop, place};

/// How long one sample should take on the first target.
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
    /// As whom to work in it; absent: as this process.
    pub source_as: Option<Identity>,
    /// What is compared with it: the mount of it, or several. The first decides how much work makes a sample.
    pub targets: Vec<Target>,
    /// Which rows, in the order of the table.
    pub rows: Vec<&'static Row>,
    /// How many rounds.
    pub rounds: u32,
    /// Short samples and small files.
    pub quick: bool,
    /// Whether the node's caches of names may be dropped.
    pub drop_caches: bool,
}

/// A directory that is compared with the bare one.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it is.
    pub path: PathBuf,
    /// As whom to work in it; absent: as this process.
    pub work_as: Option<Identity>,
    /// Whether a row that fails there is told and left out, rather than the end of the run.
    pub may_fail: bool,
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

/// Measures, and reports on each target by itself. Whatever was made is removed before this returns, whatever it returns.
///
/// # Errors
/// Where a target cannot be worked in, a call fails, or a signal has come.
pub fn run(plan: &Plan, stop: &Stop, watch: &mut dyn FnMut(Step)) -> Result<Vec<Report>, Halt> {
    let started = place::now();
    let mut run = Run::enter(plan, stop)?;
    let measured = run.measure(watch);
    let reports = (0..plan.targets.len()).map(|target| run.report(target, &started)).collect();
    // What is left behind matters more than why the run ended.
    if let Err(left) = run.sides.leave() {
        if let Err(cause) = measured {
            tracing::warn!("{cause}");
        }
        return Err(left);
    }
    measured.map(|()| reports)
}

struct Run<'a> {
    plan: &'a Plan,
    stop: &'a Stop,
    sides: Sides,
    budget: Budget,
    /// For each target.
    notes: Vec<Vec<String>>,
    tallies: Vec<Tally>,
    names_seen: Instant,
}

impl<'a> Run<'a> {
    fn enter(plan: &'a Plan, stop: &'a Stop) -> Result<Self, Halt> {
        let (sides, notes) = Sides::enter(plan, stop)?;
        let budget = sides.share_budget()?;
        let tallies = plan.rows.iter().map(|&row| Tally::of(row, plan.targets.len())).collect();
        Ok(Self { plan, stop, sides, budget, notes, tallies, names_seen: Instant::now() })
    }

    fn measure(&mut self, watch: &mut dyn FnMut(Step)) -> Result<(), Halt> {
        let rounds = self.plan.rounds;
        let total = f64::from(rounds + 1);
        for round in 0..=rounds {
            for index in 0..self.tallies.len() {
                let row = self.tallies[index].row;
                let within = fraction(index, self.tallies.len());
                watch(Step { round, rounds, row, done: (f64::from(round) + within) / total });
                if round == 0 {
                    self.calibrate(index)?;
                } else {
                    self.take_turns(index, round)?;
                }
            }
        }
        Ok(())
    }

    /// Finds how much work makes a sample, on the first target; all sides then do exactly that much. It warms all, too.
    fn calibrate(&mut self, index: usize) -> Result<(), Halt> {
        let row = self.tallies[index].row;
        let paced = self.refuse_what_cannot_be_cold(row).and_then(|()| self.pace(row));
        match paced {
            Ok(count) => self.tallies[index].count = count,
            Err(Halt::NotHere(why)) => {
                // Of those who could, nobody knows how much.
                self.tallies[index].give_up(Turn::Source, &why);
                return Ok(());
            }
            Err(halt) => return Err(halt),
        }
        for turn in self.sides.turns().into_iter().filter(|turn| *turn != Turn::Target(0)) {
            self.attempt(index, turn)?;
        }
        self.names_seen = Instant::now();
        Ok(())
    }

    fn pace(&mut self, row: &'static Row) -> Result<u64, Halt> {
        let sample = if self.plan.quick { SAMPLE_QUICK } else { SAMPLE };
        let most = most(row.bound, self.budget);
        let mut count = FIRST_COUNT.min(most);
        loop {
            let elapsed = self.turn(row, Turn::Target(0), count)?.elapsed;
            if count >= most || elapsed >= sample / 2 {
                return Ok(count);
            }
            let short = sample.as_nanos() / elapsed.as_nanos().max(1);
            count = (count * u64::try_from(short).unwrap_or(GROWTH).clamp(2, GROWTH)).min(most);
        }
    }

    /// A row of a round: one side after the other; another one is first each time.
    fn take_turns(&mut self, index: usize, round: u32) -> Result<(), Halt> {
        let expires = self.tallies[index].row.before == Before::ExpireNames;
        if expires {
            self.expire_names()?;
        }
        let mut turns = self.sides.turns();
        let first = usize::try_from(round - 1).unwrap_or(0) % turns.len();
        turns.rotate_left(first);
        for turn in turns {
            if let Some(work) = self.attempt(index, turn)? {
                self.tallies[index].add(turn, work);
            }
        }
        if expires {
            self.names_seen = Instant::now();
        }
        Ok(())
    }

    /// One side's turn at a row. Where that cannot be, and need not, the row is left out from now on.
    fn attempt(&mut self, index: usize, turn: Turn) -> Result<Option<Work>, Halt> {
        let Tally { row, count, .. } = self.tallies[index];
        if self.tallies[index].is_missing(turn) {
            return Ok(None);
        }
        let may_fail = matches!(turn, Turn::Target(target) if self.plan.targets[target].may_fail);
        match self.turn(row, turn, count) {
            Ok(work) => return Ok(Some(work)),
            Err(Halt::NotHere(why)) => self.tallies[index].give_up(turn, &why),
            Err(halt @ Halt::Refused { .. }) if may_fail => {
                self.tallies[index].give_up(turn, &halt.to_string());
            }
            Err(halt) => return Err(halt),
        }
        Ok(None)
    }

    fn turn(&mut self, row: &'static Row, turn: Turn, count: u64) -> Result<Work, Halt> {
        if row.before == Before::DropData
            && let Some(sentence) = self.sides.drop_data(turn)?
        {
            self.note(turn, sentence);
        }
        self.sides.work(turn, row, count)
    }

    fn refuse_what_cannot_be_cold(&mut self, row: &Row) -> Result<(), Halt> {
        if row.before != Before::DropData {
            return Ok(());
        }
        let targets = self.plan.targets.iter().map(|target| place::filesystem(&target.path));
        let targets: Vec<_> = targets.collect();
        let mut kinds = targets.iter().cloned().chain([place::filesystem(&self.plan.source)]);
        if let Some(kind) = kinds.find(|kind| IN_MEMORY.contains(&kind.as_str())) {
            return Err(Halt::NotHere(format!("{kind} keeps its data in memory: it is never cold")));
        }
        for (target, kind) in targets.iter().enumerate() {
            if !self.sides.is_mirrored(target) && kind.starts_with("fuse") {
                let sentence =
                    "seq_read_cold: only the mount's own cache was dropped, not the source's below it";
                self.note(Turn::Target(target), sentence.to_owned());
            }
        }
        Ok(())
    }

    fn expire_names(&mut self) -> Result<(), Halt> {
        if !self.plan.drop_caches {
            return self.stop.wait_until(self.names_seen + EXPIRY);
        }
        let sentence = "walk_cold and stat_cold: the node's cached names were dropped before each";
        self.note(Turn::Source, sentence.to_owned());
        // What is not written yet cannot be dropped.
        self.sides.sync()?;
        fs::write(DROP_CACHES, "2").attempt("write to", DROP_CACHES.as_ref())
    }

    /// Of the bare directory, everybody has to know.
    fn note(&mut self, turn: Turn, sentence: String) {
        for (target, notes) in self.notes.iter_mut().enumerate() {
            if [Turn::Source, Turn::Target(target)].contains(&turn) && !notes.contains(&sentence) {
                notes.push(sentence.clone());
            }
        }
    }

    fn report(&self, target: usize, started: &str) -> Report {
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
            started: started.to_owned(),
            kernel: place::kernel(),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            rounds: self.plan.rounds,
            quick: self.plan.quick,
            source: place(&self.plan.source, self.sides.is_compared()),
            target: place(&self.plan.targets[target].path, true),
            notes: self.notes[target].clone(),
            rows: rows.map(|tally| tally.report(target)).collect(),
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
