//! What is repeated to find out what it costs: decisions of the policy, and operations over an export in memory.
//!
//! One list for both kinds of measuring, by the clock (`policy.rs`, `operations.rs`) and by instructions
//! (`instructions/`), so that a name means the same in both. No mount, no kernel: `mount/` has those.

#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

pub mod decisions;
pub mod operations;
pub mod stage;

/// How often a batch repeats its work. Enough to hide the call, few enough that what operations make stays in the cache.
pub const BATCH: u32 = 256;

/// Something that is repeated.
pub struct Work {
    /// `group/name`, as criterion and `instructions.toml` have it.
    pub name: &'static str,
    /// Makes all that a batch needs. The batch itself repeats the work [`BATCH`] times.
    pub prepare: fn() -> Batch,
}

/// Work in sight of nothing but itself. One of an operation is done once: what it has made is there then.
pub type Batch = Box<dyn FnMut()>;

/// A batch of this.
pub fn batch(mut work: impl FnMut(u32) + 'static) -> Batch {
    Box::new(move || (0..BATCH).for_each(&mut work))
}

/// Everything, decisions first.
pub fn all() -> impl Iterator<Item = &'static Work> {
    decisions::ALL.iter().chain(operations::ALL)
}
