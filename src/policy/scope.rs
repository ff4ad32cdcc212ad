//! Path rules: which of the profile's overrides hold for an object.
//!
//! The tree of `match` prefixes is walked one name at a time as objects are looked up, so no path is ever built on the
//! request path: a [`ScopeId`] is where in that tree an object lies, and the longest matching prefix has won.

use super::rules::{Held, PathRule, Rules};

/// Where in the tree of path rules an object lies. `ScopeId::ROOT` is the mount's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(pub(super) u16);

impl ScopeId {
    /// The root of the mount.
    pub const ROOT: Self = Self(0);

    /// The number, for keeping it with an inode.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Back from [`Self::bits`].
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// Why path rules are refused. The numbers are their places in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeFault {
    /// Two rules for one path.
    TwoRules {
        /// The earlier.
        first: usize,
        /// The later.
        second: usize,
    },
    /// The tree would have more places than [`MAX_SCOPES`].
    TooMany {
        /// The rule at which it was found.
        rule: usize,
    },
}

/// The most places a tree of path rules may have: what a [`ScopeId`] can number. Each name in a `match` takes at most
/// two.
pub const MAX_SCOPES: usize = 1 << 16;

/// The tree of path rules of one profile.
#[derive(Debug, Clone)]
pub struct Scopes {
    places: Vec<Place>,
    held: Vec<Held>,
}

/// A place in the tree.
#[derive(Debug, Clone)]
struct Place {
    /// Names under which longer prefixes go on, sorted.
    children: Vec<(Box<[u8]>, ScopeId)>,
    /// Where any other child lies: the same rules hold, and no longer prefix can match.
    elsewhere: ScopeId,
    /// What holds here.
    held: usize,
}

impl Scopes {
    /// The tree of `paths` below what holds everywhere.
    pub fn new(base: Held, paths: &[PathRule]) -> Result<Self, ScopeFault> {
        let mut tree = Self { places: Vec::new(), held: vec![base] };
        tree.places.push(Place { children: Vec::new(), elsewhere: ScopeId::ROOT, held: 0 });
        let mut order: Vec<usize> = (0..paths.len()).collect();
        // Shorter prefixes first, so that what is inherited is there already.
        order.sort_by_key(|&rule| paths[rule].path.names());
        for pair in order.windows(2) {
            if paths[pair[0]].path == paths[pair[1]].path {
                return Err(ScopeFault::TwoRules { first: pair[0], second: pair[1] });
            }
        }
        for rule in order {
            let place = tree.make_place(paths[rule].path.names()).ok_or(ScopeFault::TooMany { rule })?;
            let held = paths[rule].within(&tree.held[tree.places[place].held]);
            tree.places[place].held = tree.held.len();
            tree.held.push(held);
        }
        tree.close().ok_or(ScopeFault::TooMany { rule: paths.len().saturating_sub(1) })?;
        Ok(tree)
    }

    /// Where the child called `name` of an object in `parent` lies.
    #[must_use]
    pub fn child(&self, parent: ScopeId, name: &[u8]) -> ScopeId {
        let place = self.place(parent);
        match place.children.binary_search_by(|(child, _)| (**child).cmp(name)) {
            Ok(at) => place.children[at].1,
            Err(_) => place.elsewhere,
        }
    }

    /// Where a path below the mount's root lies, for `explain`: names are separated by any number of slashes.
    #[must_use]
    pub fn at_path(&self, path: &[u8]) -> ScopeId {
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        names.fold(ScopeId::ROOT, |scope, name| self.child(scope, name))
    }

    /// Whether there is no more than the root's scope: without path rules nothing needs to be tracked.
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        self.places.len() == 1
    }

    /// What holds there.
    #[must_use]
    pub fn rules(&self, scope: ScopeId) -> &Rules {
        &self.held(scope).rules
    }

    /// What holds there, and who says so.
    #[must_use]
    pub fn held(&self, scope: ScopeId) -> &Held {
        &self.held[self.place(scope).held]
    }

    /// Everything that holds anywhere; the first is the profile's own.
    #[must_use]
    pub fn all_held(&self) -> &[Held] {
        &self.held
    }

    /// For a file that is reached by two paths: the scope that allows less (read-only wins, then the first seen).
    #[must_use]
    pub fn stricter(&self, first: ScopeId, second: ScopeId) -> ScopeId {
        let second_wins = self.rules(second).read_only && !self.rules(first).read_only;
        if second_wins { second } else { first }
    }

    /// Whether the path rules are the same, and, where what holds everywhere is, come to the same.
    pub(super) fn decide_like(&self, other: &Self) -> bool {
        let same_base = self.rules(ScopeId::ROOT) == other.rules(ScopeId::ROOT);
        let pairs = || self.places.iter().zip(&other.places);
        let same_held =
            |(one, another): (&Place, &Place)| self.held[one.held].rules == other.held[another.held].rules;
        self.places.len() == other.places.len()
            && pairs().all(|(one, another)| one.children == another.children)
            && (!same_base || pairs().all(same_held))
    }

    /// For what may lie anywhere: a read-only scope, where there is one.
    #[must_use]
    pub fn strictest(&self) -> ScopeId {
        let read_only = self.places.iter().position(|place| self.held[place.held].rules.read_only);
        read_only.and_then(|at| u16::try_from(at).ok()).map_or(ScopeId::ROOT, ScopeId)
    }

    /// A number of another tree is taken for the root's rather than panicked over.
    fn place(&self, scope: ScopeId) -> &Place {
        self.places.get(usize::from(scope.0)).unwrap_or(&self.places[0])
    }

    /// The place of `names`, made where it is not there. None where the tree is full.
    fn make_place(&mut self, names: &[Box<[u8]>]) -> Option<usize> {
        let mut at = 0;
        for name in names {
            at = match self.places[at].children.binary_search_by(|(child, _)| child.cmp(name)) {
                Ok(found) => usize::from(self.places[at].children[found].1.0),
                Err(gap) => {
                    let new = self.push(self.places[at].held)?;
                    self.places[at].children.insert(gap, (name.clone(), new));
                    usize::from(new.0)
                }
            };
        }
        Some(at)
    }

    /// Gives each place that has children a twin without any, for objects that leave the tree there.
    fn close(&mut self) -> Option<()> {
        for at in 0..self.places.len() {
            if !self.places[at].children.is_empty() {
                self.places[at].elsewhere = self.push(self.places[at].held)?;
            }
        }
        Some(())
    }

    fn push(&mut self, held: usize) -> Option<ScopeId> {
        let id = ScopeId(u16::try_from(self.places.len()).ok()?);
        self.places.push(Place { children: Vec::new(), elsewhere: id, held });
        Some(id)
    }
}
