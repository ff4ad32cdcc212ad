//! The small values of a rules file: ids, ranges, modes, durations, paths.

use std::time::Duration;

use toml::de::DeValue;

use super::error::Problem;
use super::table::{Value, as_str, unexpected};
use crate::policy::Permissions;
use crate::policy::ids::Id;

/// Ids from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids<I> {
    pub(super) first: I,
    pub(super) last: I,
}

impl<I: Id> Ids<I> {
    /// How many, less one: it always fits.
    pub(super) fn span(self) -> u32 {
        self.last.get() - self.first.get()
    }
}

/// Why a piece of text is no id or range: the message and the next step.
pub(super) type TextError = (String, String);

/// An id: a whole number up to 4294967294.
pub(super) fn id_from_text<I: Id>(text: &str) -> Result<I, TextError> {
    let plain = || "write a number from 0 to 4294967294".to_owned();
    let number: u32 = match text.parse() {
        Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => number,
        _ => return Err((format!("`{text}` is no user or group id"), plain())),
    };
    I::new(number).ok_or_else(|| (format!("{text} is the kernel's \"no id\" and can be nobody's"), plain()))
}

/// `a`, or `a-b`.
pub(super) fn range_from_text<I: Id>(text: &str) -> Result<Ids<I>, TextError> {
    let Some((first, last)) = text.split_once('-') else {
        return id_from_text(text.trim()).map(|id| Ids { first: id, last: id });
    };
    let (first, last): (I, I) = (id_from_text(first.trim())?, id_from_text(last.trim())?);
    if last < first {
        return Err((format!("the range {text} ends before it begins"), format!("write \"{last}-{first}\"")));
    }
    Ok(Ids { first, last })
}

/// An id, as an integer.
pub(super) fn as_id<I: Id>(value: Value<'_>) -> Result<I, Problem> {
    match value.value {
        DeValue::Integer(number) => match number.radix() {
            10 => at(&value, id_from_text(&number.as_str().replace('_', ""))),
            _ => Err(unexpected(&value, "a decimal id")),
        },
        _ => Err(unexpected(&value, "an id, e.g. 2001")),
    }
}

/// An id, or a range of ids as a string.
pub(super) fn as_ids<I: Id>(value: Value<'_>) -> Result<Ids<I>, Problem> {
    match value.value {
        DeValue::String(text) => at(&value, range_from_text(text)),
        DeValue::Integer(_) => as_id(value).map(|id| Ids { first: id, last: id }),
        _ => Err(unexpected(&value, "an id, e.g. 2001, or a range, e.g. \"2000-2999\"")),
    }
}

/// A mode as an octal string.
pub(super) fn as_mode(value: Value<'_>) -> Result<Permissions, Problem> {
    let text = match value.value {
        DeValue::String(text) => text.as_ref(),
        DeValue::Integer(number) => {
            let digits = number.as_str().trim_start_matches("0o");
            let message = format!("a mode is an octal string, not the integer {digits}");
            return Err(Problem::new(&value.span, message, format!("did you mean \"{digits:0>4}\"?")));
        }
        _ => return Err(unexpected(&value, "an octal string, e.g. \"0002\"")),
    };
    let octal = (1..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(bits) if octal => Ok(Permissions::from_mode(bits)),
        _ => {
            let message = format!("\"{text}\" is no mode");
            Err(Problem::new(&value.span, message, "write up to four octal digits, e.g. \"0002\""))
        }
    }
}

/// A length of time: a whole number with its unit.
pub(super) fn as_duration(value: Value<'_>) -> Result<Duration, Problem> {
    if let DeValue::Integer(number) = value.value {
        let message = format!("a time needs its unit, and {} has none", number.as_str());
        return Err(Problem::new(&value.span, message, format!("did you mean \"{}s\"?", number.as_str())));
    }
    let text = as_str(value.clone(), "a time, e.g. \"1s\"")?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let time = number.parse::<u64>().ok().zip(millis).and_then(|(number, unit)| number.checked_mul(unit));
    match time {
        Some(millis) if millis <= MAX_TIME.as_secs() * 1_000 => Ok(Duration::from_millis(millis)),
        _ => {
            let message = format!("\"{text}\" is no time up to 24h");
            Err(Problem::new(&value.span, message, "write a whole number with ms, s, m or h, e.g. \"500ms\""))
        }
    }
}

/// The longest time that anything may be cached: a day.
const MAX_TIME: Duration = Duration::from_secs(24 * 3600);

/// The names of an absolute path below the mount, without `.` and `..`.
pub(super) fn as_names<'t>(value: Value<'t>) -> Result<Vec<&'t [u8]>, Problem> {
    let text = as_str(value.clone(), "a path, e.g. \"/dags\"")?;
    let refuse = |message: String, help: String| Err(Problem::new(&value.span, message, help));
    let Some(below) = text.strip_prefix('/') else {
        return refuse(format!("\"{text}\" is no path from the mount's root"), format!("write \"/{text}\""));
    };
    let names: Vec<_> = below.split('/').filter(|name| !name.is_empty()).collect();
    if names.iter().any(|name| matches!(*name, "." | "..")) {
        return refuse(format!("\"{text}\" has a `.` or `..`"), "write the path without it".into());
    }
    if text.contains('\0') || names.iter().any(|name| name.len() > 255) {
        return refuse(format!("no file can be called \"{text}\""), "names have 1 to 255 bytes".into());
    }
    if names.iter().any(|name| name.contains(['*', '?'])) {
        return refuse(
            format!("\"{text}\" is a pattern, and `match` is a path with all that is below it"),
            "write the directory, e.g. \"/dags\"".into(),
        );
    }
    Ok(names.into_iter().map(str::as_bytes).collect())
}

fn at<T>(value: &Value<'_>, read: Result<T, TextError>) -> Result<T, Problem> {
    read.map_err(|(message, help)| Problem::new(&value.span, message, help))
}
