//! Both sides of the comparison, and what each has to know of the other.

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

/// The mount, and the bare directory unless it cannot be reached.
#[derive(Debug)]
pub(super) struct Pair {
    source: Option<Side>,
    target: Side,
    /// Where the source shows the target's ground, if it does.
    mirror: Option<PathBuf>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The bare directory's.
    Source,
    /// The mount's.
    Target,
}

impl Pair {
    /// Enters both, and tells in sentences what a reader of the numbers has to know.
    ///
    /// # Errors
    /// Where the target cannot be worked in, or the source not for a reason of its own; nothing is left behind.
    pub(super) fn enter(plan: &Plan, stop: &Stop) -> Result<(Self, Vec<String>), Halt> {
        let target = Side::enter(&plan.target, plan.target_as, plan.quick, stop)?;
        let mut pair = Self { source: None, target, mirror: None };
        let note = match Side::enter(&plan.source, plan.source_as, plan.quick, stop) {
            Ok(source) => {
                pair.mirror = mirror(&source, &pair.target)?;
                pair.source = Some(source);
                pair.mirror.is_none().then(|| {
                    format!(
                        "{} does not show what is made in {}: these are two directories, not one and the mount of it",
                        plan.source.display(),
                        plan.target.display()
                    )
                })
            }
            Err(halt) if halt.is_unreachable() => {
                Some(format!("{halt}: the mount is measured alone, in absolute numbers"))
            }
            Err(halt) => return Err(halt),
        };
        Ok((pair, note.into_iter().collect()))
    }

    pub(super) fn is_compared(&self) -> bool {
        self.source.is_some()
    }

    pub(super) fn is_mirrored(&self) -> bool {
        self.mirror.is_some()
    }

    /// Makes what both can spare the bound of both, so that they do the same.
    pub(super) fn share_budget(&self) -> Result<Budget, Halt> {
        let mut budgets = self.sides().map(|side| side.ask(|ground| Ok(ground.budget)));
        let first = self.target.ask(|ground| Ok(ground.budget))?;
        let budget = budgets.try_fold(first, |least, budget| Ok::<_, Halt>(least.min(budget?)))?;
        for side in self.sides() {
            side.ask(move |ground| {
                ground.budget = budget;
                Ok(())
            })?;
        }
        Ok(budget)
    }

    /// Does a row's work on one side; without a source, the target has every turn.
    pub(super) fn work(&self, turn: Turn, row: &'static Row, count: u64) -> Result<Work, Halt> {
        self.side(turn).work(row, count)
    }

    /// Drops the data that a side reads from the page cache: the mount's may be cached by the mount, by the source below
    /// it, or by both. Tells where it could not.
    pub(super) fn drop_data(&self, turn: Turn) -> Result<Option<String>, Halt> {
        self.side(turn).ask(|ground| data::data(ground).and_then(|path| data::drop_cached(&path)))?;
        let (Turn::Target, Some(source), Some(mirror)) = (turn, &self.source, &self.mirror) else {
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
        self.sides().try_for_each(|side| {
            side.ask(|ground| {
                let dir = File::open(ground.dir()).attempt("open", ground.dir())?;
                nix::unistd::syncfs(dir).attempt("sync", ground.dir())
            })
        })
    }

    /// Removes what both have made, whatever happens on one. What a mount that has died cannot remove, the source does.
    ///
    /// # Errors
    /// [`Halt::LeftBehind`].
    pub(super) fn leave(self) -> Result<(), Halt> {
        let target = self.target.leave().or_else(|left| match (&self.source, self.mirror) {
            (Some(source), Some(mirror)) => {
                source.ask(move |_| ground::remove_all(&mirror).map_err(|_error| left))
            }
            _ => Err(left),
        });
        target.and(self.source.map_or(Ok(()), Side::leave))
    }

    fn side(&self, turn: Turn) -> &Side {
        match turn {
            Turn::Source => self.source.as_ref().unwrap_or(&self.target),
            Turn::Target => &self.target,
        }
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        [Some(&self.target), self.source.as_ref()].into_iter().flatten()
    }
}

/// Looks for the target's ground in the source.
fn mirror(source: &Side, target: &Side) -> Result<Option<PathBuf>, Halt> {
    let mirror = source.parent().join(target.dir().file_name().unwrap_or(OsStr::new("")));
    source.ask(move |_| Ok(fs::symlink_metadata(&mirror).is_ok().then_some(mirror)))
}
