//! `permfs explain`: what would happen, and which rule says so.

mod at_export;
mod chown;
mod decide;
mod explanation;
mod op;
mod text;
mod walk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::failure::Failure;
use super::output::{self, Style};
use super::rules::RulesArgs;
use super::{Outcome, values};
use crate::backing::BackingFs;
use crate::backing::posix::PosixBacking;
use crate::mount::patience::{SOURCE_PATIENCE, within};
use crate::policy::{Permissions, PodGid, PodUid, Policy};
use decide::decide;
use explanation::{Explanation, Question, Unanswerable};
use op::Op;

/// `explain` ends with this where the operation would be denied.
const DENIED: u8 = 3;

/// Say whether an operation would be allowed, which rule decides, as whom the server is asked, and what is shown.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 allowed, 3 denied.
Example: permfs explain --config rules.toml --uid 50000 --gid 0 --op mkdir /logs --source /srv/export")]
pub(super) struct Explain {
    #[command(flatten)]
    rules: RulesArgs,
    /// The caller's uid in the pod.
    #[arg(long, value_name = "N", value_parser = values::pod_uid)]
    uid: PodUid,
    /// The caller's gid in the pod.
    #[arg(long, value_name = "N", value_parser = values::pod_gid)]
    gid: PodGid,
    /// The caller's supplementary groups.
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = values::pod_gid)]
    groups: Vec<PodGid>,
    /// What is to be done.
    #[arg(long)]
    op: Op,
    /// The mode that a create or chmod asks for.
    #[arg(long, value_name = "OCTAL", value_parser = values::permissions)]
    mode: Option<Permissions>,
    /// The caller's umask.
    #[arg(long, value_name = "OCTAL", default_value = "0022", value_parser = values::permissions)]
    umask: Permissions,
    /// Whom a chown names; the caller itself where not given.
    #[arg(long, value_name = "UID:GID", value_parser = values::owner)]
    owner: Option<(PodUid, PodGid)>,
    /// From the mount's root.
    path: String,
    /// The export: then the kernel's check and the server's answer are found out too.
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// For machines.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Outcome {
        let policy = self.rules.load()?.policy;
        let question = self.question();
        let said = match self.source {
            Some(source) => ask_export(policy, question.clone(), source)?,
            None => decide::<PosixBacking>(&policy, &question, None),
        }
        .map_err(|why| Failure::failed(why.to_string()))?;
        if self.json {
            output::print_json(&said)?;
        } else {
            output::print(text::text(&question, &said, Style::of_stdout()))?;
        }
        Ok(if said.allowed { ExitCode::SUCCESS } else { ExitCode::from(DENIED) })
    }

    fn question(&self) -> Question {
        let (uid, gid) = (self.uid, self.gid);
        let (new_uid, new_gid) = self.owner.unwrap_or((uid, gid));
        Question {
            uid,
            gid,
            groups: self.groups.clone(),
            op: self.op,
            path: format!("/{}", self.path.trim_matches('/')),
            mode: self.mode.unwrap_or(self.op.usual_mode()),
            umask: self.umask,
            owner: (Some(new_uid), Some(new_gid)),
        }
    }
}

/// On a thread of its own: it takes on the caller's credentials, and the export may hang.
fn ask_export(
    policy: Arc<Policy>,
    question: Question,
    source: PathBuf,
) -> Result<Result<Explanation, Unanswerable>, Failure> {
    let shown = source.display().to_string();
    let ask = move || {
        let backing = PosixBacking::open(&source)?;
        backing.enter_thread()?;
        Ok(decide(&policy, &question, Some(&backing)))
    };
    match within(SOURCE_PATIENCE, ask) {
        Some(said) => said.map_err(|errno: crate::sys::Errno| {
            Failure::failed(format!(
                "cannot open the source {shown}: {errno}; name the export's directory, as root"
            ))
        }),
        None => Err(Failure::failed(format!("the source {shown} does not answer: check its server"))),
    }
}

#[cfg(test)]
mod tests;
