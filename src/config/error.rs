//! What is wrong with a rules file, as one sentence and as a picture of its lines.

use std::fmt;
use std::path::Path;

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use super::source::Mark;

/// Why there is no policy. Displays as one sentence: where, what, and what to write instead.
#[derive(Debug, Clone)]
pub struct ConfigError(Box<Report>);

/// What `permfs check` finds odd about rules that hold. Displays as [`ConfigError`] does.
#[derive(Debug, Clone)]
pub struct Warning(Box<Report>);

#[derive(Debug, Clone)]
struct Report {
    what: String,
    next_step: String,
    /// Where: the place at fault first, then what it contradicts.
    marks: Vec<Mark>,
}

impl ConfigError {
    pub(super) fn new(mark: Mark, what: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self(Box::new(Report { what: what.into(), next_step: next_step.into(), marks: vec![mark] }))
    }

    /// Without a place: the file cannot be read, or the command line names nothing.
    pub(super) fn unplaced(what: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self(Box::new(Report { what: what.into(), next_step: next_step.into(), marks: Vec::new() }))
    }

    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let what = format!("cannot read the rules file {}: {error}", path.display());
        Self::unplaced(what, "name one with --config that this user may read")
    }

    /// The same, pointing also at what is contradicted.
    pub(super) fn against(mut self, other: Mark) -> Self {
        self.0.marks.push(other);
        self
    }

    /// Where to sort it among others of the same file.
    pub(super) fn offset(&self) -> usize {
        self.0.marks.first().map_or(0, |mark| mark.span.start)
    }

    /// What is wrong, without where and what to do.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// What to write instead.
    #[must_use]
    pub fn next_step(&self) -> &str {
        &self.0.next_step
    }

    /// The line at fault, counted from 1; none where no line is.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        let mark = self.0.marks.first().filter(|mark| !mark.source.is_flag)?;
        Some(mark.source.line(mark.span.start))
    }

    /// The sentence with the lines it is about, for a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        self.0.render(Level::ERROR, colour)
    }
}

impl Warning {
    pub(super) fn new(mark: Mark, what: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self(ConfigError::new(mark, what, next_step).0)
    }

    /// The sentence with the lines it is about, for a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        self.0.render(Level::WARNING, colour)
    }
}

impl Report {
    fn render(&self, level: Level<'_>, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let title = printable(&self.what);
        let mut group = level.primary_title(title.as_str()).elements(self.snippets());
        if !self.next_step.is_empty() {
            group = group.element(Level::HELP.message(printable(&self.next_step)));
        }
        renderer.render(&[group])
    }

    /// The marked lines, one snippet for each source.
    fn snippets(&self) -> Vec<Snippet<'_, Annotation<'_>>> {
        let mut snippets: Vec<(&Mark, Vec<Annotation<'_>>)> = Vec::new();
        for (at, mark) in self.marks.iter().enumerate() {
            let label = if at == 0 { "here" } else { "and here" };
            let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let label = (self.marks.len() > 1).then_some(label);
            let annotation = kind.span(mark.visible_span()).label(label);
            let same_source =
                |(first, _): &&mut (&Mark, _)| std::sync::Arc::ptr_eq(&first.source, &mark.source);
            match snippets.iter_mut().find(same_source) {
                Some((_, annotations)) => annotations.push(annotation),
                None => snippets.push((mark, vec![annotation])),
            }
        }
        let snippet = |(mark, annotations): (&Mark, Vec<_>)| {
            Snippet::source(mark.source.text.clone())
                .path(mark.source.name.to_string())
                .annotations(annotations)
        };
        snippets.into_iter().map(snippet).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mark) = self.marks.first() {
            write!(f, "{}: ", printable(&mark.location()))?;
        }
        f.write_str(&printable(&self.what))?;
        for other in self.marks.iter().skip(1) {
            write!(f, ", see {}", printable(&other.line()))?;
        }
        if !self.next_step.is_empty() {
            write!(f, ": {}", printable(&self.next_step))?;
        }
        Ok(())
    }
}

/// Text with each control character replaced: keys, values and paths come from elsewhere, and may not move a terminal's cursor.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
