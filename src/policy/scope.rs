//! Path rules: which of the profile's overrides hold for an object.
//!
//! The tree of `match` prefixes is walked one name at a time as objects are looked up, so no path is ever built on the
//! request path: a [`ScopeId`] is where in that tree an object lies, and the longest matching prefix has won.

use super::mode::Permissions;

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

/// The tree of path rules of one profile.
#[derive(Debug, Clone)]
pub struct Scopes {
    _todo: (),
}

impl Scopes {
    /// Where the child called `name` of an object in `parent` lies.
    pub fn child(&self, _parent: ScopeId, _name: &[u8]) -> ScopeId {
        todo!()
    }

    /// Whether there is more than the root's scope: without path rules nothing needs to be tracked.
    pub fn is_trivial(&self) -> bool {
        todo!()
    }

    /// What holds there.
    pub fn rules(&self, _scope: ScopeId) -> &Rules {
        todo!()
    }

    /// For a file that is reached by two paths: the scope that allows less (read-only wins, then the first seen).
    pub fn stricter(&self, _first: ScopeId, _second: ScopeId) -> ScopeId {
        todo!()
    }
}
