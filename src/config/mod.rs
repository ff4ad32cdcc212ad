//! The rules file as written becomes the policy as meant, or a sentence about the line that forbids it.
//!
//! Reading is split in two. A [`RulesFile`] is well formed: every key known, every value of its kind. A
//! [`Policy`](crate::policy::Policy) is sound: [`crate::policy::Profile::build`] has found no contradiction. Nothing
//! here decides about a request.

mod csi;
mod draft;
mod error;
mod file;
mod flags;
mod identity;
mod keys;
mod lint;
mod path;
mod profile;
mod reader;
mod source;
mod values;
mod watch;

pub use csi::Csi;
pub use error::{ConfigError, Warning, printable};
pub use file::{MAX_FILE_SIZE, RulesFile, policy_from_flags};
pub use flags::Overrides;
pub use keys::TABLES;
pub use reader::MAX_FAULTS;
pub use values::MAX_TIMEOUT;
pub use watch::{WATCH_INTERVAL, Watch};
