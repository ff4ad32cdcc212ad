//! What a worker works with: its directory, its dice, its journal, a neighbour, and the calls that all chores make, each
//! counted, timed and looked at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::abilities::Abilities;
use super::dice::Dice;
use super::journal::{Journal, Outcome};
use super::neighbour::Neighbour;

/// How long the trace of a closed file may stay: RELEASE comes after close returns, and until then an NFS client keeps
/// a removed file under a name of its own.
const LINGERING: Duration = Duration::from_secs(60);
/// How such names begin.
const SILLY: &str = ".nfs";
/// New files: group-writable, so that the modes hold under rules that insist on it.
const FILE_MODE: u32 = 0o664;

/// One worker's.
pub struct Desk {
    pub number: u64,
    pub seed: u64,
    /// Only this worker touches it.
    pub own: PathBuf,
    /// All workers'.
    pub shared: PathBuf,
    pub workers: u64,
    pub dice: Dice,
    pub journal: Arc<Journal>,
    pub abilities: Abilities,
    pub neighbour: Neighbour,
}

impl Desk {
    /// O_EXCL: somebody else's file, or one's own made twice, is a fault.
    pub fn create(&self, path: &Path) -> Outcome<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        self.journal.must("create", path, || options.open(path))
    }

    pub fn open(&self, path: &Path) -> Outcome<File> {
        self.journal.must("open", path, || OpenOptions::new().read(true).write(true).open(path))
    }

    /// One write(2): a short one is a fault.
    pub fn write(&self, mut file: &File, path: &Path, bytes: &[u8]) -> Outcome {
        let written = self.journal.must("write", path, || file.write(bytes))?;
        self.whole("write", path, bytes.len(), written, || file.write(&bytes[written..]))
    }

    /// One pwrite(2): a short one is a fault.
    pub fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: usize) -> Outcome {
        let written = self.journal.must("pwrite", path, || file.write_at(bytes, offset as u64))?;
        let rest = || file.write_at(&bytes[written..], (offset + written) as u64);
        self.whole("pwrite", path, bytes.len(), written, rest)
    }

    /// A write that was not done whole is a fault; what `rest` answers, which writes the rest, says why.
    fn whole(
        &self,
        kind: &str,
        path: &Path,
        length: usize,
        written: usize,
        rest: impl FnOnce() -> io::Result<usize>,
    ) -> Outcome {
        if written == length {
            return Ok(());
        }
        let why =
            rest().map_or_else(|error| error.to_string(), |more| format!("and {more} at once after it"));
        Err(self.journal.fault(kind, path, &format!("{written} bytes, not {length}: {why}")))
    }

    /// One pread(2), which must give what `model` has there, up to its end.
    pub fn read_at(&self, file: &File, path: &Path, model: &[u8], offset: usize, length: usize) -> Outcome {
        let mut found = vec![0; length];
        let read = self.journal.must("pread", path, || file.read_at(&mut found, offset as u64))?;
        let expected = &model[offset.min(model.len())..(offset + length).min(model.len())];
        self.journal.same_bytes(&format!("pread at {offset}"), path, &found[..read], expected)
    }

    pub fn sync(&self, file: &File, path: &Path) -> Outcome {
        self.journal.must("fsync", path, || file.sync_all())
    }

    /// close(2) may fail, and waits for a server as any other call does: a file system learns of it by a request.
    pub fn close(&self, file: impl Into<OwnedFd>, path: &Path) -> Outcome {
        self.journal.must("close", path, || nix::unistd::close(file.into()))
    }

    /// Opens, reads all, compares.
    pub fn read_back(&self, path: &Path, expected: &[u8]) -> Outcome {
        let found = self.journal.must("read back", path, || fs::read(path))?;
        self.journal.same_bytes("read back", path, &found, expected)
    }

    pub fn rename(&self, from: &Path, to: &Path) -> Outcome {
        self.journal.must("rename", from, || fs::rename(from, to))
    }

    pub fn remove(&self, path: &Path) -> Outcome {
        self.journal.must("unlink", path, || fs::remove_file(path))
    }

    pub fn make_directory(&self, path: &Path) -> Outcome {
        self.journal.must("mkdir", path, || fs::create_dir(path))
    }

    /// See [`remove_directory`].
    pub fn remove_directory(&self, path: &Path) -> Outcome {
        remove_directory(&self.journal, path)
    }

    pub fn absent(&self, path: &Path) -> Outcome {
        self.journal.must_not("stat", path, &[libc::ENOENT], || fs::symlink_metadata(path))
    }

    pub fn stat(&self, path: &Path) -> Outcome<fs::Metadata> {
        self.journal.must("stat", path, || fs::symlink_metadata(path))
    }

    /// Whether the object at `path` comes to have this many names: one that was closed and removed may linger.
    pub fn comes_to_have_names(&self, path: &Path, expected: u64) -> Outcome {
        let begun = Instant::now();
        loop {
            let found = self.stat(path)?.nlink();
            if found == expected || begun.elapsed() > LINGERING {
                return self.journal.same("number of names", path, found, expected);
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// The listing must be exactly `expected`, which is sorted.
    pub fn lists(&self, path: &Path, expected: &[String]) -> Outcome {
        let (found, _) = names(&self.journal, path)?;
        if found == expected {
            return Ok(());
        }
        let missing: Vec<_> = expected.iter().filter(|name| !found.contains(name)).collect();
        let unknown: Vec<_> = found.iter().filter(|name| !expected.contains(name)).collect();
        let doubled: Vec<_> = found.windows(2).filter(|two| two[0] == two[1]).map(|two| &two[0]).collect();
        let what = format!("missing {missing:?}, unknown {unknown:?}, twice {doubled:?}");
        Err(self.journal.fault("list", path, &what))
    }
}

/// Removes an empty directory; where names of closed files linger in it, in a moment.
pub fn remove_directory(journal: &Journal, path: &Path) -> Outcome {
    let begun = Instant::now();
    while journal.may("rmdir", path, libc::ENOTEMPTY, || fs::remove_dir(path))?.is_none() {
        let (names, lingering) = names(journal, path)?;
        if !names.is_empty() || begun.elapsed() > LINGERING {
            let what = format!("not empty: {names:?}, lingering names: {lingering}");
            return Err(journal.fault("rmdir", path, &what));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The names in a directory, sorted, and whether there were lingering ones beside them.
fn names(journal: &Journal, path: &Path) -> Outcome<(Vec<String>, bool)> {
    let list = || {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()
    };
    let mut names = journal.must("list", path, list)?;
    let all = names.len();
    names.retain(|name| !name.starts_with(SILLY));
    names.sort();
    let lingering = names.len() < all;
    Ok((names, lingering))
}
