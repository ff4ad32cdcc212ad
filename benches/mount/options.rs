//! The command line.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use permfs::bench::Thresholds;
use permfs::bench::row::{self, ROWS, Row};

use super::outcome::Outcome;

/// Rounds where none are asked for.
const ROUNDS: u32 = 5;

/// The bare directory, permfs and its peers at the same work, in turns.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench mount --")]
pub struct Options {
    /// Keep everything on one CPU: this program and all daemons.
    #[arg(long)]
    pub pinned: bool,
    /// Measure bare NFS v4.2 against permfs, with 0.3 ms on the link, in a machine that is booted for it.
    #[arg(long, conflicts_with_all = ["pinned", "dir"])]
    pub nfs: bool,
    /// How many times all do the same.
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Measure only these rows.
    #[arg(long, value_name = "ROW,...", value_delimiter = ',', value_parser = row::find)]
    pub only: Vec<&'static Row>,
    /// Only these candidates, by name; permfs is always there.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub against: Option<Vec<String>>,
    /// Short samples and small files: to see that it works.
    #[arg(long)]
    pub quick: bool,
    /// Work in this directory, instead of on an ext4 in memory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write everything as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw a chart.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Put the table and the chart into benches/, in the place of the recorded ones of this kind.
    #[arg(long)]
    pub record: bool,
    /// Exit with 1 where permfs is below the ratios in this TOML file, which has lines such as `append = 0.7`.
    #[arg(long, value_name = "FILE")]
    pub thresholds: Option<PathBuf>,
    /// This is the machine that was booted.
    #[arg(long, hide = true)]
    pub inside: bool,
    /// Cargo adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub fn from_command_line() -> Self {
        let options = Self::parse();
        // A slip should not show only after minutes.
        if let Err(why) = options.thresholds() {
            eprintln!("mount: {why}");
            std::process::exit(2);
        }
        options
    }

    /// In the order of the table.
    pub fn rows(&self) -> Vec<&'static Row> {
        let wanted = |row: &&Row| self.only.is_empty() || self.only.iter().any(|only| only.name == row.name);
        ROWS.iter().filter(wanted).collect()
    }

    pub fn wants(&self, candidate: &str) -> bool {
        let Some(names) = &self.against else { return true };
        names.iter().any(|name| name == candidate)
    }

    /// What makes this run fail, in sentences.
    pub fn failures(&self, outcome: &Outcome) -> Result<Vec<String>, String> {
        let permfs = outcome.candidates.first().ok_or("permfs was not measured")?;
        Ok(self.thresholds()?.map(|gate| gate.failures(&permfs.report)).unwrap_or_default())
    }

    fn thresholds(&self) -> Result<Option<Thresholds>, String> {
        let Some(file) = &self.thresholds else { return Ok(None) };
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Thresholds::parse(file, &text, &self.rows()).map(Some)
    }
}

pub fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
