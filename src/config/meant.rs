//! From a profile as written to the policy as meant: defaults filled in, everything inherited, every refusal made.

use std::ops::Range;

use super::checks::{self, Kept};
use super::error::{Problem, Source, Warning};
use super::table::At;
use super::written::{
    WrittenActAs, WrittenGroups, WrittenProfile, WrittenRule, WrittenRules, WrittenUnmapped,
};
use crate::policy::ids::Id;
use crate::policy::{
    ActAs, Cache, Credentials, DataPath, Direction, Groups, IdMap, OpenPolicy, Origin, PathRule, Policy,
    Rule, Rules, Scopes, Unmapped, UnmappedIds,
};

/// The policy, and what looks like a mistake in it.
pub(super) fn policy(
    name: &str,
    written: &WrittenProfile<'_>,
    source: &Source,
    origin_of: &dyn Fn(&Range<usize>) -> Origin,
) -> Result<(Policy, Vec<Warning>), Problem> {
    let kept = Kept {
        pod: written.unmapped_pod.as_ref(),
        nfs: written.unmapped_nfs.as_ref(),
        root: written.unmapped_root.as_ref(),
    };
    checks::check("uid", &written.uids, &kept, written.allow_root)?;
    checks::check("gid", &written.gids, &kept, written.allow_root)?;
    for (key, what) in [(kept.pod, "unmapped.pod"), (kept.root, "unmapped.root")] {
        if let Some(At { value: WrittenUnmapped::As(id), span }) = key {
            checks::check_number(*id, span, what, written.allow_root)?;
        }
    }
    let policy = Policy {
        name: name.into(),
        uids: map(&written.uids, origin_of),
        gids: map(&written.gids, origin_of),
        unmapped: unmapped(written, origin_of),
        act_as: act_as(written)?,
        groups: match &written.groups {
            WrittenGroups::Process => Groups::Process,
            WrittenGroups::None => Groups::None,
            WrittenGroups::Fixed(groups) => Groups::Fixed(groups.as_slice().into()),
        },
        scopes: scopes(written, origin_of)?,
        cache: cache(written),
        locks: written.locks,
    };
    check_cache(written, &policy)?;
    let warnings =
        warnings(written, &policy).into_iter().map(|problem| Warning::new(source, problem)).collect();
    Ok((policy, warnings))
}

fn map<P: Id, N: Id>(
    written: &[WrittenRule<P, N>],
    origin_of: &dyn Fn(&Range<usize>) -> Origin,
) -> IdMap<P, N> {
    let stated = |rule: &WrittenRule<P, N>| {
        let other = |other: &&WrittenRule<P, N>| {
            other.shown_as.is_some()
                && other.nfs.value == rule.nfs.value
                && other.direction != Direction::PodToNfs
        };
        rule.shown_as.is_none() && written.iter().find(other).is_some()
    };
    let rule = |rule: &WrittenRule<P, N>| Rule {
        pod_first: rule.pod.value.first,
        pod_last: rule.pod.value.last,
        nfs_first: rule.nfs.value.first,
        nfs_last: rule.nfs.value.last,
        shown_as: rule.shown_as.as_ref().map(|at| at.value),
        // Another rule says what this NFS id is shown as.
        direction: if stated(rule) { Direction::PodToNfs } else { rule.direction },
        origin: origin_of(&rule.span),
    };
    IdMap::new(written.iter().map(rule).collect())
}

fn unmapped(written: &WrittenProfile<'_>, origin_of: &dyn Fn(&Range<usize>) -> Origin) -> UnmappedIds {
    let key = |at: &Option<At<WrittenUnmapped>>, default, text| match at {
        None => (default, Origin::Default(text)),
        Some(at) => {
            let meant = match at.value {
                WrittenUnmapped::Deny => Unmapped::Deny,
                WrittenUnmapped::Keep => Unmapped::Keep,
                WrittenUnmapped::Nobody => Unmapped::As(NOBODY),
                WrittenUnmapped::As(id) => Unmapped::As(id),
            };
            (meant, origin_of(&at.span))
        }
    };
    let (pod, pod_origin) = key(&written.unmapped_pod, Unmapped::Deny, "unmapped.pod = \"deny\"");
    let (nfs, nfs_origin) = key(&written.unmapped_nfs, Unmapped::As(NOBODY), "unmapped.nfs = \"nobody\"");
    let (root, root_origin) = key(&written.unmapped_root, Unmapped::Deny, "unmapped.root = \"deny\"");
    UnmappedIds { pod, pod_origin, nfs, nfs_origin, root, root_origin }
}

/// The kernel's overflow id.
const NOBODY: u32 = 65534;

fn act_as(written: &WrittenProfile<'_>) -> Result<ActAs, Problem> {
    match &written.act_as.value {
        WrittenActAs::Caller => Ok(ActAs::Caller),
        WrittenActAs::Owner => Ok(ActAs::Owner),
        WrittenActAs::Fixed { uid, gid, groups } => {
            checks::check_number(uid.value.get(), &uid.span, "act_as.uid", written.allow_root)?;
            for group in [gid].into_iter().chain(groups) {
                checks::check_number(group.value.get(), &group.span, "act_as.gid", written.allow_root)?;
            }
            Ok(ActAs::Fixed(Credentials::new(uid.value, gid.value, groups.iter().map(|at| at.value))))
        }
    }
}

fn scopes(
    written: &WrittenProfile<'_>,
    origin_of: &dyn Fn(&Range<usize>) -> Origin,
) -> Result<Scopes, Problem> {
    check_apply_to(&written.rules, written)?;
    for (at, path) in written.paths.iter().enumerate() {
        check_apply_to(&path.rules, written)?;
        if let Some(earlier) = written.paths[..at].iter().find(|other| other.names.value == path.names.value)
        {
            return Err(Problem::new(&path.names.span, "two path rules for one path", "merge them into one")
                .here("the second")
                .also(&earlier.names.span, "the first"));
        }
    }
    let mut profile = Rules {
        group_write: false,
        setgid: false,
        umask: None,
        apply_to_all: false,
        chown: crate::policy::Chown::default(),
        read_only: false,
    };
    overlay(&mut profile, &written.rules);
    let paths = written.paths.iter().map(|path| PathRule {
        names: path.names.value.clone(),
        apply: Box::new(|rules| overlay(rules, &path.rules)),
        origin: origin_of(&path.span),
    });
    Scopes::new(profile, paths.collect()).ok_or_else(|| {
        let last = written.paths.last().map_or(0..0, |path| path.span.clone());
        Problem::new(&last, "too many path rules", "a profile may name 2,000 directories in its path rules")
    })
}

/// The keys that are given replace the inherited ones.
fn overlay(rules: &mut Rules, written: &WrittenRules) {
    fn set<T: Copy>(rule: &mut T, written: Option<&At<T>>) {
        if let Some(at) = written {
            *rule = at.value;
        }
    }
    set(&mut rules.group_write, written.group_write.as_ref());
    set(&mut rules.setgid, written.setgid.as_ref());
    set(&mut rules.umask, written.umask.as_ref());
    set(&mut rules.apply_to_all, written.apply_to_all.as_ref());
    set(&mut rules.chown, written.chown.as_ref());
    set(&mut rules.read_only, written.read_only.as_ref());
}

fn check_apply_to(rules: &WrittenRules, profile: &WrittenProfile<'_>) -> Result<(), Problem> {
    match &rules.apply_to_all {
        Some(all) if all.value && !matches!(profile.act_as.value, WrittenActAs::Owner) => Err(Problem::new(
            &all.span,
            "apply_to = \"all\" shows rights that only the owner has at the server",
            "add act_as = \"owner\" to the profile, or write apply_to = \"new\"",
        )),
        _ => Ok(()),
    }
}

fn cache(written: &WrittenProfile<'_>) -> Cache {
    let (default, cache) = (Cache::default(), &written.cache);
    Cache {
        attr_timeout: cache.attr_timeout.as_ref().map_or(default.attr_timeout, |at| at.value),
        entry_timeout: cache.entry_timeout.as_ref().map_or(default.entry_timeout, |at| at.value),
        negative_timeout: cache.negative_timeout.as_ref().map_or(default.negative_timeout, |at| at.value),
        data: cache.data.as_ref().map_or(default.data, |at| at.value),
        open: cache.open.as_ref().map_or(default.open, |at| at.value),
    }
}

fn check_cache(written: &WrittenProfile<'_>, policy: &Policy) -> Result<(), Problem> {
    let writable = policy.scopes.all_rules().any(|rules| !rules.read_only);
    match &written.cache.open {
        Some(open) if open.value == OpenPolicy::Trust && writable => Err(Problem::new(
            &open.span,
            "cache.open = \"trust\" needs a mount on which nothing can be written",
            "add read_only = true to [profile.X.permissions], or write open = \"revalidate\"",
        )),
        Some(open) if open.value == OpenPolicy::Trust && policy.cache.data == DataPath::None => {
            Err(Problem::new(
                &open.span,
                "cache.open = \"trust\" keeps content that cache.data = \"none\" throws away",
                "remove one of them",
            ))
        }
        _ => Ok(()),
    }
}

fn warnings(written: &WrittenProfile<'_>, policy: &Policy) -> Vec<Problem> {
    let mut found = Vec::new();
    let deny = |rule| rule == Unmapped::Deny;
    let denied = deny(policy.unmapped.pod) && deny(policy.unmapped.root);
    let span = &written.act_as.span;
    if denied && !policy.uids.rules().iter().any(Rule::inbound) {
        found.push(Problem::new(
            span,
            "no uid rule: every caller is refused",
            "add uid = [ { pod = 50000, nfs = 2001 } ]",
        ));
    } else if denied
        && !matches!(policy.act_as, ActAs::Fixed(_))
        && !policy.gids.rules().iter().any(Rule::inbound)
    {
        found.push(Problem::new(
            span,
            "no gid rule: every caller is refused, since its group has no rule",
            "add gid = [ { pod = 0, nfs = 2001 } ]",
        ));
    }
    for path in &written.paths {
        let scope = policy.scopes.of_path(&path.names.value.join(&b'/'));
        let parent = path.names.value.split_last().map_or(&[][..], |(_, parent)| parent);
        if !parent.is_empty() || !path.names.value.is_empty() {
            let above = policy.scopes.of_path(&parent.join(&b'/'));
            if policy.scopes.rules(above) == policy.scopes.rules(scope) {
                found.push(Problem::new(
                    &path.span,
                    "this path rule changes nothing that it does not inherit",
                    "remove it, or give it a key",
                ));
            }
        }
    }
    found
}
