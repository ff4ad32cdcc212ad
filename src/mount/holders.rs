//! Who uses a mount point, so that "busy" comes with a name. Reads /proc only: links there tell paths without a request
//! to the mount.

use std::fs;
use std::path::Path;

/// How many processes a sentence names.
const NAMED: usize = 3;

/// A process with something open below a mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: u32,
    /// Its command's name.
    pub command: String,
    /// What it holds: "works in" a directory, or "has open" a file.
    pub what: String,
}

/// The processes that hold something at or below `target`; where there are none, those that wait for the answer of a
/// FUSE mount: a path being looked up holds the mount too. Misses what /proc does not show: mapped files whose
/// descriptor is closed, processes of other pid namespaces.
#[must_use]
pub fn holders(target: &Path) -> Vec<Holder> {
    let holding = processes(|process| what_it_holds(process, target));
    if holding.is_empty() { processes(what_it_waits_for) } else { holding }
}

fn processes(what: impl Fn(&Path) -> Option<String>) -> Vec<Holder> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| holder(pid, &what)).collect()
}

fn holder(pid: u32, what: impl Fn(&Path) -> Option<String>) -> Option<Holder> {
    let process = Path::new("/proc").join(pid.to_string());
    let what = what(&process)?;
    let command = fs::read_to_string(process.join("comm")).unwrap_or_default().trim_end().to_owned();
    Some(Holder { pid, command, what })
}

fn what_it_holds(process: &Path, target: &Path) -> Option<String> {
    let below = |link: &Path| fs::read_link(link).ok().filter(|path| path.starts_with(target));
    for (link, verb) in [("cwd", "works in"), ("root", "has as its root"), ("exe", "runs")] {
        if let Some(path) = below(&process.join(link)) {
            return Some(format!("{verb} {}", path.display()));
        }
    }
    let descriptors = fs::read_dir(process.join("fd")).ok()?;
    let path = descriptors.filter_map(Result::ok).find_map(|fd| below(&fd.path()))?;
    Some(format!("has {} open", path.display()))
}

/// Not even a signal ends this wait (Linux, fs/fuse/dev.c: request_wait_answer), so it is worth telling.
fn what_it_waits_for(process: &Path) -> Option<String> {
    let place = fs::read_to_string(process.join("wchan")).ok()?;
    (place == "request_wait_answer").then(|| "waits for the answer of a FUSE mount".to_owned())
}

/// For a sentence: the first few, and how many more.
#[must_use]
pub fn sentence(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "something uses it that /proc does not show here (a mapped file, another container)"
            .to_owned();
    }
    let mut named: Vec<_> =
        holders.iter().take(NAMED).map(|h| format!("pid {} ({}) {}", h.pid, h.command, h.what)).collect();
    if holders.len() > NAMED {
        named.push(format!("and {} more", holders.len() - NAMED));
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_open_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        // Other mounts on this machine may keep somebody waiting.
        assert!(holders(&dir).iter().all(|holder| holder.what.starts_with("waits")));
        let _open = fs::File::create(dir.join("file")).unwrap();
        let found = holders(&dir);
        // Not necessarily the first: a child that another test has just forked has it open as well.
        let this = found.iter().find(|holder| holder.pid == std::process::id()).unwrap();
        assert!(this.what.ends_with("/file open"), "{found:?}");
    }

    #[test]
    fn a_sentence_names_three_and_counts_the_others() {
        let one = Holder { pid: 7, command: "sh".into(), what: "works in /m".into() };
        assert_eq!(sentence(std::slice::from_ref(&one)), "pid 7 (sh) works in /m");
        assert!(sentence(&vec![one; 5]).ends_with(", and 2 more"));
    }
}
