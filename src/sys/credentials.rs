//! The calling thread's identity for file access: fsuid, fsgid and supplementary groups.
//!
//! Raw system calls, since glibc's wrappers change every thread of the process. A switch is 2 to 7 calls, so the last
//! identity is remembered per thread, what has not changed is skipped, and nothing is switched back eagerly.
//!
//! Whoever else in this process changed a thread's ids (clippy.toml forbids it) would make the memory wrong.

use std::cell::RefCell;

use nix::unistd::{Gid, Uid};

use super::{Errno, abort, capabilities, check};

/// The most supplementary groups a thread can have (NGROUPS_MAX, limits.h).
pub const GROUPS_MAX: usize = 65_536;

/// Makes root, without supplementary groups, the calling thread's identity, whatever it inherited.
///
/// # Errors
/// As [`assume`].
pub fn reset() -> Result<(), Errno> {
    CURRENT.with_borrow_mut(|current| *current = None);
    assume(Uid::from_raw(0), Gid::from_raw(0), std::iter::empty())
}

/// Makes `uid`, `gid` and `groups` the calling thread's identity for file access, and gives it the effective
/// capabilities that go with it: all that are permitted for uid 0, none that decide about files for anybody else.
///
/// Aborts the process where an identity is half set and cannot be completed.
///
/// # Errors
/// EINVAL for more than [`GROUPS_MAX`] groups, EPERM without CAP_SETGID, ENOMEM: nothing has changed then.
pub fn assume<G>(uid: Uid, gid: Gid, groups: G) -> Result<(), Errno>
where
    G: IntoIterator<Item = Gid>,
    G::IntoIter: Clone,
{
    become_somebody(uid, gid, groups, true)
}

/// As [`assume`], for calls that change no file's mode or content: uid 0 may be left without CAP_FSETID, which nothing
/// else asks for, where [`capabilities::lower_for_now`] has taken it.
///
/// # Errors
/// As [`assume`].
pub fn assume_to_look<G>(uid: Uid, gid: Gid, groups: G) -> Result<(), Errno>
where
    G: IntoIterator<Item = Gid>,
    G::IntoIter: Clone,
{
    become_somebody(uid, gid, groups, false)
}

/// Does `call` as uid 0 where the calling thread is somebody else, who it is again afterwards, also on a panic: for what belongs to
/// permfs itself, such as its log.
///
/// # Errors
/// As capget(2) has them; the call is not made then.
pub fn as_permfs<T>(call: impl FnOnce() -> T) -> Result<T, Errno> {
    // Nobody else than root where this room has set nobody, or is about to.
    let uid = CURRENT.with(|current| current.try_borrow().ok()?.as_ref().map(|now| now.uid));
    match uid {
        None | Some(0) => Ok(call()),
        Some(uid) => capabilities::restored(|| {
            complete_ids(None, Some(0));
            let _back = Back(uid);
            call()
        }),
    }
}

/// Makes the user the thread's again when a call is over.
struct Back(libc::uid_t);

impl Drop for Back {
    fn drop(&mut self) {
        complete_ids(None, Some(self.0));
    }
}

fn become_somebody<G>(uid: Uid, gid: Gid, groups: G, to_change: bool) -> Result<(), Errno>
where
    G: IntoIterator<Item = Gid>,
    G::IntoIter: Clone,
{
    let groups = groups.into_iter().map(Gid::as_raw);
    CURRENT.with_borrow_mut(|current| match current {
        Some(now) => now.become_other(uid.as_raw(), gid.as_raw(), groups, to_change),
        None => {
            *current = Some(Identity::take_over(uid.as_raw(), gid.as_raw(), groups)?);
            Ok(())
        }
    })
}

/// What this room last set; exactly what the kernel has for this thread.
struct Identity {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
}

thread_local! {
    static CURRENT: RefCell<Option<Identity>> = const { RefCell::new(None) };
}

impl Identity {
    /// Sets everything: nothing is known of what the thread inherited.
    fn take_over(
        uid: libc::uid_t,
        gid: libc::gid_t,
        groups: impl Iterator<Item = libc::gid_t>,
    ) -> Result<Self, Errno> {
        let groups = bounded(groups)?;
        set_groups(&groups)?;
        complete_ids(Some(gid), Some(uid));
        capabilities::forget();
        complete_capabilities(uid);
        Ok(Self { uid, gid, groups })
    }

    /// Sets what differs. Only the first call may fail with nothing changed; from then on it is all or abort.
    fn become_other(
        &mut self,
        uid: libc::uid_t,
        gid: libc::gid_t,
        groups: impl Iterator<Item = libc::gid_t> + Clone,
        to_change: bool,
    ) -> Result<(), Errno> {
        if !self.groups.iter().copied().eq(groups.clone()) {
            let groups = bounded(groups)?;
            set_groups(&groups)?;
            self.groups = groups;
        }
        complete_ids((self.gid != gid).then_some(gid), (self.uid != uid).then_some(uid));
        let crossed = (self.uid == 0) != (uid == 0);
        (self.uid, self.gid) = (uid, gid);
        if crossed {
            // setfsuid(2) has changed the effective set behind the back of what is remembered.
            capabilities::forget();
            complete_capabilities(uid);
        } else if uid != 0 {
            or_abort(capabilities::take_user_set());
        } else if to_change {
            or_abort(capabilities::take_root_set());
        }
        Ok(())
    }
}

fn bounded(groups: impl Iterator<Item = libc::gid_t>) -> Result<Vec<libc::gid_t>, Errno> {
    let groups: Vec<_> = groups.take(GROUPS_MAX + 1).collect();
    if groups.len() > GROUPS_MAX { Err(Errno::EINVAL) } else { Ok(groups) }
}

fn set_groups(groups: &[libc::gid_t]) -> Result<(), Errno> {
    // SAFETY: the kernel reads groups.len() ids from the slice. The raw call changes this thread alone.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

/// The group before the user: in this order no moment exists in which the new user has the old group's rights.
fn complete_ids(gid: Option<libc::gid_t>, uid: Option<libc::uid_t>) {
    if let Some(gid) = gid
        && set_and_read_back(libc::SYS_setfsgid, gid) != i64::from(gid)
    {
        abort(&format!("cannot take fsgid {gid}"), Errno::EPERM);
    }
    if let Some(uid) = uid
        && set_and_read_back(libc::SYS_setfsuid, uid) != i64::from(uid)
    {
        abort(&format!("cannot take fsuid {uid}"), Errno::EPERM);
    }
}

fn complete_capabilities(uid: libc::uid_t) {
    or_abort(if uid == 0 { capabilities::take_root_set() } else { capabilities::take_users_first_set() });
}

fn or_abort(set: Result<(), Errno>) {
    if let Err(error) = set {
        abort("cannot set the effective capabilities", error);
    }
}

/// setfsuid(2) and setfsgid(2) report no error; asked for the invalid id -1 they only tell the current one.
fn set_and_read_back(call: libc::c_long, id: u32) -> i64 {
    // SAFETY: both calls take one number and touch no memory of ours. The raw calls change this thread alone.
    unsafe {
        libc::syscall(call, id);
        libc::syscall(call, u32::MAX)
    }
}
