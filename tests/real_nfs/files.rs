//! Who owns what a pod makes, with which mode, and who is turned away.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::errno::Errno;
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, utimensat};

use super::live::{AIRFLOW, OWNER, POD, ROOT, Stat, TRANSPARENT, Who, errno, list};
use super::runner::Scenario;
use super::stage::Stage;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "files: the export squashes root, so that this machine tests what it is for",
        run: root_is_squashed,
    },
    Scenario { name: "files: a day's work of 50000 arrives as 2001:2001, 664 and 2775", run: a_days_work },
    Scenario {
        name: "files: every kind of object gets group-write, and every umask keeps it",
        run: kinds_and_umasks,
    },
    Scenario { name: "files: chmod cannot take group-write or setgid away", run: chmod_keeps_the_policy },
    Scenario { name: "files: 50001, 2001 and root are turned away with EACCES", run: others_are_turned_away },
    Scenario {
        name: "files: an owner with no rule is shown as nobody, and is not the pod",
        run: unknown_owners,
    },
    Scenario {
        name: "files: a supplementary group of the pod opens that group's directory",
        run: supplementary_groups,
    },
    Scenario {
        name: "files: whoever may open a file can, whoever else has it open",
        run: several_have_it_open,
    },
    Scenario { name: "files: without the policy, modes and groups are the export's own", run: plain_modes },
];

fn root_is_squashed(stage: &Stage) {
    assert_eq!(errno(fs::write(stage.client("by-root"), "")), Errno::EACCES);
}

fn a_days_work(stage: &Stage) {
    POD.run(|| {
        let at = |path: &str| stage.pod(path);
        fs::create_dir(at("logs")).unwrap();
        fs::write(at("logs/task.log"), "one\n").unwrap();
        OpenOptions::new().append(true).open(at("logs/task.log")).unwrap().write_all(b"two\n").unwrap();
        fs::rename(at("logs/task.log"), at("logs/1.log")).unwrap();
        fs::hard_link(at("logs/1.log"), at("logs/latest.log")).unwrap();
        symlink("1.log", at("logs/current")).unwrap();
        fs::write(at("secret"), "").unwrap();
        fs::set_permissions(at("secret"), fs::Permissions::from_mode(0o640)).unwrap();
        let when = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
        utimensat(
            CWD,
            at("secret"),
            &Timestamps { last_access: when, last_modification: when },
            AtFlags::empty(),
        )
        .unwrap();
        chown(at("secret"), Some(50000), Some(0)).unwrap();
        chown(at("logs"), Some(50000), Some(0)).unwrap();
        lchown(at("logs/current"), Some(50000), Some(0)).unwrap();
        assert_eq!(fs::read_to_string(at("logs/current")).unwrap(), "one\ntwo\n");
    });

    stage.belongs_to_the_service_account("logs", 0o2775);
    stage.belongs_to_the_service_account("logs/1.log", 0o664);
    stage.belongs_to_the_service_account("logs/latest.log", 0o664);
    stage.belongs_to_the_service_account("logs/current", 0o777);
    stage.belongs_to_the_service_account("secret", 0o660);
    assert_eq!(fs::read_to_string(stage.server("logs/latest.log")).unwrap(), "one\ntwo\n");
    assert_eq!(fs::read_link(stage.server("logs/current")).unwrap(), Path::new("1.log"));

    POD.run(|| {
        for name in ["logs/1.log", "logs/latest.log", "logs/current", "secret"] {
            fs::remove_file(stage.pod(name)).unwrap();
        }
        fs::remove_dir(stage.pod("logs")).unwrap();
    });
    assert_eq!(stage.names_at_server(""), [""; 0]);
}

fn kinds_and_umasks(stage: &Stage) {
    for umask in [0o022, 0o077, 0o000, 0o027] {
        let name = |kind: &str| format!("{kind}-{umask:03o}");
        POD.with_umask(umask).run(|| {
            fs::write(stage.pod(name("file")), "").unwrap();
            let tight =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(stage.pod(name("tight")));
            tight.unwrap();
            fs::create_dir(stage.pod(name("directory"))).unwrap();
            fs::DirBuilder::new().mode(0o700).create(stage.pod(name("closed"))).unwrap();
            fs::create_dir(stage.pod(name("directory")).join("below")).unwrap();
            rustix::fs::mkfifoat(CWD, stage.pod(name("fifo")), Mode::from_raw_mode(0o666)).unwrap();
            drop(UnixListener::bind(stage.pod(name("socket"))).unwrap());
            symlink("anywhere", stage.pod(name("link"))).unwrap();
        });
        let others = 0o7 & !umask;
        stage.belongs_to_the_service_account(name("file"), 0o660 | (others & 0o6));
        stage.belongs_to_the_service_account(name("tight"), 0o660);
        stage.belongs_to_the_service_account(name("directory"), 0o2770 | others);
        stage.belongs_to_the_service_account(name("closed"), 0o2770);
        stage.belongs_to_the_service_account(format!("{}/below", name("directory")), 0o2770 | others);
        stage.belongs_to_the_service_account(name("fifo"), 0o660 | (others & 0o6));
        stage.belongs_to_the_service_account(name("link"), 0o777);
        // A socket is made 777 less the umask; group-write adds to that and takes nothing away.
        let socket = 0o777 & !umask | 0o060;
        stage.belongs_to_the_service_account(name("socket"), socket);
    }
}

fn chmod_keeps_the_policy(stage: &Stage) {
    POD.run(|| {
        fs::create_dir(stage.pod("d")).unwrap();
        fs::write(stage.pod("f"), "").unwrap();
        for (asked, file, directory) in
            [(0o600, 0o660, 0o2670), (0o755, 0o775, 0o2775), (0o400, 0o460, 0o2470), (0o777, 0o777, 0o2777)]
        {
            fs::set_permissions(stage.pod("f"), fs::Permissions::from_mode(asked)).unwrap();
            fs::set_permissions(stage.pod("d"), fs::Permissions::from_mode(asked)).unwrap();
            stage.belongs_to_the_service_account("f", file);
            stage.belongs_to_the_service_account("d", directory);
        }
    });
}

fn others_are_turned_away(stage: &Stage) {
    stage.make_at_server("theirs", "secret", (2001, 2001), 0o666);
    for who in [Who::new(50001, 0), Who::new(50001, 50001), OWNER, ROOT] {
        who.run(|| {
            assert_eq!(errno(fs::write(stage.pod("new"), "")), Errno::EACCES, "create as {who:?}");
            assert_eq!(errno(fs::create_dir(stage.pod("new"))), Errno::EACCES, "mkdir as {who:?}");
            assert_eq!(errno(list(stage.pod(""))), Errno::EACCES, "list as {who:?}");
            assert_eq!(errno(fs::read(stage.pod("theirs"))), Errno::EACCES, "read as {who:?}");
            assert_eq!(errno(fs::write(stage.pod("theirs"), "")), Errno::EACCES, "write as {who:?}");
            assert_eq!(errno(fs::remove_file(stage.pod("theirs"))), Errno::EACCES, "remove as {who:?}");
            // `mountpoint` and the kubelet ask these.
            fs::metadata(stage.pod("")).unwrap();
            rustix::fs::statvfs(stage.pod("")).unwrap();
        });
    }
    assert_eq!(stage.names_at_server(""), ["theirs"]);
    assert_eq!(fs::read_to_string(stage.server("theirs")).unwrap(), "secret");
}

fn unknown_owners(stage: &Stage) {
    stage.make_at_server("readable", "content", (3000, 3000), 0o644);
    stage.make_at_server("closed", "content", (3000, 3000), 0o600);
    POD.run(|| {
        assert_eq!(Stat::of(stage.pod("readable")), Stat::new(65534, 65534, 0o644));
        assert_eq!(fs::read_to_string(stage.pod("readable")).unwrap(), "content");
        assert_eq!(errno(OpenOptions::new().append(true).open(stage.pod("readable"))), Errno::EACCES);
        assert_eq!(errno(fs::read(stage.pod("closed"))), Errno::EACCES);
        let chmod = fs::set_permissions(stage.pod("closed"), fs::Permissions::from_mode(0o666));
        assert_eq!(errno(chmod), Errno::EPERM);
    });
}

/// With manage-gids the server ignores the list of groups that a client sends, so the group must come first.
fn supplementary_groups(stage: &Stage) {
    let rules =
        AIRFLOW.replace("{ pod = 0, nfs = 2001 }", "{ pod = 0, nfs = 2001 }, { pod = 100, nfs = 3001 }");
    let pods = stage.mount_again(&rules);
    fs::create_dir(stage.server("team")).unwrap();
    chown(stage.server("team"), Some(3000), Some(3001)).unwrap();
    fs::set_permissions(stage.server("team"), fs::Permissions::from_mode(0o2770)).unwrap();
    stage.make_at_server("team/old", "old", (3000, 3001), 0o660);

    POD.with_groups(&[100]).run(|| {
        assert_eq!(fs::read_to_string(pods.at("team/old")).unwrap(), "old");
        OpenOptions::new().append(true).open(pods.at("team/old")).unwrap().write_all(b"er").unwrap();
        fs::write(pods.at("team/new"), "").unwrap();
        fs::create_dir(pods.at("team/below")).unwrap();
        fs::rename(pods.at("team/old"), pods.at("team/below/old")).unwrap();
    });
    assert_eq!(Stat::of(stage.server("team/new")), Stat::new(2001, 3001, 0o664));
    assert_eq!(Stat::of(stage.server("team/below")), Stat::new(2001, 3001, 0o2775));
    assert_eq!(fs::read_to_string(stage.server("team/below/old")).unwrap(), "older");
    POD.run(|| assert_eq!(errno(fs::read_dir(pods.at("team"))), Errno::EACCES, "without the group"));
}

fn plain_modes(stage: &Stage) {
    let (rules, _) = AIRFLOW.split_once("[profile.airflow.permissions]").unwrap();
    let pods = stage.mount_again(rules);
    POD.run(|| {
        fs::create_dir(pods.at("d")).unwrap();
        fs::write(pods.at("d/f"), "").unwrap();
        fs::write(pods.at("closed"), "").unwrap();
        fs::set_permissions(pods.at("closed"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    stage.belongs_to_the_service_account("d", 0o755);
    stage.belongs_to_the_service_account("d/f", 0o644);
    stage.belongs_to_the_service_account("closed", 0o600);
}

/// Each may do what the other may not. From Linux 6.9 on the kernel opens the file at the server for both with the credentials of the
/// first.
fn several_have_it_open(stage: &Stage) {
    let pods = stage.mount_again(TRANSPARENT);
    let stranger = Who::new(3003, 3003);
    let (read, both) = (pods.at("read"), pods.at("written"));
    OWNER.run(|| fs::write(&read, "text").unwrap());
    let reader = stranger.run(|| File::open(&read).unwrap());
    let mut writer = OWNER.run(|| OpenOptions::new().read(true).append(true).open(&read).unwrap());
    OWNER.run(|| writer.write_all(b" and more").unwrap());
    assert_eq!(errno(stranger.run(|| OpenOptions::new().append(true).open(&read))), Errno::EACCES);
    drop((reader, writer));
    assert_eq!(stranger.run(|| fs::read_to_string(&read).unwrap()), "text and more");

    let open = || OpenOptions::new().write(true).create_new(true).mode(0o244).open(&both);
    let mut writer = OWNER.run(|| open().unwrap());
    let mut reader = stranger.run(|| File::open(&both).unwrap());
    OWNER.run(|| writer.write_all(b"told").unwrap());
    drop(writer);
    let mut text = String::new();
    stranger.run(|| reader.read_to_string(&mut text).unwrap());
    assert_eq!(text, "told");
}
