//! Reading a directory of an export, a bounded part at a time.

use std::ffi::CString;
use std::ops::ControlFlow;

use super::super::hands::Hands;
use crate::backing::{BackingFs, Errno, Found};
use crate::policy::Operation;

/// The most names that are held at once.
const MAX_NAMES: usize = 1024;

/// A part of a directory's names.
pub(super) struct Part {
    pub(super) names: Vec<CString>,
    /// Where the next part begins; none at the end.
    pub(super) next: Option<u64>,
}

/// The names from `from` on (0: the beginning), without `.` and `..`.
pub(super) fn part<B: BackingFs>(
    backing: &B,
    hands: &Hands<'_>,
    dir: &Found<B::Node>,
    from: u64,
) -> Result<Part, Errno> {
    let open = hands
        .attempt(Operation::Open, Some(dir.attr.owner()), None, |who| backing.opendir(who, &dir.node))?;
    let mut names = Vec::new();
    let mut at = from;
    loop {
        let before = at;
        backing.read_dir(&open, at, &mut |entry| {
            if names.len() >= MAX_NAMES {
                return ControlFlow::Break(());
            }
            at = entry.next;
            if entry.name != c"." && entry.name != c".." {
                names.push(entry.name.to_owned());
            }
            ControlFlow::Continue(())
        })?;
        if names.len() >= MAX_NAMES {
            return Ok(Part { names, next: Some(at) });
        }
        if at == before {
            return Ok(Part { names, next: None });
        }
    }
}
