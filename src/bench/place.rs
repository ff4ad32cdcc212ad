//! What is measured, in words: the filesystem under a directory, the kernel, the date.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::utsname::uname;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// The type of the filesystem that `dir` lies on, as /proc/self/mountinfo has it; "unknown" where it does not tell.
pub(super) fn filesystem(dir: &Path) -> String {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_unreachable| dir.to_owned());
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    filesystem_in(&table, &dir).unwrap_or_else(|| "unknown".to_owned())
}

/// Of the mounts above `dir` the deepest, and of those in one place the latest, is the one that is seen.
fn filesystem_in(table: &[u8], dir: &Path) -> Option<String> {
    let mounts = table.split(|&b| b == b'\n').filter_map(|line| {
        let mut fields = line.split(|&b| b == b' ');
        let at = unescape(fields.nth(4)?);
        // Optional fields follow, up to a lone dash (proc(5)).
        fields.find(|&field| field == b"-")?;
        Some((at, String::from_utf8_lossy(fields.next()?).into_owned()))
    });
    let above = mounts.filter(|(at, _)| dir.starts_with(at));
    above.max_by_key(|(at, _)| at.as_os_str().as_bytes().len()).map(|(_, kind)| kind)
}

/// `\040` is a space: blanks and backslashes are three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// The kernel's release.
pub(super) fn kernel() -> String {
    uname().map_or_else(|_| "unknown".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

/// Now, as `2026-11-21T05:22:17Z`.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    utc(since.as_secs())
}

/// RFC 3339 of seconds since 1970. The calendar is Howard Hinnant's `civil_from_days`, for years after 1970.
fn utc(seconds: u64) -> String {
    let (days, time) = (seconds / DAY + 719_468, seconds % DAY);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date_1() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }

    #[test]
    fn the_deepest_and_latest_mount_above_a_directory_tells_its_type() {
        let table = b"1 0 0:1 / / rw - ext4 /dev/vda rw\n\
            2 1 0:2 / /mnt/a\\040b rw shared:1 - nfs4 server:/export rw\n\
            3 2 0:3 / /mnt/a\\040b rw - fuse.permfs permfs rw\n\
            4 1 0:4 / /mnt/a rw - tmpfs tmpfs rw\n";
        for (dir, kind) in
            [("/mnt", "ext4"), ("/mnt/a b/c", "fuse.permfs"), ("/mnt/a", "tmpfs"), ("/mnt/ab", "ext4")]
        {
            assert_eq!(filesystem_in(table, Path::new(dir)).as_deref(), Some(kind), "{dir}");
        }
        assert_eq!(filesystem_in(b"junk", Path::new("/")), None);
    }

    #[test]
    fn this_machine_is_known() {
        assert_ne!(filesystem(Path::new("/proc")), "unknown");
        assert_ne!(kernel(), "unknown");
        assert!(now().starts_with("20"));
    }
}
