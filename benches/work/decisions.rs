//! What the policy decides for each request: pure, so that nothing but the decision is counted.

use std::hint::black_box;

use permfs::policy::attr::Timestamp;
use permfs::policy::{
    Caller, Credentials, FileKind, NfsGid, NfsUid, Operation, Owner, PodGid, PodUid, Policy, Rules, ScopeId,
    StoredAttr,
};

use super::stage::{self, AIRFLOW, MANY_IDS, MANY_PATHS, mode, policy};
use super::{Batch, Work, batch};

pub static ALL: &[Work] = &[
    Work { name: "policy/translate_in_1_rule", prepare: translate_in_small },
    Work { name: "policy/translate_in_1000_rules", prepare: translate_in_large },
    Work { name: "policy/translate_out_1_rule", prepare: translate_out_small },
    Work { name: "policy/translate_out_1000_rules", prepare: translate_out_large },
    Work { name: "policy/admit", prepare: admit },
    Work { name: "policy/admit_16_groups", prepare: admit_with_groups },
    Work { name: "policy/credentials", prepare: credentials },
    Work { name: "policy/new_mode", prepare: new_mode },
    Work { name: "policy/present", prepare: present },
    Work { name: "policy/present_1000_rules", prepare: present_large },
    Work { name: "policy/scope_of_a_child", prepare: scope },
    Work { name: "policy/scope_of_a_child_100_paths", prepare: scope_large },
];

/// Supplementary groups of the caller that has many; NFS carries no more.
const GROUPS: u32 = 16;

fn nfs_uid(id: u32) -> NfsUid {
    NfsUid::new(id).unwrap()
}

fn nfs_gid(id: u32) -> NfsGid {
    NfsGid::new(id).unwrap()
}

fn pod_uid(id: u32) -> PodUid {
    PodUid::new(id).unwrap()
}

fn pod_gid(id: u32) -> PodGid {
    PodGid::new(id).unwrap()
}

fn translate_in_small() -> Batch {
    let policy = policy(AIRFLOW);
    batch(move |_| {
        black_box(policy.uid_map().to_nfs(black_box(pod_uid(50_000))));
    })
}

fn translate_in_large() -> Batch {
    let policy = policy(&stage::large());
    batch(move |turn| {
        black_box(policy.uid_map().to_nfs(black_box(pod_uid(50_000 + spread(turn)))));
    })
}

fn translate_out_small() -> Batch {
    let policy = policy(AIRFLOW);
    batch(move |_| {
        black_box(policy.show_uid(black_box(nfs_uid(2_001))));
    })
}

fn translate_out_large() -> Batch {
    let policy = policy(&stage::large());
    batch(move |turn| {
        black_box(policy.show_uid(black_box(nfs_uid(2_001 + spread(turn)))));
    })
}

fn admit() -> Batch {
    let policy = policy(AIRFLOW);
    let caller = Caller { uid: pod_uid(50_000), gid: pod_gid(0), groups: &[] };
    batch(move |_| {
        black_box(policy.admit(black_box(&caller)).unwrap());
    })
}

/// Where the credentials are not remembered: the process's groups have just been read.
fn admit_with_groups() -> Batch {
    let policy = policy(&stage::large());
    let groups: Vec<_> = (0..GROUPS).map(|group| pod_gid(1_000 + spread(group))).collect();
    batch(move |_| {
        let caller = Caller { uid: pod_uid(50_000), gid: pod_gid(1_000), groups: &groups };
        black_box(policy.admit(black_box(&caller)).unwrap());
    })
}

fn credentials() -> Batch {
    let policy = policy(AIRFLOW);
    let caller = Credentials::new(nfs_uid(2_001), nfs_gid(2_001), []);
    let owner = Owner { uid: nfs_uid(2_001), gid: nfs_gid(2_001), setgid: false };
    batch(move |_| {
        let (operation, owner) = black_box((Operation::Remove, Some(owner)));
        black_box(policy.credentials(operation, &caller, owner, owner, held(&policy)));
    })
}

fn new_mode() -> Batch {
    let policy = policy(AIRFLOW);
    let owner = Owner { uid: nfs_uid(2_001), gid: nfs_gid(2_001), setgid: false };
    batch(move |_| {
        let (kind, asked, umask) = black_box((FileKind::Directory, mode(0o755), mode(0o022)));
        black_box(policy.new_mode(kind, asked, umask, owner, held(&policy)));
    })
}

fn present() -> Batch {
    presented(policy(AIRFLOW))
}

fn present_large() -> Batch {
    presented(policy(&stage::large()))
}

fn presented(policy: Policy) -> Batch {
    let stored = stored();
    batch(move |_| {
        black_box(policy.present(black_box(&stored), held(&policy)));
    })
}

fn scope() -> Batch {
    let policy = policy(AIRFLOW);
    batch(move |_| {
        black_box(policy.scopes().child(black_box(ScopeId::ROOT), black_box(b"frozen")));
    })
}

fn scope_large() -> Batch {
    let policy = policy(&stage::large());
    let parent = policy.scopes().at_path(b"/a/b");
    let names: Vec<_> = (0..MANY_PATHS).map(|number| format!("dir-{number:03}").into_bytes()).collect();
    batch(move |turn| {
        let name = &names[usize::try_from(turn % MANY_PATHS).unwrap()];
        black_box(policy.scopes().child(black_box(parent), black_box(name)));
    })
}

/// A number below [`MANY_IDS`], far from the one before.
fn spread(turn: u32) -> u32 {
    turn * 617 % MANY_IDS
}

/// What holds at the root.
fn held(policy: &Policy) -> &Rules {
    policy.scopes().rules(ScopeId::ROOT)
}

fn stored() -> StoredAttr {
    let time = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
    StoredAttr {
        ino: 42,
        kind: FileKind::Regular,
        permissions: mode(0o664),
        nlink: 1,
        uid: nfs_uid(2_001),
        gid: nfs_gid(2_001),
        rdev: 0,
        size: 4096,
        blocks: 8,
        block_size: 4096,
        atime: time,
        mtime: time,
        ctime: time,
        btime: None,
    }
}
