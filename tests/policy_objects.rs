//! Modes, owners and what is shown: small domains are exhausted.

use permfs::config::{Overrides, RulesFile};
use permfs::policy::dac::{Class, Want, may, may_remove};
use permfs::policy::{
    Caller, Chown, ChownOutcome, Denied, FileKind, NewMode, NfsGid, NfsUid, Owner, Permissions, PodGid,
    PodUid, Policy, Rules, ShownAttr, StoredAttr, Timestamp,
};

const KINDS: [FileKind; 7] = [
    FileKind::Regular,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::Fifo,
    FileKind::Socket,
    FileKind::CharDevice,
    FileKind::BlockDevice,
];

fn policy(rest: &str) -> Policy {
    let text = format!(
        "version = 1\n[profile.p]\nuid = [{{ pod = 50000, nfs = 2001 }}]\ngid = [{{ pod = 0, nfs = 2001 }}]\n{rest}"
    );
    RulesFile::parse(&text, "test.toml")
        .expect("a valid example")
        .policy(None, &Overrides::default())
        .expect("a valid example")
}

fn mode(bits: u32) -> Permissions {
    Permissions::from_mode(bits)
}

fn stored(kind: FileKind, bits: u32, uid: u32, gid: u32) -> StoredAttr {
    let never = Timestamp::default();
    StoredAttr {
        ino: 1,
        kind,
        permissions: mode(bits),
        nlink: 1,
        uid: NfsUid::new(uid).expect("a valid id"),
        gid: NfsGid::new(gid).expect("a valid id"),
        rdev: 0,
        size: 0,
        blocks: 0,
        block_size: 4096,
        atime: never,
        mtime: never,
        ctime: never,
        btime: None,
    }
}

fn shown(policy: &Policy, uid: u32, gid: u32) -> ShownAttr {
    policy.present(&stored(FileKind::Regular, 0o644, uid, gid), &Rules::default())
}

fn all_rules() -> Vec<Rules> {
    let mut all = Vec::new();
    for bits in 0..8_u8 {
        for umask in [None, Some(mode(0o027)), Some(mode(0o777))] {
            all.push(Rules {
                group_write: bits & 1 != 0,
                setgid: bits & 2 != 0,
                apply_to_all: bits & 4 != 0,
                umask,
                ..Rules::default()
            });
        }
    }
    all
}

/// What the contract promises for an object that exists.
fn promised(kind: FileKind, rules: &Rules) -> u32 {
    let group = match kind {
        FileKind::Symlink => 0,
        FileKind::Directory => 0o070,
        _ => 0o060,
    };
    let setgid = if kind == FileKind::Directory && rules.setgid { 0o2000 } else { 0 };
    setgid | if rules.group_write { group } else { 0 }
}

#[test]
fn chmod_stores_every_mode_with_what_the_policy_holds_up_and_nothing_else() {
    let policy = policy("");
    for rules in all_rules() {
        for kind in KINDS {
            for bits in 0..0o10000 {
                let expected = bits | promised(kind, &rules);
                assert_eq!(
                    policy.chmod(kind, mode(bits), &rules).bits(),
                    expected,
                    "{kind:?} {bits:o} {rules:?}"
                );
            }
        }
    }
}

#[test]
fn new_objects_have_the_bits_of_the_policy_under_every_mode_and_umask() {
    let policy = policy("");
    let parents = [false, true].map(|setgid| Owner { uid: NfsUid::NOBODY, gid: NfsGid::NOBODY, setgid });
    for rules in all_rules() {
        for (kind, parent) in KINDS.into_iter().flat_map(|kind| parents.map(|parent| (kind, parent))) {
            for bits in 0..0o10000 {
                for umask in [0, 0o022, 0o077, 0o777] {
                    let new = policy.new_mode(kind, mode(bits), mode(umask), parent, &rules);
                    let result = new.permissions.without(new.umask).bits();
                    let effective = rules.umask.unwrap_or(mode(umask)).bits();
                    let held = promised(kind, &rules) & 0o777;
                    assert_eq!(result, bits & !effective | held, "{kind:?} {bits:o} {umask:o} {rules:?}");
                    let needed = rules.setgid && kind == FileKind::Directory && !parent.setgid;
                    assert_eq!(new.setgid, needed);
                }
            }
        }
    }
}

#[test]
fn without_group_write_and_umask_the_request_goes_out_as_it_came() {
    let policy = policy("");
    let parent = Owner { uid: NfsUid::NOBODY, gid: NfsGid::NOBODY, setgid: false };
    for kind in KINDS {
        for bits in 0..0o10000 {
            let new = policy.new_mode(kind, mode(bits), mode(0o027), parent, &Rules::default());
            let same = NewMode { permissions: mode(bits), umask: mode(0o027), setgid: false };
            assert_eq!(new, same);
        }
    }
}

#[test]
fn what_exists_is_shown_as_stored_unless_the_policy_applies_to_all() {
    let policy = policy("");
    for rules in all_rules() {
        for kind in KINDS {
            for bits in 0..0o10000 {
                let shown = policy.present(&stored(kind, bits, 2001, 2001), &rules);
                let held = if rules.apply_to_all { promised(kind, &rules) } else { 0 };
                assert_eq!(shown.permissions.bits(), bits | held);
                assert_eq!((shown.uid.get(), shown.gid.get(), shown.kind), (50000, 0, kind));
            }
        }
    }
}

#[test]
fn owners_without_a_rule_are_shown_as_the_profile_says() {
    let ids = |policy: &Policy, uid, gid| {
        let attr = shown(policy, uid, gid);
        (attr.uid.get(), attr.gid.get())
    };
    assert_eq!(ids(&policy(""), 7, 0), (65534, 65534));
    assert_eq!(ids(&policy("[profile.p.unmapped]\nnfs = 77\n"), 7, 8), (77, 77));
    let transparent = "version = 1\n[profile.t.unmapped]\npod = \"keep\"\nnfs = \"keep\"\nroot = \"keep\"\n";
    let transparent =
        RulesFile::parse(transparent, "t").unwrap().policy(None, &Overrides::default()).unwrap();
    assert!(transparent.is_transparent());
    for id in [0, 1, 65534, u32::MAX - 1] {
        assert_eq!(ids(&transparent, id, id), (id, id));
    }
}

#[test]
fn only_a_profile_that_changes_nothing_is_transparent() {
    let keep = "[profile.p.unmapped]\npod = \"keep\"\nnfs = \"keep\"\nroot = \"keep\"\n";
    let transparent = |rest: &str| {
        let text = format!("version = 1\n[profile.p]\n{rest}\n");
        RulesFile::parse(&text, "t").unwrap().policy(None, &Overrides::default()).unwrap().is_transparent()
    };
    assert!(transparent(keep));
    assert!(transparent(&format!("uid = []\ngid = []\n{keep}[profile.p.permissions]\nchown = \"pass\"")));
    for changes in ["act_as = \"owner\"", "groups = \"none\"", "act_as = { uid = 1, gid = 1 }"] {
        assert!(!transparent(&format!("{changes}\n{keep}")), "{changes}");
    }
    for changes in
        ["group_write = true", "setgid = true", "umask = \"0000\"", "chown = \"deny\"", "read_only = true"]
    {
        assert!(!transparent(&format!("{keep}[profile.p.permissions]\n{changes}")), "{changes}");
        assert!(!transparent(&format!("{keep}[[profile.p.path]]\nmatch = \"/d\"\n{changes}")), "{changes}");
    }
    assert!(!transparent("[profile.p.unmapped]\npod = \"keep\"\nnfs = \"keep\""));
}

#[test]
fn a_chown_is_absorbed_denied_passed_or_ignored() {
    let policy = policy("");
    let own = shown(&policy, 2001, 2001);
    let nobodys = shown(&policy, 7, 2001);
    let chown = |mode, attr: &ShownAttr, uid: Option<u32>, gid: Option<u32>| {
        let rules = Rules { chown: mode, ..Rules::default() };
        policy.chown(uid.and_then(PodUid::new), gid.and_then(PodGid::new), attr, &rules)
    };
    let pass = |uid: Option<u32>, gid: Option<u32>, absorb| {
        Ok(ChownOutcome::Pass { uid: uid.and_then(NfsUid::new), gid: gid.and_then(NfsGid::new), absorb })
    };
    let nothing = Ok(ChownOutcome::Nothing);
    let no_owner = |uid| Err(Denied::NoOwner(PodUid::new(uid).unwrap()));
    let no_group = |gid| Err(Denied::NoGroup(PodGid::new(gid).unwrap()));

    assert_eq!(chown(Chown::Absorb, &own, Some(50000), Some(0)), pass(Some(2001), Some(2001), true));
    assert_eq!(chown(Chown::Absorb, &own, Some(50000), None), pass(Some(2001), None, true));
    assert_eq!(chown(Chown::Absorb, &nobodys, Some(50000), Some(0)), pass(Some(2001), Some(2001), false));
    assert_eq!(chown(Chown::Absorb, &nobodys, Some(65534), None), nothing);
    assert_eq!(chown(Chown::Absorb, &nobodys, Some(65534), Some(0)), pass(None, Some(2001), true));
    assert_eq!(chown(Chown::Absorb, &own, Some(65534), None), no_owner(65534));
    assert_eq!(chown(Chown::Absorb, &own, Some(7), Some(0)), no_owner(7));
    assert_eq!(chown(Chown::Absorb, &own, None, Some(7)), no_group(7));
    assert_eq!(chown(Chown::Absorb, &own, Some(0), None), no_owner(0));

    assert_eq!(chown(Chown::Pass, &own, Some(50000), Some(0)), pass(Some(2001), Some(2001), false));
    assert_eq!(chown(Chown::Pass, &nobodys, Some(65534), None), no_owner(65534));
    assert_eq!(chown(Chown::Deny, &own, Some(50000), None), Err(Denied::Chown));
    assert_eq!(chown(Chown::Ignore, &own, Some(7), Some(7)), nothing);
    for mode in [Chown::Absorb, Chown::Deny, Chown::Pass, Chown::Ignore] {
        assert_eq!(chown(mode, &own, None, None), nothing, "nothing was asked for");
    }
}

#[test]
fn a_chown_never_names_the_stand_in_of_the_unmapped_callers() {
    let squashed = policy("[profile.p.unmapped]\npod = 4000\nroot = 4000\n");
    for id in [7, 0] {
        let uid = PodUid::new(id).unwrap();
        assert_eq!(squashed.owner_named(uid), Err(Denied::NoOwner(uid)));
    }
    let kept = policy("[profile.p.unmapped]\nroot = \"keep\"\n");
    assert_eq!(kept.owner_named(PodUid::ROOT), Ok(NfsUid::ROOT));
}

#[test]
fn the_kernels_check_reads_the_class_that_the_caller_is_of() {
    let caller =
        |uid, gid| Caller { uid: PodUid::new(uid).unwrap(), gid: PodGid::new(gid).unwrap(), groups: &[] };
    let policy = policy("");
    for bits in 0..0o1000 {
        let attr = policy.present(&stored(FileKind::Regular, bits, 2001, 2001), &Rules::default());
        for want in 0..8_u32 {
            let access = Want::Access { read: want & 4 != 0, write: want & 2 != 0, execute: want & 1 != 0 };
            let classes = [
                (caller(50000, 9), Class::Owner, 6),
                (caller(9, 0), Class::Group, 3),
                (caller(9, 9), Class::Other, 0),
            ];
            for (who, class, shift) in classes {
                let verdict = may(&who, &attr, access);
                assert_eq!((verdict.allowed, verdict.by), (bits >> shift & want == want, class));
            }
            let root = may(&caller(0, 9), &attr, access);
            assert_eq!((root.allowed, root.by), (want & 1 == 0 || bits & 0o111 != 0, Class::Root));
        }
        assert!(may(&caller(50000, 9), &attr, Want::OwnerOnly).allowed);
        assert!(may(&caller(0, 9), &attr, Want::OwnerOnly).allowed);
        assert!(!may(&caller(9, 0), &attr, Want::OwnerOnly).allowed);
    }
}

#[test]
fn a_sticky_directory_gives_up_names_to_their_owners_only() {
    let policy = policy("");
    let present = |kind, bits, uid| policy.present(&stored(kind, bits, uid, 2001), &Rules::default());
    let own = Caller { uid: PodUid::new(50000).unwrap(), gid: PodGid::ROOT, groups: &[] };
    let (sticky, plain) = (present(FileKind::Directory, 0o1777, 7), present(FileKind::Directory, 0o777, 7));
    let (mine, theirs) = (present(FileKind::Regular, 0o644, 2001), present(FileKind::Regular, 0o644, 7));
    assert!(may_remove(&own, &sticky, &mine).allowed);
    assert!(!may_remove(&own, &sticky, &theirs).allowed);
    assert!(may_remove(&own, &plain, &theirs).allowed);
}
