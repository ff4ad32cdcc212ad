//! Test suites that others wrote, and a stress run, through a transparent mount.
//!
//! `pjdfstest` and `fsx` are the crates of that name (0.2.2 and 0.3.2; the README's test command installs them). They
//! are looked for on PATH and in `~/.cargo/bin`; a missing one fails its test.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../live/mod.rs"]
mod live;
mod stress;
mod suites;
