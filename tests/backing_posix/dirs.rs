//! Reading directories.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::ops::ControlFlow;

use permfs::backing::posix::Dir;
use permfs::backing::{BackingFs, Errno};

use super::*;

/// More than one batch of 32 KiB.
const MANY: usize = 3000;

fn filled(export: &Export) {
    outside(|| {
        for number in 0..MANY {
            std::fs::File::create(export.path(&format!("file-{number:06}"))).unwrap();
        }
    });
}

/// Up to `most` entries from `from` on, and where reading goes on after them.
fn read(backing: &PosixBacking, dir: &Dir, from: u64, most: usize) -> (Vec<(CString, u64)>, u64) {
    let mut entries: Vec<(CString, u64)> = Vec::new();
    backing
        .read_dir(dir, from, &mut |entry| {
            if entries.len() == most {
                return ControlFlow::Break(());
            }
            entries.push((entry.name.to_owned(), entry.next));
            ControlFlow::Continue(())
        })
        .unwrap();
    let next = entries.last().map_or(from, |(_, next)| *next);
    (entries, next)
}

fn read_all(backing: &PosixBacking, dir: &Dir, most: usize) -> Vec<(CString, u64)> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let (entries, next) = read(backing, dir, from, most);
        if entries.is_empty() {
            return all;
        }
        all.extend(entries);
        from = next;
    }
}

#[test]
fn every_entry_comes_once_whatever_the_reader_takes_at_a_time() {
    for export in [Export::tmpfs(), Export::ext4(), Export::overlay()] {
        filled(&export);
        let backing = export.open();
        let extra = outside(|| export.path("lost+found").exists());
        for most in [1, 7, 100, usize::MAX] {
            let dir = backing.opendir(&owner(), &root_node(&backing)).unwrap();
            let all = read_all(&backing, &dir, most);
            let names: BTreeSet<_> = all.iter().map(|(name, _)| name).collect();
            assert_eq!(all.len(), MANY + 2 + usize::from(extra), "{most} at a time");
            assert_eq!(names.len(), all.len());
        }
    }
}

#[test]
fn reading_goes_on_after_any_entry_also_backwards() {
    for export in [Export::tmpfs(), Export::ext4()] {
        filled(&export);
        let backing = export.open();
        let dir = backing.opendir(&owner(), &root_node(&backing)).unwrap();
        let all = read_all(&backing, &dir, usize::MAX);
        for index in (0..all.len() - 1).rev().step_by(97).chain((0..all.len() - 1).step_by(331)) {
            let (next, _) = read(&backing, &dir, all[index].1, 1);
            assert_eq!(next[0], all[index + 1]);
        }
    }
}

#[test]
fn an_entry_taken_on_the_break_may_be_the_last_one_taken() {
    let export = Export::tmpfs();
    filled(&export);
    let backing = export.open();
    let dir = backing.opendir(&owner(), &root_node(&backing)).unwrap();
    let (mut names, mut from) = (BTreeSet::new(), 0);
    loop {
        let before = names.len();
        backing
            .read_dir(&dir, from, &mut |entry| {
                names.insert(entry.name.to_owned());
                from = entry.next;
                ControlFlow::Break(())
            })
            .unwrap();
        if names.len() == before {
            break;
        }
    }
    assert_eq!(names.len(), MANY + 2);
}

#[test]
fn rewinding_shows_what_has_been_made_since() {
    let export = Export::tmpfs();
    let backing = export.open();
    let dir = backing.opendir(&owner(), &root_node(&backing)).unwrap();
    assert_eq!(read_all(&backing, &dir, usize::MAX).len(), 2);
    create(&backing, &owner(), c"new").unwrap();
    assert_eq!(read_all(&backing, &dir, usize::MAX).len(), 3);
}

#[test]
fn a_cookie_that_cannot_be_sought_to_and_is_not_there_is_stale() {
    let export = Export::tmpfs();
    let backing = export.open();
    let dir = backing.opendir(&owner(), &root_node(&backing)).unwrap();
    let read = backing.read_dir(&dir, u64::MAX, &mut |_| ControlFlow::Continue(()));
    assert_eq!(read, Err(Errno::ESTALE));
    assert_eq!(read_all(&backing, &dir, usize::MAX).len(), 2);
}

#[test]
fn a_directory_can_be_synced() {
    let export = Export::ext4();
    let backing = export.open();
    let dir = root_node(&backing);
    backing.fsync_dir(&dir, false).unwrap();
    backing.fsync_dir(&dir, true).unwrap();
}
