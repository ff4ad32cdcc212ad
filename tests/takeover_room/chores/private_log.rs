//! A log with one writer, held open for appending: each line is there, in order, whenever it is looked at.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::super::desk::Desk;
use super::super::journal::Outcome;
use super::Chore;
use super::shared_log::{line, verify_lines};

/// So many lines until a new log is begun.
const LINES: u64 = 300;
/// Private logs' writers are numbered from here.
const WRITER: u64 = 1000;

pub struct PrivateLog {
    directory: PathBuf,
    file: Option<File>,
    /// The number of the log's first line, and how many there are.
    first: u64,
    written: u64,
}

impl PrivateLog {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, file: None, first: 0, written: 0 }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn verify(&self, desk: &Desk) -> Outcome {
        let path = self.path();
        let text = desk.journal.must("read the log", &path, || fs::read(&path))?;
        let writers = [(WRITER + desk.number, self.first, self.written)];
        verify_lines(&desk.journal, &path, &text, desk.seed, &writers)
    }
}

impl Chore for PrivateLog {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        let path = self.path();
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.append(true).create_new(true).mode(0o664);
            self.file = Some(desk.journal.must("open for appending", &path, || options.open(&path))?);
        }
        let file = self.file.as_ref().expect("it has just been opened");
        let next = line(desk.seed, WRITER + desk.number, self.first + self.written);
        desk.write(file, &path, &next)?;
        self.written += 1;
        if desk.dice.once_in(8) {
            desk.sync(file, &path)?;
        }
        if desk.dice.once_in(40) {
            self.verify(desk)?;
        }
        if self.written == LINES { self.finish(desk) } else { Ok(()) }
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        let Some(file) = self.file.take() else { return Ok(()) };
        desk.close(file, &self.path())?;
        self.verify(desk)?;
        (self.first, self.written) = (self.first + self.written, 0);
        desk.remove(&self.path())
    }
}
