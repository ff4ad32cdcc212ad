//! Logging: to standard error for whoever watches, to a bounded file for a mount in the background.
//!
//! Counters are kept where they are counted (`fuse/`, `fs/`) and told by the control socket.

mod log_file;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use log_file::LogFile;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Where log lines go: changed when a mount goes into the background.
static DESTINATION: Mutex<Destination> = Mutex::new(Destination::Stderr);

enum Destination {
    Stderr,
    File(LogFile),
}

/// What is logged, and how: as the command line said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    level: String,
    format: LogFormat,
}

impl Logging {
    /// The arguments of a command line that say the same.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let format = match self.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        ["--log-level", &self.level, "--log-format", format].map(str::to_owned).to_vec()
    }
}

/// As it was begun.
#[must_use]
pub fn logging() -> Logging {
    let begun = BEGUN.get().copied();
    let (level, format) = begun.unwrap_or((Level::INFO, LogFormat::default()));
    Logging { level: level.to_string().to_lowercase(), format }
}

static BEGUN: OnceLock<(Level, LogFormat)> = OnceLock::new();

/// Starts logging to standard error, and logs panics as errors. Without effect the second time.
pub fn init(level: Level, format: LogFormat) {
    // The first time counts.
    let _ = BEGUN.set((level, format));
    // Else a line that cannot be written is told by eprintln!, which panics where that is standard error.
    let lines = tracing_subscriber::fmt().log_internal_errors(false);
    // tracing's own target is the module. A field of ours has that name: where it is mounted.
    let lines = lines.with_max_level(level).with_writer(ToDestination).with_ansi(false).with_target(false);
    // Somebody else's subscriber (a test's) stays.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a bug in permfs")));
}

/// From now on lines go to this file.
pub fn write_to_file(path: PathBuf) {
    let file = Destination::File(LogFile::new(path));
    *DESTINATION.lock().unwrap_or_else(PoisonError::into_inner) = file;
}

#[derive(Debug, Clone, Copy)]
struct ToDestination;

impl MakeWriter<'_> for ToDestination {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl Write for ToDestination {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *DESTINATION.lock().unwrap_or_else(PoisonError::into_inner) {
            Destination::Stderr => io::stderr().write(line),
            Destination::File(file) => file.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
