//! A rules file's text (or a flag's), and places in it.

use std::ops::Range;
use std::sync::Arc;

use crate::policy::Origin;

/// What was read, under the name that the admin knows it by.
#[derive(Debug)]
pub(super) struct Source {
    /// The file's path as given, or the flag.
    pub(super) name: Arc<str>,
    /// Its text.
    pub(super) text: String,
    /// Whether it is a flag, which has no lines.
    pub(super) is_flag: bool,
    /// Where each line begins: every rule asks for its line, and a file may have thousands.
    line_starts: Vec<usize>,
}

impl Source {
    pub(super) fn file(name: &str, text: &str) -> Arc<Self> {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Arc::new(Self { name: name.into(), text: text.to_owned(), is_flag: false, line_starts })
    }

    pub(super) fn flag(name: &str, value: &str) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: value.to_owned(), is_flag: true, line_starts: vec![0] })
    }

    /// Line of a byte, counted from 1.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= byte)
    }

    /// Column of a byte in characters, counted from 1.
    fn column(&self, byte: usize) -> usize {
        let start = self.line_starts[self.line(byte) - 1];
        let before = &self.text.as_bytes()[start.min(self.text.len())..byte.min(self.text.len())];
        String::from_utf8_lossy(before).chars().count() + 1
    }

    /// Where a rule at this place was written, for the policy.
    pub(super) fn origin(&self, span: &Range<usize>) -> Origin {
        if self.is_flag {
            return Origin::Flag(format!("{} {}", self.name, self.text).into());
        }
        let line = u32::try_from(self.line(span.start)).unwrap_or(u32::MAX);
        Origin::File { path: self.name.clone(), line }
    }
}

/// A place in a source.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) source: Arc<Source>,
    pub(super) span: Range<usize>,
}

impl Mark {
    pub(super) fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        Self { source: source.clone(), span }
    }

    pub(super) fn origin(&self) -> Origin {
        self.source.origin(&self.span)
    }

    /// `file:line:column`, or the flag as typed.
    pub(super) fn location(&self) -> String {
        if self.source.is_flag {
            return self.origin().to_string();
        }
        let (line, column) = (self.source.line(self.span.start), self.source.column(self.span.start));
        format!("{}:{line}:{column}", self.source.name)
    }

    /// `file:line`, or the flag as typed.
    pub(super) fn line(&self) -> String {
        self.origin().to_string()
    }
}

impl Mark {
    /// The span cut to whole characters of its first line, so that a whole table is not underlined.
    pub(super) fn visible_span(&self) -> Range<usize> {
        let text = &self.source.text;
        let floor =
            |byte: usize| (0..=byte.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let start = floor(self.span.start);
        let end = floor(self.span.end).max(start);
        let line = text[start..end].find(['\n', '\r']).map_or(end, |newline| start + newline);
        start..line
    }
}
