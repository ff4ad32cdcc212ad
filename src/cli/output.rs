//! Printing for people and for machines: colour only on a terminal and without NO_COLOR, and a closed pipe is no error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::Outcome;
use super::failure::Failure;
use crate::config::printable;
pub(super) use crate::sys::stderr::say;

/// Whether to colour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    colour: bool,
}

impl Style {
    /// For standard output.
    pub(super) fn of_stdout() -> Self {
        Self { colour: io::stdout().is_terminal() && wanted() }
    }

    /// For standard error.
    pub(super) fn of_stderr() -> Self {
        Self { colour: io::stderr().is_terminal() && wanted() }
    }

    pub(super) fn is_coloured(self) -> bool {
        self.colour
    }

    pub(super) fn bold(self, text: impl Display) -> String {
        self.sgr("1", text)
    }

    pub(super) fn dim(self, text: impl Display) -> String {
        self.sgr("2", text)
    }

    pub(super) fn good(self, text: impl Display) -> String {
        self.sgr("32", text)
    }

    pub(super) fn bad(self, text: impl Display) -> String {
        self.sgr("31", text)
    }

    fn sgr(self, code: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// See <https://no-color.org>: present and not empty.
fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints text; a reader that has gone away (`| head`) is not an error.
pub(super) fn print(text: impl Display) -> Outcome {
    match write!(io::stdout().lock(), "{text}").and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A path as a terminal may have it.
pub(super) fn path(path: &Path) -> String {
    printable(&path.display().to_string())
}

/// Prints JSON.
pub(super) fn print_json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed(format!("cannot write this as JSON: {error}")))?;
    print(format_args!("{text}\n"))
}

/// One sentence on standard error.
pub(super) fn error(sentence: &str) {
    say(format_args!("{} {sentence}", Style::of_stderr().bold("permfs:")));
}
