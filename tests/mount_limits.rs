//! At the bounds of a mount: a clear error for what is one too many, everything else goes on, and there is room again afterwards.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use live::waits::until;
use live::{Backing, Mount, TRANSPARENT, errno, list};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Mounts with options, and no more than so many descriptors for the mount.
fn mount_with(mount: &Mount, descriptors: usize, options: &str) {
    let rules = mount.outside().join("rules.toml");
    fs::write(&rules, TRANSPARENT).unwrap();
    let program = live::mount::permfs().get_program().to_owned();
    let status = Command::new("sh")
        .args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["mount", "-o", options, "--config"])
        .arg(rules)
        .args([mount.source(), mount.target()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn make(directory: &Path, files: usize) {
    for number in 0..files {
        fs::write(directory.join(number.to_string()), "x").unwrap();
    }
}

#[test]
fn one_inode_too_many_is_enfile_and_there_is_room_again_when_the_kernel_forgets() {
    let mount = Mount::unmounted(Backing::Tmpfs);
    make(&mount.source(), 300);
    mount_with(&mount, 8192, "max_inodes=200");
    let seen = |number: usize| fs::metadata(mount.at(number.to_string())).map(drop);
    // What somebody holds the kernel does not forget, however short it is of memory.
    let mut reference = File::options();
    reference.read(true).custom_flags(libc::O_PATH);
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for number in 0..300 {
        match reference.open(mount.at(number.to_string())) {
            Ok(file) => held.push(file),
            Err(_) => refused.push(number),
        }
    }
    assert_eq!(held.len(), 199, "the root is one of 200");
    assert_eq!(errno(seen(refused[0])), Errno::ENFILE);
    // Nothing is made that could not be shown.
    assert_eq!(errno(fs::write(mount.at("new"), "x")), Errno::ENFILE);
    assert!(!mount.stored("new").exists());
    // What is known goes on, and a listing has all names.
    assert_eq!(fs::read_to_string(mount.at("0")).unwrap(), "x");
    assert_eq!(list(mount.target()).unwrap().len(), 300);
    fs::remove_file(mount.at("1")).unwrap();
    drop(held);
    until("the kernel forgets", || {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        seen(refused[0]).is_ok()
    });
    // Of all that are forgotten the first has made room for that one.
    until("there is room for another", || fs::write(mount.at("new"), "x").is_ok());
}

#[test]
fn when_descriptors_run_out_an_open_is_enfile_and_all_else_goes_on() {
    const DESCRIPTORS: usize = 4096;
    // See OTHER_DESCRIPTORS.
    const FILES: usize = DESCRIPTORS - 2048;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let mount = Mount::unmounted(Backing::Tmpfs);
    make(&mount.source(), 10);
    chown(mount.source(), Some(0), Some(0)).unwrap();
    mount_with(&mount, DESCRIPTORS, "rw");
    let open = |number: usize| File::open(mount.at((number % 10).to_string()));
    let mut held = Vec::new();
    let refused = loop {
        match open(held.len()) {
            Ok(file) => held.push(file),
            refused => break refused.map(drop),
        }
        assert!(held.len() <= FILES);
    };
    assert_eq!(errno(refused), Errno::ENFILE);
    // The mount has a few descriptors of its own.
    assert!(held.len() > FILES - 100, "{}", held.len());

    assert_eq!(errno(fs::write(mount.at("new"), "x")), Errno::ENFILE);
    assert!(!mount.stored("new").exists());
    goes_on(&mount, "a");
    let worker = mount.daemon();
    kill(Pid::from_raw(worker.try_into().unwrap()), Signal::SIGKILL).unwrap();
    goes_on(&mount, "b");
    assert_ne!(mount.daemon(), worker);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut held[7], &mut text).unwrap();
    assert_eq!(text, "x");
    // It begins with a few descriptors less, and no more than that many files can be opened.
    let more: Vec<_> = (0..100).map_while(|number| open(number).ok()).collect();
    assert!(more.len() < 100 && held.len() + more.len() <= FILES, "{}", more.len());

    drop((held, more));
    until("the files are closed", || open(0).is_ok());
    // The first of them, and that one, which nobody has waited for either.
    until("there is room for another", || fs::write(mount.at("new"), "x").is_ok());
}

/// What needs no descriptor that stays.
fn goes_on(mount: &Mount, name: &str) {
    fs::create_dir(mount.at(name)).unwrap();
    fs::rename(mount.at(name), mount.at("moved")).unwrap();
    assert_eq!(list(mount.target()).unwrap().len(), 11);
    assert_eq!(fs::metadata(mount.at("3")).unwrap().len(), 1);
    fs::remove_dir(mount.at("moved")).unwrap();
}
