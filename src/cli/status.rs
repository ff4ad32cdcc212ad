//! `permfs status`: what is mounted and how it fares.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::Outcome;
use super::output::{self, Style};
use crate::config::printable;
use crate::mount::{MountStatus, Standing, State, status};

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
        let style = Style::of_stdout();
        match (self.json, self.target, mounts.as_slice()) {
            (true, ..) => output::print_json(&mounts),
            (false, Some(_), [mount]) => output::print(details(mount, style)),
            (false, ..) => output::print(table(&mounts, style)),
        }
    }
}

/// A table, the widths those of its longest cells.
fn table(mounts: &[MountStatus], style: Style) -> String {
    if mounts.is_empty() {
        return "no permfs mounts\n".to_owned();
    }
    let mut rows = vec![["TARGET", "SOURCE", "PROFILE", "PID", "STATE"].map(str::to_owned)];
    rows.extend(mounts.iter().map(row));
    let mut widths = [0; 5];
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

fn row(mount: &MountStatus) -> [String; 5] {
    let dash = || "-".to_owned();
    [
        output::path(&mount.target),
        printable(&mount.source),
        mount.profile.as_deref().map_or_else(dash, printable),
        mount.pid.map_or_else(dash, |pid| pid.to_string()),
        state(mount.state).to_owned(),
    ]
}

/// One mount in full, a line for each thing known.
fn details(mount: &MountStatus, style: Style) -> String {
    let [target, source, profile, pid, state] = row(mount);
    let keys = ["target", "source", "profile", "pid", "state"];
    let mut lines: Vec<_> =
        keys.map(str::to_owned).into_iter().zip([target, source, profile, pid, state]).collect();
    if let Some(standing) = &mount.rules {
        lines.push(("rules".to_owned(), rules(standing)));
    }
    if let Some(why) = &mount.upgrade_failed {
        lines.push(("not upgraded".to_owned(), printable(why)));
    }
    lines.push(("features".to_owned(), mount.features.join(" ")));
    for (name, value) in &mount.counters {
        match value.as_object() {
            Some(kinds) => {
                lines.extend(kinds.iter().map(|(kind, count)| (format!("  {kind}"), count.to_string())))
            }
            None => lines.push((name.clone(), value.to_string())),
        }
    }
    lines.iter().map(|(key, value)| format!("{}  {value}\n", style.dim(format_args!("{key:<16}")))).collect()
}

fn rules(Standing { in_force_since, refused }: &Standing) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let age = now.saturating_sub(*in_force_since);
    match refused {
        None => format!("in force for {age} s"),
        Some(why) => format!("in force for {age} s; newer ones refused: {}", printable(why)),
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Serving => "serving",
        State::NotAnswering => "not answering",
        State::Dead => "dead",
    }
}
