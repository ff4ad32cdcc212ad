//! Whether a waiting thread looks a name up only to make a directory of it.
//!
//! FUSE does not say why a name is looked up; the kernel's stack does. Only what is known word for word counts: the name is looked
//! up by nothing but mkdir(2), as the last one of the path, and it is not one that the kernel holds and only asks about again
//! (an answer that it is gone would also take away whatever is mounted on it).

use libc::c_long;

use super::Pid;
use super::threads::{Tells, Threads, calls_have_numbers, functions};

#[cfg(target_arch = "x86_64")]
const CALLS: &[c_long] = &[libc::SYS_mkdirat, libc::SYS_mkdir];
#[cfg(not(target_arch = "x86_64"))]
const CALLS: &[c_long] = &[libc::SYS_mkdirat];

/// From the innermost on, in linux/fs/namei.c: up to Linux 6.4, and from then on (and in stable kernels before).
const WAYS: &[[&str; 4]] = &[
    ["fuse_lookup", "__lookup_hash", "filename_create", "do_mkdirat"],
    ["fuse_lookup", "lookup_one_qstr_excl", "filename_create", "do_mkdirat"],
];

impl Threads {
    /// Whether the thread, which waits for the answer to a LOOKUP, has no use for it: mkdir(2) comes next, and will tell. False where
    /// that cannot be told.
    pub fn makes_a_directory(&self, thread: Pid) -> bool {
        // This costs a fifth of what a stack does.
        let may_be = || !calls_have_numbers() || self.ask(thread, Tells::Call, is_mkdir).unwrap_or(false);
        may_be() && self.ask(thread, Tells::Stack, is_about_to_make).unwrap_or(false)
    }
}

fn is_mkdir(line: &str) -> bool {
    let number = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    number.is_some_and(|number| CALLS.contains(&number))
}

fn is_about_to_make(stack: &str) -> bool {
    let mut outer = functions(stack).skip_while(|function| *function != "fuse_lookup");
    let way: Vec<_> = outer.by_ref().take(4).collect();
    let call = outer.next().unwrap_or_default();
    WAYS.iter().any(|known| way == known) && (call.ends_with("sys_mkdir") || call.ends_with("sys_mkdirat"))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(is_about_to_make(&stack(&LAST_NAME)));
        assert!(!is_about_to_make(&stack(&KNOWN_NAME)));
        assert!(!is_about_to_make(&stack(&ON_THE_WAY)));
        assert!(!is_about_to_make(""));
    }

    #[test]
    fn what_makes_something_else_or_is_cut_short_does_not_count() {
        let with = |at: usize, function| {
            let mut functions = LAST_NAME;
            functions[at] = function;
            stack(&functions)
        };
        assert!(is_about_to_make(&with(7, "__arm64_sys_mkdirat")));
        assert!(is_about_to_make(&with(4, "__lookup_hash")));
        assert!(!is_about_to_make(&with(6, "do_symlinkat")));
        assert!(!is_about_to_make(&with(7, "__x64_sys_symlink")));
        assert!(!is_about_to_make(&with(7, "io_mkdirat")));
        assert!(!is_about_to_make(&with(5, "ovl_lookup")));
        assert!((0..8).all(|length| !is_about_to_make(&stack(&LAST_NAME[..length]))));
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
        assert!(is_about_to_make(stack));
    }

    #[test]
    fn a_call_is_known_by_its_number() {
        let line =
            |number: c_long| format!("{number} 0xffffff9c 0x1 0x2 0x0 0x0 0x0 0x7ffd00001000 0x401000\n");
        assert!(is_mkdir(&line(libc::SYS_mkdirat)) && !is_mkdir(&line(libc::SYS_unlinkat)));
        assert!(!is_mkdir("running\n") && !is_mkdir(""));
    }
}
