//! What /proc tells about a process.

use std::fs::File;
use std::io::Read;

use super::Pid;
use crate::policy::PodGid;

/// Bytes that a status file rarely exceeds; each group more than a few takes six or so.
const USUAL_LENGTH: usize = 4096;

/// The supplementary groups of a thread, from the `Groups:` line of its status file (proc_pid_status(5)). None where it
/// cannot be read: the process is gone, or in no pid namespace that this one sees.
pub(super) fn groups(pid: Pid) -> Option<Vec<PodGid>> {
    if pid.0 == 0 {
        return None;
    }
    let mut file = File::open(format!("/proc/{}/status", pid.0)).ok()?;
    // A file in /proc does not tell its length, and without room std reads it by pieces of 32 bytes, then of more.
    let mut status = Vec::with_capacity(USUAL_LENGTH);
    file.read_to_end(&mut status).ok()?;
    parse_groups(&status)
}

/// A process may call itself what it likes, so the file is not UTF-8; but its name cannot hold a newline (proc(5)
/// escapes it), and so cannot forge a line.
fn parse_groups(status: &[u8]) -> Option<Vec<PodGid>> {
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Groups:"))?;
    let text = std::str::from_utf8(line).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|word| PodGid::new(word.parse().ok()?)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_line_is_read_and_a_name_cannot_forge_it() {
        let status = b"Name:\tGroups:\\n\xff\nUid:\t0\nGroups:\t4 24 27 4294967295 \nNSpid:\t1\n";
        let expected: Vec<_> = [4, 24, 27].into_iter().filter_map(PodGid::new).collect();
        assert_eq!(parse_groups(status), Some(expected));
        assert_eq!(parse_groups(b"Name:\tx\n"), None);
        assert_eq!(parse_groups(b"Groups:\t \n"), Some(vec![]));
    }

    #[test]
    fn this_thread_has_the_groups_that_the_kernel_says() {
        let mine = Pid(std::process::id());
        let expected: Vec<_> = nix::unistd::getgroups()
            .unwrap()
            .into_iter()
            .filter_map(|gid| PodGid::new(gid.as_raw()))
            .collect();
        assert_eq!(groups(mine), Some(expected));
        assert_eq!(groups(Pid(0)), None);
    }
}
