//! Somebody who works in a directory as a pod would: by a shell with other ids and umask 022.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::failure::Failure;

/// Whose ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pod {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) succeeded: bool,
    pub(super) said: String,
}

impl Done {
    pub(super) fn expect_success(self, command: &str) -> Result<Self, Failure> {
        if self.succeeded {
            return Ok(self);
        }
        Err(Failure::failed(format!("the demo's `{command}` failed: {}", self.said.trim_end())))
    }
}

impl Pod {
    /// Runs a shell command in `dir`.
    pub(super) fn run(self, command: &str, dir: &Path) -> Result<Done, Failure> {
        let output = Command::new("/bin/sh")
            // The shell changes directory itself: this process may not be allowed to.
            .args(["-c", "umask 022 && cd -- \"$1\" && eval \"$2\"", "sh"])
            .arg(dir)
            .arg(command)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .current_dir("/")
            // Ctrl-C is for the demo alone, which then takes everything down in order.
            .process_group(0)
            .gid(self.gid)
            .uid(self.uid)
            .output()
            .map_err(|error| Failure::failed(format!("cannot run /bin/sh for the demo: {error}")))?;
        let said = if output.status.success() { output.stdout } else { output.stderr };
        Ok(Done { succeeded: output.status.success(), said: String::from_utf8_lossy(&said).into_owned() })
    }

    /// `ls -ln` of the names in `dir`: mode, owner, group and name of each.
    pub(super) fn list(self, names: &[&str], dir: &Path) -> Result<Vec<String>, Failure> {
        let command = format!("ls -lnd {}", names.join(" "));
        let said = self.run(&command, dir)?.expect_success(&command)?.said;
        Ok(said.lines().map(shorten).collect())
    }
}

/// Of `ls -ln`'s nine columns those that matter here.
fn shorten(line: &str) -> String {
    let columns: Vec<_> = line.split_whitespace().collect();
    let [mode, _links, uid, gid, _size, _month, _day, _time, name @ ..] = columns.as_slice() else {
        return line.to_owned();
    };
    format!("{mode:<10} {uid:>5} {gid:>4}  {}", name.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ls_the_columns_that_matter_are_kept() {
        let line = "drwxrwsr-x 2 2001 2001 4096 Nov 21 04:05 dags";
        assert_eq!(shorten(line), "drwxrwsr-x  2001 2001  dags");
    }
}
