//! Where in the tree of path rules an object lies, by the names that it was found by.
//!
//! Kept only where there are path rules. A scope is a number of one policy's tree, and holds until a directory moves from
//! one rule's reach to another's: so it is kept with its [`Epoch`], and found again where that has passed, by the names in
//! their directories up to the root. An inode that was known before there were path rules has no names here. It is found by
//! where its descriptor says that it lies, or by the name that it was last opened by where that still leads to it; and where
//! neither helps, what holds is the strictest rule of all until it is looked up again. So never is more allowed than the rules say.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Filesystem;
use super::inode::Inode;
use super::inodes::lock;
use super::reign::Reign;
use super::visit::Visit;
use super::{Name, NodeId};
use crate::backing::{BackingFs, Freshness};
use crate::policy::{Credentials, FileKind, ScopeId};

/// Names of one file that are remembered; with more than these the strictest rule of all holds for it.
const MAX_NAMES: usize = 8;
/// Directories that are walked up to the root. Only a server that moves directories into each other meanwhile makes it more.
const MAX_DEPTH: usize = 1 << 16;

/// For how long a scope holds: under one policy, and until a directory moves between path rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch {
    reign: u64,
    moves: u64,
}

/// What an inode's path rules follow from.
#[derive(Debug)]
pub(super) struct Place<B: BackingFs> {
    /// One for a directory.
    names: Vec<Named<B>>,
    /// The last reign in which it was found by one of them. A reign without path rules does not follow renames.
    reign: u64,
    /// There are, or may be, names that are not among these.
    more: bool,
    known: Option<(Epoch, ScopeId)>,
}

/// A name in a directory.
#[derive(Debug)]
struct Named<B: BackingFs> {
    parent: Arc<Inode<B>>,
    name: Box<[u8]>,
}

impl<B: BackingFs> Default for Place<B> {
    fn default() -> Self {
        Self { names: Vec::new(), reign: 0, more: false, known: None }
    }
}

impl<B: BackingFs> Clone for Named<B> {
    fn clone(&self) -> Self {
        Self { parent: Arc::clone(&self.parent), name: self.name.clone() }
    }
}

impl<B: BackingFs> Named<B> {
    fn is(&self, parent: &Arc<Inode<B>>, name: &[u8]) -> bool {
        Arc::ptr_eq(&self.parent, parent) && *self.name == *name
    }
}

impl<B: BackingFs> Place<B> {
    /// It was found by this name, which is its only one unless it has `several`.
    fn found(&mut self, reign: &Reign, parent: &Arc<Inode<B>>, name: &[u8], several: bool) {
        self.forget_older(reign);
        self.reign = self.reign.max(reign.number);
        if !several {
            self.more = false;
            match self.names.as_slice() {
                [only] if only.is(parent, name) => return,
                _ => self.names.clear(),
            }
        }
        if self.names.iter().any(|known| known.is(parent, name)) {
            return;
        }
        if self.names.len() == MAX_NAMES {
            self.more = true;
        } else {
            self.names.push(Named { parent: Arc::clone(parent), name: name.into() });
        }
    }
}

impl<B: BackingFs> Place<B> {
    /// Names that may have been moved unseen say nothing.
    fn forget_older(&mut self, reign: &Reign) {
        if self.reign < reign.names_since {
            self.names.clear();
            self.more = false;
        }
    }
}

impl<B: BackingFs> Inode<B> {
    /// There are no path rules any more.
    pub(super) fn forget_place(&self) {
        *lock(&self.place) = None;
    }

    fn with_place<T>(&self, act: impl FnOnce(&mut Place<B>) -> T) -> T {
        act(lock(&self.place).get_or_insert_default())
    }

    fn scope_in(&self, epoch: Epoch) -> Option<ScopeId> {
        let place = lock(&self.place);
        place.as_ref()?.known.filter(|(then, _)| *then == epoch).map(|(_, scope)| scope)
    }

    /// A request of an older reign does not undo what a newer one has found.
    fn keep_scope(&self, epoch: Epoch, scope: ScopeId) {
        self.with_place(|place| {
            if place.known.is_none_or(|(then, _)| then <= epoch) {
                place.known = Some((epoch, scope));
            }
        });
    }

    fn names(&self, reign: &Reign) -> (Vec<Named<B>>, bool) {
        self.with_place(|place| {
            place.forget_older(reign);
            (place.names.clone(), place.more)
        })
    }

    fn only_name(&self, reign: &Reign) -> Option<Named<B>> {
        self.with_place(|place| {
            place.forget_older(reign);
            place.names.first().cloned()
        })
    }
}

impl<B: BackingFs> Filesystem<B> {
    /// Which path rules hold for an inode; `who` is asked for where it has to be looked for.
    pub(super) fn scope(&self, reign: &Reign, who: &Credentials, inode: &Arc<Inode<B>>) -> ScopeId {
        if reign.scopes().is_trivial() {
            return ScopeId::ROOT;
        }
        if inode.kind == FileKind::Directory {
            return self.directory_scope(reign, who, inode);
        }
        let epoch = self.epoch(reign);
        if let Some(known) = inode.scope_in(epoch) {
            return known;
        }
        let scope = self.scope_by_names(reign, who, inode).unwrap_or_else(|| self.search(reign, who, inode));
        inode.keep_scope(epoch, scope);
        scope
    }

    /// An inode was found as `name` in the visited directory.
    pub(super) fn place(
        &self,
        at: &Visit<B>,
        inode: &Arc<Inode<B>>,
        name: Name<'_>,
        several: bool,
    ) -> ScopeId {
        if at.policy.scopes().is_trivial() {
            return ScopeId::ROOT;
        }
        inode.with_place(|place| place.found(&at.policy, &at.inode, name.as_bytes(), several));
        let by_names = several.then(|| self.scope_by_names(&at.policy, &at.caller, inode)).flatten();
        let scope = by_names.unwrap_or_else(|| at.child_scope(name));
        inode.keep_scope(self.epoch(&at.policy), scope);
        scope
    }

    /// The visited file was given one name more, `name` in `to`.
    pub(super) fn place_link(&self, at: &Visit<B>, to: &Visit<B>, name: Name<'_>) -> ScopeId {
        if at.policy.scopes().is_trivial() {
            return ScopeId::ROOT;
        }
        at.inode.with_place(|place| {
            place.forget_older(&at.policy);
            let unknown = place.names.is_empty();
            place.found(&at.policy, &to.inode, name.as_bytes(), true);
            place.more |= unknown;
        });
        let scope = at.policy.scopes().stricter(at.scope, to.child_scope(name));
        at.inode.keep_scope(self.epoch(&at.policy), scope);
        scope
    }

    fn epoch(&self, reign: &Reign) -> Epoch {
        Epoch { reign: reign.number, moves: self.moves.load(Ordering::Relaxed) }
    }

    /// Up to a directory whose scope is known, and down again.
    fn directory_scope(&self, reign: &Reign, who: &Credentials, directory: &Arc<Inode<B>>) -> ScopeId {
        let epoch = self.epoch(reign);
        let mut way = Vec::new();
        let mut at = Arc::clone(directory);
        let mut scope = loop {
            if at.id == NodeId::ROOT {
                break ScopeId::ROOT;
            }
            if let Some(known) = at.scope_in(epoch) {
                break known;
            }
            let Some(Named { parent, name }) = at.only_name(reign).filter(|_| way.len() < MAX_DEPTH) else {
                let found = self.search(reign, who, &at);
                at.keep_scope(epoch, found);
                break found;
            };
            way.push((at, name));
            at = parent;
        };
        for (inode, name) in way.into_iter().rev() {
            scope = reign.scopes().child(scope, &name);
            inode.keep_scope(epoch, scope);
        }
        scope
    }

    /// The strictest of what its names lead to; none where it has none.
    fn scope_by_names(&self, reign: &Reign, who: &Credentials, inode: &Inode<B>) -> Option<ScopeId> {
        let (names, more) = inode.names(reign);
        let scopes = reign.scopes();
        let each = names
            .iter()
            .map(|named| scopes.child(self.directory_scope(reign, who, &named.parent), &named.name));
        let strictest = each.reduce(|one, other| scopes.stricter(one, other))?;
        Some(if more { scopes.stricter(strictest, scopes.strictest()) } else { strictest })
    }

    /// By where the object says that it lies, else by the name it was last opened by; else the strictest there is.
    fn search(&self, reign: &Reign, who: &Credentials, inode: &Arc<Inode<B>>) -> ScopeId {
        let scopes = reign.scopes();
        self.scope_by_path(reign, who, inode)
            .or_else(|| self.scope_by_hint(reign, who, inode))
            .unwrap_or_else(|| scopes.strictest())
    }

    fn scope_by_path(&self, reign: &Reign, who: &Credentials, inode: &Arc<Inode<B>>) -> Option<ScopeId> {
        let node = self.resolve(who, inode).ok()?;
        let has_one_name = inode.kind == FileKind::Directory
            || self.backing.stat(&node, Freshness::Known).is_ok_and(|attr| attr.nlink == 1);
        let path = has_one_name.then(|| self.backing.path(&node)).flatten()?;
        Some(reign.scopes().at_path(&path))
    }

    fn scope_by_hint(&self, reign: &Reign, who: &Credentials, inode: &Inode<B>) -> Option<ScopeId> {
        let hint = self.names.recall(inode.id)?;
        let parent = self.inodes.get(hint.parent)?;
        let name = hint.name().ok()?;
        let found = self.backing.find(who, &*self.resolve(who, &parent).ok()?, name).ok()?;
        let leads_to_it = found.id == inode.object && found.attr.nlink == 1;
        leads_to_it.then(|| reign.scopes().child(self.directory_scope(reign, who, &parent), name.as_bytes()))
    }
}
