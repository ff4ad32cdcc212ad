//! Inside the machine: runs scenarios one after the other and says how each one ended.
//!
//! A scenario is a function that panics where something is not as it should be. It runs in a process of its own, so that
//! its mounts, umask and file table are its own, and so that it can be ended when it hangs.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::machine::Variant;
use super::stage::Stage;

/// The longest that a scenario may take. The slowest, twenty kills, takes 105 s on a machine with nothing else to do.
const TIME_LIMIT: Duration = Duration::from_secs(600);
/// The exit status of a scenario that has nothing to do on its variant; its reason is the last line of what it says.
const LEFT_OUT: u8 = 77;
/// How much of a failed scenario's output is shown.
const OUTPUT_SHOWN: usize = 6_000;

/// Something that a user or admin relies on.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// A sentence, after the subject it belongs to.
    pub name: &'static str,
    pub run: fn(&Stage),
}

impl Scenario {
    /// Whether this scenario, on that variant, is one of those that `words` name.
    pub fn is_meant_by(&self, variant: Variant, words: &[String]) -> bool {
        let full = format!("{variant} {}", self.name);
        words.iter().all(|word| full.contains(word.as_str()))
    }
}

/// How a scenario ended.
enum Ended {
    Passed,
    /// It does not run on this variant, because of this.
    LeftOut(String),
    Failed(String),
}

/// Runs all that `words` name. At the end it says how many passed, failed, and were left out, and once more which failed and why:
/// two machines talk at once, and whoever reads only the end of it shall find it there.
pub fn run_all(variant: Variant, scenarios: impl Iterator<Item = Scenario>, words: &[String]) -> ExitCode {
    let (mut passed, mut left_out, mut failures) = (0, 0, Vec::new());
    for scenario in scenarios.filter(|scenario| scenario.is_meant_by(variant, words)) {
        let begin = Instant::now();
        let ended = run_apart(variant, scenario);
        let seconds = begin.elapsed().as_secs_f32();
        let says = |verdict: &str| println!("{variant} {} ... {verdict} ({seconds:.1} s)", scenario.name);
        match ended {
            Ended::Passed => {
                says("ok");
                passed += 1;
            }
            Ended::LeftOut(why) => {
                says(&format!("left out: {why}"));
                left_out += 1;
            }
            Ended::Failed(why) => {
                says("FAILED");
                println!("{}", why.trim_end());
                failures.push((scenario.name, why));
            }
        }
    }
    println!("{variant}: {passed} passed, {} failed, {left_out} left out", failures.len());
    for (name, why) in &failures {
        println!("{variant} {name} FAILED\n{}", why.trim_end());
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The other side of [`run_apart`]. A panic makes the exit status.
pub fn run_one(variant: Variant, mut scenarios: impl Iterator<Item = Scenario>, name: &str) -> ExitCode {
    let scenario = scenarios.find(|scenario| scenario.name == name).expect("a scenario's name");
    let stage = Stage::new(variant);
    (scenario.run)(&stage);
    match stage.left_out() {
        None => ExitCode::SUCCESS,
        Some(why) => {
            println!("{why}");
            ExitCode::from(LEFT_OUT)
        }
    }
}

fn run_apart(variant: Variant, scenario: Scenario) -> Ended {
    // A file, because daemons that the scenario starts may keep it open.
    let mut output = tempfile::tempfile().unwrap();
    let status = run_limited(
        Command::new(std::env::current_exe().unwrap())
            .args(["--scenario", &variant.to_string(), scenario.name])
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output.try_clone().unwrap()),
    );
    match status {
        Some(status) if status.success() => Ended::Passed,
        Some(status) if status.code() == Some(LEFT_OUT.into()) => {
            Ended::LeftOut(last_of(&mut output).lines().last().unwrap_or_default().to_owned())
        }
        Some(status) => Ended::Failed(format!("{}({status})", last_of(&mut output))),
        None => {
            Ended::Failed(format!("{}(still running after {} s)", last_of(&mut output), TIME_LIMIT.as_secs()))
        }
    }
}

/// None where it was still running at the limit; then it and its children are killed.
#[expect(
    clippy::zombie_processes,
    reason = "what hangs in the NFS client may not die before the machine does"
)]
fn run_limited(command: &mut Command) -> Option<ExitStatus> {
    let mut child = command.process_group(0).spawn().unwrap();
    let end = Instant::now() + TIME_LIMIT;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = killpg(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL);
    None
}

fn last_of(output: &mut File) -> String {
    let mut bytes = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(OUTPUT_SHOWN)..]).into_owned()
}
