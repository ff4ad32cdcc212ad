//! Reading a TOML table key by key: every key is asked for once, and what is left over is a mistake of the admin's.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::Problem;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A TOML value and where it stands.
pub(super) type Value<'t> = At<&'t DeValue<'t>>;

/// A table whose keys are being read.
pub(super) struct Table<'t> {
    table: &'t DeTable<'t>,
    pub(super) span: Range<usize>,
    /// How messages call it: `[profile.airflow]`.
    what: String,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    pub(super) fn new(table: &'t DeTable<'t>, span: Range<usize>, what: impl Into<String>) -> Self {
        Self { table, span, what: what.into(), known: Vec::new() }
    }

    /// The value of `key`, if it is there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.known.push(key);
        self.table.get(key).map(at)
    }

    /// The value of `key`, read by `read`.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value<'t>) -> Result<T, Problem>,
    ) -> Result<Option<At<T>>, Problem> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let span = value.span.clone();
        Ok(Some(At { value: read(value)?, span }))
    }

    /// A table inside this one.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<Table<'t>>, Problem> {
        let what = format!("{}.{key}", self.what);
        self.take(key).map(|value| as_table(value, &what)).transpose()
    }

    /// Every key and value: for a table whose keys are the admin's own.
    pub(super) fn entries(&self) -> impl Iterator<Item = (At<&'t str>, Value<'t>)> + use<'t> {
        self.table.iter().map(|(key, value)| (spanned(key), at(value)))
    }

    /// Refuses the keys that nobody asked for.
    pub(super) fn end(self) -> Result<(), Problem> {
        for (key, _) in self.entries() {
            if !self.known.contains(&key.value) {
                let near = nearest(key.value, self.known.iter().copied());
                let help = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its keys are {}", self.known.join(", ")),
                };
                return Err(Problem::new(
                    &key.span,
                    format!("unknown key `{}` in {}", key.value, self.what),
                    help,
                ));
            }
        }
        Ok(())
    }
}

/// The word nearest to `word`, where one is near enough to have been meant.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    known
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(near, _)| *near > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

fn at<'t>(value: &'t Spanned<DeValue<'t>>) -> Value<'t> {
    At { value: value.get_ref(), span: value.span() }
}

fn spanned<'t>(key: &'t Spanned<DeString<'t>>) -> At<&'t str> {
    At { value: key.get_ref().as_ref(), span: key.span() }
}

/// What kind of value it is, for a message.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// "expected this, found that".
pub(super) fn unexpected(value: &Value<'_>, expected: &str) -> Problem {
    let message = format!("expected {expected}, found {}", kind(value.value));
    Problem::new(&value.span, message, format!("write {expected}"))
}

pub(super) fn as_table<'t>(value: Value<'t>, what: &str) -> Result<Table<'t>, Problem> {
    match value.value {
        DeValue::Table(table) => Ok(Table::new(table, value.span, what)),
        _ => Err(unexpected(&value, "a table")),
    }
}

pub(super) fn as_list<'t>(value: Value<'t>) -> Result<Vec<Value<'t>>, Problem> {
    match value.value {
        DeValue::Array(list) => Ok(list.iter().map(at).collect()),
        _ => Err(unexpected(&value, "a list")),
    }
}

pub(super) fn as_bool(value: Value<'_>) -> Result<bool, Problem> {
    match value.value {
        DeValue::Boolean(value) => Ok(*value),
        _ => Err(unexpected(&value, "true or false")),
    }
}

pub(super) fn as_str<'t>(value: Value<'t>, expected: &str) -> Result<&'t str, Problem> {
    match value.value {
        DeValue::String(text) => Ok(text.as_ref()),
        _ => Err(unexpected(&value, expected)),
    }
}

/// One of a few words.
pub(super) fn as_word<T: Copy>(value: Value<'_>, words: &[(&str, T)]) -> Result<T, Problem> {
    let choices = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let text = as_str(value.clone(), &format!("one of {choices}"))?;
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let help = match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("write one of {choices}"),
        };
        Problem::new(&value.span, format!("\"{text}\" is none of {choices}"), help)
    })
}
