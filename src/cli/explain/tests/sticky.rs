//! What may be taken out of a sticky directory: the kernel says it of the shown owners, the server of the stored ones.

use super::export::make;
use super::*;
use crate::policy::FileKind;

fn removal(caller: u32, op: Op, path: &str) -> Explanation {
    let rules = format!("{RULES}[profile.airflow.unmapped]\nroot = 2001\n");
    let export = ModelBacking::default();
    make(&export, "/tmp", FileKind::Directory, 3000, 0o1777);
    make(&export, "/tmp/theirs", FileKind::Regular, 3000, 0o666);
    make(&export, "/tmp/own", FileKind::Regular, 2001, 0o666);
    answer(&rules, &question(caller, 0, op, path), Some(&export)).unwrap()
}

#[test]
fn who_is_root_to_the_kernel_alone_takes_nothing_of_others_out_of_a_sticky_directory() {
    for op in [Op::Unlink, Op::Rmdir, Op::Rename] {
        for (caller, by) in [(0, "server"), (50000, "kernel")] {
            let said = removal(caller, op, "/tmp/theirs");
            assert_eq!(said.errno.as_deref(), Some("EPERM"), "{said:?}");
            assert_eq!(said.steps.last().unwrap().by, by);
        }
    }
    for caller in [0, 50000] {
        assert!(removal(caller, Op::Unlink, "/tmp/own").allowed);
    }
}
