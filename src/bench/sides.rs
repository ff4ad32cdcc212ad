//! The sides of the comparison, and what each has to know of the others: one bare directory, and what shows it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;

use super::budget::Budget;
use super::data;
use super::ground;
use super::halt::Attempt as _;
use super::rounds::Plan;
use super::row::{Row, Work};
use super::side::Side;
use super::{Halt, Stop};

/// The targets, and the bare directory unless it cannot be reached.
#[derive(Debug)]
pub(super) struct Sides {
    source: Option<Side>,
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    side: Side,
    /// Where the source shows this target's ground, if it does.
    mirror: Option<PathBuf>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The bare directory's.
    Source,
    /// That of the target at this place of the plan.
    Target(usize),
}

impl Sides {
    /// Enters all, and tells for each target in sentences what a reader of the numbers has to know.
    ///
    /// # Errors
    /// Where a target cannot be worked in, or the source not for a reason of its own; nothing is left behind.
    pub(super) fn enter(plan: &Plan, stop: &Stop) -> Result<(Self, Vec<Vec<String>>), Halt> {
        let mut sides = Self { source: None, targets: Vec::with_capacity(plan.targets.len()) };
        for target in &plan.targets {
            let side = Side::enter(&target.path, target.work_as, plan.quick, stop)?;
            sides.targets.push(Target { side, mirror: None });
        }
        match Side::enter(&plan.source, plan.source_as, plan.quick, stop) {
            Ok(source) => {
                for target in &mut sides.targets {
                    target.mirror = mirror(&source, &target.side)?;
                }
                sides.source = Some(source);
            }
            Err(halt) if halt.is_unreachable() => {
                let note = format!("{halt}: the mount is measured alone, in absolute numbers");
                return Ok((sides, vec![vec![note]; plan.targets.len()]));
            }
            Err(halt) => return Err(halt),
        }
        let unlike = |target: &Target| {
            target.mirror.is_none().then(|| {
                format!(
                    "{} does not show what is made in {}: these are two directories, not one and the mount of it",
                    plan.source.display(),
                    target.side.parent().display()
                )
            })
        };
        let notes = sides.targets.iter().map(|target| unlike(target).into_iter().collect()).collect();
        Ok((sides, notes))
    }

    pub(super) fn is_compared(&self) -> bool {
        self.source.is_some()
    }

    pub(super) fn is_mirrored(&self, target: usize) -> bool {
        self.targets[target].mirror.is_some()
    }

    /// Everybody's turn once: the bare directory's, where it can be reached, then the targets'.
    pub(super) fn turns(&self) -> Vec<Turn> {
        let source = self.source.is_some().then_some(Turn::Source);
        source.into_iter().chain((0..self.targets.len()).map(Turn::Target)).collect()
    }

    /// Makes what all can spare the bound of all, so that they do the same.
    pub(super) fn share_budget(&self) -> Result<Budget, Halt> {
        let mut budgets = self.all().map(|side| side.ask(|ground| Ok(ground.budget)));
        let first = budgets.next().unwrap_or(Err(Halt::Died))?;
        let budget = budgets.try_fold(first, |least, budget| Ok::<_, Halt>(least.min(budget?)))?;
        for side in self.all() {
            side.ask(move |ground| {
                ground.budget = budget;
                Ok(())
            })?;
        }
        Ok(budget)
    }

    /// Does a row's work on one side.
    pub(super) fn work(&self, turn: Turn, row: &'static Row, count: u64) -> Result<Work, Halt> {
        self.side(turn).ok_or(Halt::Died)?.work(row, count)
    }

    /// Drops the data that a side reads from the page cache: the mount's may be cached by the mount, by the source below
    /// it, or by both. Tells where it could not.
    pub(super) fn drop_data(&self, turn: Turn) -> Result<Option<String>, Halt> {
        let side = self.side(turn).ok_or(Halt::Died)?;
        side.ask(|ground| data::data(ground).and_then(|path| data::drop_cached(&path)))?;
        let Turn::Target(target) = turn else { return Ok(None) };
        let (Some(source), Some(mirror)) = (&self.source, &self.targets[target].mirror) else {
            return Ok(None);
        };
        let path = mirror.join(data::DATA);
        let dropped = source.ask(move |_| data::drop_cached(&path));
        Ok(dropped
            .err()
            .map(|halt| format!("seq_read_cold: {halt}: the source's cache stayed warm under the mount")))
    }

    /// Writes out what is not written yet.
    pub(super) fn sync(&self) -> Result<(), Halt> {
        self.all().try_for_each(|side| {
            side.ask(|ground| {
                let dir = File::open(ground.dir()).attempt("open", ground.dir())?;
                nix::unistd::syncfs(dir).attempt("sync", ground.dir())
            })
        })
    }

    /// Removes what all have made, whatever happens on one. What a mount that has died cannot remove, the source does.
    ///
    /// # Errors
    /// [`Halt::LeftBehind`]; of several, the first.
    pub(super) fn leave(self) -> Result<(), Halt> {
        let Self { source, targets } = self;
        let mut left = Ok(());
        for Target { side, mirror } in targets {
            let target = side.leave().or_else(|left| match (&source, mirror) {
                (Some(source), Some(mirror)) => {
                    source.ask(move |_| ground::remove_all(&mirror).map_err(|_error| left))
                }
                _ => Err(left),
            });
            left = left.and(target);
        }
        // After the targets, since it may have to remove what is theirs.
        let source = source.map_or(Ok(()), Side::leave);
        left.and(source)
    }

    fn side(&self, turn: Turn) -> Option<&Side> {
        match turn {
            Turn::Source => self.source.as_ref(),
            Turn::Target(target) => self.targets.get(target).map(|target| &target.side),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Side> {
        self.targets.iter().map(|target| &target.side).chain(self.source.as_ref())
    }
}

/// Looks for the target's ground in the source.
fn mirror(source: &Side, target: &Side) -> Result<Option<PathBuf>, Halt> {
    let mirror = source.parent().join(target.dir().file_name().unwrap_or(OsStr::new("")));
    source.ask(move |_| Ok(fs::symlink_metadata(&mirror).is_ok().then_some(mirror)))
}
