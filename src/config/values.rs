//! The values of a rules file: ids, ranges, modes, durations.

use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Faults, Value, describe};
use crate::policy::Permissions;
use crate::policy::ids::Id;

/// The longest time the kernel may be told to believe something: a day.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// Ids `first ..= last` of one side, of which none is 4294967295 and `first <= last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdRange<T> {
    pub(super) first: T,
    pub(super) last: T,
}

/// Why a text is no id or range: what is wrong, and what to write.
pub(super) type ValueFault = (String, String);

/// `50000`.
pub(super) fn id_from_text<T: Id>(text: &str) -> Result<T, ValueFault> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((format!("\"{text}\" is not an id"), "write a number from 0 to 4294967294".to_owned()));
    }
    let Ok(number) = digits.parse::<u32>() else {
        return Err((
            format!("{digits} is larger than any id"),
            "write a number from 0 to 4294967294".to_owned(),
        ));
    };
    T::new(number).ok_or_else(|| {
        (
            "4294967295 is no id: the kernel reads it as \"none\"".to_owned(),
            "the largest is 4294967294".to_owned(),
        )
    })
}

/// `50000` or `50000-50999`, both ends included.
pub(super) fn range_from_text<T: Id>(text: &str) -> Result<IdRange<T>, ValueFault> {
    let Some((first, last)) = text.split_once('-') else {
        let id = id_from_text(text)?;
        return Ok(IdRange { first: id, last: id });
    };
    let (first, last): (T, T) = (id_from_text(first)?, id_from_text(last)?);
    if first > last {
        let what = format!("the range {} ends before it begins", text.trim());
        return Err((what, format!("did you mean \"{last}-{first}\"?")));
    }
    Ok(IdRange { first, last })
}

/// An integer, or a string with a number or a range.
pub(super) fn range<T: Id>(key: &str, value: &Value<'_>, faults: &mut Faults) -> Option<IdRange<T>> {
    let read = match value.get_ref() {
        DeValue::Integer(_) => return id(key, value, faults).map(|id| IdRange { first: id, last: id }),
        DeValue::String(text) => range_from_text(text),
        other => Err((format!("{} is no id", describe(other)), "write 50000, or \"50000-50999\"".to_owned())),
    };
    read.map_err(|(what, next)| faults.add::<()>(value.span(), format!("{key}: {what}"), next)).ok()
}

/// An integer.
pub(super) fn id<T: Id>(key: &str, value: &Value<'_>, faults: &mut Faults) -> Option<T> {
    let read = match value.get_ref() {
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if number < 0 => {
                Err((format!("{number} is negative"), "write a number from 0 to 4294967294".to_owned()))
            }
            Ok(number) => id_from_text(&number.to_string()),
            Err(_) => Err((
                format!("{number} is larger than any id"),
                "write a number from 0 to 4294967294".to_owned(),
            )),
        },
        DeValue::String(text) => id_from_text(text),
        other => Err((format!("{} is no id", describe(other)), "write a number such as 2001".to_owned())),
    };
    read.map_err(|(what, next)| faults.add::<()>(value.span(), format!("{key}: {what}"), next)).ok()
}

/// A umask: `"caller"` is none.
#[expect(clippy::option_option, reason = "the outer one is whether the value could be read")]
pub(super) fn umask(value: &Value<'_>, faults: &mut Faults) -> Option<Option<Permissions>> {
    let (what, next) = match value.get_ref() {
        DeValue::String(text) if text == "caller" => return Some(None),
        DeValue::String(text) => match octal(text) {
            Some(bits) => return Some(Some(bits)),
            None => (
                format!("umask = \"{text}\" is not an octal umask"),
                "write \"caller\", or octal digits from \"0000\" to \"0777\"".to_owned(),
            ),
        },
        DeValue::Integer(number) => {
            let next =
                if number.as_str().len() <= 4 && number.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
                    format!("did you mean \"{:0>4}\"?", number.as_str())
                } else {
                    "write an octal string such as \"0002\"".to_owned()
                };
            (format!("umask = {number} is an integer, and modes are octal strings"), next)
        }
        other => (
            format!("umask is {}", describe(other)),
            "write \"caller\", or an octal string such as \"0002\"".to_owned(),
        ),
    };
    faults.add(value.span(), what, next)
}

/// One to four octal digits, permission bits for owner, group and others only.
fn octal(text: &str) -> Option<Permissions> {
    let well_formed = (1..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let bits = well_formed.then(|| u32::from_str_radix(text, 8).ok()).flatten()?;
    (bits <= 0o777).then(|| Permissions::from_mode(bits))
}

/// `"500ms"`, `"1s"`, `"2m"`, `"1h"`; at most [`MAX_TIMEOUT`].
pub(super) fn duration(key: &str, value: &Value<'_>, faults: &mut Faults) -> Option<Duration> {
    let (what, next) = match value.get_ref() {
        DeValue::String(text) => match duration_from_text(text) {
            Ok(duration) => return Some(duration),
            Err((what, next)) => (format!("{key} = \"{text}\" {what}"), next),
        },
        DeValue::Integer(number) => {
            (format!("{key} = {number} has no unit"), format!("did you mean \"{number}s\"?"))
        }
        other => {
            (format!("{key} is {}", describe(other)), "write a time such as \"1s\" or \"500ms\"".to_owned())
        }
    };
    faults.add(value.span(), what, next)
}

fn duration_from_text(text: &str) -> Result<Duration, ValueFault> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let example = || "write a whole number and ms, s, m or h, such as \"1s\" or \"500ms\"".to_owned();
    let number = match number.parse::<u64>() {
        Ok(number) => number,
        Err(_) if digits == 0 => return Err(("is not a time".to_owned(), example())),
        Err(_) => return Err(too_long()),
    };
    let duration = match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(60 * 60).map(Duration::from_secs),
        "" => return Err(("has no unit".to_owned(), format!("did you mean \"{number}s\"?"))),
        _ => return Err(("is not a time".to_owned(), example())),
    };
    duration.filter(|duration| *duration <= MAX_TIMEOUT).ok_or_else(too_long)
}

fn too_long() -> ValueFault {
    ("is longer than a day".to_owned(), "write at most \"24h\"".to_owned())
}

/// A string.
pub(super) fn text<'t>(key: &str, value: &'t Value<'_>, faults: &mut Faults) -> Option<&'t str> {
    match value.get_ref() {
        DeValue::String(text) => Some(text),
        other => {
            faults.add(value.span(), format!("{key} is {}", describe(other)), "write a string in quotes")
        }
    }
}
