//! What is wrong with a rules file, said so that the admin can mend it: the sentence, the place, what to write instead.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A rules file's name and text, for quoting it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) text: Arc<str>,
}

impl Source {
    /// Line and column of a byte, both counted from 1; the column in characters.
    pub(super) fn line_column(&self, at: usize) -> (u32, usize) {
        let before = &self.text[..self.text.floor_char_boundary(at.min(self.text.len()))];
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), column)
    }
}

/// A place in the file, and what to say of it.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) span: Range<usize>,
    pub(super) label: String,
}

/// Something wrong, before it is known in which file.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    /// One sentence in lower case, with the bad value.
    pub(super) message: String,
    /// The next step.
    pub(super) help: String,
    /// The first is where it is wrong; the others are what it is at odds with.
    pub(super) marks: Vec<Mark>,
}

impl Problem {
    pub(super) fn new(span: &Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        let mark = Mark { span: span.clone(), label: String::new() };
        Self { message: message.into(), help: help.into(), marks: vec![mark] }
    }

    /// Labels the place itself.
    pub(super) fn here(mut self, label: impl Into<String>) -> Self {
        if let Some(first) = self.marks.first_mut() {
            first.label = label.into();
        }
        self
    }

    /// Points at a second place.
    pub(super) fn also(mut self, span: &Range<usize>, label: impl Into<String>) -> Self {
        self.marks.push(Mark { span: span.clone(), label: label.into() });
        self
    }

    pub(super) fn in_file(self, source: &Source) -> ConfigError {
        ConfigError(Finding { source: source.clone(), problem: self })
    }
}

/// Why a rules file, or a rule on the command line, is refused.
#[derive(Debug, Clone)]
pub struct ConfigError(Finding);

/// What looks like a mistake in a rules file that holds all the same.
#[derive(Debug, Clone)]
pub struct Warning(Finding);

#[derive(Debug, Clone)]
struct Finding {
    source: Source,
    problem: Problem,
}

impl Finding {
    fn sentence(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source.name)?;
        if !self.source.text.is_empty()
            && let Some(mark) = self.problem.marks.first()
        {
            let (line, column) = self.source.line_column(mark.span.start);
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.problem.message)?;
        for mark in self.problem.marks.iter().skip(1).filter(|_| !self.source.text.is_empty()) {
            let (line, _) = self.source.line_column(mark.span.start);
            write!(f, " ({} at {}:{line})", mark.label, self.source.name)?;
        }
        if self.problem.help.is_empty() { Ok(()) } else { write!(f, "; {}", self.problem.help) }
    }

    fn render(&self, level: Level<'static>, colour: bool) -> String {
        let mut group: Group<'_> = Group::with_title(level.primary_title(self.problem.message.as_str()));
        if !self.source.text.is_empty() {
            let mut snippet = Snippet::source(&*self.source.text).path(&*self.source.name);
            for (at, mark) in self.problem.marks.iter().enumerate() {
                let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                let end = mark.span.end.min(self.source.text.len());
                snippet =
                    snippet.annotation(kind.span(mark.span.start.min(end)..end).label(mark.label.as_str()));
            }
            group = group.element(snippet);
        }
        if !self.problem.help.is_empty() {
            group = group.element(Level::HELP.message(self.problem.help.as_str()));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group]).to_string()
    }
}

impl ConfigError {
    /// An error of a file that could not even be read.
    pub(super) fn unreadable(name: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        let problem = Problem { message: message.into(), help: help.into(), marks: Vec::new() };
        problem.in_file(&Source { name: name.into(), text: "".into() })
    }

    /// The error with the lines of the file it is about.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        self.0.render(Level::ERROR, colour)
    }
}

impl Warning {
    pub(super) fn new(source: &Source, problem: Problem) -> Self {
        Self(Finding { source: source.clone(), problem })
    }

    /// The warning with the lines of the file it is about.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        self.0.render(Level::WARNING, colour)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.sentence(f)
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.sentence(f)
    }
}
