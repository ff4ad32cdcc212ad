//! From a profile to a policy: what may not be, and the compilation of what may.

use super::conflict::{Conflict, Fault, Part};
use super::id_map::{MapFault, Span};
use super::ids::Id;
use super::profile::{ActAs, UnmappedOrigins};
use super::scope::ScopeFault;
use super::translation::Translation;
use super::*;

/// The policy of `profile`, or everything that forbids it.
pub(super) fn compile(profile: Profile) -> Result<Policy, Vec<Conflict>> {
    let mut conflicts = root_conflicts(&profile);
    conflicts.extend(apply_to_conflicts(&profile));
    let base =
        Held { rules: profile.permissions.clone(), origins: profile.permission_origins.clone(), path: None };
    let uid_map = IdMap::new(profile.uid.clone());
    let gid_map = IdMap::new(profile.gid.clone());
    let scopes = Scopes::new(base, &profile.paths);
    conflicts.extend(map_conflicts(&uid_map, &profile.uid, Part::Uid));
    conflicts.extend(map_conflicts(&gid_map, &profile.gid, Part::Gid));
    conflicts.extend(scopes.as_ref().err().map(scope_conflict));
    let (Ok(uid_map), Ok(gid_map), Ok(scopes)) = (uid_map, gid_map, scopes) else {
        return Err(conflicts);
    };
    let unmapped = &profile.unmapped;
    let uids = Translation {
        map: uid_map,
        pod: unmapped.pod.value.0,
        root: unmapped.root.value.0,
        nfs: unmapped.nfs.value.0,
        nobody: PodUid::NOBODY,
    };
    let gids = Translation {
        map: gid_map,
        pod: unmapped.pod.value.1,
        root: unmapped.root.value.1,
        nfs: unmapped.nfs.value.1,
        nobody: PodGid::NOBODY,
    };
    let owner = profile.act_as.value == ActAs::Owner;
    conflicts.extend(collisions(&uids, owner, Part::Uid));
    conflicts.extend(collisions(&gids, owner, Part::Gid));
    let read_only = scopes.all_held().iter().all(|held| held.rules.read_only);
    if profile.cache.open == OpenPolicy::Trust && !read_only {
        conflicts.push(Conflict { fault: Fault::TrustNeedsReadOnly, at: Part::CacheOpen, with: None });
    }
    if profile.cache.open == OpenPolicy::Trust && profile.cache.data == DataPath::Passthrough {
        conflicts.push(Conflict { fault: Fault::TrustNeedsPages, at: Part::CacheOpen, with: None });
    }
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    Ok(Policy {
        name: profile.name,
        uids,
        gids,
        unmapped_origins: UnmappedOrigins {
            pod: profile.unmapped.pod.origin,
            nfs: profile.unmapped.nfs.origin,
            root: profile.unmapped.root.origin,
        },
        allow_root: profile.allow_root,
        act_as: profile.act_as,
        groups: profile.groups,
        scopes,
        cache: profile.cache,
        lock_scope: profile.lock_scope,
        no_groups: [].into(),
    })
}

/// Whatever could make somebody root on the export without `allow_root`. `root = "keep"` says so by itself.
fn root_conflicts(profile: &Profile) -> Vec<Conflict> {
    fn is_root<U: Id, G: Id>((uid, gid): (Unmapped<U>, Unmapped<G>)) -> bool {
        let uid_root = matches!(uid, Unmapped::As(uid) if uid.get() == 0);
        uid_root || matches!(gid, Unmapped::As(gid) if gid.get() == 0)
    }
    if profile.allow_root {
        return Vec::new();
    }
    let mut parts = Vec::new();
    parts.extend(rules_onto_root(&profile.uid).map(Part::Uid));
    parts.extend(rules_onto_root(&profile.gid).map(Part::Gid));
    if is_root(profile.unmapped.pod.value) {
        parts.push(Part::UnmappedPod);
    }
    if is_root(profile.unmapped.root.value) {
        parts.push(Part::UnmappedRoot);
    }
    if let ActAs::Fixed(fixed) = &profile.act_as.value
        && (fixed.uid.is_root() || fixed.is_member(NfsGid::ROOT))
    {
        parts.push(Part::ActAs);
    }
    parts.into_iter().map(|at| Conflict { fault: Fault::Root, at, with: None }).collect()
}

fn rules_onto_root<P: Id, N: Id>(rules: &[Rule<P, N>]) -> impl Iterator<Item = usize> {
    let onto_root =
        |rule: &Rule<P, N>| rule.nfs_first.get() == 0 && rule.direction.inbound() && !rule.allow_root;
    rules.iter().enumerate().filter(move |(_, rule)| onto_root(rule)).map(|(at, _)| at)
}

/// Showing what is not enforced would deny by EACCES what the shown mode grants, unless we act as the owner.
fn apply_to_conflicts(profile: &Profile) -> Vec<Conflict> {
    if profile.act_as.value == ActAs::Owner {
        return Vec::new();
    }
    let everywhere = profile.permissions.apply_to_all.then_some(Part::ApplyTo);
    let paths = profile.paths.iter().enumerate();
    let below = paths.filter(|(_, path)| matches!(path.apply_to_all, Some((true, _))));
    let parts = everywhere.into_iter().chain(below.map(|(at, _)| Part::PathApplyTo(at)));
    parts.map(|at| Conflict { fault: Fault::ApplyToNeedsOwner, at, with: Some(Part::ActAs) }).collect()
}

fn map_conflicts<P: Id, N: Id>(
    map: &Result<IdMap<P, N>, Vec<MapFault<P, N>>>,
    rules: &[Rule<P, N>],
    part: fn(usize) -> Part,
) -> Vec<Conflict> {
    let one = |fault, rule| Conflict { fault, at: part(rule), with: None };
    let two = |fault, first, second| Conflict { fault, at: part(second), with: Some(part(first)) };
    let conflict = |fault: &MapFault<P, N>| match *fault {
        MapFault::Reversed { rule } => one(Fault::Reversed, rule),
        MapFault::UnequalWidth { rule } => {
            let Rule { pod_first, pod_last, nfs_first, nfs_last, .. } = &rules[rule];
            let (pod, nfs) = (width(*pod_first, *pod_last), width(*nfs_first, *nfs_last));
            one(Fault::UnequalWidth { pod, nfs }, rule)
        }
        MapFault::TwoRules { first, second, pod } => two(Fault::TwoRules { pod: pod.get() }, first, second),
        MapFault::AmbiguousInverse { first, second, nfs } => {
            two(Fault::AmbiguousInverse { nfs: nfs.get() }, first, second)
        }
        MapFault::ShownAsMissing { rule } => {
            let (nfs, pod) = (rules[rule].nfs_first.get(), rules[rule].pod_first.get());
            one(Fault::ShownAsMissing { nfs, pod }, rule)
        }
        MapFault::ShownAsElsewhere { rule } => {
            let shown = rules[rule].shown_as.map_or(0, Id::get);
            one(Fault::ShownAsElsewhere { shown, nfs: rules[rule].nfs_first.get() }, rule)
        }
        MapFault::ShownAsUnused { rule } => one(Fault::ShownAsUnused, rule),
    };
    map.as_ref().err().into_iter().flatten().map(conflict).collect()
}

fn width<T: Id>(first: T, last: T) -> u64 {
    u64::from(last.get()) - u64::from(first.get()) + 1
}

fn scope_conflict(fault: &ScopeFault) -> Conflict {
    match *fault {
        ScopeFault::TwoRules { first, second } => {
            Conflict { fault: Fault::TwoPaths, at: Part::Path(second), with: Some(Part::Path(first)) }
        }
        ScopeFault::TooMany { rule } => {
            Conflict { fault: Fault::TooManyPaths, at: Part::Path(rule), with: None }
        }
    }
}

/// Two ids that would look the same, or act as the same, where only one of them was meant to.
fn collisions<P: Id, N: Id>(ids: &Translation<P, N>, owner: bool, part: fn(usize) -> Part) -> Vec<Conflict> {
    let mut found = Vec::new();
    if ids.nfs == UnmappedOwner::Keep {
        for span in ids.map.outbound().iter().filter(|span| !span.is_identity()) {
            if let Some((nfs, shown)) = first_kept(span, ids.map.outbound(), 0) {
                let fault = Fault::Presentation { nfs: nfs.get(), shown };
                found.push(Conflict { fault, at: part(span.rule), with: Some(Part::UnmappedNfs) });
            }
        }
    }
    if ids.pod == Unmapped::Keep {
        for span in ids.map.inbound().iter().filter(|span| !span.is_identity()) {
            // The number 0 is not kept by unmapped.pod: unmapped.root decides it.
            if let Some((pod, nfs)) = first_kept(span, ids.map.inbound(), 1) {
                let fault = Fault::Authority { pod: pod.get(), nfs };
                found.push(Conflict { fault, at: part(span.rule), with: Some(Part::UnmappedPod) });
            }
        }
    }
    if let (UnmappedOwner::As(pod), true) = (ids.nfs, owner)
        && let Some(rule) = ids.map.rule_number_for_pod(pod)
    {
        let fault = Fault::StandIn { pod: pod.get() };
        found.push(Conflict { fault, at: part(rule), with: Some(Part::UnmappedNfs) });
    }
    found
}

/// The first number, from `least` on, in where `span` goes that no span of its own side starts from, so that it is
/// kept; with the id of `span` that goes there.
fn first_kept<A: Id, B: Id>(span: &Span<A, B>, all: &[Span<A, B>], least: u32) -> Option<(A, u32)> {
    let (first, last) = span.image();
    let mut number = first.get().max(least);
    let start = all.partition_point(|other| other.last.get() < number);
    for other in &all[start..] {
        if other.first.get() > number {
            break;
        }
        // Ids end below u32::MAX, so this cannot wrap.
        number = other.last.get() + 1;
    }
    let within = number <= last.get();
    let source = span.first.get().checked_add(number.checked_sub(first.get())?).and_then(A::new)?;
    within.then_some((source.min(span.last), number))
}
