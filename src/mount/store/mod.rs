//! The service manager as a mount's last holder: what must outlive all of its processes lies with systemd, too.
//!
//! A mount in the foreground of a service (NOTIFY_SOCKET, sd_notify(3)) gives its manager the descriptors without which it could not go
//! on (FDSTORE=1, systemd.service(5), FileDescriptorStoreMax=): `/dev/fuse`, so that the session lives; the shared memory; SOURCE,
//! and the anchors of the export's mounts, so that no server need be asked and nothing that was mounted over is taken for them. Everything else
//! can be made anew: the claim and its lock, the control socket, open files. Where the whole service is killed, requests wait;
//! the service that is started in its place is given the same descriptors, and goes on ([`resumed`]).
//!
//! [`manager`] speaks the protocol, [`inherited`] is what a process was started with, [`lost`] tells the kernel what is not to be had
//! again. What that is: `state::orphaned`, `fs/reopen.rs`.

mod inherited;
mod lost;
mod manager;
mod resumed;

use std::cell::Cell;
use std::process;

use self::manager::Manager;
use crate::state::State;
use crate::state::texts::Text;
use crate::sys::Errno;

pub(super) use resumed::go_on;

/// The least that FileDescriptorStoreMax= must be: the device, the memory, SOURCE, and SOURCE's anchor.
const LEAST: usize = 4;

/// The names (FDNAME=) of what is kept.
const DEVICE: &str = "permfs-device";
const MEMORY: &str = "permfs-state";
const SOURCE: &str = "permfs-source";
/// The anchor of one of the export's mounts, with its number behind it.
const ANCHOR: &str = "permfs-mount-";

/// Of one mount, with the manager of the service that it is.
#[derive(Debug)]
pub(super) struct Store {
    manager: Manager,
    /// Whether it keeps descriptors.
    keeps: Cell<bool>,
    /// Whether it has those that there are once.
    has_session: Cell<bool>,
    /// Of so many of the export's mounts it has the anchor, where there is one.
    mounts: Cell<usize>,
    /// Which process it was last told is the main one.
    main: Cell<u32>,
}

impl Store {
    /// None where this process is no service, or leaves the foreground.
    pub(super) fn of_this_process(in_background: bool) -> Option<Self> {
        let manager = Manager::of_this_process().filter(|_| !in_background)?;
        // systemd before 254 does not say how many it keeps, and lets what it is given fall where that is none.
        let room = manager::room();
        if let Some(room) = room.filter(|room| *room < LEAST) {
            tracing::warn!(
                room,
                "FileDescriptorStoreMax= is less than {LEAST}: this mount does not survive its service"
            );
        }
        Some(Self {
            manager,
            keeps: Cell::new(room.is_none_or(|room| room >= LEAST)),
            has_session: Cell::new(false),
            mounts: Cell::new(0),
            main: Cell::new(process::id()),
        })
    }

    /// Gives the manager what it does not have yet.
    pub(super) fn keep(&self, state: &State) {
        if !self.keeps.get() {
            return;
        }
        if let Err(error) = self.give(state) {
            tracing::warn!(%error, "the service manager could not be given what it is to keep; trying again");
        }
    }

    fn give(&self, state: &State) -> Result<(), Errno> {
        if !self.has_session.get() {
            if let Some(why) = stands_against(state) {
                tracing::warn!(why, "this mount does not survive its service");
                self.keeps.set(false);
                return Ok(());
            }
            let (Some(session), Some(export)) = (state.session.get(), state.session.export()) else {
                return Ok(());
            };
            self.manager.keep(DEVICE, session.device, true)?;
            self.manager.keep(MEMORY, state.memory_fd(), false)?;
            self.manager.keep(SOURCE, export.root, false)?;
            self.has_session.set(true);
        }
        for (index, mount) in state.mounts.all().enumerate().skip(self.mounts.get()) {
            if let Some(anchor) = mount.anchor {
                self.manager.keep(&anchor_name(index), anchor, false)?;
            }
            self.mounts.set(index + 1);
        }
        Ok(())
    }

    /// The mount answers.
    pub(super) fn tell_ready(&self) {
        self.main.set(process::id());
        self.tell(&format!("READY=1\nMAINPID={}", process::id()));
    }

    /// This process is the keeper, if that is news.
    pub(super) fn tell_keeper(&self) {
        if self.main.replace(process::id()) != process::id() {
            self.tell(&format!("MAINPID={}", process::id()));
        }
    }

    /// The mount is over: nothing is to be kept.
    pub(super) fn empty(&self) {
        if self.has_session.get() {
            [DEVICE, MEMORY, SOURCE].iter().for_each(|name| self.forget(name));
            (0..self.mounts.get()).for_each(|index| self.forget(&anchor_name(index)));
        }
    }

    fn forget(&self, name: &str) {
        self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    fn tell(&self, what: &str) {
        if let Err(error) = self.manager.tell(what, &[]) {
            tracing::warn!(%error, what, "the service manager was not told");
        }
    }
}

fn anchor_name(index: usize) -> String {
    format!("{ANCHOR}{index}")
}

/// Why a mount could not be gone on with.
fn stands_against(state: &State) -> Option<&'static str> {
    if state.mounts.all().next().is_none_or(|source| source.anchor.is_none()) {
        return Some("the export's file system has no handles by which files could be found again");
    }
    if state.slots.have_pipes() {
        return Some("requests come by pipes on this kernel, and could be lost with them");
    }
    if state.texts.read(Text::Recipe).is_none() {
        return Some("its paths are too long, or not UTF-8");
    }
    None
}
