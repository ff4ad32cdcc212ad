//! The table for people: the ratio first, since that is what the layer costs; then what was measured.

use std::fmt::Write;

use super::report::{Report, RowReport};
use super::{Thresholds, units};

/// How text is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Quiet,
    Bad,
}

/// The run as text; coloured where `colour` says so. Ratios below a threshold are set off.
#[must_use]
pub fn table(report: &Report, thresholds: Option<&Thresholds>, colour: bool) -> String {
    let paint = Paint { colour };
    let mut text = heading(report, paint);
    let name_width = report.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let columns = match report.is_compared() {
        true => format!(
            "{:>5}  {:<11}  {:<name_width$}  {:>9}  {:>9}",
            "ratio", "range", "row", "native", "mount"
        ),
        false => format!("{:<name_width$}  {:>9}  {:<22}", "row", "mount", "range"),
    };
    line(&mut text, &paint.over(columns, Tone::Strong));
    for row in &report.rows {
        let cells = match (&row.not_measured, report.is_compared()) {
            (Some(why), true) => {
                format!("{:>5}  {:<11}  {:<name_width$}  {}", "-", "", row.name, paint.over(why, Tone::Quiet))
            }
            (Some(why), false) => format!("{:<name_width$}  {}", row.name, paint.over(why, Tone::Quiet)),
            (None, true) => compared(row, thresholds, name_width, paint),
            (None, false) => alone(row, name_width, paint),
        };
        line(&mut text, &cells);
    }
    for note in &report.notes {
        line(&mut text, &format!("\n{} {note}", paint.over("note:", Tone::Strong)));
    }
    text
}

fn heading(report: &Report, paint: Paint) -> String {
    let (source, target) = (&report.source, &report.target);
    let mount = format!("{} ({})", paint.over(&target.path, Tone::Strong), target.filesystem);
    let sides = match report.is_compared() {
        true => format!("{mount} against {} ({})", paint.over(&source.path, Tone::Strong), source.filesystem),
        false => format!("{mount} alone"),
    };
    let Report { kernel, cpus, rounds, started, .. } = report;
    let (cpus, rounds) = (counted(*cpus, "CPU"), counted(*rounds, "round"));
    let how = format!("kernel {kernel}, {cpus}, {rounds}, {started}");
    format!("{sides}\n{}\n\n", paint.over(how, Tone::Quiet))
}

/// "1 round", "2 rounds".
pub(super) fn counted(number: impl TryInto<u64>, noun: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

fn compared(row: &RowReport, thresholds: Option<&Thresholds>, name_width: usize, paint: Paint) -> String {
    let (Some(ratio), Some(source), Some(target)) = (row.ratio, row.source, row.target) else {
        return row.name.to_owned();
    };
    let fails = thresholds.and_then(|gate| gate.of(row.name)).is_some_and(|least| ratio.median < least);
    format!(
        "{}  {}  {:<name_width$}  {:>9}  {:>9}  {}",
        paint.over(
            format_args!("{:>5}", units::ratio(ratio.median)),
            if fails { Tone::Bad } else { Tone::Strong }
        ),
        paint.over(format_args!("{:<11}", format!("{:.2}..{:.2}", ratio.min, ratio.max)), Tone::Quiet),
        paint.over(row.name, Tone::Plain),
        units::rate(row.unit, source.median),
        units::rate(row.unit, target.median),
        paint.over(row.what, Tone::Quiet),
    )
}

fn alone(row: &RowReport, name_width: usize, paint: Paint) -> String {
    let Some(target) = row.target else { return row.name.to_owned() };
    format!(
        "{:<name_width$}  {:>9}  {}  {}",
        row.name,
        units::rate(row.unit, target.median),
        paint.over(format_args!("{:<22}", units::rates(row.unit, target)), Tone::Quiet),
        paint.over(row.what, Tone::Quiet),
    )
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}

#[derive(Debug, Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn over(self, text: impl std::fmt::Display, tone: Tone) -> String {
        let code = match tone {
            Tone::Strong => "1",
            Tone::Quiet => "2",
            Tone::Bad => "1;31",
            Tone::Plain => return text.to_string(),
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
