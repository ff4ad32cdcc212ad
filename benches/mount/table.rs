//! The outcome for people: ratios first, then what was asked for.

use std::fmt::Write;

use permfs::bench::report::RowReport;
use permfs::bench::row::Unit;

use super::bound;
use super::outcome::{Count, Measured, Outcome};

/// How much slower than the best peer still counts as being level with it.
const LEVEL: f64 = 0.97;
/// Characters of a column.
const COLUMN: usize = 17;

/// All of it.
pub fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    line(&mut text, &heading(outcome));
    for Measured { name, how, .. } in &outcome.candidates {
        line(&mut text, &format!("  {name:<15}{how}"));
    }
    line(&mut text, "");
    let names = outcome.candidates.iter().map(|candidate| format!("{:<COLUMN$}", candidate.name));
    line(&mut text, &format!("{:<14}{:<10}{}", "1.00 = bare", "bare", names.collect::<String>()));
    for (index, row) in rows(outcome).iter().enumerate() {
        let cells =
            outcome.candidates.iter().map(|one| format!("{:<COLUMN$}", ranged(&one.report.rows[index])));
        let cells: String = cells.collect();
        line(
            &mut text,
            &format!(
                "{:<14}{:<10}{cells}{}",
                row.name,
                bare(row),
                behind(outcome, index).unwrap_or_default()
            ),
        );
    }
    for candidate in &outcome.candidates {
        if !candidate.requests.is_empty() {
            line(&mut text, &format!("\n{}: FUSE requests of one operation", candidate.name));
            candidate.requests.iter().for_each(|count| line(&mut text, &told(count)));
        }
        if !candidate.rpcs.is_empty() {
            line(&mut text, "\nRPCs of one operation, on the bare mount and through permfs");
        }
        for pair in &candidate.rpcs {
            line(&mut text, &format!("{}   bare", told(&pair.bare)));
            line(&mut text, &format!("{}   {}", told(&pair.permfs), candidate.name));
        }
    }
    if let Some(heading) = bound::heading(outcome) {
        line(&mut text, &format!("\n{heading}"));
    }
    bound::lines(outcome).iter().for_each(|bound| line(&mut text, bound));
    for note in notes(outcome) {
        line(&mut text, &format!("\nnote: {note}"));
    }
    text
}

/// What was measured, where, how often.
pub fn heading(outcome: &Outcome) -> String {
    let Some(first) = outcome.candidates.first() else { return String::new() };
    let cpu = if outcome.kind == "local" { "not pinned" } else { "everything on one CPU" };
    let report = &first.report;
    format!(
        "{}, {cpu}, Linux {}, {} CPUs, {} rounds, {}",
        outcome.place, report.kernel, report.cpus, report.rounds, report.started
    )
}

pub fn rows(outcome: &Outcome) -> &[RowReport] {
    outcome.candidates.first().map_or(&[], |first| &first.report.rows)
}

/// Everything a reader has to know, each sentence once.
pub fn notes(outcome: &Outcome) -> Vec<String> {
    let mut notes = outcome.notes.clone();
    for candidate in &outcome.candidates {
        for note in &candidate.report.notes {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        for row in &candidate.report.rows {
            if let Some(why) = &row.not_measured {
                let note = format!("{}: {}: {why}", row.name, candidate.name);
                notes.push(note);
            }
        }
    }
    notes
}

/// Where the best peer is ahead by more than noise: its name and ratio.
pub fn behind(outcome: &Outcome, row: usize) -> Option<String> {
    let median = |one: &Measured| one.report.rows[row].ratio.map(|ratio| ratio.median);
    let permfs = median(outcome.candidates.first()?)?;
    let peers = outcome.candidates.iter().filter(|one| !one.name.starts_with("permfs"));
    let (best, name) = peers
        .filter_map(|one| Some((median(one)?, one.name)))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (permfs < best * LEVEL).then(|| format!("behind {name}"))
}

/// Time of one operation, or bytes per second.
pub fn bare(row: &RowReport) -> String {
    let Some(rate) = row.source.map(|source| source.median) else { return "-".to_owned() };
    match row.unit {
        Unit::Bytes => format!("{:.1} GB/s", rate / 1e9),
        Unit::Operations => format!("{:.1} µs", 1e6 / rate),
    }
}

pub fn ranged(row: &RowReport) -> String {
    row.ratio.map_or_else(
        || "-".to_owned(),
        |ratio| format!("{:.2} {:.2}..{:.2}", ratio.median, ratio.min, ratio.max),
    )
}

/// How many, and which.
pub fn told(count: &Count) -> String {
    format!("  {:<36}{:>6}   {}", count.operation, number(count.total), kinds(count))
}

/// Which, and how many of each.
pub fn kinds(count: &Count) -> String {
    let kinds = count.by_kind.iter().map(|(kind, count)| format!("{kind} {}", number(*count)));
    kinds.collect::<Vec<_>>().join(", ")
}

/// Without decimals that say nothing.
pub fn number(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}
