//! A whole profile as meant: what `config/` fills in, and the [`Policy`] that is made of it.
//!
//! [`Profile::build`] is the only way to a policy, and refuses what is unsafe or ambiguous ([`super::checks`]), so a
//! policy that exists may be trusted. Its decisions are in [`super::admission`], [`super::acting`] and
//! [`super::objects`].

use std::sync::Arc;
use std::time::Duration;

use super::rules::RuleOrigins;
use super::translation::Translation;
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

impl Default for Cache {
    fn default() -> Self {
        Self {
            attr_timeout: Duration::from_secs(1),
            entry_timeout: Duration::from_secs(1),
            negative_timeout: Duration::ZERO,
            data: DataPath::default(),
            open: OpenPolicy::default(),
        }
    }
}

/// The profile's `act_as`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ActAs {
    /// The mapped caller; the server stays the authority.
    #[default]
    Caller,
    /// The object's owner: the kernel has already enforced what is shown.
    Owner,
    /// Always these.
    Fixed(Credentials),
}

/// The profile's `groups`: which groups of a caller count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Groups {
    /// Those of the process.
    #[default]
    Process,
    /// None.
    None,
    /// These, for every caller.
    These(Vec<PodGid>),
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// The contract's default, named as the admin would have written it.
    #[must_use]
    pub const fn default_of(value: T, written: &'static str) -> Self {
        Self { value, origin: Origin::Default(written) }
    }
}

/// The profile's `unmapped`. One number in the file stands for a uid and a gid, so each value is a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmappedIds {
    /// Callers without a rule.
    pub pod: Setting<(Unmapped<NfsUid>, Unmapped<NfsGid>)>,
    /// Owners without a rule.
    pub nfs: Setting<(UnmappedOwner<PodUid>, UnmappedOwner<PodGid>)>,
    /// A caller's number 0 without a rule.
    pub root: Setting<(Unmapped<NfsUid>, Unmapped<NfsGid>)>,
}

impl Default for UnmappedIds {
    fn default() -> Self {
        let nobody = (UnmappedOwner::As(PodUid::NOBODY), UnmappedOwner::As(PodGid::NOBODY));
        Self {
            pod: Setting::default_of((Unmapped::Deny, Unmapped::Deny), "unmapped.pod = \"deny\""),
            nfs: Setting::default_of(nobody, "unmapped.nfs = \"nobody\""),
            root: Setting::default_of((Unmapped::Deny, Unmapped::Deny), "unmapped.root = \"deny\""),
        }
    }
}

/// One profile as meant: every key of the rules file with its value, and where it was written.
#[derive(Debug, Clone)]
pub struct Profile {
    /// `[profile.NAME]`.
    pub name: Arc<str>,
    /// Rules for users.
    pub uid: Vec<Rule<PodUid, NfsUid>>,
    /// Rules for groups.
    pub gid: Vec<Rule<PodGid, NfsGid>>,
    /// Whether ids may be mapped or squashed onto 0, and root's objects be used as their owner.
    pub allow_root: bool,
    /// Whom to act as.
    pub act_as: Setting<ActAs>,
    /// Which groups count.
    pub groups: Setting<Groups>,
    /// Ids without a rule.
    pub unmapped: UnmappedIds,
    /// What holds for every path.
    pub permissions: Rules,
    /// Where `permissions` was written.
    pub permission_origins: RuleOrigins,
    /// What holds below some.
    pub paths: Vec<PathRule>,
    /// What the kernel may cache.
    pub cache: Cache,
    /// Where locks are kept.
    pub lock_scope: LockScope,
}

impl Profile {
    /// A profile with every key at its default, which denies every caller.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            uid: Vec::new(),
            gid: Vec::new(),
            allow_root: false,
            act_as: Setting::default_of(ActAs::Caller, "act_as = \"caller\""),
            groups: Setting::default_of(Groups::Process, "groups = \"process\""),
            unmapped: UnmappedIds::default(),
            permissions: Rules::default(),
            permission_origins: RuleOrigins::default(),
            paths: Vec::new(),
            cache: Cache::default(),
            lock_scope: LockScope::default(),
        }
    }

    /// The policy, or everything that forbids it.
    pub fn build(self) -> Result<Policy, Vec<Conflict>> {
        checks::compile(self)
    }
}

/// One profile, compiled. Immutable; shared by all threads.
#[derive(Debug)]
pub struct Policy {
    pub(super) name: Arc<str>,
    pub(super) uids: Translation<PodUid, NfsUid>,
    pub(super) gids: Translation<PodGid, NfsGid>,
    /// Where `unmapped.pod`, `.nfs` and `.root` were written.
    pub(super) unmapped_origins: UnmappedOrigins,
    pub(super) allow_root: bool,
    pub(super) act_as: Setting<ActAs>,
    pub(super) groups: Setting<Groups>,
    pub(super) scopes: Scopes,
    pub(super) cache: Cache,
    pub(super) lock_scope: LockScope,
    /// Shared by all credentials without supplementary groups, so that making them takes no allocation.
    pub(super) no_groups: Arc<[NfsGid]>,
}

/// Where `unmapped` was written.
#[derive(Debug)]
pub(super) struct UnmappedOrigins {
    pub(super) pod: Origin,
    pub(super) nfs: Origin,
    pub(super) root: Origin,
}

impl Policy {
    /// The profile's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rules for users.
    pub fn uid_map(&self) -> &IdMap<PodUid, NfsUid> {
        &self.uids.map
    }

    /// The rules for groups.
    pub fn gid_map(&self) -> &IdMap<PodGid, NfsGid> {
        &self.gids.map
    }

    /// Whom to act as, and who says so.
    pub fn act_as(&self) -> &Setting<ActAs> {
        &self.act_as
    }

    /// Which groups count, and who says so.
    pub fn groups(&self) -> &Setting<Groups> {
        &self.groups
    }

    /// EROFS, where something in this scope would be changed and it is read-only.
    pub fn writable(&self, rules: &Rules) -> Result<(), Denied> {
        if rules.read_only { Err(Denied::ReadOnly) } else { Ok(()) }
    }

    /// Whether nothing is translated and nothing refused: shown and stored are the same.
    pub fn is_transparent(&self) -> bool {
        self.uids.is_identity()
            && self.gids.is_identity()
            && self.act_as.value == ActAs::Caller
            && self.groups.value == Groups::Process
            && self.scopes.all_held().iter().all(|held| held.rules.change_nothing())
    }

    /// The path rules.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// What the kernel may cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Where locks are kept.
    pub fn lock_scope(&self) -> LockScope {
        self.lock_scope
    }
}
