//! What the calls that every request makes cost, in nanoseconds. Run with `--ignored --nocapture --test-threads 1`.

use std::time::Instant;

use nix::fcntl::OFlag;
use nix::unistd::AccessFlags;
use permfs::backing::{BackingFs, Freshness};

use super::*;

const TURNS: u32 = 20_000;

fn measure<T>(what: &str, mut call: impl FnMut() -> T) {
    let start = Instant::now();
    for _ in 0..TURNS {
        drop(call());
    }
    println!("{what:48} {:6} ns", (start.elapsed() / TURNS).as_nanos());
}

#[test]
#[ignore = "measures, checks nothing"]
fn the_cost_of_what_every_request_does() {
    for (kind, export) in [("tmpfs", Export::tmpfs()), ("ext4", Export::ext4())] {
        println!("{kind}");
        export.chmod("", 0o777);
        let backing = export.open();
        let (me, root) = (owner(), root());
        backing.enter_thread().unwrap();
        let node = root_node(&backing);
        let file = create(&backing, &me, c"file").unwrap();
        let found = lookup(&backing, &me, c"file").unwrap();
        let other = user(2002, 2002, &[3001, 3002]);
        measure("resolve as a user", || backing.resolve(&me, &found.id).unwrap());
        measure("resolve as root", || backing.resolve(&root, &found.id).unwrap());
        measure("resolve + stat as a user", || {
            let node = backing.resolve(&me, &found.id).unwrap();
            backing.stat(&node, Freshness::AsStat).unwrap();
        });
        measure("stat", || backing.stat(&found.node, Freshness::AsStat).unwrap());
        measure("lookup", || backing.lookup(&me, &node, name(c"file")).unwrap());
        measure("access", || backing.access(&me, &found.node, AccessFlags::R_OK).unwrap());
        measure("two accesses, user and other user with groups", || {
            backing.access(&me, &found.node, AccessFlags::R_OK).unwrap();
            backing.access(&other, &found.node, AccessFlags::R_OK).unwrap();
        });
        measure("two accesses, user and root", || {
            backing.access(&me, &found.node, AccessFlags::R_OK).unwrap();
            backing.access(&root, &found.node, AccessFlags::R_OK).unwrap();
        });
        measure("open", || backing.open(&me, &found.node, OFlag::O_RDWR).unwrap());
        measure("chmod", || backing.chmod(&me, &found.node, Permissions::from_mode(0o644)).unwrap());
        measure("identify", || backing.identify(&file).unwrap());
        measure("create + unlink", || {
            drop(create(&backing, &me, c"new").unwrap());
            backing.unlink(&me, &node, name(c"new")).unwrap();
        });
        measure("write 4 KiB", || backing.write(&me, &file, &[0; 4096], 0, PLAIN).unwrap());
        let mut buffer = [0; 4096];
        measure("read 4 KiB", || backing.read(&file, &mut buffer, 0).unwrap());
        measure("flush", || backing.flush(&file).unwrap());
    }
}
