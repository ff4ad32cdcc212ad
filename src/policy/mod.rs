//! The policy: who a caller is at the server, which modes and owners hold, what is shown.
//!
//! Everything here is pure: no I/O, no clock, no libc, no logging. The hot path, `permfs explain` and
//! `permfs check` call the very same functions, so what an admin is told is what happens.
//!
//! Not here: reading the rules file (`config/`), finding out who asks (`caller/`), doing anything (`backing/`).

mod acting;
mod admission;
pub mod attr;
mod changes;
mod checks;
pub mod conflict;
pub mod credentials;
pub mod dac;
pub mod denied;
mod fs_group;
pub mod id_map;
pub mod ids;
mod lints;
pub mod match_path;
pub mod mode;
mod objects;
pub mod ownership;
pub mod profile;
pub mod rules;
pub mod scope;
pub mod translation;

pub use admission::{Step, Trace};
pub use attr::{Attr, Owner, ShownAttr, StoredAttr, Timestamp};
pub use conflict::Conflict;
pub use credentials::{Caller, Credentials, Operation};
pub use denied::{Denied, Origin};
pub use id_map::{Direction, IdMap, Rule};
pub use ids::{NfsGid, NfsUid, PodGid, PodUid};
pub use match_path::MatchPath;
pub use mode::{FileKind, NewMode, Permissions};
pub use ownership::ChownOutcome;
pub use profile::{ActAs, Cache, DataPath, Groups, LockScope, OpenPolicy, Policy, Profile, Setting};
pub use rules::{Chown, Held, PathRule, Rules};
pub use scope::{ScopeId, Scopes};
pub use translation::{Unmapped, UnmappedOwner};
