//! `permfs check`: is the rules file right, and does it fit the export?

mod probe;
mod suggest;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::output::{self, Style};
use super::{Outcome, rules};
use crate::backing::BackingFs;
use crate::backing::posix::PosixBacking;
use crate::config::RulesFile;
use crate::mount::patience::within;
use probe::{Answer, Findings};

/// How long the probes may take in all: a few dozen calls and a bounded walk.
const PROBE_PATIENCE: Duration = Duration::from_secs(120);

/// Check a rules file; with --source also find out how the export treats root, groups and ids.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 right, 1 the export cannot be probed, 2 errors in the rules.
Example: permfs check --config rules.toml --source /mnt/nas")]
pub(super) struct Check {
    /// The rules file.
    #[arg(long, short, value_name = "FILE", required_unless_present = "source")]
    config: Option<PathBuf>,
    /// Check only this profile.
    #[arg(long, short, value_name = "NAME", requires = "config")]
    profile: Option<String>,
    /// The export: a directory of this node, already mounted. A probe directory is made there and removed again.
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(self) -> Outcome {
        let style = Style::of_stdout();
        if let Some(path) = &self.config {
            output::print(self.lint(path, style)?)?;
        }
        if let Some(source) = self.source {
            let findings = ask_export(source)?;
            output::print(text(&findings, style))?;
            output::print(suggest::rules_file(&findings))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn lint(&self, path: &std::path::Path, style: Style) -> Result<String, Failure> {
        let file = RulesFile::load_all(path).map_err(Failure::Config)?;
        let checked = match &self.profile {
            Some(profile) => file.check_one(profile),
            None => file.check_all(),
        };
        let warnings = checked.map_err(Failure::Config)?;
        let mut text = String::new();
        for warning in &warnings {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", warning.render(style.is_coloured()).trim_end());
        }
        let names = rules::names(&file);
        let _ = writeln!(text, "{} {}: {}", style.good("ok"), path.display(), names);
        Ok(text)
    }
}

/// On a thread of its own: it takes on others' credentials, and the export may hang.
fn ask_export(source: PathBuf) -> Result<Findings, Failure> {
    let shown = source.display().to_string();
    let ask = move || {
        let backing = PosixBacking::open(&source)?;
        backing.enter_thread()?;
        probe::probe(&backing)
    };
    match within(PROBE_PATIENCE, ask) {
        Some(found) => found.map_err(|errno| {
            Failure::failed(format!(
                "cannot probe the source {shown}: {errno}; name the export's directory, as root"
            ))
        }),
        None => Err(Failure::failed(format!("the source {shown} does not answer: check its server"))),
    }
}

fn text(findings: &Findings, style: Style) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "  {}  {value}", style.dim(format_args!("{key:<18}")));
    };
    let root = &findings.root;
    line("the export's root", format!("{}:{} {}", root.uid, root.gid, root.permissions));
    line("root (uid 0)", answer(&findings.root_user, "is squashed to", "is not squashed"));
    line("group 0", answer(&findings.root_group, "is squashed to", "is not squashed"));
    line(
        "group lists",
        match &findings.group_lists {
            Answer::Yes(()) => "count".to_owned(),
            Answer::No(()) => {
                "are ignored by the server: only a caller's first group counts (permfs puts the one that matters first)"
                    .to_owned()
            }
            Answer::Unknown(why) => format!("unknown: {why}"),
        },
    );
    if let Some(reason) = &findings.idmapped {
        line("ids", style.bad(reason));
    }
    line("who owns what", format!("{} objects looked at", findings.looked_at));
    for ((uid, gid), owned) in &findings.owners {
        line(
            "",
            format!(
                "{uid}:{gid}  {} files, {} directories, modes {}",
                owned.files,
                owned.directories,
                owned.modes()
            ),
        );
    }
    text
}

fn answer(answer: &Answer<u32>, yes: &str, no: &str) -> String {
    match answer {
        Answer::Yes(id) => format!("{yes} {id}"),
        Answer::No(_) => no.to_owned(),
        Answer::Unknown(why) => format!("unknown: {why}"),
    }
}
