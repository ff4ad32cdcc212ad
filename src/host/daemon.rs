//! Starting a volume's daemon: this very binary as `permfs mount`, which returns when the mount answers and leaves its
//! daemon behind, a process of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::ledger::Entry;
use super::orphans;
use super::protocol::{Code, Order, Refusal};

/// How long a mount may take to answer, where the call has so much time.
const PATIENCE: Duration = Duration::from_secs(75);
const POLL: Duration = Duration::from_millis(10);
/// The longest of what `permfs mount` says that is passed on, in bytes.
const MAX_SAID: u64 = 4096;
/// The longest name of a volume in the mount table, in bytes. mount(2) refuses a source of a page or more.
const MAX_SOURCE: usize = 1024;

/// Starts it; it serves when this returns.
///
/// # Errors
/// What `permfs mount` says, or that it came to no end. Nothing is left mounted then.
pub(super) fn start(
    entry: &Entry,
    order: &Order,
    fs_group: Option<&str>,
    limit: Duration,
) -> Result<(), Refusal> {
    run(entry, arguments(entry, order, fs_group), limit.min(PATIENCE))
}

/// Has the mount on `target` go on by a daemon of this container; it serves when this returns.
///
/// # Errors
/// Why it goes on with the processes that it has.
pub(super) fn take_over(entry: &Entry, target: &Path) -> Result<(), Refusal> {
    run(entry, vec!["take-over".into(), target.into()], PATIENCE)
}

fn run(entry: &Entry, arguments: Vec<OsString>, limit: Duration) -> Result<(), Refusal> {
    let failed =
        |error: std::io::Error| Refusal::new(Code::Internal, format!("cannot start permfs: {error}"));
    let said = File::create(entry.said()).map_err(failed)?;
    // By its path it has its own name in lists of processes; by the link it is found when the file has been replaced.
    let program = std::env::current_exe().ok().filter(|path| path.exists());
    let mut command = Command::new(program.unwrap_or_else(|| "/proc/self/exe".into()));
    // The name decides what the binary is.
    command.arg0("permfs").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).current_dir("/");
    let mut child = orphans::spawn(&mut command).map_err(failed)?;
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if begin.elapsed() < limit => thread::sleep(POLL),
            None => {
                // The daemon finds that nobody waits for it any more, and takes itself down.
                let _ = child.kill();
                let _ = child.wait();
                let sentence = format!("the mount did not answer within {} s", limit.as_secs());
                return Err(Refusal::new(Code::DeadlineExceeded, sentence));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    if let Ok(file) = File::open(entry.said()) {
        let _ = file.take(MAX_SAID).read_to_end(&mut text);
    }
    let sentence = sentence(&String::from_utf8_lossy(&text))
        .unwrap_or_else(|| format!("the daemon ended with {status}"));
    let _ = fs::remove_file(entry.said());
    Err(Refusal::new(Code::FailedPrecondition, sentence))
}

fn arguments(entry: &Entry, order: &Order, fs_group: Option<&str>) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["mount".into()];
    let mut flag = |name: &str, value: OsString| words.extend([name.into(), value]);
    flag("--config", entry.rules().into());
    if let Some(profile) = &order.choice.profile {
        flag("--profile", profile.into());
    }
    for rule in &order.choice.map_uid {
        flag("--map-uid", rule.into());
    }
    for rule in &order.choice.map_gid {
        flag("--map-gid", rule.into());
    }
    if let Some(rule) = fs_group {
        flag("--fs-group", rule.into());
    }
    if order.read_only {
        flag("-o", "ro".into());
    }
    if order.no_exec {
        flag("-o", "noexec".into());
    }
    if let Some(context) = &order.context {
        // A list of options is split at commas, which a context has too.
        flag("-o", format!("context=\"{context}\"").into());
    }
    flag("-o", format!("fsname=\"{}\"", shown_source(order)).into());
    words.extend([entry.source().into(), order.target.clone().into()]);
    words
}

/// What people know the volume by: its share and directory, without what would end an option. Of a long one, the beginning.
fn shown_source(order: &Order) -> String {
    let slash = if order.directory.is_empty() { "" } else { "/" };
    let source = format!("{}{slash}{}", order.share, order.directory).replace("//", "/");
    let mut source: String = source.chars().filter(|&c| c != '"' && !c.is_control()).collect();
    if source.len() > MAX_SOURCE {
        source.truncate(source.floor_char_boundary(MAX_SOURCE));
        source.push_str("...");
    }
    source
}

/// The last line that is not a log line's beginning, without the program's name.
fn sentence(said: &str) -> Option<String> {
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let line = line.strip_prefix("permfs: ").unwrap_or(line);
    Some(line.strip_prefix("error: ").unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_line_without_the_programs_name() {
        assert_eq!(sentence("WARN x\npermfs: cannot open /dev/fuse\n\n").unwrap(), "cannot open /dev/fuse");
        assert_eq!(sentence("\n"), None);
    }
}
