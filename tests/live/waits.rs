//! Waiting for what comes by itself, on a machine that may be busy with something else.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take that takes a moment where nobody else is at work. A unit of systemd may
/// take a minute and a half to start, and a mount that was not taken over is tried again after half a minute.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Where the kernel waits for the answer to a FUSE request.
pub const IN_A_REQUEST: &str = "request_wait_answer";

/// Whether a thread of the process waits in this function of the kernel's (proc_pid_stack(5)).
pub fn waits_in(process: u32, function: &str) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    let stack = |task: fs::DirEntry| fs::read_to_string(task.path().join("stack")).unwrap_or_default();
    tasks.flatten().any(|task| stack(task).contains(function))
}
