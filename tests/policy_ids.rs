//! Ids change sides by rule and never otherwise: what holds for every set of rules, however odd.

use std::collections::BTreeMap;

use permfs::policy::{
    Caller, Direction, IdMap, NfsGid, NfsUid, Origin, PodGid, PodUid, Policy, Profile, Rule, Setting,
    Unmapped, UnmappedOwner,
};
use proptest::prelude::*;

/// The largest id there is.
const LAST: u32 = u32::MAX - 1;

/// Ids that matter: small, around the largest, and the ones in between.
fn raw_id() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0), 4 => 0..20_u32, 2 => LAST - 20..=LAST, 2 => 0..=LAST]
}

#[derive(Debug, Clone)]
struct Written {
    pod: (u32, u32),
    nfs: (u32, u32),
    shown_as: Option<u32>,
    direction: Direction,
    allow_root: bool,
}

fn written() -> impl Strategy<Value = Written> {
    let width = prop_oneof![4 => Just(0_u32), 3 => 0..12_u32, 1 => 0..=LAST];
    let direction = prop_oneof![
        3 => Just(Direction::Both),
        1 => Just(Direction::PodToNfs),
        1 => Just(Direction::NfsToPod)
    ];
    (raw_id(), raw_id(), width, proptest::option::of(0..30_u32), direction, any::<bool>(), any::<bool>())
        .prop_map(|(pod, nfs, width, shown_as, direction, allow_root, many)| Written {
            pod: (pod, pod.saturating_add(width).min(LAST)),
            nfs: (nfs, if many { nfs } else { nfs.saturating_add(width).min(LAST) }),
            shown_as: shown_as.map(|offset| pod.saturating_add(offset).min(LAST)),
            direction,
            allow_root,
        })
}

fn rule<P, N>(written: &Written, pod: fn(u32) -> Option<P>, nfs: fn(u32) -> Option<N>) -> Rule<P, N> {
    Rule {
        pod_first: pod(written.pod.0).expect("a valid id"),
        pod_last: pod(written.pod.1).expect("a valid id"),
        nfs_first: nfs(written.nfs.0).expect("a valid id"),
        nfs_last: nfs(written.nfs.1).expect("a valid id"),
        shown_as: written.shown_as.map(|id| pod(id).expect("a valid id")),
        direction: written.direction,
        allow_root: written.allow_root,
        origin: Origin::Default("test"),
    }
}

fn uid_rule(written: &Written) -> Rule<PodUid, NfsUid> {
    rule(written, PodUid::new, NfsUid::new)
}

fn unmapped<T>(new: fn(u32) -> Option<T>, choice: u8, number: u32) -> Unmapped<T> {
    match choice % 3 {
        0 => Unmapped::Deny,
        1 => Unmapped::Keep,
        _ => Unmapped::As(new(number).expect("a valid id")),
    }
}

/// A profile of random rules; most are refused, and what is not must hold.
fn profile() -> impl Strategy<Value = Profile> {
    let rules = || proptest::collection::vec(written(), 0..4);
    (rules(), rules(), any::<[u8; 3]>(), (raw_id(), raw_id(), raw_id())).prop_map(
        |(uid, gid, choice, numbers)| {
            let mut profile = Profile::new("random");
            profile.uid = uid.iter().map(uid_rule).collect();
            profile.gid = gid.iter().map(|written| rule(written, PodGid::new, NfsGid::new)).collect();
            profile.unmapped.pod = Setting::default_of(
                (unmapped(NfsUid::new, choice[0], numbers.0), unmapped(NfsGid::new, choice[0], numbers.0)),
                "test",
            );
            profile.unmapped.root = Setting::default_of(
                (unmapped(NfsUid::new, choice[1], numbers.1), unmapped(NfsGid::new, choice[1], numbers.1)),
                "test",
            );
            let shown = if choice[2] % 2 == 0 {
                (UnmappedOwner::Keep, UnmappedOwner::Keep)
            } else {
                (
                    UnmappedOwner::As(PodUid::new(numbers.2).expect("a valid id")),
                    UnmappedOwner::As(PodGid::new(numbers.2).expect("a valid id")),
                )
            };
            profile.unmapped.nfs = Setting::default_of(shown, "test");
            profile
        },
    )
}

/// What the rules say of a caller's id, read off one by one.
fn naive_to_nfs(rules: &[Written], pod: u32) -> Option<u32> {
    let rule =
        rules.iter().find(|rule| rule.direction.inbound() && (rule.pod.0..=rule.pod.1).contains(&pod))?;
    Some(if rule.nfs.0 == rule.nfs.1 { rule.nfs.0 } else { rule.nfs.0 + (pod - rule.pod.0) })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 200_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_lookup_answers_what_the_rules_read_one_by_one_say(
        rules in proptest::collection::vec(written(), 1..5), ids in proptest::collection::vec(raw_id(), 20)
    ) {
        if let Ok(map) = IdMap::new(rules.iter().map(uid_rule).collect()) {
            let edges = rules.iter().flat_map(|rule| [rule.pod.0, rule.pod.1]);
            for id in ids.into_iter().chain(edges) {
                let found = map.to_nfs(PodUid::new(id).unwrap()).map(NfsUid::get);
                prop_assert_eq!(found, naive_to_nfs(&rules, id));
            }
        }
    }

    #[test]
    fn bijective_rules_lead_there_and_back(
        first_pod in 0..=LAST, first_nfs in 0..=LAST, width in 0..100_000_u32, at in 0..100_000_u32
    ) {
        let width = width.min(LAST - first_pod.max(first_nfs));
        let at = at.min(width);
        let written = Written {
            pod: (first_pod, first_pod + width),
            nfs: (first_nfs, first_nfs + width),
            shown_as: None,
            direction: Direction::Both,
            allow_root: true,
        };
        let map = IdMap::new(vec![uid_rule(&written)]).unwrap();
        let pod = PodUid::new(first_pod + at).unwrap();
        let nfs = map.to_nfs(pod).unwrap();
        prop_assert_eq!(nfs.get(), first_nfs + at);
        prop_assert_eq!(map.to_pod(nfs), Some(pod));
    }

    #[test]
    fn what_is_shown_names_what_it_is_shown_for(rules in proptest::collection::vec(written(), 1..5), id in raw_id()) {
        let both = rules.into_iter().filter(|rule| rule.direction == Direction::Both).collect::<Vec<_>>();
        if let Ok(map) = IdMap::new(both.iter().map(uid_rule).collect()) {
            let edges = both.iter().flat_map(|rule| [rule.nfs.0, rule.nfs.1]);
            for nfs in edges.chain([id]).filter_map(NfsUid::new) {
                if let Some(shown) = map.to_pod(nfs) {
                    prop_assert_eq!(map.to_nfs(shown), Some(nfs), "a chown to what is shown must be no change");
                }
            }
        }
    }

    #[test]
    fn no_image_of_a_range_leaves_the_range_it_maps_onto(
        rules in proptest::collection::vec(written(), 1..5), id in raw_id()
    ) {
        if let Ok(map) = IdMap::new(rules.iter().map(uid_rule).collect()) {
            let edges = rules.iter().flat_map(|rule| [rule.pod.0, rule.pod.1]);
            for pod in edges.chain([id]).filter_map(PodUid::new) {
                if let (Some(rule), Some(nfs)) = (map.rule_for_pod(pod), map.to_nfs(pod)) {
                    prop_assert!((rule.nfs_first..=rule.nfs_last).contains(&nfs));
                }
            }
        }
    }

    #[test]
    fn root_goes_out_only_by_a_rule_that_says_so_or_root_keep(
        profile in profile(), uid in raw_id(), gid in raw_id(), groups in proptest::collection::vec(raw_id(), 0..4)
    ) {
        let keep = profile.unmapped.root.value.0 == Unmapped::Keep;
        let Ok(policy) = profile.clone().build() else { return Ok(()) };
        let groups: Vec<_> = groups.into_iter().chain([0]).filter_map(PodGid::new).collect();
        let uids = profile.uid.iter().flat_map(|rule| [rule.pod_first, rule.pod_last]);
        let uids: Vec<_> = uids.chain([PodUid::ROOT, PodUid::new(uid).unwrap()]).collect();
        let gids = profile.gid.iter().flat_map(|rule| [rule.pod_first, rule.pod_last]);
        let gids: Vec<_> = gids.chain([PodGid::ROOT, PodGid::new(gid).unwrap()]).collect();
        for (&uid, &gid) in uids.iter().flat_map(|uid| gids.iter().map(move |gid| (uid, gid))) {
            let Ok(who) = policy.admit(&Caller { uid, gid, groups: &groups }) else { continue };
            let uid_allowed = policy.uid_map().rule_for_pod(uid).is_some_and(|rule| rule.allow_root);
            prop_assert!(!who.uid.is_root() || uid_allowed || (keep && uid.is_root()));
            let named = |gid: &PodGid| policy.gid_map().rule_for_pod(*gid).is_some_and(|rule| rule.allow_root);
            let gid_allowed = groups.iter().chain([&gid]).any(named);
            prop_assert!(!who.is_member(NfsGid::ROOT) || gid_allowed || keep);
        }
    }

    #[test]
    fn groups_that_do_not_matter_change_nothing(
        profile in profile(), gid in raw_id(), groups in proptest::collection::vec(raw_id(), 0..6)
    ) {
        let Ok(policy) = profile.clone().build() else { return Ok(()) };
        let uid = profile.uid.first().map_or(PodUid::NOBODY, |rule| rule.pod_first);
        let gid = profile.gid.first().map_or(PodGid::new(gid).unwrap(), |rule| rule.pod_first);
        let edges = profile.gid.iter().flat_map(|rule| [rule.pod_first, rule.pod_last]);
        let groups: Vec<_> = groups.into_iter().filter_map(PodGid::new).chain(edges).collect();
        if !policy.groups_matter(gid) {
            let with = policy.admit(&Caller { uid, gid, groups: &groups });
            prop_assert_eq!(with, policy.admit(&Caller { uid, gid, groups: &[] }));
        }
    }

    #[test]
    fn the_trace_says_what_admission_does(
        profile in profile(), uid in raw_id(), gid in raw_id(), groups in proptest::collection::vec(raw_id(), 0..4)
    ) {
        let Ok(policy) = profile.build() else { return Ok(()) };
        let groups: Vec<_> = groups.into_iter().filter_map(PodGid::new).collect();
        let caller =
            Caller { uid: PodUid::new(uid).unwrap(), gid: PodGid::new(gid).unwrap(), groups: &groups };
        let trace = policy.trace_admission(&caller);
        prop_assert_eq!(trace.outcome.is_ok(), trace.uid.nfs.is_some() && trace.gid.nfs.is_some());
        prop_assert_eq!(&trace.outcome, &policy.admit(&caller));
        if let Ok(who) = trace.outcome {
            prop_assert_eq!((Some(who.uid), Some(who.gid)), (trace.uid.nfs, trace.gid.nfs));
            prop_assert!(trace.groups.iter().filter_map(|step| step.nfs).all(|gid| who.is_member(gid)));
        }
    }

    #[test]
    fn whatever_is_stored_can_be_shown(profile in profile(), uid in raw_id(), gid in raw_id()) {
        let Ok(policy) = profile.clone().build() else { return Ok(()) };
        let (uid, gid) = (NfsUid::new(uid).unwrap(), NfsGid::new(gid).unwrap());
        let by_rule = policy.uid_map().to_pod(uid);
        let otherwise = match profile.unmapped.nfs.value.0 {
            UnmappedOwner::Keep => PodUid::new(uid.get()).unwrap(),
            UnmappedOwner::As(stand_in) => stand_in,
        };
        prop_assert_eq!(policy.show_uid(uid), by_rule.unwrap_or(otherwise));
        prop_assert_eq!(policy.gid_map().to_pod(gid).unwrap_or(policy.show_gid(gid)), policy.show_gid(gid));
    }

    #[test]
    fn no_two_ids_are_confused_where_the_rest_is_kept(
        rules in proptest::collection::vec(small_rule(), 1..4), keep_pods: bool, keep_owners: bool
    ) {
        let mut profile = small_profile(&rules);
        if keep_pods {
            profile.unmapped.pod = Setting::default_of((Unmapped::Keep, Unmapped::Keep), "test");
        }
        if keep_owners {
            profile.unmapped.nfs = Setting::default_of((UnmappedOwner::Keep, UnmappedOwner::Keep), "test");
        }
        if let Ok(policy) = profile.build() {
            assert_unconfused(&policy, &rules, keep_pods, keep_owners);
        }
    }
}

/// Rules among the ids 1 to 24, where all of them can be looked at.
fn small_rule() -> impl Strategy<Value = Written> {
    (1..20_u32, 1..20_u32, 0..5_u32).prop_map(|(pod, nfs, width)| Written {
        pod: (pod, pod + width),
        nfs: (nfs, nfs + width),
        shown_as: None,
        direction: Direction::Both,
        allow_root: false,
    })
}

fn small_profile(rules: &[Written]) -> Profile {
    let mut profile = Profile::new("small");
    profile.uid = rules.iter().map(uid_rule).collect();
    profile
}

/// No two pod ids act as one, no two NFS ids are shown as one, as far as each side keeps the rest.
fn assert_unconfused(policy: &Policy, rules: &[Written], pods: bool, owners: bool) {
    let (mut shown, mut acting) = (BTreeMap::new(), BTreeMap::new());
    for id in 1..40_u32 {
        if owners {
            let before = shown.insert(policy.show_uid(NfsUid::new(id).expect("a valid id")), id);
            assert_eq!(before, None, "nfs {id} is shown as another one is, under {rules:?}");
        }
        if pods {
            let named = policy.owner_named(PodUid::new(id).expect("a valid id")).expect("the rest is kept");
            let before = acting.insert(named, id);
            assert_eq!(before, None, "pod {id} acts as another one does, under {rules:?}");
        }
    }
}

#[test]
fn a_kept_number_that_nothing_confuses_is_not_refused() {
    // A swap: every image has a rule of its own.
    let swap = [(1, 2), (2, 1)].map(|(pod, nfs)| Written {
        pod: (pod, pod),
        nfs: (nfs, nfs),
        shown_as: None,
        direction: Direction::Both,
        allow_root: false,
    });
    let mut profile = small_profile(&swap);
    profile.unmapped.pod = Setting::default_of((Unmapped::Keep, Unmapped::Keep), "test");
    profile.unmapped.nfs = Setting::default_of((UnmappedOwner::Keep, UnmappedOwner::Keep), "test");
    assert_unconfused(&profile.build().unwrap(), &swap, true, true);
}
