//! Path rules: which of the profile's overrides hold for an object.
//!
//! The tree of `match` prefixes is walked one name at a time as objects are looked up, so no path is ever built on the
//! request path: a [`ScopeId`] is where in that tree an object lies, and the longest matching prefix has won.

use super::denied::Origin;
use super::mode::Permissions;

/// Where in the tree of path rules an object lies. `ScopeId::ROOT` is the mount's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(u16);

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

/// What holds for an object, everything inherited already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// New files g+rw, new directories g+rwx; chmod cannot take it away.
    pub group_write: bool,
    /// New directories are setgid; new objects take the directory's group.
    pub setgid: bool,
    /// A umask in place of the caller's.
    pub umask: Option<Permissions>,
    /// Existing objects are shown, and can be used, as if made under the policy.
    pub apply_to_all: bool,
    /// What a chown means.
    pub chown: Chown,
    /// EROFS for whatever would change something.
    pub read_only: bool,
}

/// The profile's `chown` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chown {
    /// Passed on; where the backing refuses a chown to what is already shown, it succeeds without effect.
    #[default]
    Absorb,
    /// EPERM.
    Deny,
    /// Passed on, and the backing's answer is the answer.
    Pass,
    /// Succeeds without effect.
    Ignore,
}

/// The most places a tree of path rules may have: what a [`ScopeId`] can number.
pub const MAX_SCOPES: usize = 1 << 12;

/// One place in the tree.
#[derive(Debug, Clone)]
struct Place {
    rules: Rules,
    /// The path rule whose prefix ends nearest above or here; none where the profile's own rules hold.
    origin: Option<Origin>,
    children: Vec<(Box<[u8]>, ScopeId)>,
    /// Where everything lies that is below here and on no longer prefix.
    below: ScopeId,
}

/// The tree of path rules of one profile.
#[derive(Debug, Clone)]
pub struct Scopes {
    places: Vec<Place>,
}

/// A path rule to enter in the tree: its prefix, split into names, and what it changes.
pub struct PathRule<'a> {
    /// The names of the prefix; none for the root.
    pub names: Vec<&'a [u8]>,
    /// Makes of the inherited rules the rules that hold from here on.
    pub apply: Box<dyn Fn(&mut Rules) + 'a>,
    /// Where it was written.
    pub origin: Origin,
}

impl Scopes {
    /// The tree of a profile's own rules and its path rules, shortest prefix first, no prefix twice. None past
    /// [`MAX_SCOPES`].
    #[must_use]
    pub fn new(profile: Rules, mut paths: Vec<PathRule<'_>>) -> Option<Self> {
        paths.sort_by_key(|rule| rule.names.len());
        let mut scopes = Self { places: Vec::new() };
        scopes.add(profile, None)?;
        for rule in paths {
            let mut at = ScopeId::ROOT;
            for name in &rule.names {
                at = scopes.step(at, name)?;
            }
            let place = scopes.place_mut(at);
            (rule.apply)(&mut place.rules);
            place.origin = Some(rule.origin);
            let (rules, origin) = (place.rules.clone(), place.origin.clone());
            // What lies below on no prefix of its own holds the same rules; longer prefixes come later and copy them.
            let below = scopes.place(at).below;
            if below != at {
                let below = scopes.place_mut(below);
                (below.rules, below.origin) = (rules, origin);
            }
        }
        Some(scopes)
    }

    /// Where the child called `name` of an object in `parent` lies.
    #[must_use]
    pub fn child(&self, parent: ScopeId, name: &[u8]) -> ScopeId {
        let place = self.place(parent);
        let named = place.children.iter().find(|(child, _)| **child == *name);
        named.map_or(place.below, |(_, at)| *at)
    }

    /// Whether there is more than the root's scope: without path rules nothing needs to be tracked.
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        self.places.iter().all(|place| place.origin.is_none())
    }

    /// What holds there.
    #[must_use]
    pub fn rules(&self, scope: ScopeId) -> &Rules {
        &self.place(scope).rules
    }

    /// The path rule that decides there; none where it is the profile itself.
    #[must_use]
    pub fn origin(&self, scope: ScopeId) -> Option<&Origin> {
        self.place(scope).origin.as_ref()
    }

    /// Every place's rules: for a check of all of them.
    pub fn all_rules(&self) -> impl Iterator<Item = &Rules> {
        self.places.iter().map(|place| &place.rules)
    }

    /// For a file that is reached by two paths: the scope that allows less (read-only wins, then the first seen).
    #[must_use]
    pub fn stricter(&self, first: ScopeId, second: ScopeId) -> ScopeId {
        if self.rules(second).read_only && !self.rules(first).read_only { second } else { first }
    }

    /// Where the object at `path` lies: the walk that lookups do, done at once.
    #[must_use]
    pub fn of_path(&self, path: &[u8]) -> ScopeId {
        path.split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
            .fold(ScopeId::ROOT, |at, name| self.child(at, name))
    }

    /// A scope of another policy, kept across a reload until the next lookup, counts as the root's.
    fn place(&self, scope: ScopeId) -> &Place {
        self.places.get(usize::from(scope.0)).unwrap_or(&self.places[0])
    }

    fn place_mut(&mut self, scope: ScopeId) -> &mut Place {
        &mut self.places[usize::from(scope.0)]
    }

    /// A place of its own whose unnamed children lie in a second one with the same rules.
    fn add(&mut self, rules: Rules, origin: Option<Origin>) -> Option<ScopeId> {
        if self.places.len() + 2 > MAX_SCOPES {
            return None;
        }
        let here = ScopeId(u16::try_from(self.places.len()).ok()?);
        let below = ScopeId(here.0 + 1);
        let place = |rules, origin| Place { rules, origin, children: Vec::new(), below };
        self.places.push(place(rules.clone(), origin.clone()));
        self.places.push(place(rules, origin));
        Some(here)
    }

    /// The child `name` of `parent` as a place of its own.
    fn step(&mut self, parent: ScopeId, name: &[u8]) -> Option<ScopeId> {
        let known = self.place(parent).children.iter().find(|(child, _)| **child == *name);
        if let Some((_, at)) = known {
            return Some(*at);
        }
        let (rules, origin) = (self.place(parent).rules.clone(), self.place(parent).origin.clone());
        let child = self.add(rules, origin)?;
        self.place_mut(parent).children.push((name.into(), child));
        Some(child)
    }
}
