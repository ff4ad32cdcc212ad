//! `[profile.NAME]`: from TOML to the policy's words.

use super::draft::Draft;
use super::identity;
use super::keys;
use super::path::path_rule;
use super::reader::{Faults, Section};
use super::values;
use crate::policy::conflict::Part;
use crate::policy::rules::{Override, RuleOrigins};
use crate::policy::{Chown, DataPath, LockScope, OpenPolicy, Origin, Permissions, Rules};

pub(super) const APPLY_TO: &[(&str, bool)] = &[("new", false), ("all", true)];
pub(super) const CHOWN: &[(&str, Chown)] =
    &[("absorb", Chown::Absorb), ("deny", Chown::Deny), ("pass", Chown::Pass), ("ignore", Chown::Ignore)];
const DATA: &[(&str, DataPath)] = &[
    ("auto", DataPath::Auto),
    ("passthrough", DataPath::Passthrough),
    ("page", DataPath::Page),
    ("none", DataPath::None),
];
const OPEN: &[(&str, OpenPolicy)] = &[("revalidate", OpenPolicy::Revalidate), ("trust", OpenPolicy::Trust)];
const LOCKS: &[(&str, LockScope)] = &[("server", LockScope::Server), ("node", LockScope::Node)];

/// Reads the profile called `name`.
pub(super) fn read(name: &str, section: &Section<'_>, faults: &mut Faults) -> Draft {
    let mut draft = Draft::new(name, faults.mark(section.start()));
    identity::read(section, &mut draft, faults);
    draft.profile.allow_root = section.boolean("allow_root", faults).unwrap_or(false);
    draft.allow_root = section.span_of("allow_root").map(|span| faults.mark(span));
    if let Some(section) = section.table("permissions", keys::PERMISSIONS, faults) {
        permissions(&section, &mut draft, faults);
    }
    if let Some(section) = section.table("cache", keys::CACHE, faults) {
        cache(&section, &mut draft, faults);
    }
    if let Some(section) = section.table("locks", keys::LOCKS, faults) {
        draft.profile.lock_scope = section.word("scope", LOCKS, faults).unwrap_or_default();
    }
    for value in section.list("path", "[[profile.NAME.path]]", faults).unwrap_or_default() {
        path_rule(value, &mut draft, faults);
    }
    draft.namespaces = super::csi::namespaces(section, faults);
    draft.namespaces_mark = section.span_of("namespaces").map(|span| faults.mark(span));
    draft
}

fn permissions(section: &Section<'_>, draft: &mut Draft, faults: &mut Faults) {
    let Keys { group_write, setgid, umask, apply_to_all, chown, read_only } = Keys::read(section, faults);
    let (rules, origins): (&mut Rules, &mut RuleOrigins) =
        (&mut draft.profile.permissions, &mut draft.profile.permission_origins);
    set(&mut rules.group_write, &mut origins.group_write, group_write);
    set(&mut rules.setgid, &mut origins.setgid, setgid);
    set(&mut rules.umask, &mut origins.umask, umask);
    set(&mut rules.apply_to_all, &mut origins.apply_to, apply_to_all);
    set(&mut rules.chown, &mut origins.chown, chown);
    set(&mut rules.read_only, &mut origins.read_only, read_only);
    draft.place(Part::ApplyTo, section.span_of("apply_to"));
}

fn set<T>(value: &mut T, origin: &mut Origin, read: Override<T>) {
    if let Some((new, written)) = read {
        *value = new;
        *origin = written;
    }
}

/// The keys that `permissions` and path rules share.
pub(super) struct Keys {
    pub(super) group_write: Override<bool>,
    pub(super) setgid: Override<bool>,
    pub(super) umask: Override<Option<Permissions>>,
    pub(super) apply_to_all: Override<bool>,
    pub(super) chown: Override<Chown>,
    pub(super) read_only: Override<bool>,
}

impl Keys {
    pub(super) fn read(section: &Section<'_>, faults: &mut Faults) -> Self {
        let umask = section.get("umask").and_then(|value| values::umask(value, faults));
        let group_write = section.boolean("group_write", faults);
        let setgid = section.boolean("setgid", faults);
        let apply_to_all = section.word("apply_to", APPLY_TO, faults);
        let chown = section.word("chown", CHOWN, faults);
        let read_only = section.boolean("read_only", faults);
        let origin = |key: &str| {
            let mark = section.span_of(key).map(|span| faults.mark(span));
            mark.map_or(Origin::Default("permissions"), |mark| mark.origin())
        };
        Self {
            group_write: group_write.map(|value| (value, origin("group_write"))),
            setgid: setgid.map(|value| (value, origin("setgid"))),
            umask: umask.map(|value| (value, origin("umask"))),
            apply_to_all: apply_to_all.map(|value| (value, origin("apply_to"))),
            chown: chown.map(|value| (value, origin("chown"))),
            read_only: read_only.map(|value| (value, origin("read_only"))),
        }
    }
}

fn cache(section: &Section<'_>, draft: &mut Draft, faults: &mut Faults) {
    let cache = &mut draft.profile.cache;
    let timeouts = [
        ("attr_timeout", &mut cache.attr_timeout),
        ("entry_timeout", &mut cache.entry_timeout),
        ("negative_timeout", &mut cache.negative_timeout),
    ];
    for (key, timeout) in timeouts {
        if let Some(read) = section.get(key).and_then(|value| values::duration(key, value, faults)) {
            *timeout = read;
        }
    }
    cache.data = section.word("data", DATA, faults).unwrap_or_default();
    cache.open = section.word("open", OPEN, faults).unwrap_or_default();
    draft.place(Part::CacheOpen, section.span_of("open"));
}
