//! A rules file to start from, made of what a probe found.

use super::probe::{Answer, Findings};

/// The number of root and of nobody, whom no rule should name.
const NOBODY: u32 = 65534;

/// The text: whoever owns most is whom the pods become.
pub(super) fn rules_file(findings: &Findings) -> String {
    let usual = findings.owners.iter().map(|(owner, _)| *owner);
    // Whoever has a group of their own before whoever has root's.
    let with_group = usual.clone().find(|(uid, gid)| is_somebody(uid.get()) && is_somebody(gid.get()));
    let owner = with_group.or_else(|| usual.clone().find(|(uid, _)| is_somebody(uid.get())));
    let uid = owner.map_or(2001, |(uid, _)| uid.get());
    let gid = owner.map(|(_, gid)| gid.get()).filter(|gid| is_somebody(*gid)).unwrap_or(uid);
    let doubt = match (owner, with_group) {
        (None, _) => "   # no user but root owns anything here: put the owner's ids",
        (Some(_), None) => {
            "   # its group here is root's or nobody's, which no rule should name: put its own below"
        }
        _ => "",
    };
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
