//! New rules for a mount that is being served: read, judged as a whole, and put in force or refused.
//!
//! Whoever asks (`permfs reload`, SIGHUP, a changed file) comes here, one at a time. A refusal leaves the rules as they are, and
//! is told by `permfs status` until a reload succeeds. Reading a file may hang where it lies on a dead server: then this hangs,
//! on a thread of its own, and nothing else does.

use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::rules::RulesSource;
use crate::backing::posix::PosixBacking;
use crate::config::{ConfigError, WATCH_INTERVAL, Watch};
use crate::fs::Filesystem;
use crate::fuse::Session;
use crate::state::layout::HeaderWord;
use crate::sys::fault;

/// Which rules are in force, as `permfs status` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Since when, in seconds since 1970.
    pub in_force_since: u64,
    /// Why the rules that were read last are not in force; null where they are.
    pub refused: Option<String>,
}

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reloaded {
    /// New rules are in force: what changed, in a line.
    Done(String),
    /// The old ones are.
    Refused(Vec<Complaint>),
}

/// One reason against new rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// In one sentence.
    pub sentence: String,
    /// With the quoted lines of the file, where it is about lines.
    pub quoted: Option<String>,
}

impl From<&ConfigError> for Complaint {
    fn from(error: &ConfigError) -> Self {
        let quoted = error.line().map(|_| error.render(false).trim_end().to_owned());
        Self { sentence: error.to_string(), quoted }
    }
}

impl From<String> for Complaint {
    fn from(sentence: String) -> Self {
        Self { sentence, quoted: None }
    }
}

/// Reloads the rules of one mount.
#[derive(Debug)]
pub struct Reloader {
    /// None where the rules came from flags.
    source: Option<RulesSource>,
    /// Weak, so that a reload that hangs keeps no descriptor of the export open.
    filesystem: Weak<Filesystem<PosixBacking>>,
    session: Weak<Session>,
    /// Held while rules are judged and put in force.
    turn: Mutex<()>,
    standing: Mutex<Standing>,
}

impl Reloader {
    /// For a mount that has just begun under the rules of `source`.
    #[must_use]
    pub fn new(
        source: Option<RulesSource>,
        filesystem: &Arc<Filesystem<PosixBacking>>,
        session: &Arc<Session>,
    ) -> Self {
        Self {
            source,
            filesystem: Arc::downgrade(filesystem),
            session: Arc::downgrade(session),
            turn: Mutex::new(()),
            standing: Mutex::new(Standing { in_force_since: now(), refused: None }),
        }
    }

    /// Which rules are in force.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the rules and puts them in force.
    #[must_use]
    pub fn reload(&self) -> Reloaded {
        self.reload_from(|source| source.text())
    }

    /// The same on a thread of its own, for whoever waits for no answer: the log has it.
    pub fn reload_in_background(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let reload = move || log(&this.reload());
        if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(reload) {
            tracing::error!(%error, "no thread for a reload; the rules stay as they are");
        }
    }

    /// Looks at the file every [`WATCH_INTERVAL`], for as long as the process lives, and reloads when its content has changed. What
    /// is refused is logged once for each content.
    ///
    /// # Errors
    /// Where the thread cannot be made.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let (this, mut watch) = (Arc::clone(self), Watch::new(source.file.clone()));
        let look = move || {
            // Whatever was written since the mount's rules were read.
            loop {
                if let Some(content) = watch.look() {
                    let reloaded = this.reload_from(|_| content);
                    if reloaded == busy() {
                        watch.forget();
                    } else {
                        log(&reloaded);
                    }
                }
                thread::sleep(WATCH_INTERVAL);
            }
        };
        thread::Builder::new().name("rules-watch".to_owned()).spawn(look).map(drop)
    }

    fn reload_from(&self, text: impl FnOnce(&RulesSource) -> Result<String, ConfigError>) -> Reloaded {
        let Some(source) = &self.source else { return refused_since(NO_FILE) };
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return busy(),
        };
        let reloaded = match text(source) {
            Ok(text) => self.put_in_force(source, &text),
            Err(error) => Reloaded::Refused(vec![(&error).into()]),
        };
        self.note(&reloaded);
        reloaded
    }

    fn put_in_force(&self, source: &RulesSource, text: &str) -> Reloaded {
        let policy = match source.judge(text) {
            Ok(policy) => policy,
            Err(errors) => return Reloaded::Refused(errors.iter().map(Complaint::from).collect()),
        };
        let (Some(filesystem), Some(session)) = (self.filesystem.upgrade(), self.session.upgrade()) else {
            return refused_since("the mount is being taken down");
        };
        if let Err(unsettled) = session.allows(&policy) {
            return refused_since(&unsettled.to_string());
        }
        let changes = filesystem.policy().changes(&policy);
        if changes.is_empty() {
            return Reloaded::Done(NOTHING.to_owned());
        }
        let state = filesystem.state();
        // A worker that takes over in the middle of this goes on under the new rules, and makes the kernel forget the old ones.
        fault::point!("reload: begins");
        state.set(HeaderWord::Reloading, 1);
        fault::point!("reload: before the rules");
        state.rules.leave(text);
        fault::point!("reload: the rules are written down");
        let succession = filesystem.succeed(Arc::new(policy));
        fault::point!("reload: before its end");
        state.set(HeaderWord::Reloading, 0);
        fault::point!("reload: over");
        tracing::debug!(succession.inodes, succession.names, "the kernel has forgotten the old rules");
        Reloaded::Done(format!("changed: {}", changes.join(", ")))
    }

    /// Makes the kernel forget what it was shown under the rules before these, where a worker died while it did so.
    pub fn finish_in_background(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let finish = move || {
            let _turn = this.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(filesystem) = this.filesystem.upgrade() {
                filesystem.succeed(filesystem.policy());
                filesystem.state().set(HeaderWord::Reloading, 0);
            }
        };
        if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(finish) {
            tracing::error!(%error, "no thread to end a reload; old attributes are shown for `attr_timeout`");
        }
    }

    fn note(&self, reloaded: &Reloaded) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match reloaded {
            Reloaded::Done(what) => {
                standing.refused = None;
                if what != NOTHING {
                    standing.in_force_since = now();
                }
            }
            Reloaded::Refused(complaints) => standing.refused = Some(in_one_line(complaints)),
        }
    }
}

/// The file says what it said.
const NOTHING: &str = "nothing changed";
/// The rules came with the command line.
const NO_FILE: &str = "the rules came from --map-uid and --map-gid, so there is no file to read anew: unmount and mount again, or use --config FILE";

fn refused_since(why: &str) -> Reloaded {
    Reloaded::Refused(vec![why.to_owned().into()])
}

fn busy() -> Reloaded {
    refused_since("another reload of this mount is under way: see `permfs status`, and try again")
}

fn log(reloaded: &Reloaded) {
    match reloaded {
        Reloaded::Done(what) if what == NOTHING => {
            tracing::debug!("the rules were read anew: nothing changed")
        }
        Reloaded::Done(what) => tracing::info!(what, "the rules were read anew"),
        Reloaded::Refused(complaints) => {
            tracing::error!(why = in_one_line(complaints), "new rules are refused; the old ones hold");
        }
    }
}

fn in_one_line(complaints: &[Complaint]) -> String {
    match complaints {
        [] => String::new(),
        [only] => only.sentence.clone(),
        [first, rest @ ..] => format!("{} (and {} more)", first.sentence, rest.len()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
