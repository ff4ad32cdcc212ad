//! Mounts below SOURCE.

use permfs::backing::{BackingFs, Freshness, MountIndex};

use super::*;

/// An export with two filesystems mounted in it, one of them read by 2001 alone.
struct Nested {
    export: Export,
}

impl Nested {
    fn new() -> Self {
        let export = Export::tmpfs();
        for dir in ["one", "two"] {
            std::fs::create_dir(export.path(dir)).unwrap();
            let options = OsStr::new("size=1m,uid=2001,gid=2001,mode=0700");
            mount::mount(OsStr::new("none"), &export.path(dir), c"tmpfs", MsFlags::empty(), options).unwrap();
        }
        Self { export }
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        for dir in ["one", "two"] {
            outside(|| mount::unmount(&self.export.path(dir), true)).unwrap();
        }
    }
}

#[test]
fn mounts_inside_the_export_do_not_collide() {
    let nested = Nested::new();
    let backing = nested.export.open();
    let found: Vec<_> = [c"one", c"two"].map(|dir| lookup(&backing, &owner(), dir).unwrap()).into();
    let root = backing.root().unwrap();
    assert_eq!((found[0].id.mount, found[1].id.mount), (MountIndex(1), MountIndex(2)));
    // All three have the same number and, being tmpfs roots, the same kind of handle.
    assert_eq!((found[0].id.ino, found[1].id.ino), (root.id.ino, root.id.ino));
    assert!(found[0].attr.ino != found[1].attr.ino && found[0].attr.ino != root.attr.ino);

    for dir in &found {
        backing.mkdir(&owner(), &dir.node, name(c"inner"), mode(0o755, 0)).unwrap();
        let inner = backing.lookup(&owner(), &dir.node, name(c"inner")).unwrap();
        assert_eq!(inner.id.mount, dir.id.mount);
        let again = backing.resolve(&owner(), &inner.id).unwrap();
        assert_eq!(backing.stat(&again, Freshness::AsStat).unwrap(), inner.attr);
    }
}

#[test]
fn a_directory_listing_has_the_numbers_that_stat_has() {
    let nested = Nested::new();
    let backing = nested.export.open();
    let one = lookup(&backing, &owner(), c"one").unwrap().node;
    backing.mkdir(&owner(), &one, name(c"inner"), mode(0o755, 0)).unwrap();
    let inner = backing.lookup(&owner(), &one, name(c"inner")).unwrap();
    let dir = backing.opendir(&owner(), &one).unwrap();
    let mut listed = None;
    backing
        .read_dir(&dir, 0, &mut |entry| {
            if entry.name == c"inner" {
                listed = Some(entry.ino);
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(listed, Some(inner.attr.ino));
}

#[test]
fn a_file_made_on_an_inner_mount_is_known_by_it() {
    let nested = Nested::new();
    let backing = nested.export.open();
    let one = lookup(&backing, &owner(), c"one").unwrap().node;
    let flags = nix::fcntl::OFlag::O_RDWR;
    let file = backing.create(&owner(), &one, name(c"file"), flags, mode(0o644, 0)).unwrap();
    let found = backing.lookup(&owner(), &one, name(c"file")).unwrap();
    let identified = backing.identify(&file).unwrap();
    assert_eq!((&identified.id, identified.attr), (&found.id, found.attr));
    assert_eq!(backing.stat_file(&file, Freshness::Known).unwrap(), found.attr);
}
