//! A whole profile, ready to decide: the functions that the mount, `explain` and `check` share.

use std::borrow::Cow;
use std::time::Duration;

use super::*;

/// The profile's `cache.data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataPath {
    /// Passthrough where the kernel has it, else the page cache.
    #[default]
    Auto,
    /// Passthrough, or the mount is refused.
    Passthrough,
    /// The kernel's page cache.
    Page,
    /// No caching of content.
    None,
}

/// The profile's `cache.open`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenPolicy {
    /// Close-to-open: each open looks at size and mtime.
    #[default]
    Revalidate,
    /// Read-only mounts: opens need no request.
    Trust,
}

/// The profile's `locks.scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockScope {
    /// flock and fcntl reach the export's server.
    #[default]
    Server,
    /// Locks are kept on this node by the kernel.
    Node,
}

/// The profile's `cache`: for how long the kernel may answer by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Attributes.
    pub attr_timeout: Duration,
    /// Names.
    pub entry_timeout: Duration,
    /// Names that do not exist.
    pub negative_timeout: Duration,
    /// File content.
    pub data: DataPath,
    /// Opens.
    pub open: OpenPolicy,
}

/// One profile, compiled. Built by `config/`; immutable; shared by all threads.
#[derive(Debug)]
pub struct Policy {
    // Built by `config/` through a builder in this room.
}

impl Policy {
    /// The caller's own credentials at the server (its user, its group first, its groups that have a rule), whatever
    /// `act_as` says; refused where no rule admits it. A supplementary group without a rule is left out.
    pub fn admit(&self, _caller: &Caller<'_>) -> Result<Credentials, Denied> {
        todo!()
    }

    /// Whether the supplementary groups of a caller with this gid can change what [`Self::admit`] answers. Where not,
    /// nobody needs to look them up.
    pub fn groups_matter(&self, _gid: PodGid) -> bool {
        todo!()
    }

    /// The groups that count: those of the process (`of_process`), none, or the profile's list.
    pub fn counted_groups<'a>(&'a self, _of_process: &'a [PodGid]) -> &'a [PodGid] {
        todo!()
    }

    /// As whom to do `operation`, given the admitted caller, the object's owner (absent for a new object) and the
    /// parent directory's (absent where no directory is changed). `rules` are those of the object's (for `Create` and
    /// `Remove`: the parent's) scope.
    ///
    /// Puts the group that matters first: the object's, or for `Create` the directory's where new objects take it and
    /// the caller is its member.
    pub fn credentials<'a>(
        &self,
        _operation: Operation,
        _caller: &'a Credentials,
        _object: Option<Owner>,
        _parent: Option<Owner>,
        _rules: &Rules,
    ) -> Cow<'a, Credentials> {
        todo!()
    }

    /// Whether [`Self::credentials`] can depend on the object's or the parent's owner here. Where not, it need not be
    /// found out.
    pub fn owner_matters(&self, _operation: Operation, _caller: &Credentials, _rules: &Rules) -> bool {
        todo!()
    }

    /// The group a new object must take that these credentials are not a member of: the directory's, where
    /// `setgid = true` and the directory's own setgid bit does not see to it. The conductor first checks, as
    /// `creator`, that the server lets it write in the directory, and then creates with this group first.
    pub fn group_to_adopt(&self, _creator: &Credentials, _parent: Owner, _rules: &Rules) -> Option<NfsGid> {
        todo!()
    }

    /// Mode and umask for a new object.
    pub fn new_mode(
        &self,
        _kind: FileKind,
        _requested: Permissions,
        _umask: Permissions,
        _parent: Owner,
        _rules: &Rules,
    ) -> NewMode {
        todo!()
    }

    /// The mode to store for a chmod to `requested`.
    pub fn chmod(&self, _kind: FileKind, _requested: Permissions, _rules: &Rules) -> Permissions {
        todo!()
    }

    /// What to do with a chown of an object that is shown as `shown`.
    pub fn chown(
        &self,
        _uid: Option<PodUid>,
        _gid: Option<PodGid>,
        _shown: &ShownAttr,
        _rules: &Rules,
    ) -> Result<ChownOutcome, Denied> {
        todo!()
    }

    /// What an object looks like to every caller. Never fails.
    pub fn present(&self, _stored: &StoredAttr, _rules: &Rules) -> ShownAttr {
        todo!()
    }

    /// An ACL entry's user, outbound and inbound.
    pub fn show_uid(&self, _uid: NfsUid) -> PodUid {
        todo!()
    }
    /// See [`Self::show_uid`].
    pub fn show_gid(&self, _gid: NfsGid) -> PodGid {
        todo!()
    }
    /// The owner that a pod's id names on the export, for chown and ACLs.
    pub fn owner_named(&self, _uid: PodUid) -> Result<NfsUid, Denied> {
        todo!()
    }
    /// The group that a pod's id names on the export, for chown and ACLs.
    pub fn group_named(&self, _gid: PodGid) -> Result<NfsGid, Denied> {
        todo!()
    }

    /// EROFS, where something in this scope would be changed and it is read-only.
    pub fn writable(&self, rules: &Rules) -> Result<(), Denied> {
        if rules.read_only { Err(Denied::ReadOnly) } else { Ok(()) }
    }

    /// Whether nothing is translated and nothing refused: shown and stored are the same.
    pub fn is_transparent(&self) -> bool {
        todo!()
    }

    /// The path rules.
    pub fn scopes(&self) -> &Scopes {
        todo!()
    }

    /// What the kernel may cache.
    pub fn cache(&self) -> &Cache {
        todo!()
    }

    /// Where locks are kept.
    pub fn lock_scope(&self) -> LockScope {
        todo!()
    }
}
