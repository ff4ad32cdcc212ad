//! Outside: boots the machine that `tests/nfs/vm` is, slows its link down, and runs this program in it with the same
//! arguments. It sees the project's folder and the folders that it is to write to.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::options::Options;
use super::run;

/// Seconds that all of it may take.
const TIME_LIMIT: &str = "1800";
/// Slows down what goes to the server, then becomes the program: a delay one way is as much on every round trip.
const WITH_DELAY: &str = "modprobe sch_netem && tc qdisc add dev cli0 root netem delay 300us && exec \"$@\"";

/// Runs the same command line inside, and ends as it does.
///
/// # Errors
/// A sentence, where it does not come to that.
pub fn run_inside(options: &Options) -> Result<ExitCode, String> {
    // User-mode Linux has one CPU and several processes: where these are on several of ours, waking each other is most of the time.
    run::pin()?;
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let target = Path::new(env!("CARGO_BIN_EXE_permfs")).parent().ok_or("the binary lies in no folder")?;
    let mut command = Command::new(project.join("tests/nfs/vm"));
    command.current_dir(project).args(["--timeout", TIME_LIMIT, "--vers", "4.2"]);
    // The machine hides this one's /tmp and /run, and a target folder may lie there.
    command.arg("--through").arg(target);
    for file in [&options.json, &options.svg].into_iter().flatten() {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        command.arg("--through").arg(folder);
    }
    command.args(["--", "env"]);
    if let Some(binary) = env::var_os("PERMFS_TEST_BINARY") {
        command.arg(format!("PERMFS_TEST_BINARY={}", binary.display()));
    }
    command.args(["sh", "-c", WITH_DELAY, "sh"]).arg(program).args(env::args().skip(1)).arg("--inside");
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("tests/nfs/vm: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
