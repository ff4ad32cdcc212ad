//! One profile as it was written: the policy's words for it, and where each part stands.

use std::collections::HashMap;
use std::ops::Range;

use super::error::ConfigError;
use super::source::Mark;
use crate::policy::conflict::{Conflict, Part};
use crate::policy::{Policy, Profile};

/// A profile that was read, but not checked as a whole yet.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) profile: Profile,
    /// Who may use it; none: everyone.
    pub(super) namespaces: Option<Vec<String>>,
    /// Where the profile begins.
    pub(super) header: Mark,
    /// Where its parts stand, as far as they were written.
    pub(super) marks: HashMap<Part, Mark>,
    /// Where `allow_root = true` stands.
    pub(super) allow_root: Option<Mark>,
    /// Where `namespaces` stands.
    pub(super) namespaces_mark: Option<Mark>,
}

impl Draft {
    pub(super) fn new(name: &str, header: Mark) -> Self {
        Self {
            profile: Profile::new(name),
            namespaces: None,
            header,
            marks: HashMap::new(),
            allow_root: None,
            namespaces_mark: None,
        }
    }

    /// Where a part stands; the profile's beginning for a default.
    pub(super) fn mark(&self, part: Part) -> Mark {
        self.marks.get(&part).unwrap_or(&self.header).clone()
    }

    pub(super) fn place(&mut self, part: Part, span: Option<Range<usize>>) {
        if let Some(span) = span {
            self.marks.insert(part, Mark::new(&self.header.source, span));
        }
    }

    /// The policy, or all that forbids it, in the order of the file.
    pub(super) fn compile(&self) -> Result<Policy, Vec<ConfigError>> {
        self.profile.clone().build().map_err(|conflicts| {
            let mut errors: Vec<_> = conflicts.iter().map(|conflict| self.explain(conflict)).collect();
            errors.sort_by_key(ConfigError::offset);
            errors
        })
    }

    fn explain(&self, conflict: &Conflict) -> ConfigError {
        let error = ConfigError::new(self.mark(conflict.at), conflict.what(), conflict.next_step());
        // A default has no line of its own to point at.
        match conflict.with.and_then(|part| self.marks.get(&part)) {
            Some(other) => error.against(other.clone()),
            None => error,
        }
    }
}
