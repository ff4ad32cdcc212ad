//! Sequences on which the mount once differed from the directory, each with the name of what was wrong.

// What a shrunk sequence may name; not every list needs all of it.
#![allow(unused_imports)]

use super::operation::Actor::*;
use super::operation::Operation::*;
use super::operation::Time::*;
use super::operation::{Flags, Step, at, below, target};

/// All of them.
pub fn sequences() -> Vec<(&'static str, Vec<Step>)> {
    vec![("a file made and stat'ed, so that the list is never empty", made_and_looked_at())]
}

fn made_and_looked_at() -> Vec<Step> {
    let flags = Flags(u32::try_from(libc::O_RDWR | libc::O_CREAT).unwrap());
    vec![
        Step { who: User, what: Open { slot: 0, at: at("a"), flags, mode: 0o644 } },
        Step { who: User, what: Stat { at: at("a"), follow: true } },
    ]
}
