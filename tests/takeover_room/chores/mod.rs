//! What a worker does, each with a model of its own of what must be there: one file per chore.
//!
//! A chore's turn is short, so that the chores of a worker mix, and what a chore holds open it holds across the turns of
//! all others. After a fault a chore begins anew in a fresh directory: its model is no longer true.

mod attributes;
mod directories;
mod held;
mod large_directory;
mod locks;
mod names;
mod once;
mod private_log;
mod ranges;
mod replacing;
mod shared_log;
mod transactions;

use std::path::PathBuf;

use super::desk::Desk;
use super::journal::Outcome;

pub use once::race_name;
pub use shared_log::{share_path, verify as verify_log};
pub use transactions::verify as verify_ledger;

/// One kind of work.
pub trait Chore: Send {
    /// A little of it.
    fn turn(&mut self, desk: &mut Desk) -> Outcome;
    /// Verifies all that is there and removes it. The chore's own directory is removed by whoever gave it.
    fn finish(&mut self, desk: &mut Desk) -> Outcome;
}

/// Begins a chore in a directory of its own, which exists and is empty.
type Begin = fn(&mut Desk, PathBuf) -> Outcome<Box<dyn Chore>>;

/// Every chore by name, and how often it has its turn beside the others.
pub const ALL: &[(&str, usize, Begin)] = &[
    ("replacing", 4, |_, directory| Ok(Box::new(replacing::Replacing::new(directory)))),
    ("once", 4, |_, directory| Ok(Box::new(once::Once::new(directory)))),
    ("shared-log", 4, |_, _| Ok(Box::new(shared_log::SharedLog::new()))),
    ("private-log", 2, |_, directory| Ok(Box::new(private_log::PrivateLog::new(directory)))),
    ("directories", 2, |_, directory| Ok(Box::new(directories::Directories::new(directory)))),
    ("large-directory", 2, |desk, directory| {
        Ok(Box::new(large_directory::LargeDirectory::new(desk, directory)?))
    }),
    ("names", 3, |_, directory| Ok(Box::new(names::Names::new(directory)))),
    ("attributes", 3, |desk, directory| Ok(Box::new(attributes::Attributes::new(desk, directory)?))),
    ("held", 8, |_, directory| Ok(Box::new(held::Held::new(directory)))),
    ("locks", 3, |desk, directory| Ok(Box::new(locks::Locks::new(desk, directory)?))),
    ("ranges", 1, |_, directory| Ok(Box::new(ranges::Ranges::new(directory)))),
    ("transactions", 1, |desk, _| Ok(Box::new(transactions::Transactions::new(desk)?))),
];
