//! An explanation for people.

use std::fmt::Write;

use super::super::output::Style;
use super::explanation::{Explanation, Look, Question, Who};

/// The decision first, then what it rests on.
pub(super) fn text(question: &Question, said: &Explanation, style: Style) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, question, said, style);
    text
}

fn write(out: &mut String, question: &Question, said: &Explanation, style: Style) -> std::fmt::Result {
    let op = format!("{:?}", question.op).to_lowercase();
    let what = format!("{op} {} by {}:{}", question.path, question.uid, question.gid);
    match (&said.errno, &said.reason) {
        (Some(errno), Some(reason)) => {
            writeln!(out, "{}: {what}", style.bad(format_args!("denied, {errno}")))?;
            writeln!(out, "  {reason}")?;
        }
        _ => writeln!(out, "{}: {what}", style.good("allowed"))?,
    }
    writeln!(out)?;
    let mut line =
        |key: &str, value: String| writeln!(out, "  {}  {value}", style.dim(format_args!("{key:<16}")));
    line("decided by", said.rule.clone())?;
    line("uid rule", said.uid_rule.clone())?;
    line("gid rule", said.gid_rule.clone())?;
    line(
        "path rule",
        said.path_rule.clone().unwrap_or_else(|| "none, the profile's own rules hold".to_owned()),
    )?;
    if said.path != question.path {
        line("leads to", said.path.clone())?;
    }
    if let Some(who) = &said.credentials {
        line("at the server", whom(who))?;
    }
    if let (Some(shown), Some(stored)) = (&said.shown, &said.stored) {
        line("shown", look(shown))?;
        line("stored", look(stored))?;
    }
    writeln!(out)?;
    for step in &said.steps {
        let mark = if step.allowed { style.good("yes") } else { style.bad("no ") };
        writeln!(out, "  {mark}  {}  {}", style.dim(format_args!("{:<6}", step.by)), step.asked)?;
    }
    for note in &said.notes {
        writeln!(out, "  {}", style.dim(format_args!("note: {note}")))?;
    }
    Ok(())
}

fn whom(who: &Who) -> String {
    let groups: Vec<_> = who.groups.iter().map(ToString::to_string).collect();
    match groups.is_empty() {
        true => format!("{}:{}", who.uid, who.gid),
        false => format!("{}:{} and groups {}", who.uid, who.gid, groups.join(", ")),
    }
}

fn look(look: &Look) -> String {
    format!("{}:{} {}", look.uid, look.gid, look.mode)
}
