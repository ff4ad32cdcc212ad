//! Sequences on which the mount once differed from the directory, each with the name of what was wrong.

// What a shrunk sequence may name; not every list needs all of it.
#![allow(unused_imports)]

use super::operation::Actor::*;
use super::operation::Operation::*;
use super::operation::Time::*;
use super::operation::{Flags, Step, at, below, target};

/// All of them.
pub fn sequences() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("an object found by O_PATH goes on answering after its last name is gone", found_and_removed()),
        ("fallocate takes suid away, whoever the serving thread was before", allocated_by_a_user()),
        ("a write by root leaves suid, whoever the serving thread was before", written_by_root()),
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

/// Root is busy beforehand, so that the daemon's threads have served it last.
fn allocated_by_a_user() -> Vec<Step> {
    let flags = open_flags(libc::O_RDWR | libc::O_CREAT);
    let mut steps = vec![Step { who: User, what: Open { slot: 0, at: at("a"), flags, mode: 0o4755 } }];
    steps.extend((0..40).map(|_| Step { who: Root, what: Chmod { at: at("b"), mode: 0o1777 } }));
    steps.push(Step { who: User, what: Fallocate { slot: 0, mode: 0, offset: 0, length: 5_000 } });
    steps.push(Step { who: User, what: Fstat { slot: 0 } });
    steps
}

/// A user is busy beforehand.
fn written_by_root() -> Vec<Step> {
    let flags = open_flags(libc::O_RDWR);
    let mut steps = vec![
        Step { who: User, what: Chmod { at: at("c"), mode: 0o6777 } },
        Step { who: Root, what: Open { slot: 0, at: at("c"), flags, mode: 0 } },
    ];
    steps.extend((0..40).map(|_| Step { who: User, what: Chmod { at: at("dir"), mode: 0o755 } }));
    steps.push(Step { who: Root, what: Write { slot: 0, offset: Some(0), length: 100, byte: 1 } });
    steps.push(Step { who: Root, what: Fstat { slot: 0 } });
    steps
}

fn open_flags(flags: i32) -> Flags {
    Flags(u32::try_from(flags).unwrap())
}
