//! Outside: boots a machine for each way an export is commonly served, and runs this program in it.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;

use super::csi_room::sanity;
use super::runner::Scenario;

/// How many machines run at once. Each is one process that uses one core.
const AT_ONCE: usize = 2;
/// The longest that one machine may run, in seconds: several times what the slowest takes where two have two CPUs for themselves.
const TIME_LIMIT: &str = "2400";

/// How the export is served and mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    pub version: Version,
    /// The server looks up a user's groups itself and ignores those that the client sends. Debian's default.
    pub manage_gids: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V3,
    V4_2,
}

impl Version {
    /// What `vers=` takes.
    pub const fn option(self) -> &'static str {
        match self {
            Self::V3 => "3",
            Self::V4_2 => "4.2",
        }
    }
}

impl Variant {
    const ALL: [Self; 4] = [
        Self { version: Version::V3, manage_gids: false },
        Self { version: Version::V4_2, manage_gids: false },
        Self { version: Version::V3, manage_gids: true },
        Self { version: Version::V4_2, manage_gids: true },
    ];

    pub fn named(name: &str) -> Self {
        *Self::ALL.iter().find(|variant| variant.to_string() == name).expect("a variant's name")
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = if self.manage_gids { "manage-gids" } else { "client-gids" };
        write!(f, "nfs{}-{groups}", self.version.option())
    }
}

/// Runs the scenarios that `words` name on all variants that have one.
pub fn run_everywhere(scenarios: impl Iterator<Item = Scenario>, words: &[String]) -> ExitCode {
    let scenarios: Vec<_> = scenarios.collect();
    let wanted = |variant: &Variant| scenarios.iter().any(|one| one.is_meant_by(*variant, words));
    let queue = Mutex::new(Variant::ALL.into_iter().filter(wanted).collect::<Vec<_>>().into_iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                // In its own block, so that the lock is not held while the machine runs.
                while let Some(variant) = { queue.lock().unwrap().next() } {
                    if let Err(why) = run_on(variant, words) {
                        failures.lock().unwrap().push(format!("{variant}: {why}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    failures.iter().for_each(|failure| eprintln!("{failure}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Boots one machine, passes on what it prints, line by line, and tells how it ended.
fn run_on(variant: Variant, words: &[String]) -> Result<(), String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = Path::new(env!("CARGO_BIN_EXE_permfs")).parent().expect("the binary lies in a folder");
    let mut command = Command::new(project.join("tests/nfs/vm"));
    command.current_dir(project).args(["--timeout", TIME_LIMIT, "--vers", variant.version.option()]);
    if variant.manage_gids {
        command.arg("--manage-gids");
    }
    if let Some(kernel) = std::env::var_os("PERMFS_NFS_KERNEL") {
        command.arg("--kernel").arg(kernel);
    }
    // The machine hides this one's /tmp and /run, and a target folder may lie there.
    command.arg("--through").arg(target);
    command.arg("--logs").arg(target.join("real-nfs-logs").join(variant.to_string()));
    command.arg("--").arg("env");
    if let Some(binary) = std::env::var_os("PERMFS_TEST_BINARY") {
        // See `live::mount::permfs`.
        command.arg(format!("PERMFS_TEST_BINARY={}", binary.display()));
    }
    if let Some(program) = &csi_sanity(target, variant)? {
        command.arg(format!("{}={}", sanity::VARIABLE, program.display()));
    }
    command.arg(program).arg("--inside").arg(variant.to_string()).args(words);
    let mut machine =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    for line in BufReader::new(machine.stdout.take().expect("it is piped")).split(b'\n') {
        println!("{}", String::from_utf8_lossy(&line.map_err(|error| error.to_string())?));
    }
    let status = machine.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{status}")) }
}

/// csi-sanity, where it is named: copied to a folder that the machine has.
fn csi_sanity(target: &Path, variant: Variant) -> Result<Option<PathBuf>, String> {
    let Some(program) = sanity::program() else { return Ok(None) };
    let place = target.join(format!("csi-sanity-{variant}"));
    fs::copy(&program, &place).map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(Some(place))
}
