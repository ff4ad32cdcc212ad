//! Putting a filter on the system calls of this process (seccomp(2)).

use std::mem::offset_of;

use super::{Errno, check};

/// One instruction of a filter, as the kernel reads it (linux/filter.h, `struct sock_filter`).
pub type Instruction = seccompiler::sock_filter;

// The kernel's own description of it, so that a slice of one is a slice of the other.
const _: () = assert!(
    size_of::<Instruction>() == size_of::<libc::sock_filter>()
        && align_of::<Instruction>() == align_of::<libc::sock_filter>()
        && offset_of!(Instruction, k) == offset_of!(libc::sock_filter, k)
);

/// Whether what a filter refuses stands in the kernel's log, where that is on (audit, or dmesg).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// They stand there.
    Logged,
    /// They do not: they are nothing special.
    Silent,
}

/// Holds every thread of this process, and whatever they start, to `filter` from now on. It adds to those that are there: of
/// their answers the strictest counts.
///
/// # Errors
/// EACCES without CAP_SYS_ADMIN and without `no_new_privs`; EINVAL where the kernel has no seccomp or the filter is none; EBUSY
/// where a thread has filters that this one has not.
pub fn hold_to(filter: &[Instruction], refusals: Refusals) -> Result<(), Errno> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_too_long| Errno::EINVAL)?,
        // The kernel only reads it.
        filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SPEC_ALLOW: before Linux 5.16 a filter without it switches speculation off for the process, which it does not ask for.
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
        | match refusals {
            Refusals::Logged => libc::SECCOMP_FILTER_FLAG_LOG,
            Refusals::Silent => 0,
        };
    // SAFETY: the kernel reads one header and as many instructions as it names, and both outlive the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    // With TSYNC a positive answer is the thread that stood in the way.
    if check(answer)? == 0 { Ok(()) } else { Err(Errno::EBUSY) }
}
