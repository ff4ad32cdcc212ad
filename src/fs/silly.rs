//! Directories that hold nothing but files which were removed while open, on NFS.
//!
//! An NFS client renames such a file to `.nfs` and a number (a silly rename) and removes it with the last close. On the bare mount
//! that close is over when close(2) returns; here the kernel sends RELEASE and does not wait for it, so whoever closes a
//! file and then removes its directory may find it not empty yet.

use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use super::visit::Visit;
use super::{Errno, Filesystem, Name};
use crate::backing::BackingFs;
use crate::policy::Credentials;

/// What the NFS client's names for them begin with (SILLYNAME_PREFIX, linux/fs/nfs/unlink.c).
const PREFIX: &[u8] = b".nfs";

/// The first pause before another try; each is twice the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_micros(200);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// For how long, in pauses, is tried while no close is known to be under way: a worker may have read one and not begun with it.
const QUIET_PATIENCE: Duration = Duration::from_millis(20);

/// The same while closes are under way: a few round trips to a server that is far away.
const PATIENCE: Duration = Duration::from_millis(250);

impl<B: BackingFs> Filesystem<B> {
    /// Does `act`, which removes or replaces the directory `name`; again where it was refused because of files that are being
    /// closed. Any other directory that is not empty costs one listing more.
    ///
    /// # Errors
    /// Those of `act`.
    pub(super) fn once_closed(
        &self,
        at: &Visit<B>,
        who: &Credentials,
        name: Name<'_>,
        act: impl Fn() -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let outcome = act();
        if !(is_not_empty(outcome)
            && self.backing.features().nfs
            && self.holds_silly_names_only(at, who, name))
        {
            return outcome;
        }
        again_while_closing(outcome, || self.releases.is_quiet(), act)
    }

    /// As far as the first names tell. Who may not list it may remove it all the same.
    fn holds_silly_names_only(&self, at: &Visit<B>, who: &Credentials, name: Name<'_>) -> bool {
        let listing = at
            .node(self)
            .and_then(|parent| self.backing.lookup(who, parent, name))
            .and_then(|found| self.backing.opendir(who, &found.node));
        let Ok(directory) = listing else { return true };
        let mut only = true;
        let read = self.backing.read_dir(&directory, 0, &mut |entry| {
            let name = entry.name.to_bytes();
            only = matches!(name, b"." | b"..") || name.starts_with(PREFIX);
            if only { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        only || read.is_err()
    }
}

/// Tries again until it is not refused any more, or patience is over. Only pauses count: where the machine stands still, nobody comes to
/// close anything meanwhile.
fn again_while_closing(
    mut outcome: Result<(), Errno>,
    is_quiet: impl Fn() -> bool,
    act: impl Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let (mut pause, mut paused) = (FIRST_PAUSE, Duration::ZERO);
    while is_not_empty(outcome) && paused < if is_quiet() { QUIET_PATIENCE } else { PATIENCE } {
        thread::sleep(pause);
        paused += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
        outcome = act();
    }
    outcome
}

/// EEXIST is what some servers say instead (rmdir(2), rename(2)).
fn is_not_empty(outcome: Result<(), Errno>) -> bool {
    matches!(outcome, Err(Errno::ENOTEMPTY | Errno::EEXIST))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// By the clock patience was over after one try where a machine stood still for that long, and rmdir(2) right after a close was
    /// told ENOTEMPTY.
    #[test]
    fn a_machine_that_stands_still_does_not_use_patience_up() {
        let left = Cell::new(3);
        let act = || {
            thread::sleep(QUIET_PATIENCE);
            left.set(left.get() - 1);
            if left.get() == 0 { Ok(()) } else { Err(Errno::ENOTEMPTY) }
        };
        assert_eq!(again_while_closing(Err(Errno::ENOTEMPTY), || true, act), Ok(()));
    }

    #[test]
    fn what_stays_is_told() {
        let tries = Cell::new(0);
        let act = || {
            tries.set(tries.get() + 1);
            Err(Errno::ENOTEMPTY)
        };
        assert_eq!(again_while_closing(Err(Errno::ENOTEMPTY), || true, act), Err(Errno::ENOTEMPTY));
        assert!((2..=8).contains(&tries.get()), "{} tries", tries.get());
    }
}
