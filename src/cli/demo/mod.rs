//! `permfs demo`: the main job on a temporary directory, so that a newcomer sees it in one second.
//!
//! It calls this very program as a user would, works in the mount as a pod would, and leaves nothing behind, also when
//! it is interrupted.

mod pod;
mod stage;

use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use super::failure::Failure;
use super::output::{self, Style};
use pod::Pod;
use stage::Stage;

/// Exit code of a process that a signal ends: 128 and SIGINT.
const INTERRUPTED: i32 = 130;

/// The rules of the demo: written to a file, shown and used.
const RULES: &str = "\
version = 1

[profile.demo]
uid = [ { pod = 50000, nfs = 2001 } ]
gid = [ { pod = 0, nfs = 2001 } ]

[profile.demo.permissions]
group_write = true
setgid = true
";

/// What the pod does, as a user would type it.
const WORK: [&str; 4] = [
    "mkdir dags logs",
    "echo 'print(\"hello\")' > dags/etl.py",
    "echo started >> logs/task.log && mv logs/task.log logs/task-1.log",
    "chmod 640 logs/task-1.log && ln -s dags/etl.py latest",
];

/// What is shown afterwards.
const RESULT: [&str; 5] = ["dags", "dags/etl.py", "latest", "logs", "logs/task-1.log"];

/// Show the main job on a temporary directory: no NFS, no configuration, nothing left behind.
#[derive(Debug, Args)]
pub(super) struct Demo {}

impl Demo {
    pub(super) fn run(self) -> Outcome {
        let stage = Stage::build(RULES)?;
        stage.clear_on_signal(INTERRUPTED)?;
        let shown = show(&stage, Style::of_stdout());
        stage.clear()?;
        shown?;
        output::print("\nUnmounted; nothing is left behind. Next: permfs check --source DIR\n")
    }
}

fn show(stage: &Stage, style: Style) -> Outcome {
    let heading = |text: &str| output::print(format_args!("\n{}\n", style.bold(text)));
    output::print(style.bold("An export that belongs to 2001:2001, a pod that runs as 50000:0.\n"))?;
    heading("The rules")?;
    output::print(indent(RULES, style))?;
    output::print(format_args!("\n  {}\n", style.dim("$ permfs mount export pod --config rules.toml")))?;
    stage.mount()?;

    let pod = Pod { uid: 50000, gid: 0 };
    heading("In the pod, as 50000:0 with umask 022")?;
    for command in WORK {
        output::print(format_args!("  {} {command}\n", style.dim("$")))?;
        pod.run(command, &stage.pod())?.expect_success(command)?;
    }

    let inside = pod.list(&RESULT, &stage.pod())?;
    let outside = Pod { uid: 0, gid: 0 }.list(&RESULT, &stage.export())?;
    output::print(format_args!(
        "\n  {}  {}\n",
        style.bold(format_args!("{:<WIDTH$}", "the pod sees")),
        style.bold("the export has")
    ))?;
    for (shown, stored) in inside.iter().zip(&outside) {
        output::print(format_args!("  {shown:<WIDTH$}  {stored}\n"))?;
    }

    heading("Another pod, as 50001:0")?;
    let stranger = Pod { uid: 50001, gid: 0 };
    let command = "cat pod/dags/etl.py";
    output::print(format_args!("  {} {command}\n", style.dim("$")))?;
    let refused = stranger.run(command, stage.dir())?;
    output::print(format_args!("  {}\n", style.bad(refused.said.trim_end())))?;
    if refused.succeeded {
        return Err(Failure::failed(
            "a pod that no rule names could read a file: this is a bug, please report it",
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Columns of one side of the comparison.
const WIDTH: usize = 46;

fn indent(text: &str, style: Style) -> String {
    text.lines().map(|line| format!("  {}\n", style.dim(line)).replace("  \n", "\n")).collect()
}
