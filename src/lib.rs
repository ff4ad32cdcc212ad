//! permfs: a FUSE permission-mapping filesystem.
//!
//! A pod runs as `50000:0`, the NFS export belongs to `2001:2001`, the server keeps `root_squash`. permfs mounts the
//! export for the pod with ids translated, and does at the server only what the translated user may do.
//!
//! The rooms, in the order a request meets them: [`fuse`] decodes it, [`fs`] conducts it, [`caller`] says who asks,
//! [`policy`] decides, [`backing`] does it as them, through [`sys`]. [`config`] makes a policy of a rules file,
//! [`mount`] builds the stack, [`cli`] is how people reach it. ARCHITECTURE.md has the walk of one request.

// They panic where nobody reads what they print: see sys::stderr and cli::output.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod backing;
pub mod bench;
pub mod caller;
pub mod cli;
pub mod config;
pub mod csi;
pub mod fs;
pub mod fuse;
pub mod host;
pub mod keeper;
pub mod mount;
pub mod policy;
pub mod state;
pub mod sys;
pub mod telemetry;
