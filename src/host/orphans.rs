//! Where the host is the first process of its container, daemons that end are its to bury (wait(2)): their parents, the
//! `permfs mount` commands, have gone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(10);

/// The children that somebody waits for. Held while one is made, so that none is buried before it is known.
static AWAITED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A child that is waited for by whoever has this.
#[derive(Debug)]
pub(super) struct Awaited(Child);

/// Starts a command.
pub(super) fn spawn(command: &mut Command) -> io::Result<Awaited> {
    let mut awaited = AWAITED.lock().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn()?;
    awaited.insert(child.id());
    Ok(Awaited(child))
}

impl Awaited {
    /// See [`Child::try_wait`].
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// See [`Child::kill`].
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.0.kill()
    }

    /// See [`Child::wait`].
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        AWAITED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0.id());
    }
}

/// Buries orphans from now on, where they come to this process.
pub(super) fn bury() {
    if std::process::id() != 1 {
        return;
    }
    let bury = || loop {
        thread::sleep(INTERVAL);
        let awaited = AWAITED.lock().unwrap_or_else(PoisonError::into_inner);
        // Others (mount.nfs) are waited for by whoever started them.
        for pid in children().into_iter().filter(|pid| !awaited.contains(pid) && is_ours(*pid)) {
            if let Ok(pid) = i32::try_from(pid) {
                let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
            }
        }
    };
    // Without the thread the dead stay listed, which hurts nobody.
    let _ = thread::Builder::new().name("orphans".to_owned()).spawn(bury);
}

/// Whether a process runs, or ran, this program.
fn is_ours(pid: u32) -> bool {
    let command = |pid: &str| fs::read(format!("/proc/{pid}/comm")).ok();
    command("self").is_some_and(|own| command(&pid.to_string()) == Some(own))
}

/// The children of all of this process's threads (proc_pid_task(5)).
fn children() -> Vec<u32> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_listed_and_awaited_until_it_is_dropped() {
        let mut child = spawn(Command::new("sleep").arg("60")).unwrap();
        let pid = child.0.id();
        assert!(children().contains(&pid));
        assert!(AWAITED.lock().unwrap().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(child);
        assert!(!AWAITED.lock().unwrap().contains(&pid));
    }
}
