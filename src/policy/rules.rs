//! What may hold for an object (modes, groups, chown, read-only), and how a path rule overrides it.
//!
//! Where in the tree which of it holds is not here ([`super::scope`]).

use super::denied::Origin;
use super::match_path::MatchPath;
use super::mode::Permissions;

/// What holds for an object, everything inherited already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

impl Rules {
    /// Whether modes, groups and owners are exactly the backing's own, and everything may be written.
    #[must_use]
    pub fn change_nothing(&self) -> bool {
        *self == Self { chown: self.chown, ..Self::default() }
            && matches!(self.chown, Chown::Absorb | Chown::Pass)
    }
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

/// Where each key of [`Rules`] was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOrigins {
    /// `group_write`.
    pub group_write: Origin,
    /// `setgid`.
    pub setgid: Origin,
    /// `umask`.
    pub umask: Origin,
    /// `apply_to`.
    pub apply_to: Origin,
    /// `chown`.
    pub chown: Origin,
    /// `read_only`.
    pub read_only: Origin,
}

impl Default for RuleOrigins {
    fn default() -> Self {
        Self {
            group_write: Origin::Default("group_write = false"),
            setgid: Origin::Default("setgid = false"),
            umask: Origin::Default("umask = \"caller\""),
            apply_to: Origin::Default("apply_to = \"new\""),
            chown: Origin::Default("chown = \"absorb\""),
            read_only: Origin::Default("read_only = false"),
        }
    }
}

/// A value of a path rule, and where it was written.
pub type Override<T> = Option<(T, Origin)>;

/// One `[[profile.X.path]]`: what it does not give is inherited.
#[derive(Debug, Clone)]
pub struct PathRule {
    /// The prefix.
    pub path: MatchPath,
    /// See [`Rules`].
    pub group_write: Override<bool>,
    /// See [`Rules`].
    pub setgid: Override<bool>,
    /// See [`Rules`]; `Some(None)` goes back to the caller's.
    pub umask: Override<Option<Permissions>>,
    /// See [`Rules`].
    pub apply_to_all: Override<bool>,
    /// See [`Rules`].
    pub chown: Override<Chown>,
    /// See [`Rules`].
    pub read_only: Override<bool>,
    /// Where it was written.
    pub origin: Origin,
}

impl PathRule {
    /// A rule for `path` that overrides nothing yet.
    #[must_use]
    pub fn new(path: MatchPath, origin: Origin) -> Self {
        Self {
            path,
            group_write: None,
            setgid: None,
            umask: None,
            apply_to_all: None,
            chown: None,
            read_only: None,
            origin,
        }
    }

    /// What holds below it, given what holds around it.
    pub(super) fn within(&self, around: &Held) -> Held {
        let mut held = Held { path: Some(self.origin.clone()), ..around.clone() };
        let (rules, origins) = (&mut held.rules, &mut held.origins);
        set(&mut rules.group_write, &mut origins.group_write, &self.group_write);
        set(&mut rules.setgid, &mut origins.setgid, &self.setgid);
        set(&mut rules.umask, &mut origins.umask, &self.umask);
        set(&mut rules.apply_to_all, &mut origins.apply_to, &self.apply_to_all);
        set(&mut rules.chown, &mut origins.chown, &self.chown);
        set(&mut rules.read_only, &mut origins.read_only, &self.read_only);
        held
    }
}

fn set<T: Clone>(value: &mut T, origin: &mut Origin, over: &Override<T>) {
    if let Some((new, written)) = over {
        *value = new.clone();
        *origin = written.clone();
    }
}

/// What holds somewhere, and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What holds.
    pub rules: Rules,
    /// Where each of its keys was written.
    pub origins: RuleOrigins,
    /// The path rule that won; none where only the profile's own keys hold.
    pub path: Option<Origin>,
}
