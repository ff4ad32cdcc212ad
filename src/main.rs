//! The `permfs` command: see [`permfs::cli`].

#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::process::ExitCode;

fn main() -> ExitCode {
    permfs::cli::main()
}
