//! What happens at a call that is not let through. Each is tried by this very test in a process of its own, which ends by it.

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Confinement;

/// Tells the other process what to try.
const TRY: &str = "PERMFS_TEST_TRY";

/// Runs the test `name` again, elsewhere, with [`TRY`] set.
fn elsewhere(name: &str, what: &str) -> ExitStatus {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("mount::confine::tests::{name}")]).env(TRY, what);
    command.output().unwrap().status
}

#[test]
fn a_worker_that_serves_opens_no_socket_and_starts_no_process_and_goes_on() {
    if env::var_os(TRY).is_none() {
        let name = "a_worker_that_serves_opens_no_socket_and_starts_no_process_and_goes_on";
        assert!(elsewhere(name, "all").success());
        return;
    }
    Confinement { oom_score: None }.of_one_that_serves();
    let refused = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None);
    assert_eq!(refused.unwrap_err(), Errno::EPERM);
    // The harness has threads, so this is only asked of the kernel: vfork(2) or clone(2), whichever std uses.
    assert_eq!(Command::new("/bin/true").status().unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS), Err(Errno::EPERM));
    assert_eq!(nix::sys::prctl::set_dumpable(true), Err(Errno::EPERM));
    // Threads it may have, and memory.
    assert_eq!(std::thread::spawn(|| vec![1_u8; 1 << 22].len()).join().unwrap(), 1 << 22);
}

#[test]
fn a_worker_that_serves_is_ended_by_executing_or_mounting() {
    let Some(what) = env::var_os(TRY) else {
        let name = "a_worker_that_serves_is_ended_by_executing_or_mounting";
        for what in ["execute", "mount", "unmount"] {
            assert_eq!(elsewhere(name, what).signal(), Some(libc::SIGSYS), "{what}");
        }
        return;
    };
    Confinement { oom_score: None }.of_one_that_serves();
    let none = None::<&str>;
    match what.to_str() {
        Some("execute") => {
            let _ = nix::unistd::execv(c"/bin/true", &[c"true"]);
        }
        Some("mount") => {
            let _ = nix::mount::mount(none, "/nowhere", none, nix::mount::MsFlags::empty(), none);
        }
        _ => {
            let _ = nix::mount::umount("/nowhere");
        }
    }
    panic!("{what:?} came back");
}

#[test]
fn no_process_of_a_mount_may_change_the_machine() {
    if env::var_os(TRY).is_none() {
        let name = "no_process_of_a_mount_may_change_the_machine";
        assert_eq!(elsewhere(name, "all").signal(), Some(libc::SIGSYS));
        return;
    }
    Confinement::begin();
    let _ = nix::unistd::pivot_root("/nowhere", "/nowhere");
    panic!("it came back");
}
