//! Reads TOML tables key by key, noting everything that is wrong with the place where it is.
//!
//! A reader that stops at the first mistake makes an admin run `check` once per mistake; serde's derived one does, and
//! cannot say what a wrong value should have been.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::source::{Mark, Source};

/// A value with its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// The most faults of one file that are told: nobody reads more, and each is drawn with its lines.
pub const MAX_FAULTS: usize = 100;

/// What is wrong so far.
#[derive(Debug)]
pub(super) struct Faults {
    source: Arc<Source>,
    found: Vec<ConfigError>,
}

impl Faults {
    pub(super) fn new(source: &Arc<Source>) -> Self {
        Self { source: source.clone(), found: Vec::new() }
    }

    /// Notes a fault, up to [`MAX_FAULTS`]. Answers none, for the value that is not there now.
    pub(super) fn add<T>(
        &mut self,
        span: Range<usize>,
        what: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Option<T> {
        if self.found.len() < MAX_FAULTS {
            self.found.push(ConfigError::new(self.mark(span), what, next_step));
        }
        None
    }

    pub(super) fn mark(&self, span: Range<usize>) -> Mark {
        Mark::new(&self.source, span)
    }

    /// In the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<ConfigError> {
        self.found.sort_by_key(ConfigError::offset);
        self.found
    }
}

/// A table, and what its keys may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'t> {
    table: &'t DeTable<'t>,
    known: &'static [&'static str],
    /// Where it begins.
    start: usize,
}

impl<'t> Section<'t> {
    /// Notes every key that is not `known`.
    pub(super) fn new(
        table: &'t DeTable<'t>,
        span: Range<usize>,
        known: &'static [&'static str],
        faults: &mut Faults,
    ) -> Self {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let next_step = suggest(key.get_ref(), known);
            faults.add::<()>(key.span(), format!("unknown key \"{}\"", key.get_ref()), next_step);
        }
        Self { table, known, start: span.start }
    }

    /// The table that `value` is.
    pub(super) fn of(
        key: &str,
        value: &'t Value<'t>,
        known: &'static [&'static str],
        faults: &mut Faults,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Self::new(table, value.span(), known, faults)),
            other => {
                let expected = format!("write a table with some of: {}", known.join(", "));
                faults.add(value.span(), format!("{key} is {}", describe(other)), expected)
            }
        }
    }

    /// Where the table begins.
    pub(super) fn start(&self) -> Range<usize> {
        self.start..self.start
    }

    /// The value of `key`, which is one of the known.
    pub(super) fn get(&self, key: &str) -> Option<&'t Value<'t>> {
        debug_assert!(self.known.contains(&key), "{key} is read but not listed in keys.rs");
        self.table.get(key)
    }

    /// Notes that `key` is missing, unless a slip of it was noted already.
    pub(super) fn missing<T>(
        &self,
        key: &str,
        span: Range<usize>,
        what: impl Into<String>,
        next_step: &str,
        faults: &mut Faults,
    ) -> Option<T> {
        let mut unknown =
            self.table.keys().filter(|written| !self.known.contains(&written.get_ref().as_ref()));
        if unknown.any(|written| nearest(written.get_ref(), self.known) == Some(key)) {
            return None;
        }
        faults.add(span, what, next_step)
    }

    /// The place of the value of `key`.
    pub(super) fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.get(key).map(Spanned::span)
    }

    pub(super) fn table(
        &self,
        key: &'static str,
        known: &'static [&'static str],
        faults: &mut Faults,
    ) -> Option<Self> {
        Self::of(key, self.get(key)?, known, faults)
    }

    pub(super) fn boolean(&self, key: &str, faults: &mut Faults) -> Option<bool> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(is) => Some(*is),
            other => faults.add(value.span(), format!("{key} = {}", describe(other)), "write true or false"),
        }
    }

    pub(super) fn list(&self, key: &str, example: &str, faults: &mut Faults) -> Option<&'t [Value<'t>]> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Array(list) => Some(list),
            other => {
                faults.add(value.span(), format!("{key} is {}", describe(other)), format!("write {example}"))
            }
        }
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)], faults: &mut Faults) -> Option<T> {
        let value = self.get(key)?;
        one_of(key, value, words, faults)
    }
}

/// The meaning of a word.
pub(super) fn one_of<T: Copy>(
    key: &str,
    value: &Value<'_>,
    words: &[(&str, T)],
    faults: &mut Faults,
) -> Option<T> {
    let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let DeValue::String(text) = value.get_ref() else {
        let next_step = format!("write {}", quoted(&names));
        return faults.add(value.span(), format!("{key} = {}", describe(value.get_ref())), next_step);
    };
    match words.iter().find(|(word, _)| *word == text.as_ref()) {
        Some((_, meaning)) => Some(*meaning),
        None => {
            faults.add(value.span(), format!("{key} = \"{text}\" is not known"), suggest_word(text, &names))
        }
    }
}

/// What a value is, for "x is ...".
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{text}\""),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the float {}", number.as_str()),
        DeValue::Boolean(is) => format!("the boolean {is}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The nearest of the known keys, or all of them.
pub(super) fn suggest(key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("the keys here are {}", known.join(", ")),
    }
}

pub(super) fn suggest_word(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write {}", quoted(known)),
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
}

/// How alike two words must be, from 0 to 1, for one to be taken for a slip of the other.
const ALIKE: f64 = 0.75;
/// The longest word worth comparing: the comparison is quadratic.
const LONGEST_SLIP: usize = 64;

fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    if word.len() > LONGEST_SLIP {
        return None;
    }
    let folded = word.to_lowercase().replace('-', "_");
    let likeness = |candidate: &str| strsim::jaro_winkler(&folded, candidate);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= ALIKE).then_some(best)
}
