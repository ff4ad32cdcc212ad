//! What a FUSE request costs on this machine at least: asked of a daemon that does nothing but answer, in a process of its
//! own, as every daemon is. No file system in user space can be faster than this times the requests that it is waited for.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Where the process that finds this in its environment is to mount and answer.
const ANSWER_AT: &str = "PERMFS_BENCH_ANSWER_AT";

/// Requests in one go, and goes: the least of them counts, since whatever comes between makes it longer.
const REQUESTS: u32 = 500;
const GOES: u32 = 60;
/// How often, 10 ms apart, the mount is looked for.
const PATIENCE: u32 = 200;

/// linux/fuse.h: the bytes of `fuse_in_header`, `fuse_out_header`, `fuse_init_out`, `fuse_attr_out`; opcodes; the version.
const IN_HEADER: usize = 40;
const OUT_HEADER: usize = 16;
const INIT_OUT: usize = 64;
const ATTR_OUT: usize = 104;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const BATCH_FORGET: u32 = 42;
const VERSION: [u32; 2] = [7, 31];
/// Where in `fuse_attr_out` the inode's number, mode and links stand.
const INO: usize = 16;
const MODE: usize = 76;
const LINKS: usize = 80;

/// Time of one stat(2) that is one request, in microseconds, with a mount at `at` for as long as it takes.
///
/// # Errors
/// A sentence, where there is no such mount.
pub fn measure(at: &Path) -> Result<f64, String> {
    let daemon =
        Daemon::start(at).map_err(|error| format!("no daemon to measure a request with: {error}"))?;
    let go = |_| -> io::Result<Duration> {
        let clock = Instant::now();
        (0..REQUESTS).try_for_each(|_| fs::metadata(daemon.at).map(drop))?;
        Ok(clock.elapsed() / REQUESTS)
    };
    let times: Vec<_> = (0..GOES).map(go).collect::<io::Result<_>>().map_err(|error| error.to_string())?;
    times.iter().min().map(|least| least.as_secs_f64() * 1e6).ok_or_else(|| "no time at all".to_owned())
}

struct Daemon<'a> {
    at: &'a Path,
    process: Child,
}

impl<'a> Daemon<'a> {
    fn start(at: &'a Path) -> io::Result<Self> {
        let before = fs::metadata(at)?.dev();
        let process = Command::new(env::current_exe()?).env(ANSWER_AT, at).stdin(Stdio::null()).spawn()?;
        let mut daemon = Self { at, process };
        for _ in 0..PATIENCE {
            if let Some(status) = daemon.process.try_wait()? {
                return Err(io::Error::other(format!("it ended ({status})")));
            }
            if fs::metadata(at)?.dev() != before {
                return Ok(daemon);
            }
            sleep(Duration::from_millis(10));
        }
        Err(io::Error::from(io::ErrorKind::TimedOut))
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // Unmounted, it ends by itself; and where it was never mounted it is ended.
        if umount2(self.at, MntFlags::MNT_DETACH).is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// Whether this process is to be the daemon; returns when it was, after the end.
pub fn was_daemon() -> Option<io::Result<()>> {
    env::var_os(ANSWER_AT).map(answer)
}

fn answer(at: OsString) -> io::Result<()> {
    let mut device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("nothing"), at.as_os_str(), Some("fuse.nothing"), flags, Some(options.as_str()))?;
    let mut request = vec![0; 1 << 17];
    loop {
        match device.read(&mut request) {
            Ok(length) if length >= IN_HEADER => {}
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(_) | Err(_) => continue,
        }
        let (error, body) = match word(&request, 4) {
            FORGET | BATCH_FORGET => continue,
            INIT => (0, body::<INIT_OUT>(&[(0, VERSION[0]), (4, VERSION[1]), (20, 1 << 16)])),
            // Believed for no time at all, so that the next stat asks again.
            GETATTR => (0, body::<ATTR_OUT>(&[(INO, 1), (MODE, libc::S_IFDIR | 0o755), (LINKS, 2)])),
            _ => (-libc::ENOSYS, Vec::new()),
        };
        let length = u32::try_from(OUT_HEADER + body.len()).expect("a hundred bytes");
        let unique = &request[8..16];
        let head = [&length.to_ne_bytes()[..], &i32::to_ne_bytes(error), unique].concat();
        // ENOENT: whoever asked is gone.
        let _ = device.write(&[head, body].concat());
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word))
}

/// So many bytes, zero but for these words.
fn body<const LENGTH: usize>(words: &[(usize, u32)]) -> Vec<u8> {
    let mut body = vec![0; LENGTH];
    for (at, word) in words {
        body[*at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    body
}
