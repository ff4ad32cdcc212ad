//! What `permfs check` warns of: rules that hold, but hardly say what was meant.

use super::draft::Draft;
use super::error::Warning;
use crate::policy::conflict::Part;
use crate::policy::{ActAs, PathRule, Permissions, Policy, ScopeId, Scopes};

/// Everything odd about one profile.
pub(super) fn lint(draft: &Draft, policy: &Policy) -> Vec<Warning> {
    let mut warnings = Vec::new();
    callers(draft, policy, &mut warnings);
    stand_ins(draft, policy, &mut warnings);
    lenders(draft, policy, &mut warnings);
    masks(draft, &mut warnings);
    paths(draft, policy, &mut warnings);
    warnings
}

fn callers(draft: &Draft, policy: &Policy, warnings: &mut Vec<Warning>) {
    let name = policy.name();
    if let Some(kind) = policy.admits_nobody() {
        let what = format!("profile {name} has no {kind} rule, so every caller is denied");
        let next = format!("add {kind} = [ {{ pod = ..., nfs = ... }} ]");
        warnings.push(Warning::new(draft.header.clone(), what, next));
    }
    for gid in policy.groups_without_rule() {
        let what = format!("groups names {gid}, which no gid rule translates, so it never counts");
        let next = format!("add gid rule {{ pod = {gid}, nfs = ... }}");
        warnings.push(Warning::new(draft.header.clone(), what, next));
    }
    if let Some(mark) = &draft.allow_root
        && draft.profile.allow_root
        && draft.profile.act_as.value != ActAs::Owner
        && !names_root(draft)
    {
        let what = format!("allow_root changes nothing in profile {name}: nothing maps onto id 0");
        warnings.push(Warning::new(mark.clone(), what, "remove it"));
    }
    if let (Some([]), Some(mark)) = (draft.namespaces.as_deref(), &draft.namespaces_mark) {
        let what = format!("namespaces is empty, so no pod may use profile {name}");
        warnings.push(Warning::new(mark.clone(), what, "name a namespace, or remove the key for everyone"));
    }
}

/// Whether the profile would be refused without `allow_root`.
fn names_root(draft: &Draft) -> bool {
    let mut without = draft.profile.clone();
    without.allow_root = false;
    without.build().is_err()
}

/// With `act_as = "owner"` this is refused; otherwise the server still tells them apart.
fn stand_ins(draft: &Draft, policy: &Policy, warnings: &mut Vec<Warning>) {
    if policy.act_as().value != ActAs::Caller {
        return;
    }
    let (uid_rule, gid_rule) = policy.rules_for_stand_in();
    for part in [uid_rule.map(Part::Uid), gid_rule.map(Part::Gid)].into_iter().flatten() {
        let what =
            "owners without a rule are shown as a pod id that this rule maps, so they look like its own";
        warnings.push(Warning::new(draft.mark(part), what, "let unmapped.nfs name an id that no rule does"));
    }
}

/// What is shown as a caller's own is the caller's to use under `act_as = "owner"`: unlike an owner without a rule, these are
/// named, so it is not refused.
fn lenders(draft: &Draft, policy: &Policy, warnings: &mut Vec<Warning>) {
    let (uid_rules, gid_rules) = policy.rules_that_lend();
    for part in uid_rules.into_iter().map(Part::Uid).chain(gid_rules.into_iter().map(Part::Gid)) {
        let what = "with act_as = \"owner\" a caller with the pod id of this one-way rule acts as the owner that it shows";
        let next = "name a pod id that is not admitted, unless its files are meant to be shared";
        warnings.push(Warning::new(draft.mark(part), what, next));
    }
}

fn masks(draft: &Draft, warnings: &mut Vec<Warning>) {
    let rules = &draft.profile.permissions;
    let Some(umask) = rules.umask else { return };
    if rules.group_write && umask.without(umask.without(Permissions::GROUP_RW)) != Permissions::NONE {
        let what = format!("group_write = true overrides the group's part of umask = \"{umask}\"");
        let next = "write a umask without group bits, such as \"0002\", or group_write = false";
        warnings.push(Warning::new(draft.header.clone(), what, next));
    }
}

fn paths(draft: &Draft, policy: &Policy, warnings: &mut Vec<Warning>) {
    for (number, rule) in draft.profile.paths.iter().enumerate() {
        let mark = draft.mark(Part::Path(number));
        if rule.path.names().iter().any(|name| name.iter().any(|byte| b"*?[".contains(byte))) {
            let what = "match has a wildcard in it, which is taken as it is written";
            warnings.push(Warning::new(mark.clone(), what, "write a prefix: everything below it matches"));
        }
        if rule.path.names().is_empty() {
            let what = "match = \"/\" holds everywhere";
            warnings.push(Warning::new(mark.clone(), what, "write its keys in [profile.NAME.permissions]"));
        } else if changes_nothing(policy.scopes(), rule) {
            let what = "this path rule changes nothing: what it says is inherited anyway";
            warnings.push(Warning::new(mark, what, "remove it, or set a key to another value"));
        }
    }
}

/// Whether the same would hold below `rule` without it: what its parent directory has is what it would inherit.
fn changes_nothing(scopes: &Scopes, rule: &PathRule) -> bool {
    let Some((last, above)) = rule.path.names().split_last() else { return false };
    let parent = above.iter().fold(ScopeId::ROOT, |scope, name| scopes.child(scope, name));
    scopes.rules(parent) == scopes.rules(scopes.child(parent, last))
}
