//! The `permfs` command: see [`permfs::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    permfs::cli::main()
}
