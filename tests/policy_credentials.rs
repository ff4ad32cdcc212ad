//! As whom each operation is done: a table over (mode, operation, caller, object, parent).

use std::borrow::Cow;

use permfs::config::{Overrides, RulesFile};
use permfs::policy::{
    Caller, Credentials, Denied, NfsGid, NfsUid, Operation, Owner, PodGid, PodUid, Policy, Rules,
};

const ALL: [Operation; 5] =
    [Operation::Look, Operation::Open, Operation::Change, Operation::Create, Operation::Remove];

fn policy(act_as: &str, rest: &str) -> Policy {
    let text = format!(
        "version = 1\n[profile.p]\nact_as = {act_as}\n\
         uid = [ {{ pod = 50000, nfs = 2001 }} ]\n\
         gid = [ {{ pod = 100, nfs = 2001 }}, {{ pod = 200, nfs = 3001 }} ]\n{rest}\n"
    );
    RulesFile::parse(&text, "test.toml")
        .expect("a valid example")
        .policy(None, &Overrides::default())
        .expect("a valid example")
}

/// `uid:gid` and supplementary groups.
fn who(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
    let groups: Vec<_> = groups.iter().map(|&gid| NfsGid::new(gid).expect("a valid id")).collect();
    Credentials {
        uid: NfsUid::new(uid).expect("a valid id"),
        gid: NfsGid::new(gid).expect("a valid id"),
        groups: groups.into(),
    }
}

fn owner(uid: u32, gid: u32, setgid: bool) -> Owner {
    Owner { uid: NfsUid::new(uid).expect("a valid id"), gid: NfsGid::new(gid).expect("a valid id"), setgid }
}

/// Object, parent, whether `setgid = true`, and what is expected for each of [`ALL`].
type Row = (Option<Owner>, Option<Owner>, bool, [Credentials; 5]);

fn check(act_as: &str, rest: &str, caller: &Credentials, rows: &[Row]) {
    let policy = policy(act_as, rest);
    for (number, (object, parent, setgid, expected)) in rows.iter().enumerate() {
        let rules = Rules { setgid: *setgid, ..Rules::default() };
        for (operation, expected) in ALL.into_iter().zip(expected) {
            let found = policy.credentials(operation, caller, *object, *parent, &rules);
            assert_eq!(*found, *expected, "act_as {act_as}, row {number}, {operation:?}");
            if !policy.owner_matters(operation, caller, &rules) {
                assert_eq!(found, policy.credentials(operation, caller, None, None, &rules));
            }
        }
    }
}

#[test]
fn the_caller_acts_as_itself_with_the_group_that_matters_first() {
    let caller = who(2001, 2001, &[3001]);
    let led = who(2001, 3001, &[2001]);
    let same = || caller.clone();
    let (foreign, shared) = (owner(9, 9, false), owner(9, 3001, false));
    let handing_down = owner(9, 3001, true);
    let all = |c: &Credentials| [c.clone(), c.clone(), c.clone(), c.clone(), c.clone()];
    check(
        "\"caller\"",
        "",
        &caller,
        &[
            (None, None, false, all(&caller)),
            (Some(foreign), Some(foreign), true, all(&caller)),
            // The object's group decides about it, the directory's about its names.
            (Some(shared), Some(foreign), false, [led.clone(), led.clone(), led.clone(), same(), same()]),
            (Some(foreign), Some(shared), false, [same(), same(), same(), same(), led.clone()]),
            // A new object takes the directory's group under setgid, the rule's or the directory's own.
            (None, Some(shared), true, all(&led)),
            (None, Some(handing_down), false, all(&led)),
            (None, Some(shared), false, [led.clone(), led.clone(), led.clone(), same(), led.clone()]),
        ],
    );
}

#[test]
fn the_owner_is_acted_as_unless_it_is_root() {
    let caller = who(2001, 2001, &[]);
    let same = || caller.clone();
    let (theirs, parents) = (who(7, 8, &[]), who(5, 6, &[]));
    let (object, parent) = (owner(7, 8, false), owner(5, 6, false));
    check(
        "\"owner\"",
        "",
        &caller,
        &[
            (
                Some(object),
                Some(parent),
                false,
                [theirs.clone(), theirs.clone(), theirs.clone(), same(), parents.clone()],
            ),
            // Root's objects are used as the caller; root's group gives way to the caller's.
            (
                Some(owner(0, 8, false)),
                Some(owner(0, 0, false)),
                true,
                [same(), same(), same(), same(), same()],
            ),
            (
                Some(owner(7, 0, false)),
                Some(owner(5, 0, false)),
                false,
                [who(7, 2001, &[]), who(7, 2001, &[]), who(7, 2001, &[]), same(), who(5, 2001, &[])],
            ),
        ],
    );
    let root = || who(0, 0, &[]);
    check(
        "\"owner\"",
        "allow_root = true",
        &caller,
        &[(
            Some(owner(0, 0, false)),
            Some(owner(0, 0, false)),
            false,
            [root(), root(), root(), same(), root()],
        )],
    );
}

#[test]
fn a_fixed_identity_is_always_the_same_with_the_group_that_matters_first() {
    let caller = who(2001, 2001, &[]);
    let fixed = || who(4000, 4000, &[4001]);
    let led = || who(4000, 4001, &[4000]);
    check(
        "{ uid = 4000, gid = 4000, groups = [4001] }",
        "",
        &caller,
        &[
            (None, None, true, [fixed(), fixed(), fixed(), fixed(), fixed()]),
            (
                Some(owner(1, 4001, false)),
                Some(owner(1, 1, false)),
                false,
                [led(), led(), led(), fixed(), fixed()],
            ),
            (None, Some(owner(1, 4001, false)), true, [led(), led(), led(), led(), led()]),
        ],
    );
}

#[test]
fn credentials_that_do_not_change_are_borrowed() {
    let caller = who(2001, 2001, &[3001]);
    let rules = Rules::default();
    for operation in ALL {
        let own = Some(owner(9, 2001, true));
        let chosen = policy("\"caller\"", "");
        assert!(matches!(chosen.credentials(operation, &caller, own, own, &rules), Cow::Borrowed(_)));
    }
    let caller = who(2001, 2001, &[]);
    let own = Some(owner(2001, 2001, false));
    let chosen = policy("\"owner\"", "");
    assert!(matches!(chosen.credentials(Operation::Open, &caller, own, own, &rules), Cow::Borrowed(_)));
}

#[test]
fn a_directorys_group_is_adopted_only_where_nothing_else_hands_it_down() {
    let creator = who(2001, 2001, &[3001]);
    let setgid = Rules { setgid: true, ..Rules::default() };
    let chosen = policy("\"caller\"", "");
    let adopt = |gid, handed, rules: &Rules| chosen.group_to_adopt(&creator, owner(9, gid, handed), rules);
    assert_eq!(adopt(5, false, &setgid), NfsGid::new(5));
    assert_eq!(adopt(5, true, &setgid), None, "the directory's own bit hands it down");
    assert_eq!(adopt(3001, false, &setgid), None, "a member needs to adopt nothing");
    assert_eq!(adopt(5, false, &Rules::default()), None);
    assert_eq!(adopt(0, false, &setgid), None, "root's group never goes out");
    let root = policy("\"caller\"", "allow_root = true");
    assert_eq!(root.group_to_adopt(&creator, owner(9, 0, false), &setgid), Some(NfsGid::ROOT));
}

fn admit(policy: &Policy, uid: u32, gid: u32, groups: &[u32]) -> Result<Credentials, Denied> {
    let groups: Vec<_> = groups.iter().filter_map(|&gid| PodGid::new(gid)).collect();
    policy.admit(&Caller {
        uid: PodUid::new(uid).expect("a valid id"),
        gid: PodGid::new(gid).expect("a valid id"),
        groups: &groups,
    })
}

fn no_uid(uid: u32) -> Result<Credentials, Denied> {
    Err(Denied::NoRuleForUid(PodUid::new(uid).expect("a valid id")))
}

#[test]
fn a_caller_is_admitted_by_rule_or_by_what_the_profile_says_of_the_others() {
    let plain = policy("\"caller\"", "");
    assert_eq!(admit(&plain, 50000, 100, &[200, 300, 100, 0]), Ok(who(2001, 2001, &[3001])));
    assert_eq!(admit(&plain, 50001, 100, &[]), no_uid(50001));
    assert_eq!(admit(&plain, 2001, 100, &[]), no_uid(2001));
    assert_eq!(admit(&plain, 50000, 300, &[]), Err(Denied::NoRuleForGid(PodGid::new(300).unwrap())));
    assert_eq!(admit(&plain, 0, 100, &[]), Err(Denied::Root));
    assert_eq!(admit(&plain, 50000, 0, &[]), Err(Denied::RootGroup));

    let number = policy("\"caller\"", "[profile.p.unmapped]\npod = 4000");
    assert_eq!(admit(&number, 50001, 300, &[300, 200]), Ok(who(4000, 4000, &[3001])));
    assert_eq!(admit(&number, 0, 100, &[]), Err(Denied::Root), "0 is decided by unmapped.root alone");

    let squashed = policy("\"caller\"", "[profile.p.unmapped]\nroot = 2001");
    assert_eq!(admit(&squashed, 0, 0, &[0]), Ok(who(2001, 2001, &[])));
    assert_eq!(admit(&squashed, 50001, 0, &[]), no_uid(50001));

    let kept = policy("\"caller\"", "[profile.p.unmapped]\nroot = \"keep\"");
    assert_eq!(admit(&kept, 0, 0, &[200]), Ok(who(0, 0, &[3001])));
    assert_eq!(admit(&kept, 50000, 100, &[0]), Ok(who(2001, 2001, &[0])));
}

#[test]
fn the_groups_key_says_which_groups_count() {
    let none = policy("\"caller\"", "groups = \"none\"");
    assert_eq!(admit(&none, 50000, 100, &[200]), Ok(who(2001, 2001, &[])));
    let these = policy("\"caller\"", "groups = [200]");
    assert_eq!(admit(&these, 50000, 100, &[]), Ok(who(2001, 2001, &[3001])));
    for settled in [&none, &these] {
        assert!(!settled.groups_matter(PodGid::new(100).unwrap()));
    }
    assert!(policy("\"caller\"", "").groups_matter(PodGid::new(100).unwrap()));
}

#[test]
fn a_fixed_identity_needs_a_uid_rule_and_no_gid_rule() {
    let fixed = policy("{ uid = 4000, gid = 4000 }", "");
    assert_eq!(admit(&fixed, 50000, 300, &[200]), Ok(who(2001, 4000, &[])));
    assert_eq!(admit(&fixed, 50000, 0, &[]), Ok(who(2001, 4000, &[])));
    assert_eq!(admit(&fixed, 50001, 100, &[]), no_uid(50001));
    assert!(!fixed.groups_matter(PodGid::new(300).unwrap()));
}

#[test]
fn one_group_rule_that_the_caller_already_has_makes_the_others_not_matter() {
    let text =
        "version = 1\n[profile.p]\nuid = [{ pod = 50000, nfs = 2001 }]\ngid = [{ pod = 0, nfs = 2001 }]\n";
    let airflow = RulesFile::parse(text, "t").unwrap().policy(None, &Overrides::default()).unwrap();
    assert!(!airflow.groups_matter(PodGid::ROOT), "no /proc needs to be read for airflow");
    assert_eq!(admit(&airflow, 50000, 0, &[0, 5, 70]), Ok(who(2001, 2001, &[])));
}
