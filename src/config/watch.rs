//! Whether a rules file has become another one, by its content: a ConfigMap changes by a symlink's being turned to another
//! directory, and its times say little.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::ConfigError;
use super::file::read;

/// How often a file is looked at.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(10);

/// For how long after a change a second one may leave the same times: a file system's tick, and to spare.
const DOUBT: Duration = Duration::from_secs(2);

/// A file that is looked at again and again. Where nothing has changed that costs one stat(2).
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    stamp: Option<Stamp>,
    content: Option<u64>,
}

/// What stat(2) says that changes with the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    object: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watch {
    /// At its first look everything is new.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, stamp: None, content: None }
    }

    /// The content, or why it cannot be read; none where that is as it was at the last look.
    pub fn look(&mut self) -> Option<Result<String, ConfigError>> {
        let stamp = Stamp::of(&self.path);
        if stamp.is_some() && stamp == self.stamp {
            return None;
        }
        let content = read(&self.path);
        // Only what has rested for a while is known by its stamp.
        self.stamp = stamp.filter(Stamp::is_beyond_doubt);
        let digest = digest(&content);
        (self.content.replace(digest) != Some(digest)).then_some(content)
    }

    /// At the next look everything is new.
    pub fn forget(&mut self) {
        (self.stamp, self.content) = (None, None);
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            object: (found.dev(), found.ino()),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    fn is_beyond_doubt(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = u64::try_from(self.changed.0.max(self.modified.0)).unwrap_or(0);
        Duration::from_secs(seconds) + DOUBT < now
    }
}

fn digest(content: &Result<String, ConfigError>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match content {
        Ok(text) => text.hash(&mut hasher),
        Err(error) => (false, error.to_string()).hash(&mut hasher),
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_seen_once_whatever_the_times_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rules.toml");
        let mut watch = Watch::new(path.clone());
        assert!(watch.look().unwrap().is_err());
        assert!(watch.look().is_none(), "it is still absent");
        for text in ["one", "two", "one"] {
            fs::write(&path, text).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1)).unwrap();
            assert_eq!(watch.look().unwrap().unwrap(), text);
            assert!(watch.look().is_none());
        }
        fs::write(&path, "one").unwrap();
        assert!(watch.look().is_none(), "the content is the same");
    }

    #[test]
    fn a_symlink_that_is_turned_elsewhere_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("rules.toml"), version).unwrap();
        }
        symlink("v1", at("..data")).unwrap();
        symlink("..data/rules.toml", at("rules.toml")).unwrap();
        let mut watch = Watch::new(at("rules.toml"));
        assert_eq!(watch.look().unwrap().unwrap(), "v1");
        symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_eq!(watch.look().unwrap().unwrap(), "v2");
    }
}
