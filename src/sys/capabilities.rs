//! What a thread's effective capabilities are, and having one more, or one less, for a single call.
//!
//! `setfsuid(2)` takes the capabilities that override file permissions from a thread that becomes a user, but leaves
//! others that a user must not have either: with CAP_SYS_RESOURCE a user writes into blocks reserved for root and past
//! disk quotas, with CAP_SYS_ADMIN they read and write `trusted.*` attributes, with CAP_SETFCAP they make files
//! privileged. So [`super::credentials`] sets the whole effective set whenever it crosses between root and a user.

use std::cell::Cell;

use super::{Errno, abort, check};

/// A set of capabilities (capabilities(7)), one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// May give a file away.
    pub const CHOWN: Self = Self(1);
    /// Permission bits do not count.
    pub const DAC_OVERRIDE: Self = Self(1 << 1);
    /// May open an object by its handle, and read whatever is to be read.
    pub const DAC_READ_SEARCH: Self = Self(1 << 2);
    /// Counts as the owner of every file.
    pub const FOWNER: Self = Self(1 << 3);
    /// Writing does not clear suid and sgid.
    pub const FSETID: Self = Self(1 << 4);
    /// May become any group.
    pub const SETGID: Self = Self(1 << 6);
    /// May become any user.
    pub const SETUID: Self = Self(1 << 7);
    /// May shrink the bounding set.
    const SETPCAP: Self = Self(1 << 8);
    /// May read of any process what its own user may read.
    pub const SYS_PTRACE: Self = Self(1 << 19);
    /// What the ioctls for passthrough of /dev/fuse ask for, mount(2) and umount(2), and `trusted.*` attributes.
    pub const SYS_ADMIN: Self = Self(1 << 21);
    /// May write into blocks reserved for root and past quotas, and be spared by the OOM killer.
    pub const SYS_RESOURCE: Self = Self(1 << 24);
    /// May make devices.
    pub const MKNOD: Self = Self(1 << 27);
    /// May set `security.capability`.
    pub const SETFCAP: Self = Self(1 << 31);
    /// What decides about files for root and must not for anybody else: these, LINUX_IMMUTABLE, MAC_OVERRIDE and MAC_ADMIN.
    const OF_ROOT_ONLY: Self = Self(1 << 9 | 1 << 32 | 1 << 33)
        .with(Self::CHOWN)
        .with(Self::DAC_OVERRIDE)
        .with(Self::DAC_READ_SEARCH)
        .with(Self::FOWNER)
        .with(Self::FSETID)
        .with(Self::SYS_ADMIN)
        .with(Self::SYS_RESOURCE)
        .with(Self::MKNOD)
        .with(Self::SETFCAP);
    /// As many as a set has bits.
    const BITS: u32 = 64;

    /// All of them together.
    #[must_use]
    pub fn all_of(sets: &[Self]) -> Self {
        sets.iter().fold(Self(0), |all, set| all.with(*set))
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn low(self) -> u32 {
        // The mask leaves 32 bits, so nothing is lost.
        (self.0 & 0xffff_ffff) as u32
    }

    const fn high(self) -> u32 {
        // The shift leaves 32 bits, so nothing is lost.
        (self.0 >> 32) as u32
    }

    fn of(low: u32, high: u32) -> Self {
        Self(u64::from(low) | u64::from(high) << 32)
    }
}

/// Does `call` with `more` in the calling thread's effective set, and takes it out again, also on a panic.
///
/// # Errors
/// EPERM where the thread is not permitted `more`; the call is not made then.
pub fn raised<T>(more: Capabilities, call: impl FnOnce() -> T) -> Result<T, Errno> {
    let before = effective()?;
    if before.contains(more) {
        return Ok(call());
    }
    let _back = Restore(before);
    set_effective(before.with(more))?;
    Ok(call())
}

/// Puts `more` into the calling thread's effective set until it assumes an identity again (for SYS_ADMIN: until
/// [`lower_administration`]). Two capset(2) for each call that needs one would cost as much as the call.
///
/// # Errors
/// EPERM where the thread is not permitted `more`.
pub fn raise_for_now(more: Capabilities) -> Result<(), Errno> {
    set_effective(effective()?.with(more))
}

/// Takes `less` out of the calling thread's effective set until it assumes an identity again.
///
/// # Errors
/// As capset(2) has them.
pub fn lower_for_now(less: Capabilities) -> Result<(), Errno> {
    set_effective(effective()?.without(less))
}

/// Takes SYS_ADMIN out of the calling thread's effective set. It decides about extended attributes (`trusted.*`,
/// `security.*`), and about nothing else that is done to a file by path or descriptor.
///
/// # Errors
/// As capset(2) has them.
pub fn lower_administration() -> Result<(), Errno> {
    set_effective(effective()?.without(Capabilities::SYS_ADMIN))
}

/// Does `call` without `less` in the calling thread's effective set, and puts it back, also on a panic.
///
/// # Errors
/// As capset(2) has them; the call is not made then.
pub fn lowered<T>(less: Capabilities, call: impl FnOnce() -> T) -> Result<T, Errno> {
    let before = effective()?;
    if before.without(less) == before {
        return Ok(call());
    }
    let _back = Restore(before);
    set_effective(before.without(less))?;
    Ok(call())
}

/// Gives up, for this thread and whatever it starts, all capabilities but `kept`: what it may do, what it may ask for, and what a
/// program that it executes may get. There is no way back.
///
/// # Errors
/// As capset(2) and prctl(2) have them. Without CAP_SETPCAP the bounding set stays as it is.
pub fn keep_only(kept: Capabilities) -> Result<(), Errno> {
    forget();
    let held = held()?;
    if held.effective.contains(Capabilities::SETPCAP) {
        for number in (0..Capabilities::BITS).filter(|number| kept.0 >> number & 1 == 0) {
            // SAFETY: prctl(2) with PR_CAPBSET_DROP takes a number and touches no memory.
            match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }.into()) {
                // The kernel knows no more of them.
                Err(Errno::EINVAL) => break,
                dropped => dropped?,
            };
        }
    }
    // SAFETY: prctl(2) with PR_CAP_AMBIENT_CLEAR_ALL takes numbers and touches no memory.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }.into())?;
    let both = |set: Capabilities| Capabilities(set.0 & kept.0);
    set(Held {
        permitted: both(held.permitted),
        inheritable: Capabilities(0),
        effective: both(held.effective),
    })
}

/// Does `call`, behind which setfsuid(2) may change the effective set, and puts that back as it was, also on a panic.
///
/// # Errors
/// As capget(2) has them; the call is not made then.
pub(super) fn restored<T>(call: impl FnOnce() -> T) -> Result<T, Errno> {
    let _back = Restore(effective()?);
    let _forget = Forget;
    Ok(call())
}

/// The effective set that belongs to root: all that is permitted.
pub(super) fn take_root_set() -> Result<(), Errno> {
    set_effective(held()?.permitted)
}

/// The effective set that belongs to anybody else; SYS_ADMIN stays where [`raise_for_now`] has put it.
pub(super) fn take_user_set() -> Result<(), Errno> {
    let held = held()?;
    let administration = Capabilities(held.effective.0 & Capabilities::SYS_ADMIN.0);
    set_effective(held.permitted.without(Capabilities::OF_ROOT_ONLY).with(administration))
}

/// The effective set of somebody else than root, for a thread that was root until now.
pub(super) fn take_users_first_set() -> Result<(), Errno> {
    set_effective(held()?.permitted.without(Capabilities::OF_ROOT_ONLY))
}

/// What the calling thread holds, as this room last set it; asked from the kernel once per thread.
#[derive(Clone, Copy)]
struct Held {
    permitted: Capabilities,
    inheritable: Capabilities,
    effective: Capabilities,
}

thread_local! {
    static HELD: Cell<Option<Held>> = const { Cell::new(None) };
}

/// Sets the effective set again when a call is over.
struct Restore(Capabilities);

impl Drop for Restore {
    fn drop(&mut self) {
        // Also after a failed raise: nothing has changed then, and this is a no-op.
        if let Err(error) = set_effective(self.0) {
            abort("cannot restore the effective capabilities", error);
        }
    }
}

/// Forgets what the thread held when a call is over.
struct Forget;

impl Drop for Forget {
    fn drop(&mut self) {
        forget();
    }
}

/// _LINUX_CAPABILITY_VERSION_3 of linux/capability.h.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn effective() -> Result<Capabilities, Errno> {
    Ok(held()?.effective)
}

fn held() -> Result<Held, Errno> {
    if let Some(held) = HELD.get() {
        return Ok(held);
    }
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads one header and writes two elements of data, and both outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    let held = Held {
        permitted: Capabilities::of(low.permitted, high.permitted),
        inheritable: Capabilities::of(low.inheritable, high.inheritable),
        effective: Capabilities::of(low.effective, high.effective),
    };
    HELD.set(Some(held));
    Ok(held)
}

/// Forgets what the calling thread held: somebody else, such as setfsuid(2), may have changed it.
pub(super) fn forget() {
    HELD.set(None);
}

fn set_effective(effective: Capabilities) -> Result<(), Errno> {
    let held = held()?;
    if held.effective == effective { Ok(()) } else { set(Held { effective, ..held }) }
}

fn set(sets: Held) -> Result<(), Errno> {
    let Held { permitted, inheritable, effective } = sets;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |part: fn(Capabilities) -> u32| Data {
        effective: part(effective),
        permitted: part(permitted),
        inheritable: part(inheritable),
    };
    let data = [half(Capabilities::low), half(Capabilities::high)];
    // SAFETY: version 3 reads one header and two elements of data, and both outlive the call. pid 0 is this thread.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })?;
    HELD.set(Some(sets));
    Ok(())
}
