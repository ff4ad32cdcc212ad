//! The gate of a rollout: the least ratio that each row must reach, from a TOML file of `row = ratio` lines.
//!
//! It is read before anything is measured, and a row that was not measured does not pass.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Spanned, Value};

use super::report::Report;
use super::row::{self, Row};
use super::units;

/// More than this is a percentage, or a slip.
const MAX_RATIO: f64 = 2.0;

/// What must be reached.
#[derive(Debug, Clone)]
pub struct Thresholds {
    file: String,
    least: Vec<Threshold>,
}

#[derive(Debug, Clone, Copy)]
struct Threshold {
    row: &'static Row,
    ratio: f64,
    line: usize,
}

impl Thresholds {
    /// Reads the text of `file`; `measured` are the rows that will be.
    ///
    /// # Errors
    /// A sentence with file and line.
    pub fn parse(file: &Path, text: &str, measured: &[&Row]) -> Result<Self, String> {
        let file = file.display().to_string();
        let written: BTreeMap<Spanned<String>, Spanned<Value>> = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            format!("{file}:{line}: {}", error.message())
        })?;
        let mut least = Vec::with_capacity(written.len());
        for (name, value) in &written {
            let line = line_of(text, name.span().start);
            let sentence = |what: String| format!("{file}:{line}: {what}");
            let row = row::find(name.get_ref()).map_err(sentence)?;
            let ratio = ratio(row.name, value.get_ref()).map_err(sentence)?;
            if measured.iter().all(|other| other.name != row.name) {
                return Err(sentence(format!("`{}` is not among the rows of --only", row.name)));
            }
            least.push(Threshold { row, ratio, line });
        }
        if least.is_empty() {
            return Err(format!("{file} has no thresholds; write lines such as `append = 0.7`"));
        }
        least.sort_by_key(|threshold| threshold.line);
        Ok(Self { file, least })
    }

    /// The least ratio of a row, where there is one.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<f64> {
        self.least.iter().find(|threshold| threshold.row.name == name).map(|threshold| threshold.ratio)
    }

    /// A sentence for each row that does not reach its threshold.
    #[must_use]
    pub fn failures(&self, report: &Report) -> Vec<String> {
        self.least.iter().filter_map(|threshold| self.failure(*threshold, report)).collect()
    }

    fn failure(&self, Threshold { row, ratio: least, line }: Threshold, report: &Report) -> Option<String> {
        let demand = format!("the {least} that {}:{line} asks for", self.file);
        let measured = report.rows.iter().find(|measured| measured.name == row.name);
        match measured.and_then(|measured| measured.ratio) {
            // Not "at least", so that what is no number fails.
            Some(ratio) if ratio.median >= least => None,
            Some(ratio) => Some(format!(
                "{}: {} of native ({}..{}), below {demand}",
                row.name,
                // As many digits as it takes not to say "0.70, below 0.7".
                digits(ratio.median, least),
                units::ratio(ratio.min),
                units::ratio(ratio.max),
            )),
            None => {
                let why = measured.and_then(|measured| measured.not_measured.as_deref());
                let why = why.unwrap_or("the bare directory could not be worked in");
                Some(format!("{}: not compared with native ({why}), so it does not reach {demand}", row.name))
            }
        }
    }
}

fn ratio(name: &str, value: &Value) -> Result<f64, String> {
    let ratio = match value {
        Value::Float(ratio) => *ratio,
        Value::Integer(1) => 1.0,
        Value::Integer(2) => 2.0,
        other => return Err(format!("`{name}` is a ratio such as 0.7, not {other}")),
    };
    if ratio > 0.0 && ratio <= MAX_RATIO {
        return Ok(ratio);
    }
    Err(format!("`{name}` is a ratio above 0 and up to {MAX_RATIO}, such as 0.7, not {ratio}"))
}

/// At least two digits, and so many that the number differs from `other`.
fn digits(number: f64, other: f64) -> String {
    (2..6)
        .map(|digits| format!("{number:.digits$}"))
        .find(|text| text.parse() != Ok(other))
        .unwrap_or_else(|| number.to_string())
}

/// From 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&b| b == b'\n').count()
}
