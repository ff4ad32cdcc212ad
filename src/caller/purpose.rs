//! Why a waiting thread looks a name up, where the operation that comes next tells as much, or shows nobody what was found.
//!
//! FUSE does not say; the kernel's stack does. Only what is known word for word counts: the name is the last one of the path, it is
//! looked up by mkdir(2) or rename(2) and nothing between, and it is not one that the kernel holds and only asks about again (an
//! answer that it is gone would also take away whatever is mounted on it).

use std::hash::{DefaultHasher, Hash, Hasher};

use libc::c_long;

use super::Pid;
use super::threads::{Tells, Threads, calls_have_numbers, function, lines};
use super::walk::{Does, does, told};

/// What the answer to a LOOKUP is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// mkdir(2) of that name comes next.
    MakesADirectory,
    /// rename(2) or renameat(2), and so without flags, from or to that name.
    Renames(Site),
    /// unlink(2), rmdir(2) or rename(2), on the way to that name or to see whether it is still there.
    Changes,
}

/// A place in the kernel's code from which names are looked up. rename(2) has one for the old name and one for the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site(pub(crate) u64);

#[cfg(target_arch = "x86_64")]
const CALLS: &[c_long] = &[libc::SYS_mkdirat, libc::SYS_mkdir, libc::SYS_renameat, libc::SYS_rename];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: &[c_long] = &[libc::SYS_mkdirat, libc::SYS_renameat];

/// What looks up the last name of a path, in linux/fs/namei.c: up to Linux 6.4, and from then on (and in stable kernels before).
const LOOK_UP: [&str; 2] = ["__lookup_hash", "lookup_one_qstr_excl"];

/// What locks the directory of that name around it, as on Linux 7.2 (6.18 has none); compilers put one into the other.
const LOCK: [&str; 3] = ["__start_dirop", "start_dirop", "__start_renaming"];

/// What mkdir(2) and rename(2) are made of, as on Linux 6.18 and on 7.2.
const MAKE: [&str; 2] = ["do_mkdirat", "filename_mkdirat"];
const RENAME: [&str; 2] = ["do_renameat2", "filename_renameat2"];

/// The parts of open(2) that deal with the last name, there; compilers put one into the other.
const OPEN: [&str; 4] = ["atomic_open", "lookup_open", "open_last_lookups", "path_openat"];

impl Threads {
    /// Whether the thread, which waits for the answer to a LOOKUP, looks the last name of its path up to open it, and not one that the
    /// kernel holds.
    pub fn looks_up_to_open(&self, thread: Pid) -> bool {
        self.ask(thread, Tells::Stack, looks_up).unwrap_or(false)
    }

    /// Why the thread, which waits for the answer to a LOOKUP, wants it. None where that cannot be told, or is anything else.
    pub fn purpose(&self, thread: Pid) -> Option<Purpose> {
        let changes = |does| (does == Does::Changes).then_some(Purpose::Changes);
        if !calls_have_numbers() {
            return self.ask(thread, Tells::Stack, |stack| read(stack).or_else(|| changes(does(stack)?)))?;
        }
        // This costs a fifth of what a stack does.
        let (is_one_of_them, does) =
            self.ask(thread, Tells::Call, |line| (is_one_of_them(line), told(line).map(|told| told.0)))?;
        let more = if is_one_of_them { self.ask(thread, Tells::Stack, read)? } else { None };
        more.or_else(|| changes(does?))
    }
}

/// From where a thread, which waits to hear who may do what in a directory, asks that while it opens something there: not on its way
/// there. None where that cannot be told.
pub(super) fn asks(stack: &str) -> Option<Site> {
    let way = lines(stack).skip_while(|line| function(line) != "fuse_permission").take(3);
    let by = way.clone().map(function).nth(2)?;
    OPEN.iter().any(|part| by.starts_with(part)).then(|| Site::of(way))
}

fn looks_up(stack: &str) -> bool {
    let mut way = lines(stack).map(function).skip_while(|function| *function != "fuse_lookup").skip(1);
    way.next() == Some("fuse_atomic_open")
        && way.next().is_some_and(|by| OPEN.iter().any(|part| by.starts_with(part)))
}

fn is_one_of_them(line: &str) -> bool {
    let number = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    number.is_some_and(|number| CALLS.contains(&number))
}

fn read(stack: &str) -> Option<Purpose> {
    let way = lines(stack).skip_while(|line| function(line) != "fuse_lookup");
    let mut functions = way.clone().map(function);
    functions.next()?;
    LOOK_UP.contains(&functions.next()?).then_some(())?;
    let mut functions = functions.skip_while(|function| LOCK.contains(function));
    let does = functions.next()?;
    // `sys_rename`, `__x64_sys_rename`, `__arm64_sys_renameat`.
    let call = |function: &'static str| {
        move |name: &str| name.rsplit_once("sys_").is_some_and(|(_, call)| call == function)
    };
    if does == "filename_create" {
        MAKE.contains(&functions.next()?).then_some(())?;
        let by = functions.next()?;
        return (call("mkdir")(by) || call("mkdirat")(by)).then_some(Purpose::MakesADirectory);
    }
    RENAME.contains(&does).then_some(())?;
    let by = functions.next()?;
    (call("rename")(by) || call("renameat")(by)).then(|| Purpose::Renames(Site::of(way.take(4))))
}

impl Site {
    /// Of the innermost lines of a stack, which say how far into each function the next one was called.
    fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut hasher = DefaultHasher::new();
        lines.for_each(|line| line.hash(&mut hasher));
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn makes(stack: &str) -> bool {
        read(stack) == Some(Purpose::MakesADirectory)
    }

    fn stack(functions: &[&str]) -> String {
        functions.iter().map(|function| format!("[<0>] {function}+0x1f/0x2e0\n")).collect()
    }

    /// As they were on Linux 6.18, x86-64.
    const LAST_NAME: [&str; 10] = [
        "request_wait_answer",
        "__fuse_simple_request",
        "fuse_lookup_name",
        "fuse_lookup",
        "lookup_one_qstr_excl",
        "filename_create",
        "do_mkdirat",
        "__x64_sys_mkdir",
        "do_syscall_64",
        "entry_SYSCALL_64_after_hwframe",
    ];
    const KNOWN_NAME: [&str; 8] = [
        "__fuse_simple_request",
        "fuse_dentry_revalidate",
        "lookup_dcache",
        "lookup_one_qstr_excl",
        "filename_create",
        "do_mkdirat",
        "__x64_sys_mkdir",
        "do_syscall_64",
    ];
    const ON_THE_WAY: [&str; 9] = [
        "fuse_lookup_name",
        "fuse_lookup",
        "__lookup_slow",
        "walk_component",
        "link_path_walk",
        "__filename_parentat",
        "filename_create",
        "do_mkdirat",
        "__x64_sys_mkdir",
    ];

    #[test]
    fn the_last_name_of_a_mkdir_counts_and_neither_one_on_the_way_nor_one_that_is_held() {
        assert!(makes(&stack(&LAST_NAME)));
        assert!(!makes(&stack(&KNOWN_NAME)));
        assert!(!makes(&stack(&ON_THE_WAY)));
        assert!(!makes(""));
    }

    /// As they were on user-mode Linux 6.1.
    const ASKS: [&str; 6] = [
        "fuse_do_getattr",
        "fuse_perm_getattr",
        "fuse_permission",
        "inode_permission",
        "path_openat",
        "do_filp_open",
    ];
    const OPENS: [&str; 6] = [
        "fuse_lookup_name",
        "fuse_lookup.part.0",
        "fuse_lookup",
        "fuse_atomic_open",
        "path_openat",
        "do_filp_open",
    ];

    #[test]
    fn an_open_asks_about_the_last_directory_and_looks_up_the_last_name_from_its_own_code() {
        let threads = |functions: &[&str]| (asks(&stack(functions)), looks_up(&stack(functions)));
        assert!(matches!(threads(&ASKS), (Some(_), false)) && matches!(threads(&OPENS), (None, true)));
        let mut on_the_way = ASKS;
        on_the_way[4] = "link_path_walk";
        let mut held = OPENS;
        held[2] = "fuse_dentry_revalidate";
        for none in [&on_the_way[..], &held, &ASKS[..4], &OPENS[..4], &LAST_NAME] {
            assert_eq!(threads(none), (None, false));
        }
        let elsewhere = stack(&ASKS).replace("path_openat+0x1f", "path_openat+0x2f");
        assert_ne!(asks(&elsewhere), asks(&stack(&ASKS)));
    }

    #[test]
    fn what_makes_something_else_or_is_cut_short_does_not_count() {
        let with = |at: usize, function| {
            let mut functions = LAST_NAME;
            functions[at] = function;
            stack(&functions)
        };
        assert!(makes(&with(7, "__arm64_sys_mkdirat")));
        assert!(makes(&with(4, "__lookup_hash")));
        assert!(!makes(&with(6, "do_symlinkat")));
        assert!(!makes(&with(7, "__x64_sys_symlink")));
        assert!(!makes(&with(7, "io_mkdirat")));
        assert!(!makes(&with(5, "ovl_lookup")));
        assert!((0..8).all(|length| !makes(&stack(&LAST_NAME[..length]))));
    }

    #[test]
    fn user_mode_linux_has_modules_and_parts_of_functions_on_its_stacks() {
        let stack = "[<0>] schedule+0xc8/0x115\n\
                     [<0>] request_wait_answer+0x8c/0x1dc [fuse]\n\
                     [<0>] fuse_lookup_name+0xf3/0x1f3 [fuse]\n\
                     [<0>] fuse_lookup.part.0+0x52/0x11c [fuse]\n\
                     [<0>] fuse_lookup+0x29/0x2b [fuse]\n\
                     [<0>] lookup_one_qstr_excl+0x67/0x99\n\
                     [<0>] filename_create+0xbc/0x183\n\
                     [<0>] do_mkdirat+0x3c/0xf9\n\
                     [<0>] sys_mkdir+0x2c/0x32\n\
                     [<0>] handle_syscall+0x79/0xa7\n";
        assert!(makes(stack));
    }

    /// As they were on user-mode Linux 7.2.
    #[test]
    fn linux_7_locks_the_directory_in_functions_of_their_own() {
        let made = ["fuse_lookup", "lookup_one_qstr_excl", "__start_dirop", "start_dirop", "filename_create"];
        assert!(makes(&stack(&[&made[..], &["filename_mkdirat", "sys_mkdir"]].concat())));
        assert!(makes(&stack(&[&made[..2], &["filename_create", "do_mkdirat", "__x64_sys_mkdir"]].concat())));
        assert!(!makes(&stack(&[&made[..4], &["filename_rmdir", "sys_rmdir"]].concat())));
        let renames = |offset: &str| {
            let line = |function: &str| format!("[<0>] {function}+0x43/0x66\n");
            let way = ["fuse_lookup", "lookup_one_qstr_excl"].map(line).concat();
            let site = format!("[<0>] __start_renaming+{offset}/0x166\n");
            read(&[way, site, ["filename_renameat2", "sys_rename"].map(line).concat()].concat())
        };
        assert!(matches!(renames("0xda"), Some(Purpose::Renames(_))) && renames("0xda") != renames("0xf0"));
        assert!(looks_up(&stack(&["fuse_lookup", "fuse_atomic_open", "atomic_open", "path_openat"])));
    }

    #[test]
    fn a_call_is_known_by_its_number() {
        let line =
            |number: c_long| format!("{number} 0xffffff9c 0x1 0x2 0x0 0x0 0x0 0x7ffd00001000 0x401000\n");
        assert!(is_one_of_them(&line(libc::SYS_mkdirat)) && !is_one_of_them(&line(libc::SYS_unlinkat)));
        assert!(!is_one_of_them("running\n") && !is_one_of_them(""));
    }

    /// As it was on Linux 6.18, x86-64; where the offset of the call was 0x24f for the old name, and 0x274 for the new one.
    fn rename(offset: &str, call: &str) -> String {
        format!(
            "[<0>] fuse_lookup_name+0xbf/0x220\n[<0>] fuse_lookup+0x75/0x1b0\n[<0>] lookup_one_qstr_excl+0xaf/0x100\n\
             [<0>] do_renameat2+{offset}/0x520\n[<0>] {call}+0x76/0xc0\n[<0>] do_syscall_64+0x71/0x280\n"
        )
    }

    #[test]
    fn the_two_names_of_a_rename_are_looked_up_from_different_places_and_flags_are_not_known() {
        let (old, new) =
            (read(&rename("0x24f", "__x64_sys_rename")), read(&rename("0x274", "__x64_sys_rename")));
        assert!(old.is_some() && new.is_some() && old != new);
        assert_eq!(new, read(&rename("0x274", "__x64_sys_rename")));
        assert!(read(&rename("0x274", "__arm64_sys_renameat")).is_some_and(|other| Some(other) != new));
        assert_eq!(read(&rename("0x274", "__x64_sys_renameat2")), None);
        assert_eq!(read(&rename("0x274", "io_renameat")), None);
        assert_eq!(
            read(&rename("0x274", "sys_rename").replace("fuse_lookup+", "fuse_dentry_revalidate+")),
            None
        );
    }
}
