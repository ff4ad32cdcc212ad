//! The rows of the table: what is measured, under which name, and how much of it at a time.
//!
//! The names are public: `--only`, the thresholds and the JSON have them.

use std::time::Duration;

use serde::Serialize;

use super::ground::Ground;
use super::{Halt, data, meta, parallel, tree};

/// One thing that is measured.
#[derive(Debug)]
pub struct Row {
    /// Its name, in public.
    pub name: &'static str,
    /// What is done, for people.
    pub what: &'static str,
    /// What is counted.
    pub unit: Unit,
    pub(super) bound: Bound,
    pub(super) before: Before,
    pub(super) work: fn(&mut Ground, u64) -> Result<Work, Halt>,
}

/// What a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes read or written.
    Bytes,
    /// Operations done.
    Operations,
}

/// What was done in one go, and how long that took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Work {
    /// In the row's unit.
    pub(super) amount: u64,
    pub(super) elapsed: Duration,
}

impl Work {
    /// Units per second.
    #[expect(clippy::cast_precision_loss, reason = "2^53 operations are not done in one go")]
    pub(super) fn rate(self) -> f64 {
        // The clock cannot tell less than a nanosecond.
        self.amount as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// How often a row's work may be repeated in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// It makes nothing that lasts.
    Time,
    /// It reads or writes a large file, a block each time.
    Blocks,
    /// It makes so many files or directories.
    Names,
    /// It grows a file by a line each time.
    Lines,
    /// It is a whole of its own.
    Once,
}

/// What is to be done, unmeasured, before a row is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// The data is dropped from the page cache.
    DropData,
    /// Cached names and attributes expire, or are dropped.
    ExpireNames,
}

/// All rows, in the order of the table.
pub static ROWS: [Row; 18] = [
    row("seq_write", "sequential write, new file", Unit::Bytes, Bound::Blocks, data::seq_write),
    row("seq_read_hot", "sequential read, cached", Unit::Bytes, Bound::Time, data::seq_read_hot),
    Row {
        before: Before::DropData,
        ..row("seq_read_cold", "sequential read, not cached", Unit::Bytes, Bound::Blocks, data::seq_read_cold)
    },
    row("mmap_read", "read through mmap, cached", Unit::Bytes, Bound::Blocks, data::mmap_read),
    row("rand_read", "random 4 KiB reads, cached", Unit::Operations, Bound::Time, data::rand_read),
    row("rand_write", "random 4 KiB writes", Unit::Operations, Bound::Time, data::rand_write),
    row("append", "100-byte log lines appended", Unit::Operations, Bound::Lines, data::append),
    row("stat_hot", "stat, cached", Unit::Operations, Bound::Time, meta::stat_hot),
    Row {
        before: Before::ExpireNames,
        ..row("stat_cold", "stat, expired", Unit::Operations, Bound::Once, tree::stat_cold)
    },
    row("walk_hot", "tree walk with stat, cached", Unit::Operations, Bound::Time, tree::walk_hot),
    Row {
        before: Before::ExpireNames,
        ..row("walk_cold", "tree walk with stat, expired", Unit::Operations, Bound::Once, tree::walk_cold)
    },
    row("create", "1 KiB files made and closed", Unit::Operations, Bound::Names, meta::create),
    row("open_read", "open, read 4 KiB, close", Unit::Operations, Bound::Time, meta::open_read),
    row("unlink", "files removed", Unit::Operations, Bound::Names, meta::unlink),
    row("rename", "files renamed", Unit::Operations, Bound::Time, meta::rename),
    row("mkdir", "directories made", Unit::Operations, Bound::Names, meta::mkdir),
    row("rmdir", "directories removed", Unit::Operations, Bound::Names, meta::rmdir),
    row("parallel", "8 threads, small files' whole lives", Unit::Operations, Bound::Time, parallel::mixed),
];

const fn row(
    name: &'static str,
    what: &'static str,
    unit: Unit,
    bound: Bound,
    work: fn(&mut Ground, u64) -> Result<Work, Halt>,
) -> Row {
    Row { name, what, unit, bound, before: Before::Nothing, work }
}

/// The row of that name.
///
/// # Errors
/// A sentence about the name, with the nearest one there is.
pub fn find(name: &str) -> Result<&'static Row, String> {
    ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
        let near = |row: &&Row| strsim::damerau_levenshtein(row.name, &name.to_lowercase().replace('-', "_"));
        let nearest = ROWS.iter().min_by_key(near).filter(|row| near(row) <= 1 + row.name.len() / 3);
        let advice = match nearest {
            Some(row) => format!("did you mean `{}`?", row.name),
            None => format!("the rows are {}", ROWS.each_ref().map(|row| row.name).join(", ")),
        };
        format!("unknown row `{name}`; {advice}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bare_toml_keys_and_differ() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(row.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.name);
            assert!(ROWS[..index].iter().all(|other| other.name != row.name), "{} twice", row.name);
        }
    }

    #[test]
    fn a_slip_is_met_with_the_nearest_name_and_nonsense_with_all() {
        assert!(find("append").is_ok());
        assert_eq!(find("apend").unwrap_err(), "unknown row `apend`; did you mean `append`?");
        assert_eq!(
            find("seq-read-hot").unwrap_err(),
            "unknown row `seq-read-hot`; did you mean `seq_read_hot`?"
        );
        assert!(find("throughput of the cloud").unwrap_err().contains("the rows are seq_write, "));
    }
}
