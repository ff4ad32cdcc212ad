//! A log file that cannot fill its filesystem: past its bound it becomes the `.old` one, and a new one begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

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

    fn file(&self) -> io::Result<File> {
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
    use super::*;

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
