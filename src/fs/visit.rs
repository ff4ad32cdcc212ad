//! How an operation comes to an object: the caller admitted, the object found, its rules at hand.
//!
//! A [`Visit`] is made at the start of a request and gone at its end. Objects are found by handle each time; only
//! directories keep a descriptor, a bounded number of them, because an open reference to a file would make an NFS
//! client silly-rename it on unlink (FACTS).

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use super::inode::Inode;
use super::inodes::lock;
use super::reign::Reign;
use super::{CallerId, Errno, Filesystem, NodeId};
use crate::backing::{BackingFs, Freshness};
use crate::caller::Refused;
use crate::policy::{
    Credentials, Denied, FileKind, NfsGid, NfsUid, Operation, Owner, Rules, ScopeId, ShownAttr, StoredAttr,
};
use crate::sys::sync::Mutex;

/// Directories that keep a descriptor between requests.
const MAX_CACHED_DIRECTORIES: usize = 1024;

/// A resolved object: what the backing takes.
#[derive(Debug)]
pub(super) enum NodeRef<B: BackingFs> {
    /// On a filesystem without handles, the inode's own.
    Pinned(Arc<Inode<B>>),
    /// A directory's cached one.
    Cached(Arc<B::Node>),
    /// Found for this request.
    Fresh(B::Node),
}

impl<B: BackingFs> Deref for NodeRef<B> {
    type Target = B::Node;

    fn deref(&self) -> &B::Node {
        match self {
            Self::Pinned(inode) => inode.pinned.as_ref().expect("made from an inode that is pinned"),
            Self::Cached(node) => node,
            Self::Fresh(node) => node,
        }
    }
}

/// A caller at an object.
#[derive(Debug)]
pub(super) struct Visit<B: BackingFs> {
    /// The policy under which the request began, and is judged.
    pub(super) policy: Arc<Reign>,
    /// The caller's own credentials, whatever `act_as` says.
    pub(super) caller: Arc<Credentials>,
    pub(super) inode: Arc<Inode<B>>,
    /// Where in the policy's tree of path rules the object lies.
    pub(super) scope: ScopeId,
    /// Found when it is first needed.
    node: OnceCell<NodeRef<B>>,
}

impl<B: BackingFs> Visit<B> {
    fn new(policy: Arc<Reign>, caller: Arc<Credentials>, inode: Arc<Inode<B>>, scope: ScopeId) -> Self {
        Self { policy, caller, inode, scope, node: OnceCell::new() }
    }

    /// The object itself.
    ///
    /// # Errors
    /// ESTALE where it is gone.
    pub(super) fn node(&self, fs: &Filesystem<B>) -> Result<&B::Node, Errno> {
        if let Some(node) = self.node.get() {
            return Ok(node);
        }
        let node = fs.resolve(&self.caller, &self.inode)?;
        Ok(self.node.get_or_init(|| node))
    }

    /// What holds for the object.
    pub(super) fn rules(&self) -> &Rules {
        self.policy.scopes().rules(self.scope)
    }

    /// Where the child `name` of this directory lies in the tree of path rules.
    pub(super) fn child_scope(&self, name: super::Name<'_>) -> ScopeId {
        self.policy.scopes().child(self.scope, name.as_bytes())
    }

    /// What holds for the child `name` of this directory.
    pub(super) fn child_rules(&self, name: super::Name<'_>) -> &Rules {
        self.policy.scopes().rules(self.child_scope(name))
    }

    /// EROFS where the object may not change.
    pub(super) fn writable(&self) -> Result<(), Errno> {
        self.policy.writable(self.rules()).map_err(errno_of)
    }

    /// EROFS where this directory, or what is or would be called `name` in it, may not change.
    pub(super) fn child_writable(&self, name: super::Name<'_>) -> Result<(), Errno> {
        self.writable()?;
        self.policy.writable(self.child_rules(name)).map_err(errno_of)
    }
}

/// The error number of a refusal.
pub(crate) fn errno_of(denied: Denied) -> Errno {
    match denied {
        Denied::NoRuleForUid(_) | Denied::NoRuleForGid(_) | Denied::Root | Denied::RootGroup => Errno::EACCES,
        Denied::ReadOnly => Errno::EROFS,
        Denied::NoOwner(_) | Denied::NoGroup(_) => Errno::EOVERFLOW,
        Denied::Chown => Errno::EPERM,
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// Admits the caller and comes to an inode.
    ///
    /// # Errors
    /// EACCES for a caller that the rules deny, ESTALE for an inode that is forgotten.
    pub(super) fn visit(&self, caller: CallerId, node: NodeId) -> Result<Visit<B>, Errno> {
        self.visit_under(self.reign.load_full(), caller, node)
    }

    /// As [`Self::visit`], but a caller that the rules deny looks as the object's owner.
    pub(super) fn visit_to_look(&self, caller: CallerId, node: NodeId) -> Result<Visit<B>, Errno> {
        let reign = self.reign.load_full();
        match self.visit_under(Arc::clone(&reign), caller, node) {
            Err(Errno::EACCES) => self.visit_as(reign, None, node),
            visited => visited,
        }
    }

    fn visit_under(&self, reign: Arc<Reign>, caller: CallerId, node: NodeId) -> Result<Visit<B>, Errno> {
        let caller = reign.callers.admit(&reign.policy, caller).map_err(|refused| match refused {
            Refused::Denied(denied) => errno_of(denied),
            Refused::Anonymous => Errno::EACCES,
        })?;
        self.visit_as(reign, Some(caller), node)
    }

    /// As `who`, or as the object's owner.
    pub(super) fn visit_as(
        &self,
        reign: Arc<Reign>,
        who: Option<Arc<Credentials>>,
        node: NodeId,
    ) -> Result<Visit<B>, Errno> {
        let inode = self.inode(node)?;
        let who = who.unwrap_or_else(|| Arc::new(last_owner(&inode)));
        let scope = self.scope(&reign, &who, &inode);
        Ok(Visit::new(reign, who, inode, scope))
    }

    /// The same caller at another inode: the second directory of a rename, the new one of a link.
    pub(super) fn visit_also(&self, first: &Visit<B>, node: NodeId) -> Result<Visit<B>, Errno> {
        self.visit_as(Arc::clone(&first.policy), Some(Arc::clone(&first.caller)), node)
    }

    /// ESTALE for a number that was never given out, or is forgotten, or lost: the kernel then looks the name up again.
    pub(super) fn inode(&self, node: NodeId) -> Result<Arc<Inode<B>>, Errno> {
        self.inodes.get(node).filter(|inode| !inode.lost).ok_or(Errno::ESTALE)
    }

    /// Finds an inode's object.
    pub(super) fn resolve(&self, who: &Credentials, inode: &Arc<Inode<B>>) -> Result<NodeRef<B>, Errno> {
        if inode.pinned.is_some() {
            return Ok(NodeRef::Pinned(Arc::clone(inode)));
        }
        if inode.kind == FileKind::Directory {
            return self.resolve_directory(who, inode).map(NodeRef::Cached);
        }
        match self.backing.resolve(who, &inode.object) {
            Err(Errno::ESTALE) => resolve_nameless(&self.backing, inode),
            found => found.map(NodeRef::Fresh),
        }
    }

    fn resolve_directory(&self, who: &Credentials, inode: &Arc<Inode<B>>) -> Result<Arc<B::Node>, Errno> {
        if let Some(node) = lock(&inode.live().directory).as_ref() {
            return Ok(Arc::clone(node));
        }
        if let Some(node) = inode.live().removed.get() {
            return Ok(Arc::clone(node));
        }
        let found = match self.backing.resolve(who, &inode.object) {
            Err(Errno::ESTALE) => self.backing.resolve(&last_owner(inode), &inode.object),
            found => found,
        }?;
        let node = Arc::new(found);
        self.directories.keep(inode, &node);
        Ok(node)
    }

    /// Lets go of a directory's descriptor: the server has called it stale, and an NFS client never asks again about
    /// an object that it holds as stale. The handle is asked next time.
    pub fn stale(&self, node: NodeId) {
        if let Some(inode) = self.inodes.get(node)
            && let Some(live) = inode.live_if_any()
        {
            *lock(&live.directory) = None;
        }
    }

    /// Whether a caller's supplementary groups are others than it was last judged by. From now on it is judged by these.
    pub fn has_other_groups(&self, caller: CallerId) -> bool {
        let reign = self.reign.load();
        reign.callers.has_other_groups(&reign.policy, caller)
    }

    /// Who does `operation` at the visited object: decided by the policy, which is told the object's owner only where
    /// that can matter. For `Create` and `Remove` the visited object is the directory.
    pub(super) fn actor<'a>(
        &self,
        at: &'a Visit<B>,
        operation: Operation,
        rules: &Rules,
    ) -> Result<Cow<'a, Credentials>, Errno> {
        if !at.policy.owner_matters(operation, &at.caller, rules) {
            return Ok(at.policy.credentials(operation, &at.caller, None, None, rules));
        }
        let owner = Some(self.owner(at)?);
        let (object, parent) = match operation {
            Operation::Create | Operation::Remove => (None, owner),
            Operation::Look | Operation::Open | Operation::Change => (owner, None),
        };
        Ok(at.policy.credentials(operation, &at.caller, object, parent, rules))
    }

    /// The visited object's owner, as this node knows it.
    pub(super) fn owner(&self, at: &Visit<B>) -> Result<Owner, Errno> {
        let owner = self.backing.stat(at.node(self)?, Freshness::Known)?.owner();
        at.inode.saw_owner(owner);
        Ok(owner)
    }

    /// What the visited object looks like, given what is stored.
    pub(super) fn present(&self, at: &Visit<B>, stored: &StoredAttr) -> ShownAttr {
        at.inode.saw_owner(stored.owner());
        at.policy.present(stored, at.rules())
    }

    /// Does something that the kernel has allowed by the shown mode; where the server then refuses it because the
    /// stored mode allows less (`apply_to = "all"`), the owner brings the stored mode up to the shown one, once.
    pub(super) fn as_shown<T>(
        &self,
        at: &Visit<B>,
        who: &Credentials,
        act: impl Fn(&Credentials) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match act(who) {
            Err(Errno::EACCES) if at.rules().apply_to_all && self.store_shown_mode(at)? => act(who),
            done => done,
        }
    }

    /// Whether there was a difference to store.
    fn store_shown_mode(&self, at: &Visit<B>) -> Result<bool, Errno> {
        let stored = self.backing.stat(at.node(self)?, Freshness::AsStat)?;
        let shown = at.policy.present(&stored, at.rules()).permissions;
        if shown == stored.permissions {
            return Ok(false);
        }
        let owner =
            at.policy.credentials(Operation::Change, &at.caller, Some(stored.owner()), None, at.rules());
        self.backing.chmod(&owner, at.node(self)?, shown)?;
        Ok(true)
    }
}

/// An object that has no name any more: as it was kept at its removal, or through somebody who has it open.
fn resolve_nameless<B: BackingFs>(backing: &B, inode: &Inode<B>) -> Result<NodeRef<B>, Errno> {
    let live = inode.live_if_any().ok_or(Errno::ESTALE)?;
    if let Some(node) = live.removed.get() {
        return Ok(NodeRef::Cached(Arc::clone(node)));
    }
    let open = live.at_hand().ok_or(Errno::ESTALE)?;
    let file = open.file.get().ok_or(Errno::ESTALE)?;
    backing.reference(file).map(NodeRef::Fresh)
}

/// As whom to find an object again where the caller cannot: its owner, or nobody where that is root, who is squashed.
pub(super) fn last_owner<B: BackingFs>(inode: &Inode<B>) -> Credentials {
    let Owner { uid, gid, .. } = inode.last_owner();
    Credentials {
        uid: if uid.is_root() { NfsUid::NOBODY } else { uid },
        gid: if gid.is_root() { NfsGid::NOBODY } else { gid },
        groups: Arc::default(),
    }
}

/// The directories that keep a descriptor, oldest first.
#[derive(Debug)]
pub(super) struct DirectoryCache<B: BackingFs> {
    kept: Mutex<VecDeque<Weak<Inode<B>>>>,
}

impl<B: BackingFs> Default for DirectoryCache<B> {
    fn default() -> Self {
        Self { kept: Mutex::new(VecDeque::new()) }
    }
}

impl<B: BackingFs> DirectoryCache<B> {
    fn keep(&self, inode: &Arc<Inode<B>>, node: &Arc<B::Node>) {
        *lock(&inode.live().directory) = Some(Arc::clone(node));
        let oldest = {
            let mut kept = lock(&self.kept);
            kept.push_back(Arc::downgrade(inode));
            if kept.len() > MAX_CACHED_DIRECTORIES { kept.pop_front() } else { None }
        };
        if let Some(live) =
            oldest.as_ref().and_then(Weak::upgrade).as_ref().and_then(|inode| inode.live_if_any())
        {
            *lock(&live.directory) = None;
        }
    }
}
