//! The policy: who a caller is at the server, which modes and owners hold, what is shown.
//!
//! Everything here is pure: no I/O, no clock, no libc, no logging. The hot path, `permfs explain` and
//! `permfs check` call the very same functions, so what an admin is told is what happens.
//!
//! Not here: reading the rules file (`config/`), finding out who asks (`caller/`), doing anything (`backing/`).

pub mod attr;
pub mod credentials;
pub mod dac;
pub mod denied;
pub mod id_map;
pub mod ids;
pub mod mode;
pub mod ownership;
pub mod profile;
pub mod scope;

pub use attr::{Attr, Owner, ShownAttr, StoredAttr, Timestamp};
pub use credentials::{ActAs, Caller, Credentials, Operation};
pub use denied::{Denied, Origin};
pub use id_map::{Direction, IdMap, Rule, Unmapped};
pub use ids::{NfsGid, NfsUid, PodGid, PodUid};
pub use mode::{FileKind, NewMode, Permissions};
pub use ownership::ChownOutcome;
pub use profile::{Cache, DataPath, Groups, LockScope, OpenPolicy, Policy, Trace, UnmappedIds};
pub use scope::{Chown, PathRule, Rules, ScopeId, Scopes};
