//! A rules file to start from, made of what a probe found.

use super::probe::{Answer, Findings};

/// The number of root and of nobody, whom no rule should name.
const NOBODY: u32 = 65534;

/// The text: whoever owns most is whom the pods become.
pub(super) fn rules_file(findings: &Findings) -> String {
    let usual = findings.owners.iter().map(|(owner, _)| *owner);
    let owner = usual.clone().find(|(uid, gid)| is_somebody(uid.get()) && is_somebody(gid.get()));
    let (uid, gid) = owner.map_or((2001, 2001), |(uid, gid)| (uid.get(), gid.get()));
    let doubt =
        if owner.is_none() { "   # nobody but root owns anything here: put the owner's ids" } else { "" };
    let writes = match findings.group_lists {
        Answer::No(()) => "true        # this server ignores group lists: the group must be able to write",
        _ => "true",
    };
    format!(
        "\n# A rules file to start from: put the ids that your pods run as in the place of 50000 and 0.\n\
         version = 1\n\n\
         [profile.airflow]\n\
         uid = [ {{ pod = 50000, nfs = {uid} }} ]{doubt}\n\
         gid = [ {{ pod = 0, nfs = {gid} }} ]\n\n\
         [profile.airflow.permissions]\n\
         group_write = {writes}\n\
         setgid = true\n"
    )
}

fn is_somebody(id: u32) -> bool {
    id != 0 && id != NOBODY && id != u32::MAX - 1
}
