//! A whole profile, ready to decide: the functions that the mount, `explain` and `check` share.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{
    ActAs, Caller, Credentials, Denied, FileKind, IdMap, NewMode, NfsGid, NfsUid, Operation, Origin, Owner,
    Permissions, PodGid, PodUid, Rules, Scopes, ShownAttr, StoredAttr, Unmapped, credentials, mode,
};

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

/// The profile's `groups`: which supplementary groups of a caller count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// Those of the calling process.
    Process,
    /// None.
    None,
    /// These, for every caller.
    Fixed(Box<[PodGid]>),
}

/// The profile's `unmapped`: what becomes of ids that no rule names, and which line said so.
#[derive(Debug, Clone)]
pub struct UnmappedIds {
    /// A caller without a rule.
    pub pod: Unmapped<u32>,
    /// Where that was written.
    pub pod_origin: Origin,
    /// An owner without a rule; never `Deny`.
    pub nfs: Unmapped<u32>,
    /// Where that was written.
    pub nfs_origin: Origin,
    /// The number 0 of a caller, without a rule.
    pub root: Unmapped<u32>,
    /// Where that was written.
    pub root_origin: Origin,
}

/// One profile, compiled. Built by `config/`, which has checked it; immutable; shared by all threads.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The profile's name.
    pub name: Arc<str>,
    /// Rules for users.
    pub uids: IdMap<PodUid, NfsUid>,
    /// Rules for groups.
    pub gids: IdMap<PodGid, NfsGid>,
    /// What becomes of ids without a rule.
    pub unmapped: UnmappedIds,
    /// As whom the server is asked.
    pub act_as: ActAs,
    /// Which supplementary groups count.
    pub groups: Groups,
    /// The path rules, and what holds where there is none.
    pub scopes: Scopes,
    /// What the kernel may keep.
    pub cache: Cache,
    /// Where locks are kept.
    pub locks: LockScope,
}

/// Who a caller is at the server, and which rules said so: what [`Policy::admit`] knew, for `explain`.
#[derive(Debug, Clone)]
pub struct Trace<'a> {
    /// The rule, or the `unmapped` line, that decided the user.
    pub uid: &'a Origin,
    /// The same for the group.
    pub gid: &'a Origin,
    /// The same for each supplementary group that counts, with what became of it.
    pub groups: Vec<(PodGid, Option<NfsGid>, &'a Origin)>,
}

impl Policy {
    /// The caller's own credentials at the server (its user, its group first, its groups that have a rule), whatever
    /// `act_as` says. A supplementary group without a rule is left out.
    ///
    /// # Errors
    /// Where no rule admits the user or the group. A fixed `act_as` needs no rule for the group.
    pub fn admit(&self, caller: &Caller<'_>) -> Result<Credentials, Denied> {
        let uid = self.user_of(caller.uid)?;
        let gid = match (self.group_of(caller.gid), &self.act_as) {
            (Err(_), ActAs::Fixed(fixed)) => fixed.gid,
            (gid, _) => gid?,
        };
        let groups = caller.groups.iter().filter_map(|&group| self.group_of(group).ok());
        Ok(Credentials::new(uid, gid, groups))
    }

    /// Which rules made [`Self::admit`] answer as it does.
    #[must_use]
    pub fn trace(&self, caller: &Caller<'_>) -> Trace<'_> {
        let groups = caller.groups.iter();
        Trace {
            uid: self.uid_origin(caller.uid),
            gid: self.gid_origin(caller.gid),
            groups: groups.map(|&group| (group, self.group_of(group).ok(), self.gid_origin(group))).collect(),
        }
    }

    fn user_of(&self, uid: PodUid) -> Result<NfsUid, Denied> {
        if let Some(nfs) = self.uids.to_nfs(uid) {
            return Ok(nfs);
        }
        let (rule, denied) = if uid.is_root() {
            (self.unmapped.root, Denied::Root)
        } else {
            (self.unmapped.pod, Denied::NoRuleForUid(uid))
        };
        unmapped_id(rule, uid.get()).and_then(NfsUid::new).ok_or(denied)
    }

    fn group_of(&self, gid: PodGid) -> Result<NfsGid, Denied> {
        if let Some(nfs) = self.gids.to_nfs(gid) {
            return Ok(nfs);
        }
        let (rule, denied) = if gid.is_root() {
            (self.unmapped.root, Denied::RootGroup)
        } else {
            (self.unmapped.pod, Denied::NoRuleForGid(gid))
        };
        unmapped_id(rule, gid.get()).and_then(NfsGid::new).ok_or(denied)
    }

    fn uid_origin(&self, uid: PodUid) -> &Origin {
        match self.uids.rule_for_pod(uid) {
            Some(rule) => &rule.origin,
            None if uid.is_root() => &self.unmapped.root_origin,
            None => &self.unmapped.pod_origin,
        }
    }

    fn gid_origin(&self, gid: PodGid) -> &Origin {
        match self.gids.rule_for_pod(gid) {
            Some(rule) => &rule.origin,
            None if gid.is_root() => &self.unmapped.root_origin,
            None => &self.unmapped.pod_origin,
        }
    }

    /// Whether the supplementary groups of a process with this gid can change what [`Self::admit`] answers. Where not,
    /// nobody needs to look them up.
    #[must_use]
    pub fn groups_matter(&self, gid: PodGid) -> bool {
        if self.groups != Groups::Process || matches!(self.act_as, ActAs::Fixed(_)) {
            return false;
        }
        let only_this = |rule: &super::Rule<PodGid, NfsGid>| rule.pod_first == gid && rule.pod_last == gid;
        self.unmapped.pod != Unmapped::Deny
            || (self.unmapped.root != Unmapped::Deny && !gid.is_root())
            || self.gids.rules().iter().any(|rule| rule.inbound() && !only_this(rule))
    }

    /// The groups that count: those of the process (`of_process`), none, or the profile's list.
    #[must_use]
    pub fn counted_groups<'a>(&'a self, of_process: &'a [PodGid]) -> &'a [PodGid] {
        match &self.groups {
            Groups::Process => of_process,
            Groups::None => &[],
            Groups::Fixed(groups) => groups,
        }
    }

    /// As whom to do `operation`, given the admitted caller, the object's owner (absent for a new object) and the parent
    /// directory's (absent where no directory is changed). `rules` are those of the object's scope.
    ///
    /// Puts the group that matters first: the object's, or for `Create` the directory's where new objects take it and
    /// the caller is its member.
    #[must_use]
    pub fn credentials<'a>(
        &'a self,
        operation: Operation,
        caller: &'a Credentials,
        object: Option<Owner>,
        parent: Option<Owner>,
        rules: &Rules,
    ) -> Cow<'a, Credentials> {
        credentials::choose(&self.act_as, operation, caller, object, parent, rules)
    }

    /// Whether [`Self::credentials`] can depend on the object's or the parent's owner here. Where not, it need not be
    /// found out.
    #[must_use]
    pub fn owner_matters(&self, operation: Operation, caller: &Credentials, rules: &Rules) -> bool {
        match self.act_as {
            ActAs::Caller => !caller.groups.is_empty(),
            ActAs::Owner => operation != Operation::Create || rules.setgid || !caller.groups.is_empty(),
            ActAs::Fixed(_) => false,
        }
    }

    /// The group a new object must take that these credentials are not a member of: the directory's, where
    /// `setgid = true` and the directory's own setgid bit does not see to it. The conductor first checks, as
    /// `creator`, that the server lets it write in the directory, and then creates with this group first.
    #[must_use]
    pub fn group_to_adopt(&self, creator: &Credentials, parent: Owner, rules: &Rules) -> Option<NfsGid> {
        let adopt = rules.setgid && !parent.setgid && creator.gid != parent.gid && !parent.gid.is_root();
        adopt.then_some(parent.gid)
    }

    /// Mode and umask for a new object.
    #[must_use]
    pub fn new_mode(
        &self,
        kind: FileKind,
        requested: Permissions,
        umask: Permissions,
        parent: Owner,
        rules: &Rules,
    ) -> NewMode {
        mode::for_new(kind, requested, umask, parent.setgid, rules)
    }

    /// The mode to store for a chmod to `requested`.
    #[must_use]
    pub fn chmod(&self, kind: FileKind, requested: Permissions, rules: &Rules) -> Permissions {
        mode::held_to(kind, requested, rules)
    }

    /// What an object looks like to every caller. Never fails.
    #[must_use]
    pub fn present(&self, stored: &StoredAttr, rules: &Rules) -> ShownAttr {
        let permissions = if rules.apply_to_all {
            mode::held_to(stored.kind, stored.permissions, rules)
        } else {
            stored.permissions
        };
        stored.shown_as(self.show_uid(stored.uid), self.show_gid(stored.gid), permissions)
    }

    /// What a user of the export is shown as.
    #[must_use]
    pub fn show_uid(&self, uid: NfsUid) -> PodUid {
        let shown = self.uids.to_pod(uid).or_else(|| PodUid::new(unmapped_id(self.unmapped.nfs, uid.get())?));
        shown.unwrap_or(PodUid::NOBODY)
    }

    /// What a group of the export is shown as.
    #[must_use]
    pub fn show_gid(&self, gid: NfsGid) -> PodGid {
        let shown = self.gids.to_pod(gid).or_else(|| PodGid::new(unmapped_id(self.unmapped.nfs, gid.get())?));
        shown.unwrap_or(PodGid::NOBODY)
    }

    /// The owner that a pod's id names on the export, for chown and ACLs.
    ///
    /// # Errors
    /// Where no rule names it and ids without a rule are not kept.
    pub fn owner_named(&self, uid: PodUid) -> Result<NfsUid, Denied> {
        self.user_of(uid).map_err(|_| Denied::NoOwner(uid))
    }

    /// The group that a pod's id names on the export, for chown and ACLs.
    ///
    /// # Errors
    /// Where no rule names it and ids without a rule are not kept.
    pub fn group_named(&self, gid: PodGid) -> Result<NfsGid, Denied> {
        self.group_of(gid).map_err(|_| Denied::NoGroup(gid))
    }

    /// Refuses where something in this scope would be changed and it is read-only.
    ///
    /// # Errors
    /// [`Denied::ReadOnly`].
    pub fn writable(&self, rules: &Rules) -> Result<(), Denied> {
        if rules.read_only { Err(Denied::ReadOnly) } else { Ok(()) }
    }

    /// Whether nothing is translated and nothing refused: shown and stored are the same.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        self.uids.is_empty()
            && self.gids.is_empty()
            && [self.unmapped.pod, self.unmapped.nfs, self.unmapped.root] == [Unmapped::Keep; 3]
            && matches!(self.act_as, ActAs::Caller)
            && self.scopes.all_rules().all(|rules| !rules.apply_to_all)
    }

    /// The path rules.
    #[must_use]
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// What the kernel may cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Where locks are kept.
    #[must_use]
    pub fn lock_scope(&self) -> LockScope {
        self.locks
    }
}

/// What an `unmapped` key makes of an id.
fn unmapped_id(rule: Unmapped<u32>, id: u32) -> Option<u32> {
    match rule {
        Unmapped::Deny => None,
        Unmapped::Keep => Some(id),
        Unmapped::As(other) => Some(other),
    }
}
