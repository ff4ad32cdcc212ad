//! Sequences on which the mount once differed from the directory, each with the name of what was wrong.

// What a shrunk sequence may name; not every list needs all of it.
#![allow(unused_imports)]

use super::operation::Actor::*;
use super::operation::Operation::*;
use super::operation::Time::*;
use super::operation::{Flags, Lock, Operation, Step, at, below, target};

/// All of them.
pub fn sequences() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("an object found by O_PATH goes on answering after its last name is gone", found_and_removed()),
        ("fallocate takes suid away, whoever the serving thread was before", allocated_by_a_user()),
        ("ftruncate takes suid away, whoever the serving thread was before", truncated_by_a_user()),
        ("a copied range takes suid away, whoever the serving thread was before", copied_into_by_a_user()),
        ("fallocate by root leaves suid, whoever the serving thread was before", allocated_by_root()),
        ("a write by root leaves suid, whoever the serving thread was before", written_by_root()),
        (
            "root that writes through a user's descriptor keeps suid",
            written_by_root_through_a_users_descriptor(),
        ),
        (
            "a directory is synced by who has it open, whatever its mode is by now",
            synced_where_nobody_may_read(),
        ),
        ("a lock is had on what is open, whatever the mode says by now", locked_where_nobody_may_open()),
        ("a mode without rights for its maker takes no lock away", locked_by_its_maker()),
        ("a member of the group keeps a sgid that runs nothing", truncated_by_a_member()),
        ("a file without a name goes on through O_PATH alone", nameless_and_closed()),
        ("an ACL that is not there can be taken away", no_acl_taken_away()),
        ("root without CAP_FSETID takes suid away by ftruncate", truncated_by_a_powerless_root()),
        ("root without CAP_FSETID takes sgid away by fallocate", allocated_by_a_powerless_root()),
        ("root without CAP_FSETID takes suid away by O_TRUNC", emptied_by_a_powerless_root()),
        ("root without CAP_FSETID takes sgid away by an ACL", given_an_acl_by_a_powerless_root()),
        ("a write by another than the owner takes suid away and is not EPERM", written_by_a_colleague()),
    ]
}

/// A symlink, looked at without being followed: nothing of it is open at the daemon.
fn found_and_removed() -> Vec<Step> {
    let flags = open_flags(libc::O_PATH | libc::O_NOFOLLOW);
    vec![
        Step { who: Root, what: Open { slot: 0, at: at("d"), flags, mode: 0 } },
        Step { who: Root, what: Unlink { at: at("d") } },
        Step { who: Root, what: Fstat { slot: 0 } },
    ]
}

fn synced_where_nobody_may_read() -> Vec<Step> {
    let flags = open_flags(libc::O_DIRECTORY);
    vec![
        Step { who: Root, what: Open { slot: 2, at: at("b"), flags, mode: 0 } },
        Step { who: Root, what: Chmod { at: at("b"), mode: 0o600 } },
        Step { who: User, what: Fsync { slot: 2 } },
    ]
}

fn locked_where_nobody_may_open() -> Vec<Step> {
    let flags = open_flags(libc::O_RDWR | libc::O_CREAT);
    vec![
        Step { who: User, what: Open { slot: 1, at: at("a"), flags, mode: 0o644 } },
        Step { who: User, what: Fchmod { slot: 1, mode: 0 } },
        Step { who: User, what: Flock { slot: 1, lock: Lock::Shared } },
        Step { who: User, what: LockRange { slot: 1, lock: Lock::Exclusive, start: 0, length: 1 } },
    ]
}

/// As git makes its objects.
fn locked_by_its_maker() -> Vec<Step> {
    let flags = open_flags(libc::O_RDWR | libc::O_CREAT | libc::O_EXCL);
    vec![
        Step { who: User, what: Open { slot: 0, at: at("a"), flags, mode: 0o444 } },
        Step { who: User, what: LockRange { slot: 0, lock: Lock::Exclusive, start: 0, length: 1 } },
        Step { who: User, what: Flock { slot: 0, lock: Lock::Exclusive } },
    ]
}

fn truncated_by_a_member() -> Vec<Step> {
    let flags = open_flags(libc::O_WRONLY);
    vec![
        Step { who: Root, what: Open { slot: 3, at: at("c"), flags, mode: 0 } },
        Step { who: Root, what: Chmod { at: at("c"), mode: 0o2640 } },
        Step { who: User, what: Ftruncate { slot: 3, size: 0 } },
        Step { who: User, what: Fstat { slot: 3 } },
    ]
}

fn nameless_and_closed() -> Vec<Step> {
    let (flags, held) = (open_flags(libc::O_WRONLY | libc::O_TMPFILE), open_flags(libc::O_PATH));
    vec![
        Step { who: Root, what: Open { slot: 3, at: at("b"), flags, mode: 0o644 } },
        Step { who: Root, what: OpenAgain { from: 3, to: 3, flags: held } },
        Step { who: Root, what: Fstat { slot: 3 } },
        Step { who: Root, what: OpenAgain { from: 3, to: 0, flags: open_flags(libc::O_RDWR) } },
        Step { who: Root, what: LinkOpen { slot: 0, to: at("a") } },
        Step { who: Root, what: Unlink { at: at("a") } },
        Step { who: Root, what: Write { slot: 0, offset: None, length: 10, byte: 1 } },
    ]
}

fn no_acl_taken_away() -> Vec<Step> {
    let (at, name) = (at("c"), "system.posix_acl_access");
    vec![Step { who: User, what: RemoveXattr { at, name, follow: true } }]
}

fn truncated_by_a_powerless_root() -> Vec<Step> {
    changed_by_a_powerless_root(0o4755, Ftruncate { slot: 0, size: 0 })
}

fn allocated_by_a_powerless_root() -> Vec<Step> {
    changed_by_a_powerless_root(0o2740, Fallocate { slot: 0, mode: 0, offset: 0, length: 1 })
}

fn emptied_by_a_powerless_root() -> Vec<Step> {
    let flags = open_flags(libc::O_WRONLY | libc::O_TRUNC);
    changed_by_a_powerless_root(0o4755, OpenAgain { from: 0, to: 1, flags })
}

fn given_an_acl_by_a_powerless_root() -> Vec<Step> {
    let acl = vec![(1, 7, u32::MAX), (4, 5, u32::MAX), (32, 5, u32::MAX)];
    changed_by_a_powerless_root(0o2755, SetAcl { at: at("a"), default: false, acl })
}

/// Root's file, changed by `change` through slot 0 by a root without capabilities.
fn changed_by_a_powerless_root(mode: u32, change: Operation) -> Vec<Step> {
    let flags = open_flags(libc::O_RDWR | libc::O_CREAT);
    vec![
        Step { who: Root, what: Open { slot: 0, at: at("a"), flags, mode: 0o755 } },
        Step { who: Root, what: Fchown { slot: 0, uid: Some(0), gid: Some(1234) } },
        Step { who: Root, what: Fchmod { slot: 0, mode } },
        Step { who: Powerless, what: change },
        Step { who: Root, what: Fstat { slot: 0 } },
    ]
}

/// A user's suid file, changed by `change` through slot 0. Root is busy beforehand, so that the daemon's threads have
/// served it last.
fn suid_file_after_root(change: Operation) -> Vec<Step> {
    let flags = open_flags(libc::O_RDWR | libc::O_CREAT);
    let mut steps = vec![
        Step { who: User, what: Open { slot: 0, at: at("a"), flags, mode: 0o4755 } },
        Step { who: User, what: Open { slot: 1, at: at("c"), flags, mode: 0 } },
    ];
    steps.extend((0..40).map(|_| Step { who: Root, what: Chmod { at: at("b"), mode: 0o1777 } }));
    steps.push(Step { who: User, what: change });
    steps.push(Step { who: User, what: Fstat { slot: 0 } });
    steps
}

fn allocated_by_a_user() -> Vec<Step> {
    suid_file_after_root(Fallocate { slot: 0, mode: 0, offset: 0, length: 5_000 })
}

fn truncated_by_a_user() -> Vec<Step> {
    suid_file_after_root(Ftruncate { slot: 0, size: 100 })
}

fn copied_into_by_a_user() -> Vec<Step> {
    suid_file_after_root(CopyRange { from: 1, from_offset: 0, to: 0, to_offset: 0, length: 5 })
}

fn written_by_root_through_a_users_descriptor() -> Vec<Step> {
    let flags = open_flags(libc::O_WRONLY | libc::O_CREAT);
    vec![
        Step { who: User, what: Open { slot: 1, at: at("a"), flags, mode: 0o3770 } },
        Step { who: Root, what: Write { slot: 1, offset: None, length: 1, byte: 0 } },
    ]
}

/// pjdfstest's chmod/12.t.
fn written_by_a_colleague() -> Vec<Step> {
    let flags = open_flags(libc::O_RDWR);
    vec![
        Step { who: User, what: Chmod { at: at("c"), mode: 0o6777 } },
        Step { who: Colleague, what: Open { slot: 0, at: at("c"), flags, mode: 0 } },
        Step { who: Colleague, what: Write { slot: 0, offset: Some(0), length: 1, byte: 1 } },
        Step { who: Colleague, what: Fstat { slot: 0 } },
    ]
}

fn allocated_by_root() -> Vec<Step> {
    suid_file_after_a_user(Fallocate { slot: 0, mode: 0, offset: 0, length: 5_000 })
}

fn written_by_root() -> Vec<Step> {
    suid_file_after_a_user(Write { slot: 0, offset: Some(0), length: 100, byte: 1 })
}

/// A suid file, changed by root with `change` through slot 0. A user is busy beforehand.
fn suid_file_after_a_user(change: Operation) -> Vec<Step> {
    let flags = open_flags(libc::O_RDWR);
    let mut steps = vec![
        Step { who: User, what: Chmod { at: at("c"), mode: 0o6777 } },
        Step { who: Root, what: Open { slot: 0, at: at("c"), flags, mode: 0 } },
    ];
    steps.extend((0..40).map(|_| Step { who: User, what: Chmod { at: at("dir"), mode: 0o755 } }));
    steps.push(Step { who: Root, what: change });
    steps.push(Step { who: Root, what: Fstat { slot: 0 } });
    steps
}

fn open_flags(flags: i32) -> Flags {
    Flags(u32::try_from(flags).unwrap())
}
