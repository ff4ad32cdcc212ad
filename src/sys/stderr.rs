//! Standard error, whose reader may be gone: eprintln! would panic there, and end a process that serves.

use std::fmt::Display;
use std::io::{self, Write};

/// A line on standard error. Where it cannot be written nobody is told.
pub fn say(line: impl Display) {
    // One write, so that lines of several processes do not mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
