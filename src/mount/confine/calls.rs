//! Which system calls who may make, and the filters made of that.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// What no mount's process, of this version or a later one, has a reason to do: look into other processes, load code into the
/// kernel, set the machine's clock, name or state. It ends the process.
pub(super) const NEVER: &[c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// What ends a worker that serves: executing programs, and changing what is mounted or which namespaces and root it sees.
pub(super) const NEVER_WHILE_SERVING: &[c_long] = &[
    libc::SYS_chroot,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_setns,
    libc::SYS_umount2,
];

/// What a C library tries first and does without where the kernel is too old to have it. clone3(2) reads its flags from memory,
/// where no filter sees them.
pub(super) const ABSENT: &[c_long] = &[libc::SYS_clone3];

/// What a worker that serves does. Anything else is EPERM.
pub(super) const SERVES: &[Call] = &[
    // Memory; none of it to be executed.
    any(libc::SYS_brk),
    any(libc::SYS_madvise),
    without(libc::SYS_mmap, 2, libc::PROT_EXEC),
    without(libc::SYS_mprotect, 2, libc::PROT_EXEC),
    any(libc::SYS_mremap),
    any(libc::SYS_munmap),
    // Threads, but no processes.
    with(libc::SYS_clone, 0, libc::CLONE_THREAD),
    any(libc::SYS_clone3), // see ABSENT
    any(libc::SYS_exit),
    any(libc::SYS_exit_group),
    any(libc::SYS_futex),
    any(libc::SYS_get_robust_list),
    any(libc::SYS_membarrier),
    with_value(libc::SYS_prctl, 0, libc::PR_SET_NAME),
    any(libc::SYS_rseq),
    any(libc::SYS_sched_getaffinity),
    any(libc::SYS_sched_yield),
    any(libc::SYS_set_robust_list),
    any(libc::SYS_set_tid_address),
    with_value(libc::SYS_unshare, 0, libc::CLONE_FS),
    // Time and chance.
    any(libc::SYS_clock_getres),
    any(libc::SYS_clock_gettime),
    any(libc::SYS_clock_nanosleep),
    any(libc::SYS_getrandom),
    any(libc::SYS_gettimeofday),
    any(libc::SYS_nanosleep),
    any(libc::SYS_restart_syscall),
    // Who it is, and whom it acts as.
    any(libc::SYS_capget),
    any(libc::SYS_capset),
    any(libc::SYS_getegid),
    any(libc::SYS_geteuid),
    any(libc::SYS_getgid),
    any(libc::SYS_getgroups),
    any(libc::SYS_getpid),
    any(libc::SYS_getppid),
    any(libc::SYS_gettid),
    any(libc::SYS_getuid),
    any(libc::SYS_setfsgid),
    any(libc::SYS_setfsuid),
    any(libc::SYS_setgroups),
    any(libc::SYS_umask),
    any(libc::SYS_uname),
    // To read a limit; none is set.
    with_null(libc::SYS_prlimit64, 2),
    any(libc::SYS_getrlimit),
    any(libc::SYS_getrusage),
    // Signals; the keeper is told of those that mean the whole mount.
    any(libc::SYS_kill),
    any(libc::SYS_rt_sigaction),
    any(libc::SYS_rt_sigprocmask),
    any(libc::SYS_rt_sigreturn),
    any(libc::SYS_rt_sigtimedwait),
    any(libc::SYS_sigaltstack),
    any(libc::SYS_tgkill),
    // Waiting.
    any(libc::SYS_epoll_create1),
    any(libc::SYS_epoll_ctl),
    any(libc::SYS_epoll_pwait),
    any(libc::SYS_eventfd2),
    any(libc::SYS_pidfd_open),
    any(libc::SYS_pipe2),
    any(libc::SYS_ppoll),
    // The control socket. It exists already.
    any(libc::SYS_accept),
    any(libc::SYS_accept4),
    any(libc::SYS_getpeername),
    any(libc::SYS_getsockname),
    any(libc::SYS_getsockopt),
    any(libc::SYS_recvfrom),
    any(libc::SYS_recvmsg),
    any(libc::SYS_sendmsg),
    any(libc::SYS_sendto),
    any(libc::SYS_setsockopt),
    any(libc::SYS_shutdown),
    // Descriptors.
    any(libc::SYS_close),
    any(libc::SYS_dup),
    any(libc::SYS_dup3),
    any(libc::SYS_fcntl),
    any(libc::SYS_flock),
    with_value(libc::SYS_ioctl, 1, FUSE_DEV_IOC_BACKING_OPEN),
    with_value(libc::SYS_ioctl, 1, FUSE_DEV_IOC_BACKING_CLOSE),
    with_value(libc::SYS_ioctl, 1, FIOCLEX),
    with_value(libc::SYS_ioctl, 1, FIONBIO),
    with_value(libc::SYS_ioctl, 1, TCGETS),
    any(libc::SYS_lseek),
    // Content.
    any(libc::SYS_copy_file_range),
    any(libc::SYS_splice),
    any(libc::SYS_vmsplice),
    any(libc::SYS_fadvise64),
    any(libc::SYS_fallocate),
    any(libc::SYS_fdatasync),
    any(libc::SYS_fsync),
    any(libc::SYS_ftruncate),
    any(libc::SYS_pread64),
    any(libc::SYS_preadv),
    any(libc::SYS_preadv2),
    any(libc::SYS_pwrite64),
    any(libc::SYS_pwritev),
    any(libc::SYS_pwritev2),
    any(libc::SYS_read),
    any(libc::SYS_readahead),
    any(libc::SYS_readv),
    any(libc::SYS_sync_file_range),
    any(libc::SYS_syncfs),
    any(libc::SYS_truncate),
    any(libc::SYS_write),
    any(libc::SYS_writev),
    // Names and attributes.
    any(libc::SYS_faccessat),
    any(libc::SYS_faccessat2),
    any(libc::SYS_fchmod),
    any(libc::SYS_fchmodat),
    any(libc::SYS_fchmodat2),
    any(libc::SYS_fchown),
    any(libc::SYS_fchownat),
    any(libc::SYS_fstat),
    any(libc::SYS_fstatfs),
    any(libc::SYS_getcwd),
    any(libc::SYS_getdents64),
    any(libc::SYS_linkat),
    any(libc::SYS_mkdirat),
    any(libc::SYS_mknodat),
    any(libc::SYS_name_to_handle_at),
    any(libc::SYS_newfstatat),
    any(libc::SYS_open_by_handle_at),
    any(libc::SYS_openat),
    any(libc::SYS_openat2),
    any(libc::SYS_readlinkat),
    any(libc::SYS_renameat),
    any(libc::SYS_renameat2),
    any(libc::SYS_statfs),
    any(libc::SYS_statx),
    any(libc::SYS_symlinkat),
    any(libc::SYS_unlinkat),
    any(libc::SYS_utimensat),
    // Extended attributes.
    any(libc::SYS_fgetxattr),
    any(libc::SYS_flistxattr),
    any(libc::SYS_fremovexattr),
    any(libc::SYS_fsetxattr),
    any(libc::SYS_getxattr),
    any(libc::SYS_lgetxattr),
    any(libc::SYS_listxattr),
    any(libc::SYS_llistxattr),
    any(libc::SYS_lremovexattr),
    any(libc::SYS_lsetxattr),
    any(libc::SYS_removexattr),
    any(libc::SYS_setxattr),
];

/// What a C library still calls on x86_64 where newer machines have the calls above only.
#[cfg(target_arch = "x86_64")]
const SERVES_HERE: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const SERVES_HERE: &[c_long] = &[];

/// _IOW(229, 1, struct fuse_backing_map) and _IOW(229, 2, uint32_t), linux/fuse.h.
const FUSE_DEV_IOC_BACKING_OPEN: i32 = 0x4010_e501;
const FUSE_DEV_IOC_BACKING_CLOSE: i32 = 0x4004_e502;
/// asm-generic/ioctls.h: what std does to descriptors, and whether one is a terminal.
const FIOCLEX: i32 = 0x5451;
const FIONBIO: i32 = 0x5421;
const TCGETS: i32 = 0x5401;

/// A system call that is let through, perhaps only where an argument is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    number: c_long,
    only: Only,
}

/// What its arguments, counted from 0, have to be.
#[derive(Debug, Clone, Copy)]
enum Only {
    Any,
    /// These bits of an int are these.
    Bits {
        argument: u8,
        mask: i32,
        value: i32,
    },
    /// A null pointer.
    Null {
        argument: u8,
    },
}

const fn any(number: c_long) -> Call {
    Call { number, only: Only::Any }
}

const fn with(number: c_long, argument: u8, bits: i32) -> Call {
    Call { number, only: Only::Bits { argument, mask: bits, value: bits } }
}

const fn without(number: c_long, argument: u8, bits: i32) -> Call {
    Call { number, only: Only::Bits { argument, mask: bits, value: 0 } }
}

const fn with_value(number: c_long, argument: u8, value: i32) -> Call {
    Call { number, only: Only::Bits { argument, mask: -1, value } }
}

const fn with_null(number: c_long, argument: u8) -> Call {
    Call { number, only: Only::Null { argument } }
}

impl Only {
    fn condition(self) -> Result<Option<SeccompCondition>, BackendError> {
        Ok(match self {
            Self::Any => None,
            Self::Bits { argument, mask, value } => {
                let compare = SeccompCmpOp::MaskedEq(mask.cast_unsigned().into());
                let value = value.cast_unsigned().into();
                Some(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)?)
            }
            Self::Null { argument } => {
                Some(SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?)
            }
        })
    }
}

type Filter = Result<BpfProgram, BackendError>;
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// These calls, and nothing else; EPERM.
pub(super) fn only(calls: &[Call]) -> Filter {
    let mut rules = whatever_is_passed(SERVES_HERE);
    for call in calls {
        let rules = rules.entry(call.number).or_default();
        if let Some(condition) = call.only.condition()? {
            rules.push(SeccompRule::new(vec![condition])?);
        }
    }
    filter(rules, SeccompAction::Errno(libc::EPERM.unsigned_abs()), SeccompAction::Allow)
}

/// None of these calls: whoever makes one is ended.
pub(super) fn kill_at(calls: &[c_long]) -> Filter {
    answer(calls, SeccompAction::KillProcess)
}

/// None of these calls; the answer is another.
pub(super) fn answer(calls: &[c_long], action: SeccompAction) -> Filter {
    filter(whatever_is_passed(calls), SeccompAction::Allow, action)
}

fn whatever_is_passed(calls: &[c_long]) -> Rules {
    calls.iter().map(|number| (*number, Vec::new())).collect()
}

fn filter(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Filter {
    SeccompFilter::new(rules, otherwise, matched, TargetArch::try_from(ARCH)?)?.try_into()
}
