//! Puts an outcome into `benches/README.md`, between the two markers of its kind, and its chart beside it.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::bound;
use super::outcome::Outcome;
use super::{chart, options, table};

/// Rewrites what is recorded of this kind of run.
pub fn record(outcome: &Outcome) -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    let readme = folder.join("README.md");
    let text = fs::read_to_string(&readme).map_err(|error| format!("{}: {error}", readme.display()))?;
    let text = replaced(&text, outcome.kind, &markdown(outcome)).ok_or_else(|| {
        format!("{} lacks the two markers of the kind `{}`", readme.display(), outcome.kind)
    })?;
    options::write(&readme, &text)?;
    options::write(&folder.join(chart_name(outcome)), &chart::draw(outcome))
}

/// The text with what is between the markers of `kind` replaced; none where they are not there.
pub fn replaced(text: &str, kind: &str, new: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- recorded: {kind} -->\n"), format!("<!-- end: {kind} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{new}{end}{after}"))
}

fn chart_name(outcome: &Outcome) -> String {
    format!("mount-{}.svg", outcome.kind)
}

pub fn markdown(outcome: &Outcome) -> String {
    let mut text = String::new();
    let arguments: Vec<_> = env::args()
        .skip(1)
        .filter(|argument| !["--bench", "--inside"].contains(&argument.as_str()))
        .collect();
    line(
        &mut text,
        &format!("{}: `cargo bench --bench mount -- {}`\n", table::heading(outcome), arguments.join(" ")),
    );
    let names: Vec<_> = outcome.candidates.iter().map(|candidate| candidate.name).collect();
    line(&mut text, &format!("| 1.00 = bare | bare | {} | |", names.join(" | ")));
    line(&mut text, &format!("|---|---|{}---|", "---|".repeat(names.len())));
    for (index, row) in table::rows(outcome).iter().enumerate() {
        let cells = outcome.candidates.iter().map(|one| cell(&table::ranged(&one.report.rows[index])));
        let cells: Vec<_> = cells.collect();
        let behind = table::behind(outcome, index).unwrap_or_default();
        line(
            &mut text,
            &format!("| {} | {} | {} | {behind} |", row.name, table::bare(row), cells.join(" | ")),
        );
    }
    line(&mut text, &format!("\n![the same as a chart]({})\n", chart_name(outcome)));
    for candidate in &outcome.candidates {
        if candidate.requests.is_empty() {
            continue;
        }
        line(
            &mut text,
            &format!("FUSE requests of one operation, {} ({}):\n\n```text", candidate.name, candidate.how),
        );
        candidate.requests.iter().for_each(|count| line(&mut text, table::told(count).trim()));
        line(&mut text, "```\n");
    }
    for candidate in outcome.candidates.iter().filter(|candidate| !candidate.rpcs.is_empty()) {
        line(
            &mut text,
            "| RPCs of one operation | bare | permfs | bare: which | permfs: which |\n|---|---|---|---|---|",
        );
        for pair in &candidate.rpcs {
            let (bare, permfs) = (&pair.bare, &pair.permfs);
            line(
                &mut text,
                &format!(
                    "| {} | {} | {} | {} | {} |",
                    bare.operation,
                    table::number(bare.total),
                    table::number(permfs.total),
                    table::kinds(bare),
                    table::kinds(permfs)
                ),
            );
        }
        line(&mut text, "");
    }
    if let Some(heading) = bound::heading(outcome) {
        line(&mut text, &format!("What the requests alone allow: {heading}\n\n```text"));
        bound::lines(outcome).iter().for_each(|bound| line(&mut text, bound.trim()));
        line(&mut text, "```\n");
    }
    for note in table::notes(outcome) {
        line(&mut text, &format!("- {note}"));
    }
    text
}

/// `0.98 0.95..1.02` with the median set off.
fn cell(ranged: &str) -> String {
    match ranged.split_once(' ') {
        Some((median, range)) => format!("**{median}** {range}"),
        None => ranged.to_owned(),
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
