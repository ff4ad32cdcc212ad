//! The system calls that std and nix do not offer in the form needed, and the only `unsafe` of the program.
//!
//! This room does and never decides; it names no other room. Each function is one call, or the few that are only sound
//! together, takes what the kernel takes, and answers with an [`Errno`]. Where nix has the call in the right form
//! (`openat`, `mkdirat`, `renameat2`, `fcntl`, ...) it is used as it is, and not repeated here.

#![allow(unsafe_code)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!(
    "permfs needs a 64-bit Linux: elsewhere SYS_setgroups and SYS_setfsuid take 16-bit ids and offsets overflow"
);

pub mod access;
pub mod capabilities;
pub mod credentials;
pub mod cycles;
pub mod descriptors;
pub mod dirents;
pub mod errno;
pub mod fault;
pub mod fuse_dev;
pub mod handle;
pub mod heap;
pub mod io;
pub mod locks;
pub mod mapping;
pub mod mount;
pub mod name;
pub mod passing;
pub mod pipe;
pub mod proc_fd;
pub mod process;
pub mod seccomp;
pub mod shared_memory;
pub mod stat;
pub mod stderr;
pub mod sync;
pub mod thread;
pub mod times;
pub mod turns;
pub mod umask;
pub mod xattr;

pub use errno::Errno;
pub use handle::FileHandle;
pub use name::Name;

/// The answer of a raw system call: not negative, or the thread's errno.
fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

/// The answer of a libc function that returns a size: not negative, or the thread's errno.
fn check_size(result: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_negative| Errno::last())
}

/// Ends the process: the calling thread's identity is neither the old nor the new one, and no request may run so.
fn abort(what: &str, why: Errno) -> ! {
    stderr::say(format_args!("permfs: {what}: {why}; a thread of unknown identity must not serve, aborting"));
    std::process::abort()
}
