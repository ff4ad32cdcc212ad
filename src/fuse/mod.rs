//! The kernel's side of the mount: its requests decoded, the file system asked, its answers encoded.
//!
//! A request's way: a worker ([`pool`]) reads it from the [`device`], [`decode`] makes a typed request of the bytes,
//! [`dispatch`] calls the [`Filesystem`](crate::fs::Filesystem), [`reply`] sends the answer. Before all that, [`mount`]
//! makes the mount and [`negotiate`] settles with the kernel what either side can do.
//!
//! The transport is our own because of what it must hold: interrupts reach waiting lock requests, flock is told from
//! fcntl, node ids are ours and not inode numbers, replies allocate nothing, and whoever reads the device can be
//! replaced without losing a request.
//!
//! Not here: what any operation means.

mod bystander;
mod counters;
mod crowds;
mod decode;
mod device;
mod dirents;
mod dispatch;
mod encode;
mod in_hand;
mod late;
mod mount;
mod negotiate;
mod notify;
mod opcode;
mod pool;
mod read_ahead;
mod reply;
mod session;
mod settled;
mod wire;

pub use counters::Counters;
pub use device::Device;
pub use mount::{MountError, MountOptions, mount};
pub use negotiate::{Features, MAX_WRITE};
pub use pool::{MAX_HELD_UP, MAX_WORKERS};
pub use read_ahead::{READ_AHEAD_KIB, raise_read_ahead};
pub use session::{Session, SessionError, SessionOptions};
pub use settled::Unsettled;
