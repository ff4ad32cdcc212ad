//! What an NFSv4 export is not asked for, since the caller's system call tells as much: whether this machine's kernel lets it be
//! seen. The export is in memory, counts what it is asked for, and wants to be spared as NFSv4 does. Real NFS has its own tests
//! (`tests/real_nfs`), in user-mode Linux, where calls are found out in another way.

#![allow(missing_docs, clippy::unwrap_used)]

mod live;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use live::{AIRFLOW, POD, errno};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use permfs::backing::model::ModelBacking;
use permfs::config::{Overrides, RulesFile};
use permfs::fs::Filesystem;
use permfs::fuse::{MountOptions, Session, SessionOptions, mount};
use permfs::policy::{Credentials, NfsGid, NfsUid, Permissions, Timestamp};

/// What is known is believed for longer than any test takes.
const RULES: &str = "[profile.airflow.cache]\nattr_timeout = \"600s\"\nentry_timeout = \"600s\"\n";

/// Of each operation, before and while it is counted; more than permfs wants to have seen of a place in the kernel's code.
const TIMES: usize = 20;

/// A mount of an export in memory, served by this process.
struct Export {
    target: tempfile::TempDir,
    session: Session,
}

impl Export {
    fn of(model: &ModelBacking) -> Self {
        Self::with(model, RULES)
    }

    fn with(model: &ModelBacking, rules: &str) -> Self {
        live::mount::require_root_and_fuse();
        let rules = format!("{AIRFLOW}{rules}");
        let policy =
            RulesFile::parse(&rules, "test.toml").unwrap().policy(None, &Overrides::default()).unwrap();
        let filesystem = Arc::new(Filesystem::new(model.clone(), Arc::new(policy)).unwrap());
        let target = tempfile::tempdir().unwrap();
        let device = mount(target.path(), &MountOptions::default()).unwrap();
        let session = Session::start(device, filesystem, SessionOptions::default()).unwrap();
        Self { target, session }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.target.path().join(name)
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let _ = umount2(self.target.path(), MntFlags::MNT_DETACH);
        let _ = self.session.join();
    }
}

/// A caller that has not come to wait yet when it is looked at tells nothing, and the export is asked.
const FEW: usize = TIMES / 4;

/// Lookups, and questions for attributes, that so many goes of `act` cost the export once it has been done as often before.
fn asked(model: &ModelBacking, mut act: impl FnMut(usize) -> io::Result<()>) -> (usize, u64) {
    (0..TIMES).try_for_each(&mut act).unwrap();
    let (_, before) = (model.take_log(), model.asked());
    (TIMES..2 * TIMES).try_for_each(&mut act).unwrap();
    let lookups = model.take_log().iter().filter(|call| call.0 == "lookup").count();
    (lookups, model.asked() - before)
}

/// So many lookups and nothing else, but for a few.
#[track_caller]
fn are_asked((lookups, attributes): (usize, u64), expected: usize, what: &str) {
    assert!((expected..=expected + FEW).contains(&lookups), "{what}: {lookups} lookups, not {expected}");
    assert!(attributes <= FEW.try_into().unwrap(), "{what}: {attributes} questions for attributes");
}

fn make(path: PathBuf) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(b"x")
}

#[test]
fn what_changes_names_asks_for_none_that_it_makes_and_not_for_the_directory() {
    let model = ModelBacking::default().that_asks_after_changes();
    let export = Export::of(&model);
    POD.run(|| {
        fs::create_dir(export.at("d")).unwrap();
        let at = |what: &str, turn: usize| export.at(&format!("d/{what}{turn}"));
        are_asked(asked(&model, |turn| make(at("file", turn))), 0, "open(2) with O_CREAT");
        // What was made is looked at, which on NFS the answer to the call has brought.
        are_asked(asked(&model, |turn| fs::create_dir(at("directory", turn))), TIMES, "mkdir(2)");
        let renamed = asked(&model, |turn| fs::rename(at("file", turn), at("renamed", turn)));
        are_asked(renamed, 0, "rename(2)");
        are_asked(asked(&model, |turn| fs::remove_file(at("renamed", turn))), 0, "unlink(2)");
        // Nothing but a kernel that says what a call is for spares these.
        let linked = asked(&model, |turn| symlink("nowhere", at("link", turn)));
        assert_eq!(linked.0, 2 * TIMES, "symlink(2)");
    });
}

/// On NFS the client does not know that of a file that was renamed.
#[test]
fn who_removes_or_renames_a_file_by_a_name_that_has_to_be_looked_up_again_is_not_told_what_it_is_like() {
    let model = ModelBacking::default().that_asks_after_changes();
    let export = Export::with(&model, "[profile.airflow.cache]\nentry_timeout = \"0s\"\n");
    let at = |what: &str, turn: usize| export.at(&format!("{what}{turn}"));
    let looks = |act: &dyn Fn(usize) -> io::Result<()>| {
        drop(model.take_log());
        (0..TIMES).try_for_each(act).unwrap();
        let log = model.take_log();
        let count = |call| log.iter().filter(|done| done.0 == call).count();
        (count("lookup"), count("find known"))
    };
    POD.run(|| {
        (0..TIMES).for_each(|turn| make(at("file", turn)).unwrap());
        let (all, known) = looks(&|turn| fs::metadata(at("file", turn)).map(drop));
        assert_eq!((all, known), (TIMES, 0), "stat(2)");
        // The new name is looked up too, until it is known which one it is.
        let (all, known) = looks(&|turn| fs::rename(at("file", turn), at("renamed", turn)));
        assert!(all <= FEW && known >= TIMES - FEW, "rename(2): {all} {known}");
        let (all, known) = looks(&|turn| fs::remove_file(at("renamed", turn)));
        assert!(all <= FEW && known >= TIMES - FEW, "unlink(2): {all} {known}");
    });
}

/// Makes files that may be written to by whoever makes them, and by nobody else.
fn make_for_reading(export: &Export) -> impl FnMut(usize) -> io::Result<()> {
    |turn| {
        let path = export.at(&format!("file{turn}"));
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o444).open(path);
        file?.write_all(b"x")
    }
}

/// The export's clock stands still in 1970.
#[test]
fn a_clock_that_is_wrong_does_not_make_what_is_new_old() {
    let model = ModelBacking::default().that_asks_after_changes();
    let export = Export::of(&model);
    POD.run(|| are_asked(asked(&model, make_for_reading(&export)), 0, "open(2)"));
}

#[test]
fn whoever_makes_a_file_exclusively_has_made_it_whenever_that_was() {
    let model = ModelBacking::default().that_asks_after_changes();
    let export = Export::of(&model);
    model.set_clock(Timestamp { seconds: 3600, nanoseconds: 0 });
    POD.run(|| {
        (0..TIMES).try_for_each(make_for_reading(&export)).unwrap();
        // It is set back, after what was made.
        model.set_clock(Timestamp::default());
        are_asked(asked(&model, |turn| make(export.at(&format!("exclusive{turn}")))), 0, "open(2)");
    });
}

#[test]
fn where_nothing_comes_out_as_whoever_makes_it_names_are_looked_up() {
    let [uid, other] = [2001, 2002].map(|id| NfsUid::new(id).unwrap());
    let gid = NfsGid::new(2001).unwrap();
    let squashed = Credentials::new(other, gid, []);
    let model = ModelBacking::owned_by(uid, gid, Permissions::from_mode(0o777));
    let model = model.that_asks_after_changes().that_takes_all_for(squashed);
    let export = Export::of(&model);
    POD.run(|| {
        assert_eq!(asked(&model, make_for_reading(&export)).0, TIMES);
        (0..TIMES).try_for_each(|turn| make(export.at(&format!("exclusive{turn}")))).unwrap();
    });
}

#[test]
fn an_open_that_makes_nothing_looks_for_its_name() {
    let model = ModelBacking::default().that_asks_after_changes();
    let (export, elsewhere) = (Export::of(&model), Export::of(&model));
    POD.run(|| {
        fs::create_dir(export.at("d")).unwrap();
        let name = |what: &str, turn: usize| format!("d/{what}{turn}");
        (0..2 * TIMES).try_for_each(|turn| make(elsewhere.at(&name("file", turn)))).unwrap();
        let lookups = |opens: &dyn Fn(usize) -> io::Result<()>| {
            asked(&model, |turn| {
                make(export.at(&name("other", turn)))?;
                opens(turn)?;
                fs::remove_file(export.at(&name("other", turn)))
            })
            .0
        };
        let missing = |turn| {
            assert_eq!(errno(File::open(export.at(&name("missing", turn)))), Errno::ENOENT);
            Ok(())
        };
        are_asked((lookups(&missing), 0), TIMES, "what is missing");
        // For the kernel's LOOKUP, and for its OPEN: by the name, for this export has no other way.
        let there = lookups(&|turn| File::open(export.at(&name("file", turn))).map(drop));
        are_asked((there, 0), 2 * TIMES, "what is there");
    });
}

#[test]
fn what_is_there_and_nobody_here_knows_of_is_found_by_the_call_itself() {
    let model = ModelBacking::default().that_asks_after_changes();
    let (export, elsewhere) = (Export::of(&model), Export::of(&model));
    POD.run(|| {
        fs::create_dir(export.at("d")).unwrap();
        let teach = || {
            for turn in 0..TIMES {
                let (one, other) = (export.at(&format!("d/t{turn}")), export.at(&format!("d/u{turn}")));
                make(one.clone()).unwrap();
                fs::rename(&one, &other).unwrap();
                fs::remove_file(other).unwrap();
            }
        };
        fs::create_dir(elsewhere.at("d/full")).unwrap();
        fs::create_dir(elsewhere.at("d/empty")).unwrap();
        fs::write(elsewhere.at("d/full/x"), "x").unwrap();
        fs::write(elsewhere.at("d/file"), "theirs").unwrap();
        fs::write(elsewhere.at("d/mine"), "mine").unwrap();
        fs::create_dir(elsewhere.at("d/dir")).unwrap();
        for name in ["d/file", "d/full", "d/empty"] {
            teach();
            assert_eq!(errno(make(export.at(name))), Errno::EEXIST, "{name}");
            teach();
            assert_eq!(errno(fs::create_dir(export.at(name))), Errno::EEXIST, "{name}");
        }
        teach();
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(export.at("d/file"));
        file.unwrap().write_all(b"THE").unwrap();
        assert_eq!(fs::read_to_string(elsewhere.at("d/file")).unwrap(), "THEirs");
        for (from, to, outcome) in [
            ("d/mine", "d/empty", Errno::EISDIR),
            ("d/dir", "d/full", Errno::ENOTEMPTY),
            ("d/dir", "d/file", Errno::ENOTDIR),
        ] {
            teach();
            assert_eq!(errno(fs::rename(export.at(from), export.at(to))), outcome, "{from} to {to}");
        }
        teach();
        fs::rename(export.at("d/mine"), export.at("d/file")).unwrap();
        teach();
        fs::rename(export.at("d/dir"), export.at("d/empty")).unwrap();
        assert_eq!(fs::read_to_string(elsewhere.at("d/file")).unwrap(), "mine");
    });
}
