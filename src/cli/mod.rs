//! How people reach permfs: one file per subcommand. Wiring only: what a subcommand does is done in the room it names.
//!
//! Exit codes are public (CONTRACT): 0 done, 1 failed, 2 usage or config error, `explain` 3 for denied; as `mount.permfs`
//! those of mount(8).

mod bench;
mod check;
mod completions;
mod csi;
mod demo;
mod explain;
mod failure;
mod helper;
mod host;
mod man;
mod mount;
mod mount_options;
mod output;
mod reload;
mod resume;
mod rules;
mod status;
mod take_over;
mod unmount;
mod upgrade;
mod values;

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::telemetry::{self, LogFormat};
use failure::Failure;

/// What every subcommand ends with: its exit code, or the sentence to print.
type Outcome = Result<ExitCode, Failure>;

/// The name under which the binary is a mount(8) helper.
const HELPER_NAME: &str = "mount.permfs";

/// A permission-mapping filesystem: pods keep their ids, the NFS export keeps its own.
///
/// A pod runs as 50000:0, the export belongs to 2001:2001, the server keeps root_squash. permfs mounts the export for the
/// pod with ids translated, and does at the server only what the translated user may do.
#[derive(Debug, Parser)]
#[command(name = "permfs", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Try it: `permfs demo` needs no NFS and no configuration.")]
struct Cli {
    /// The least important lines to log.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    log_level: LevelArg,
    /// How log lines look.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: FormatArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mount(mount::Mount),
    Unmount(unmount::Unmount),
    Check(check::Check),
    Explain(explain::Explain),
    Status(status::Status),
    Reload(reload::Reload),
    Upgrade(upgrade::Upgrade),
    #[command(hide = true)]
    Resume(resume::Resume),
    #[command(hide = true)]
    TakeOver(take_over::TakeOver),
    Bench(bench::Bench),
    Demo(demo::Demo),
    Csi(csi::Csi),
    Host(host::Host),
    Completions(completions::Completions),
    Man(man::Man),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelArg {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    Text,
    Json,
}

/// Parses, starts logging, runs, says what went wrong.
pub fn main() -> ExitCode {
    let called = env::args_os().next().unwrap_or_default();
    if Path::new(&called).file_name() == Some(OsStr::new(HELPER_NAME)) {
        return helper::main();
    }
    let cli = Cli::parse();
    telemetry::init(cli.log_level.into(), cli.log_format.into());
    let outcome = match cli.command {
        Command::Mount(command) => command.run(),
        Command::Unmount(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Reload(command) => command.run(),
        Command::Upgrade(command) => command.run(),
        Command::Resume(command) => command.run(),
        Command::TakeOver(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Demo(command) => command.run(),
        Command::Csi(command) => command.run(),
        Command::Host(command) => command.run(),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    outcome.unwrap_or_else(|failure| {
        failure.print();
        ExitCode::from(failure.code())
    })
}

impl From<LevelArg> for tracing::Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Error => Self::ERROR,
            LevelArg::Warn => Self::WARN,
            LevelArg::Info => Self::INFO,
            LevelArg::Debug => Self::DEBUG,
            LevelArg::Trace => Self::TRACE,
        }
    }
}

impl From<FormatArg> for LogFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Json => Self::Json,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
