//! What one side wrote the other sees: close-to-open both ways, mmap, large files; and no write is lost in silence.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

use super::live::{AIRFLOW, OWNER, POD, errno};
use super::runner::Scenario;
use super::stage::{PATIENCE, Pods, Stage, wait_until};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "freshness: the server has what a pod wrote once it closed",
        run: close_reaches_the_server,
    },
    Scenario {
        name: "freshness: an open sees what the server's side changed, the same size included",
        run: open_sees_changes,
    },
    Scenario {
        name: "freshness: an open leads to what has the name at the server by now",
        run: open_leads_to_the_name,
    },
    Scenario { name: "freshness: an open sees how long a file is by now", run: open_sees_the_size },
    Scenario { name: "freshness: what one mount closed another opens", run: two_mounts },
    Scenario { name: "freshness: stores to a shared mapping reach the server", run: mapped_writes },
    Scenario { name: "freshness: a large file with a hole is the same on both sides", run: large_file },
    Scenario { name: "freshness: a full export is reported by write, fsync or close", run: full_export },
];

fn close_reaches_the_server(stage: &Stage) {
    for round in 0..10 {
        let written = format!("round {round}");
        stage.write_as_pod("f", &written);
        assert_eq!(fs::read_to_string(stage.server("f")).unwrap(), written);
        assert_eq!(fs::read_to_string(stage.client("f")).unwrap(), written);
    }
}

fn open_sees_changes(stage: &Stage) {
    stage.make_at_server("f", "content 0", (2001, 2001), 0o664);
    for round in 0..10 {
        let read = POD.run(|| fs::read_to_string(stage.pod("f")).unwrap());
        assert_eq!(read, format!("content {round}"));
        // A tick of the server's clock, by which a v3 client tells two changes apart.
        thread::sleep(Duration::from_millis(30));
        fs::write(stage.server("f"), format!("content {}", round + 1)).unwrap();
    }
    fs::write(stage.server("f"), "longer content than before").unwrap();
    POD.run(|| assert_eq!(fs::read_to_string(stage.pod("f")).unwrap(), "longer content than before"));
}

/// As soon as the node's NFS client knows that the directory has changed, which believes its names for up to a minute as well.
fn open_leads_to_the_name(stage: &Stage) {
    let read = || POD.run(|| fs::read_to_string(stage.pod("f")).unwrap());
    stage.make_at_server("f", "content 0", (2001, 2001), 0o664);
    for round in 1..10 {
        assert_eq!(read(), format!("content {}", round - 1));
        // A tick of the server's clock, by which a v3 client tells two changes apart.
        thread::sleep(Duration::from_millis(30));
        // What had the name before is kept by another one, and so is not stale.
        fs::rename(stage.server("f"), stage.server(format!("f.{round}"))).unwrap();
        let content = format!("content {round}");
        stage.make_at_server("f", &content, (2001, 2001), 0o664);
        OWNER.run(|| fs::write(stage.client(format!("beside-{round}")), "").unwrap());
        if round % 2 == 0 {
            POD.run(|| fs::write(stage.pod("f"), &content).unwrap());
        }
        assert_eq!(read(), content);
        let old = fs::read_to_string(stage.server(format!("f.{round}"))).unwrap();
        assert_eq!(old, format!("content {}", round - 1));
    }
}

fn open_sees_the_size(stage: &Stage) {
    stage.make_at_server("f", "", (2001, 2001), 0o664);
    for round in 1..=10_u64 {
        POD.run(|| assert_eq!(fs::read(stage.pod("f")).unwrap().len() as u64, (round - 1) * 5000));
        thread::sleep(Duration::from_millis(30));
        File::options().append(true).open(stage.server("f")).unwrap().write_all(&[b'x'; 5000]).unwrap();
        POD.run(|| {
            let file = File::open(stage.pod("f")).unwrap();
            assert_eq!(file.metadata().unwrap().len(), round * 5000);
            let mut last = [0; 8];
            assert_eq!(file.read_at(&mut last, round * 5000 - 4).unwrap(), 4);
        });
    }
}

fn two_mounts(stage: &Stage) {
    let other = stage.mount_again(AIRFLOW);
    POD.run(|| {
        for round in 0..10 {
            let (from, to) = if round % 2 == 0 {
                (stage.pod("f"), other.at("f"))
            } else {
                (other.at("f"), stage.pod("f"))
            };
            // As long as the one before it, so that only its change time tells.
            let written = format!("content {round}");
            fs::write(from, &written).unwrap();
            assert_eq!(fs::read_to_string(to).unwrap(), written);
            thread::sleep(Duration::from_millis(30));
        }
    });
}

fn mapped_writes(stage: &Stage) {
    const LENGTH: usize = 3 * 4096;
    POD.run(|| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(stage.pod("f"))
            .unwrap();
        file.write_all_at(&[b'.'; LENGTH], 0).unwrap();
        store_mapped(&file, 4096, b"synced", true);
        assert_eq!(&fs::read(stage.server("f")).unwrap()[4096..4102], b"synced");
        store_mapped(&file, 8192, b"closed", false);
        let mut shown = [0; 6];
        file.read_exact_at(&mut shown, 8192).unwrap();
        assert_eq!(&shown, b"closed", "read(2) sees what was mapped");
        drop(file);
        let stored = fs::read(stage.server("f")).unwrap();
        assert_eq!((stored.len(), &stored[8192..8198], stored[0]), (LENGTH, &b"closed"[..], b'.'));
    });
}

/// Stores `bytes` at `offset` of the file through a shared mapping of its first three pages.
#[allow(unsafe_code)]
fn store_mapped(file: &File, offset: usize, bytes: &[u8], sync: bool) {
    const LENGTH: usize = 3 * 4096;
    assert!(offset + bytes.len() <= LENGTH);
    // SAFETY: a new mapping at an address that the kernel chooses; the file is at least as long, and nobody truncates it.
    let start = unsafe {
        mmap(std::ptr::null_mut(), LENGTH, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)
            .unwrap()
    };
    // SAFETY: within the mapping, as asserted above, which nothing else refers to.
    unsafe { start.cast::<u8>().add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    if sync {
        // SAFETY: exactly the mapping made above.
        unsafe { msync(start, LENGTH, MsyncFlags::SYNC).unwrap() };
    }
    // SAFETY: exactly the mapping made above, not used afterwards.
    unsafe { munmap(start, LENGTH).unwrap() };
}

fn large_file(stage: &Stage) {
    const MIB: usize = 1 << 20;
    let block: Vec<u8> = (0..MIB).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    POD.run(|| {
        let mut file = File::create(stage.pod("f")).unwrap();
        for _ in 0..8 {
            file.write_all(&block).unwrap();
        }
        file.write_all_at(b"end", 16 << 20).unwrap();
        file.sync_all().unwrap();
    });
    let (stored, shown) =
        (fs::read(stage.server("f")).unwrap(), POD.run(|| fs::read(stage.pod("f")).unwrap()));
    assert_eq!(stored.len(), (16 << 20) + 3);
    assert!(stored.chunks(MIB).take(8).all(|chunk| chunk == block), "what was written is stored");
    assert!(stored[8 * MIB..16 * MIB].iter().all(|&byte| byte == 0), "the hole is zero");
    assert!(shown == stored, "and what is read is what is stored");
}

fn full_export(stage: &Stage) {
    let pods = Pods::unmounted();
    let version = format!("nfs:vers={}", stage.variant.version.option());
    let output = pods.try_mount(&stage.nfs_source(Path::new("small")), AIRFLOW, &["-o", &version]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let room = || rustix::fs::statvfs("/srv/nfs/small").unwrap().f_bavail * 4096;
    for finish in [Finish::Sync, Finish::Close] {
        let error = POD.run(|| errno(fill(&pods.at("f"), finish)));
        assert_eq!(error, Errno::ENOSPC, "{finish:?}");
        POD.run(|| fs::remove_file(pods.at("f")).unwrap());
        // A v3 server keeps a file open for some seconds that was just written.
        wait_until(PATIENCE, || room() > 7 << 20).expect("the server frees what is removed");
    }
    POD.run(|| fs::write(pods.at("g"), vec![1; 1 << 20]).unwrap());
    assert_eq!(fs::metadata("/srv/nfs/small/g").unwrap().len(), 1 << 20, "with room again, it works again");
    POD.run(|| fs::remove_file(pods.at("g")).unwrap());
}

#[derive(Debug, Clone, Copy)]
enum Finish {
    Sync,
    Close,
}

/// Writes twice as much as there is room for; the first error of any call.
fn fill(path: &Path, finish: Finish) -> io::Result<()> {
    let mut file = File::create(path)?;
    let block = vec![7; 1 << 20];
    for _ in 0..16 {
        file.write_all(&block)?;
    }
    match finish {
        Finish::Sync => file.sync_all(),
        // What a drop would swallow.
        Finish::Close => nix::unistd::close(file).map_err(io::Error::from),
    }
}
