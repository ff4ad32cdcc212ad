//! A log file that cannot fill its filesystem: past its bound it becomes the `.old` one, and a new one begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::sys::credentials;

/// Bytes after which a new file begins. There are at most two: /run is memory.
const MAX_LOG_FILE: u64 = 1 << 20;

/// Opened for each line: the processes of one mount write to the same file, and share one table of descriptors, in which
/// what one closes is closed for all.
pub(super) struct LogFile {
    path: PathBuf,
}

impl LogFile {
    /// Made at the first line.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The thread that has something to say may be a pod's user at that moment, to whom the log is closed.
    fn file(&self) -> io::Result<File> {
        credentials::as_permfs(|| self.open())?
    }

    fn open(&self) -> io::Result<File> {
        if fs::metadata(&self.path).is_ok_and(|found| found.len() >= MAX_LOG_FILE) {
            fs::rename(&self.path, self.path.with_extension("old"))?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.file()?.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::unistd::{Gid, Uid};

    use super::*;
    use crate::sys::capabilities::{self, Capabilities};

    #[test]
    fn who_acts_for_a_pod_can_say_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::new(path.clone());
        // A thread of its own, since it does not become root again.
        let pod = || {
            credentials::assume(Uid::from_raw(2001), Gid::from_raw(2001), std::iter::empty()).unwrap();
            capabilities::raise_for_now(Capabilities::DAC_READ_SEARCH).unwrap();
            log.write_all(b"one\n").unwrap();
            let reads = fs::read_to_string(&path);
            capabilities::lower_for_now(Capabilities::DAC_READ_SEARCH).unwrap();
            let refused = fs::read_to_string(&path).unwrap_err();
            log.write_all(b"two\n").unwrap();
            (reads.unwrap(), refused.kind())
        };
        let said = std::thread::scope(|scope| scope.spawn(pod).join().unwrap());
        assert_eq!(said, ("one\n".to_owned(), io::ErrorKind::PermissionDenied));
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
    }

    #[test]
    fn two_files_of_bounded_size_are_all_that_a_log_takes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(dir.path().join("log"));
        let line = vec![b'x'; 1 << 16];
        for _ in 0..100 {
            log.write_all(&line).unwrap();
        }
        let sizes: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|&size| size <= MAX_LOG_FILE + 65_536), "{sizes:?}");
    }
}
