//! `permfs status`: what is mounted and how it fares.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::Outcome;
use super::output::{self, Style};
use crate::mount::{MountStatus, State, status};

/// Show the permfs mounts of this node; never hangs on one.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Only the mount there.
    target: Option<PathBuf>,
    /// For machines: a list of objects.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Outcome {
        let mounts = status(self.target.as_deref())?;
        if self.json { output::print_json(&mounts) } else { output::print(text(&mounts, Style::of_stdout())) }
    }
}

/// A table, the widths those of its longest cells.
fn text(mounts: &[MountStatus], style: Style) -> String {
    if mounts.is_empty() {
        return "no permfs mounts\n".to_owned();
    }
    let mut rows = vec![["TARGET", "SOURCE", "PROFILE", "PID", "STATE", "FEATURES"].map(str::to_owned)];
    rows.extend(mounts.iter().map(row));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let line = cells.join("  ");
        let line = line.trim_end();
        let state = (number > 0).then(|| mounts[number - 1].state);
        let line = match state {
            None => style.dim(line),
            Some(State::Serving) => line.to_owned(),
            Some(State::NotAnswering | State::Dead) => style.bad(line),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

fn row(mount: &MountStatus) -> [String; 6] {
    let dash = || "-".to_owned();
    let state = match mount.state {
        State::Serving => "serving",
        State::NotAnswering => "not answering",
        State::Dead => "dead",
    };
    [
        mount.target.display().to_string(),
        mount.source.clone(),
        mount.profile.clone().unwrap_or_else(dash),
        mount.pid.map_or_else(dash, |pid| pid.to_string()),
        state.to_owned(),
        if mount.features.is_empty() { dash() } else { mount.features.join(",") },
    ]
}
