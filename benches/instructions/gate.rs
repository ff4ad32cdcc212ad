//! The judgement: what was counted against what is recorded. Nothing is run here.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// How much more an operation may cost before this fails, in percent.
const GROWTH: f64 = 3.0;
/// The same where another compiler, which optimises otherwise, has built what is counted.
const GROWTH_OF_ANOTHER_COMPILER: f64 = 15.0;
/// Instructions that no operation is failed for: a call, which the compiler inlines or not as the rest of the crate changes.
/// Of a decision of 20 instructions that is a third.
const SLACK: f64 = 12.0;

/// Instructions of one operation each.
pub type Counts = BTreeMap<String, f64>;

/// `instructions.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What `rustc --version` says of the compiler that built what was counted.
    pub rustc: String,
    /// What was counted.
    pub instructions: Counts,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Whether nothing has grown, and everything is recorded.
    pub passes: bool,
    /// A line for each operation, and what to do.
    pub text: String,
}

/// The names of what costs too much more than what is recorded.
pub fn grown(record: &Record, counted: &Record) -> Vec<String> {
    let growth = allowed(record, counted);
    let grown = counted.instructions.iter().filter(|(name, now)| {
        record.instructions.get(*name).is_some_and(|&before| has_grown(before, **now, growth))
    });
    grown.map(|(name, _)| name.clone()).collect()
}

/// Compares what was `counted` with the `record`.
pub fn judge(record: &Record, counted: &Record) -> Judgement {
    let mut text = String::new();
    let same_compiler = record.rustc == counted.rustc;
    let growth = allowed(record, counted);
    if !same_compiler {
        line(
            &mut text,
            format_args!(
                "recorded with {}, counted with {}: an operation may differ by {growth} % instead of {GROWTH} %; \
                 record again to be held to {GROWTH} %",
                record.rustc, counted.rustc
            ),
        );
    }
    line(&mut text, format_args!("{:>9}  {:>9}  {:>7}  operation", "recorded", "counted", "change"));
    let (mut failed, mut shrunk) = (0, 0);
    for (name, &now) in &counted.instructions {
        let Some(&before) = record.instructions.get(name) else {
            failed += 1;
            line(&mut text, format_args!("{:>9}  {now:>9.1}  {:>7}  {name}: NOT RECORDED", "-", ""));
            continue;
        };
        let change = 100.0 * (now - before) / before;
        let verdict = if has_grown(before, now, growth) {
            failed += 1;
            ": GROWN"
        } else if has_grown(now, before, growth) {
            shrunk += 1;
            ": shrunk"
        } else {
            ""
        };
        line(&mut text, format_args!("{before:>9.1}  {now:>9.1}  {change:>+6.1}%  {name}{verdict}"));
    }
    for name in record.instructions.keys().filter(|name| !counted.instructions.contains_key(*name)) {
        failed += 1;
        line(&mut text, format_args!("{name} is recorded, but is not counted any more"));
    }
    if failed > 0 {
        line(
            &mut text,
            format_args!(
                "{failed} of the hot operations cost more than {growth} % more, or are not recorded. \
                 If that is meant: cargo bench --bench instructions -- --record"
            ),
        );
    } else if shrunk > 0 {
        line(
            &mut text,
            format_args!("{shrunk} cost less: hold that by cargo bench --bench instructions -- --record"),
        );
    }
    Judgement { passes: failed == 0, text }
}

/// The growth that is let pass, in percent.
fn allowed(record: &Record, counted: &Record) -> f64 {
    if record.rustc == counted.rustc { GROWTH } else { GROWTH_OF_ANOTHER_COMPILER }
}

fn has_grown(before: f64, now: f64, percent: f64) -> bool {
    now - before > SLACK && now > before * (1.0 + percent / 100.0)
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
