//! What the host was asked for, in the runtime directory: one directory per published or staged volume, with the order as
//! it came, the rules of that moment, and the mount that shows the daemon exactly the directory that was found.
//!
//! The mount table says what is mounted. This says what it was meant to be, so that a repeated call can be told from a
//! different one, and a host that is started again clears up what is over.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use serde::{Deserialize, Serialize};

use super::protocol::{Code, Order, Refusal, Stage};
use crate::mount::runtime::RuntimeDir;
use crate::sys;

/// The most volumes on a node.
pub(super) const MAX_ENTRIES: usize = 4096;

const RECORD: &str = "record.json";
const DRAFT: &str = "record.json.new";
const RULES: &str = "rules.toml";
const RULES_DRAFT: &str = "rules.toml.new";
const SAID: &str = "said";
const SOURCE: &str = "source";
const EXPORT: &str = "export";
/// Begins the name of an export that is mounted for one call.
const CALL: &str = "call-";

/// What an entry stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Published(Box<Order>),
    Staged(Stage),
    /// What a host of another version was asked for. Never written.
    #[serde(skip)]
    Unknown {
        /// Where it is mounted.
        place: PathBuf,
    },
}

impl Record {
    /// Where it is mounted.
    pub(super) fn place(&self) -> &Path {
        match self {
            Self::Published(order) => &order.target,
            Self::Staged(stage) => &stage.staging,
            Self::Unknown { place } => place,
        }
    }

    /// A record as it was written, by whichever version; nothing where it is none.
    fn parse(text: &[u8]) -> Option<Self> {
        if let Ok(record) = serde_json::from_slice(text) {
            return Some(record);
        }
        let record: serde_json::Value = serde_json::from_slice(text).ok()?;
        let place = record["published"]["target"].as_str().or(record["staged"]["staging"].as_str())?;
        Some(Self::Unknown { place: place.into() })
    }

    /// What it is of.
    pub(super) fn export(&self) -> String {
        match self {
            Self::Published(order) => order.share.to_string(),
            Self::Staged(stage) => stage.export.clone(),
            Self::Unknown { place } => place.display().to_string(),
        }
    }
}

/// All of them.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    path: PathBuf,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Entry {
    path: PathBuf,
    pub(super) record: Record,
}

impl Ledger {
    /// The one in the runtime directory, made where it is not there.
    ///
    /// # Errors
    /// Where it cannot be made, or is somebody else's.
    pub(super) fn open() -> io::Result<Self> {
        let path = RuntimeDir::from_env().path().join("host");
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        // The rules and orders in it decide who acts as whom.
        if fs::symlink_metadata(&path)?.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Self { path })
    }

    /// All entries that are complete.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.directories().into_iter().filter_map(Entry::read).collect()
    }

    /// The entry for what is mounted on `place`.
    pub(super) fn find(&self, place: &Path) -> Option<Entry> {
        self.entries().into_iter().find(|entry| entry.record.place() == place)
    }

    /// A new entry.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED past [`MAX_ENTRIES`]; INTERNAL where it cannot be written.
    pub(super) fn add(&self, record: Record) -> Result<Entry, Refusal> {
        let failed = |error: io::Error| {
            Refusal::new(Code::Internal, format!("cannot write {}: {error}", self.path.display()))
        };
        for number in 0..MAX_ENTRIES {
            let path = self.path.join(number.to_string());
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(failed(error)),
            }
            let entry = Entry { path, record };
            if let Err(error) = entry.write() {
                entry.clear();
                return Err(failed(error));
            }
            return Ok(entry);
        }
        let sentence = format!("this node has {MAX_ENTRIES} volumes already");
        Err(Refusal::new(Code::ResourceExhausted, sentence))
    }

    /// A place for an export that is mounted for one call.
    pub(super) fn for_one_call(&self, number: u64) -> PathBuf {
        self.path.join(format!("{CALL}{}-{number}", std::process::id()))
    }

    /// Clears what `over` says is over, and what a host that died in the middle of something left.
    pub(super) fn sweep(&self, over: impl Fn(&Record) -> bool) {
        for path in self.directories() {
            match Entry::read(path.clone()) {
                Some(entry) if !over(&entry.record) => {}
                Some(entry) => entry.clear(),
                // Its record would have been written whole.
                None if path.join(RECORD).exists() => {
                    tracing::warn!(path = %path.display(), "the record cannot be read, and is left alone");
                }
                None => clear(&path),
            }
        }
        let calls = self.names().into_iter().filter(|name| name.starts_with(CALL));
        for name in calls {
            let path = self.path.join(name);
            let _ = sys::mount::unmount(&path, true);
            let _ = fs::remove_dir(&path);
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        let numbers = self.names().into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        numbers.map(|name| self.path.join(name)).collect()
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }
}

impl Entry {
    fn read(path: PathBuf) -> Option<Self> {
        let record = Record::parse(&fs::read(path.join(RECORD)).ok()?)?;
        Some(Self { path, record })
    }

    fn write(&self) -> io::Result<()> {
        fs::write(self.path.join(DRAFT), serde_json::to_vec(&self.record)?)?;
        fs::rename(self.path.join(DRAFT), self.path.join(RECORD))
    }

    /// Where the daemon's rules go.
    pub(super) fn rules(&self) -> PathBuf {
        self.path.join(RULES)
    }

    /// Replaces the daemon's rules, in one step: it may be reading them.
    pub(super) fn write_rules(&self, text: &str) -> io::Result<()> {
        let draft = self.path.join(RULES_DRAFT);
        fs::write(&draft, text)?;
        fs::rename(draft, self.rules())
    }

    /// Where goes what the daemon says before it serves.
    pub(super) fn said(&self) -> PathBuf {
        self.path.join(SAID)
    }

    /// Where the directory is mounted that the daemon is to show.
    pub(super) fn source(&self) -> PathBuf {
        self.path.join(SOURCE)
    }

    /// Where the export of an ephemeral volume is mounted.
    pub(super) fn export(&self) -> PathBuf {
        self.path.join(EXPORT)
    }

    /// Takes down what the host mounted for it and forgets it.
    pub(super) fn clear(&self) {
        clear(&self.path);
    }
}

/// The mounts first: private, since in another mount namespace than the one that made them they may be peers of what they
/// show, and unmounting inside them would unmount there (mount_namespaces(7)); detached, since their server may be dead; then the known files one by one, the record last: never
/// recursively, so that nothing is removed through a mount that is still there.
fn clear(path: &Path) {
    for mount in [SOURCE, EXPORT] {
        let mount = path.join(mount);
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        let _ = sys::mount::mount(OsStr::new("none"), &mount, c"none", private, OsStr::new(""));
        let _ = sys::mount::unmount(&mount, true);
        let _ = fs::remove_dir(&mount);
    }
    for file in [RULES, RULES_DRAFT, SAID, DRAFT, RECORD] {
        let _ = fs::remove_file(path.join(file));
    }
    if let Err(error) = fs::remove_dir(path) {
        tracing::warn!(path = %path.display(), %error, "a volume's record is left behind");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        (dir, Ledger { path })
    }

    fn staged(place: &str) -> Record {
        Record::Staged(Stage { staging: place.into(), export: "nas:/x".into(), options: vec![] })
    }

    #[test]
    fn what_was_asked_for_is_found_again_by_its_place() {
        let (_dir, ledger) = ledger();
        ledger.add(staged("/a")).unwrap();
        ledger.add(staged("/b")).unwrap().clear();
        assert_eq!(ledger.find(Path::new("/a")).unwrap().record, staged("/a"));
        assert!(ledger.find(Path::new("/b")).is_none());
    }

    #[test]
    fn a_record_of_a_newer_host_is_known_by_its_place_and_none_that_is_left_alone() {
        let (dir, ledger) = ledger();
        let newer = ledger.add(staged("/newer")).unwrap();
        fs::write(newer.path.join(RECORD), r#"{"published":{"target":"/newer","more":1}}"#).unwrap();
        let strange = ledger.add(staged("/strange")).unwrap();
        fs::write(strange.path.join(RECORD), r#"{"mirrored":{}}"#).unwrap();
        let place = PathBuf::from("/newer");
        assert_eq!(ledger.find(&place).unwrap().record, Record::Unknown { place });
        ledger.sweep(|_| false);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_sweep_clears_what_is_over_and_what_was_never_finished() {
        let (dir, ledger) = ledger();
        ledger.add(staged("/stays")).unwrap();
        ledger.add(staged("/goes")).unwrap();
        fs::create_dir(dir.path().join("17")).unwrap();
        fs::create_dir(dir.path().join("call-1-1")).unwrap();
        ledger.sweep(|record| record.place() == Path::new("/goes"));
        assert_eq!(ledger.entries().len(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
