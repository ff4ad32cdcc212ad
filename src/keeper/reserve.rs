//! The process in reserve: it waits for the keeper's death and is the keeper then.
//!
//! While another program takes over there are two: that of the program before, and the new one's. Which of them is the keeper then
//! depends on whether the upgrade was final; the other one ends.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Keeper;
use super::process::{Child, POLL, fork, pidfd_of_self};
use super::worker::Worker;
use crate::state::State;
use crate::state::layout::HeaderWord;
use crate::state::texts::Text;
use crate::sys::process::{Fork, pidfd};
use crate::sys::{Errno, descriptors, fault};

impl Keeper<'_> {
    /// Puts a process in reserve. Without one the mount goes on, and would not survive its keeper. In the new process this returns
    /// when that one is the keeper.
    pub(super) fn start_reserve(&mut self) {
        if let Some(reserve) = self.reserve.take() {
            self.kept.retain(|fd| *fd != reserve.pidfd());
            self.remember_descriptors();
            reserve.bury();
        }
        if let Err(error) = self.try_start_reserve() {
            tracing::warn!(%error, "no process is in reserve for the keeper");
        }
        self.remember_descriptors();
    }

    fn try_start_reserve(&mut self) -> Result<(), Errno> {
        let keeper = pidfd_of_self()?;
        self.kept.push(keeper.as_raw_fd());
        let program = program_of_a_reserve(&self.state);
        match fork()? {
            Fork::Parent { child } => {
                fault::point!("keeper: a process is in reserve");
                let pid = u32::try_from(child.as_raw()).map_err(|_| Errno::EINVAL)?;
                let child = Child::left(pid, pidfd(pid)?.into_raw_fd())?;
                self.kept.push(child.pidfd());
                self.state.set(HeaderWord::Reserve, u64::from(pid));
                fault::point!("keeper: it is said who");
                self.reserve = Some(child);
                // The one in reserve looks at it under this number, and closes it.
                mem::forget(keeper);
            }
            Fork::Child => {
                // Where another program comes to nothing this is what is left to know; what stands in the state then is that one's.
                self.kept.retain(|fd| !descriptors::is_process(*fd));
                wait_for_the_end_of(&keeper);
                if self.state.get(HeaderWord::Upgrades) != program {
                    process::exit(0);
                }
                self.take_over(keeper);
            }
        }
        Ok(())
    }

    /// The keeper is dead: what it had is what stands in the state, not what this process remembers.
    fn take_over(&mut self, keeper: OwnedFd) {
        fault::point!("reserve: the keeper died");
        if !self.state.is_upgrading() {
            self.kept = self.state.kept_descriptors();
            self.kept.retain(|fd| *fd != keeper.as_raw_fd());
        }
        drop(keeper);
        // Their numbers are perhaps somebody else's by now.
        mem::forget(self.worker.take());
        mem::forget(self.reserve.take());
        mem::forget(mem::take(&mut self.stuck));
        self.state.set(HeaderWord::Keeper, u64::from(process::id()));
        let number = |word| u32::try_from(self.state.get(word)).unwrap_or_default();
        let pidfd = RawFd::try_from(self.state.get(HeaderWord::WorkerPidfd)).unwrap_or(-1);
        if !self.state.is_upgrading() {
            self.worker = Child::left(number(HeaderWord::Worker), pidfd).ok().map(Worker::new);
        } else {
            // The program that was to take over has died. Its worker, if there is one, has another table of descriptors.
            if let Ok(worker) = Child::of(number(HeaderWord::Worker)) {
                worker.kill();
            }
            self.state
                .texts
                .leave(Text::NotUpgraded, "the new program ended before it could serve; see the mount's log");
            self.state.take_back_upgrade();
        }
        // Nothing is opened before that: a worker that is beginning closes whatever nobody has a record of.
        self.let_the_worker_begin();
        fault::point!("reserve: before it is the keeper");
        // Of this very process, and what the keeper was in the middle of: nobody's any more.
        self.kept.retain(|fd| *fd == pidfd || !descriptors::is_process(*fd));
        self.remember_descriptors();
        tracing::warn!("the keeper died; this process takes its place");
        self.charge.changed();
        fault::point!("reserve: before there is another");
        self.start_reserve();
        fault::point!("reserve: another is there");
    }

    /// Waits until the worker that the dead keeper was starting, if it was, has begun, or will not.
    fn let_the_worker_begin(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let since = Instant::now();
        while self.state.get(HeaderWord::Begun) != u64::from(worker.child().pid())
            && !worker.will_not_begin(since.elapsed())
        {
            worker.child().has_ended_within(POLL);
        }
    }
}

/// Which of the programs that have had the mount, counted from 0, begins to have a reserve.
fn program_of_a_reserve(state: &State) -> u64 {
    state.get(HeaderWord::Upgrades) + u64::from(state.is_upgrading())
}

fn wait_for_the_end_of(process: &OwnedFd) {
    let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    while let Err(nix::errno::Errno::EINTR) = poll(&mut polled, PollTimeout::NONE) {}
}
