//! What a subcommand that fails says, and with which code it ends.

use super::output::{self, Style};
use super::reload;
use crate::config::{ConfigError, printable};
use crate::mount::{Complaint, MountFailure};

/// Something went wrong on the way.
const FAILED: u8 = 1;
/// The command line or the rules file is wrong.
const USAGE: u8 = 2;

/// A failed subcommand.
#[derive(Debug)]
pub(super) enum Failure {
    /// A sentence.
    Sentence { code: u8, text: String },
    /// Errors of a rules file, with the quoted lines.
    Config(Vec<ConfigError>),
    /// Rules that a running mount has refused.
    Rules(Vec<Complaint>),
    /// A mount or unmount that could not be.
    Mount(MountFailure),
}

impl Failure {
    /// Something went wrong on the way.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::Sentence { code: FAILED, text: text.into() }
    }

    /// The command line is wrong.
    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self::Sentence { code: USAGE, text: text.into() }
    }

    /// The process's exit code.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Sentence { code, .. } => *code,
            Self::Config(_) | Self::Rules(_) => USAGE,
            Self::Mount(_) => FAILED,
        }
    }

    /// Whether the fault lies in what was asked for: mount(8) knows the difference.
    pub(super) fn is_usage(&self) -> bool {
        match self {
            Self::Mount(failure) => failure.is_usage(),
            other => other.code() == USAGE,
        }
    }

    /// Says it on standard error.
    pub(super) fn print(&self) {
        match self {
            Self::Sentence { text, .. } => output::error(text),
            // mount.nfs may have said several lines.
            Self::Mount(failure) => {
                let said = failure.to_string();
                output::error(&said.lines().map(printable).collect::<Vec<_>>().join("\n"));
            }
            Self::Rules(complaints) => reload::complain(complaints),
            Self::Config(errors) => {
                let colour = Style::of_stderr().is_coloured();
                for error in errors {
                    if error.line().is_some() {
                        output::say(error.render(colour).trim_end());
                    } else {
                        output::error(&error.to_string());
                    }
                }
            }
        }
    }
}

impl From<MountFailure> for Failure {
    fn from(failure: MountFailure) -> Self {
        Self::Mount(failure)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(vec![error])
    }
}
