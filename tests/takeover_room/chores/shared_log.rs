//! A log that all workers append to, each line by one write(2) to a file opened with O_APPEND. At the end each line is
//! there exactly once, each worker's lines are in their order, and none is torn.
//!
//! A log is closed when every worker has written its share; the share that it wrote it leaves in a file beside it. The
//! first worker then verifies and removes the log, so that a load of any length takes the same room.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::desk::Desk;
use super::super::dice::Dice;
use super::super::journal::{Journal, Outcome};
use super::Chore;

/// So many lines a worker appends to one log.
const SHARE: u64 = 200;
/// The longest line, in bytes, with its newline.
const LONGEST_LINE: usize = 64 * 1024;

pub struct SharedLog {
    /// Which log is being written, and how many lines of it are ours.
    log: u64,
    written: u64,
    file: Option<File>,
    /// The first that is neither verified nor removed; the first worker's business.
    verified: u64,
}

impl SharedLog {
    pub fn new() -> Self {
        Self { log: 0, written: 0, file: None, verified: 0 }
    }

    fn append(&mut self, desk: &Desk) -> Outcome {
        let path = log_path(&desk.shared, self.log);
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o664);
            self.file = Some(desk.journal.must("open for appending", &path, || options.open(&path))?);
        }
        let line = line(desk.seed, desk.number, self.log * SHARE + self.written);
        desk.write(self.file.as_ref().expect("it has just been opened"), &path, &line)?;
        self.written += 1;
        desk.journal.count(|counts| {
            counts.lines += 1;
            counts.last_log = self.log;
        });
        if self.written == SHARE { self.close(desk) } else { Ok(()) }
    }

    fn close(&mut self, desk: &Desk) -> Outcome {
        if let Some(file) = self.file.take() {
            desk.close(file, &log_path(&desk.shared, self.log))?;
        }
        let path = share_path(&desk.shared, self.log, desk.number);
        let file = desk.create(&path)?;
        desk.write(&file, &path, self.written.to_string().as_bytes())?;
        desk.close(file, &path)?;
        (self.log, self.written) = (self.log + 1, 0);
        Ok(())
    }

    /// Verifies the oldest log if everybody is done with it.
    fn verify_oldest(&mut self, desk: &Desk) -> Outcome {
        let mut shares = Vec::new();
        for worker in 0..desk.workers {
            let path = share_path(&desk.shared, self.verified, worker);
            match desk.journal.may("read a share", &path, libc::ENOENT, || fs::read_to_string(&path))? {
                Some(text) if text == SHARE.to_string() => shares.push(SHARE),
                // Not yet, or not yet written.
                _ => return Ok(()),
            }
        }
        verify(&desk.journal, &desk.shared, desk.seed, self.verified, &shares)?;
        self.verified += 1;
        desk.journal.count(|counts| {
            counts.lines_found += SHARE * desk.workers;
            counts.first_log = self.verified;
        });
        Ok(())
    }
}

impl Chore for SharedLog {
    fn turn(&mut self, desk: &mut Desk) -> Outcome {
        if desk.number == 0 && desk.dice.once_in(16) {
            self.verify_oldest(desk)?;
        }
        for _ in 0..=desk.dice.below(4) {
            self.append(desk)?;
        }
        Ok(())
    }

    fn finish(&mut self, desk: &mut Desk) -> Outcome {
        // What is left is verified when all workers have ended.
        if self.written > 0 { self.close(desk) } else { Ok(()) }
    }
}

/// Finds every line of one log exactly once and in its writer's order, and removes the log and its shares. A worker
/// without a share has written no line.
pub fn verify(journal: &Journal, shared: &Path, seed: u64, log: u64, shares: &[u64]) -> Outcome {
    let path = log_path(shared, log);
    let text = journal.must("read the log", &path, || fs::read(&path))?;
    let writers: Vec<_> = (0..).zip(shares).map(|(writer, &share)| (writer, log * SHARE, share)).collect();
    verify_lines(journal, &path, &text, seed, &writers)?;
    journal.must("unlink", &path, || fs::remove_file(&path))?;
    for (writer, _, share) in writers {
        let path = share_path(shared, log, writer);
        if share > 0 {
            journal.must("unlink", &path, || fs::remove_file(&path))?;
        }
    }
    Ok(())
}

/// The lines of these writers, (number, first sequence, how many), and nothing else.
pub fn verify_lines(
    journal: &Journal,
    path: &Path,
    text: &[u8],
    seed: u64,
    writers: &[(u64, u64, u64)],
) -> Outcome {
    let mut next: Vec<_> = writers.iter().map(|(_, first, _)| *first).collect();
    for (at, found) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let complain = |what: &str| Err(journal.fault(&format!("line {at} of the log"), path, what));
        let Some((writer, sequence)) = head_of(found) else {
            return complain("is torn: it has no head");
        };
        let Some(index) = writers.iter().position(|(number, _, _)| *number == writer) else {
            return complain(&format!("is of writer {writer}, whom nobody knows"));
        };
        if sequence != next[index] {
            let what = if sequence < next[index] { "again or late" } else { "with lines missing before it" };
            return complain(&format!(
                "writer {writer}'s line {sequence} {what}; it was line {}'s turn",
                next[index]
            ));
        }
        journal.same_bytes(&format!("line {at} of the log"), path, found, &line(seed, writer, sequence))?;
        next[index] += 1;
    }
    for ((writer, first, share), next) in writers.iter().zip(next) {
        journal.same(&format!("lines of writer {writer}"), path, next - first, *share)?;
    }
    Ok(())
}

/// The one line that this writer has under that number: mostly short, some up to the longest.
pub fn line(seed: u64, writer: u64, sequence: u64) -> Vec<u8> {
    let mut dice = Dice::of(seed, &[writer, sequence]);
    let longest = match dice.below(64) {
        0 => LONGEST_LINE - 64,
        1..8 => 4096,
        _ => 200,
    };
    let mut line = format!("{writer} {sequence} ").into_bytes();
    let length = dice.below(longest);
    line.extend(dice.bytes(length).into_iter().map(|byte| b'a' + byte % 26));
    line.push(b'\n');
    line
}

/// Writer and sequence.
fn head_of(line: &[u8]) -> Option<(u64, u64)> {
    let head = String::from_utf8_lossy(&line[..line.len().min(50)]);
    let mut words = head.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn log_path(shared: &Path, log: u64) -> PathBuf {
    shared.join(format!("log-{log}"))
}

/// Where a writer leaves how many lines of a log are its own.
pub fn share_path(shared: &Path, log: u64, writer: u64) -> PathBuf {
    shared.join(format!("share-{log}-{writer}"))
}
