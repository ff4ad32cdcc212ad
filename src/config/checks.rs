//! What the rules of one kind of id must not do to each other: see the contract's "Refused at load".

use std::ops::Range;

use super::error::Problem;
use super::table::At;
use super::values::Ids;
use super::written::{WrittenRule, WrittenUnmapped};
use crate::policy::Direction;
use crate::policy::ids::Id;

/// The `unmapped` policy as far as collisions go, and where it was written.
pub(super) struct Kept<'a> {
    /// `unmapped.pod`.
    pub(super) pod: Option<&'a At<WrittenUnmapped>>,
    /// `unmapped.nfs`.
    pub(super) nfs: Option<&'a At<WrittenUnmapped>>,
    /// `unmapped.root`.
    pub(super) root: Option<&'a At<WrittenUnmapped>>,
}

/// Checks the rules of one kind. `kind` is `uid` or `gid`.
pub(super) fn check<P: Id, N: Id>(
    kind: &str,
    rules: &[WrittenRule<P, N>],
    kept: &Kept<'_>,
    allow_root: bool,
) -> Result<(), Problem> {
    for rule in rules {
        check_rule(kind, rule, allow_root)?;
    }
    for (at, rule) in rules.iter().enumerate() {
        for earlier in &rules[..at] {
            check_pair(kind, earlier, rule)?;
        }
    }
    for rule in rules {
        check_kept(kind, rule, rules, kept)?;
    }
    Ok(())
}

fn check_rule<P: Id, N: Id>(kind: &str, rule: &WrittenRule<P, N>, allow_root: bool) -> Result<(), Problem> {
    let (pod, nfs) = (rule.pod.value, rule.nfs.value);
    let many_to_one = nfs.span() == 0 && pod.span() != 0;
    if pod.span() != nfs.span() && !many_to_one {
        let (wide, narrow) = (width(pod.span()), width(nfs.span()));
        let last = u64::from(nfs.first.get()) + u64::from(pod.span());
        let help = if last < u64::from(u32::MAX) {
            format!("write nfs = \"{}-{last}\", as wide as the pod side", nfs.first)
        } else {
            "make both sides equally wide".to_owned()
        };
        let message = format!("the pod range has {wide} ids and the nfs range {narrow}");
        return Err(Problem::new(&rule.nfs.span, message, help)
            .here(format!("{narrow} ids"))
            .also(&rule.pod.span, format!("{wide} ids")));
    }
    if many_to_one && rule.shown_as.is_none() && outbound(rule) {
        let message = format!(
            "{} pod ids become the one nfs id {}, which cannot be shown as all of them",
            width(pod.span()),
            nfs.first
        );
        let help = format!("add shown_as = {}, or direction = \"pod-to-nfs\"", pod.first);
        return Err(Problem::new(&rule.span, message, help));
    }
    if nfs.first.get() == 0 && inbound(rule) && !allow_root && !rule.allow_root {
        let message = format!("this rule lets pod {kind} {} act as {kind} 0 of the export", pod.first);
        return Err(Problem::new(&rule.nfs.span, message, "map to another id, or add allow_root = true"));
    }
    Ok(())
}

fn check_pair<P: Id, N: Id>(
    kind: &str,
    earlier: &WrittenRule<P, N>,
    later: &WrittenRule<P, N>,
) -> Result<(), Problem> {
    if inbound(earlier)
        && inbound(later)
        && let Some(id) = common(bounds(earlier.pod.value), bounds(later.pod.value))
    {
        let message = format!("two rules for pod {kind} {id}");
        return Err(Problem::new(&later.span, message, "remove one of them")
            .here("the second")
            .also(&earlier.span, "the first"));
    }
    if !outbound(earlier) || !outbound(later) {
        return Ok(());
    }
    if let Some(id) = common(bounds(earlier.nfs.value), bounds(later.nfs.value)) {
        if agree(earlier, later) {
            return Ok(());
        }
        let message = format!("nfs {kind} {id} could be shown as two pod ids");
        let help = "add the same shown_as to both, or direction = \"pod-to-nfs\" to one";
        return Err(Problem::new(&later.span, message, help)
            .here("the second")
            .also(&earlier.span, "the first"));
    }
    if let Some(id) = common(shown(earlier), shown(later)) {
        let message = format!("presentation collision: two nfs {kind}s would be shown as pod {kind} {id}");
        let help = "show them as different ids, or add direction = \"pod-to-nfs\" to one";
        return Err(Problem::new(&later.span, message, help)
            .here("the second")
            .also(&earlier.span, "the first"));
    }
    Ok(())
}

/// What is kept must not look like, or act as, what is mapped.
fn check_kept<P: Id, N: Id>(
    kind: &str,
    rule: &WrittenRule<P, N>,
    rules: &[WrittenRule<P, N>],
    kept: &Kept<'_>,
) -> Result<(), Problem> {
    let keeps =
        |key: Option<&At<WrittenUnmapped>>| key.filter(|at| at.value == WrittenUnmapped::Keep).cloned();
    if let Some(nfs) = keeps(kept.nfs)
        && outbound(rule)
    {
        let named = rules.iter().filter(|rule| outbound(rule)).map(|rule| bounds(rule.nfs.value));
        if let Some(id) = first_outside(shown(rule), named.collect()) {
            let message = format!(
                "presentation collision: nfs {kind} {} is shown as {id}, and so is a real {id}, since unmapped owners are kept",
                rule.nfs.value.first
            );
            let help = "set unmapped.nfs = \"nobody\", or give that id a rule of its own";
            return Err(Problem::new(&rule.span, message, help).also(&nfs.span, "unmapped owners are kept"));
        }
    }
    if !inbound(rule) {
        return Ok(());
    }
    let named: Vec<_> =
        rules.iter().filter(|rule| inbound(rule)).map(|rule| bounds(rule.pod.value)).collect();
    let (first, last) = bounds(rule.nfs.value);
    let others = (first.max(1), last);
    let colliding = [
        keeps(kept.pod).and_then(|key| Some((first_outside(others, named.clone())?, key))),
        keeps(kept.root).filter(|_| first == 0).and_then(|key| Some((first_outside((0, 0), named)?, key))),
    ];
    if let Some((id, key)) = colliding.into_iter().flatten().next() {
        let message = format!(
            "authority collision: pod {kind} {} acts as {id}, and so does a pod {kind} {id}, since unmapped callers are kept",
            rule.pod.value.first
        );
        let help = "set unmapped.pod = \"deny\", or give that id a rule of its own";
        return Err(Problem::new(&rule.span, message, help).also(&key.span, "unmapped callers are kept"));
    }
    Ok(())
}

/// Refuses a number that would act as root: of `unmapped` and `act_as`.
pub(super) fn check_number(
    id: u32,
    span: &Range<usize>,
    what: &str,
    allow_root: bool,
) -> Result<(), Problem> {
    if id != 0 || allow_root {
        return Ok(());
    }
    let message = format!("{what} = 0 would act as root on the export");
    Err(Problem::new(span, message, "name another id, or add allow_root = true to the profile"))
}

fn width(span: u32) -> u64 {
    u64::from(span) + 1
}

fn inbound<P, N>(rule: &WrittenRule<P, N>) -> bool {
    rule.direction != Direction::NfsToPod
}

fn outbound<P, N>(rule: &WrittenRule<P, N>) -> bool {
    rule.direction != Direction::PodToNfs
}

/// Whether two rules for one NFS id say the same of what it is shown as, or only one says anything.
pub(super) fn agree<P: Id, N: Id>(one: &WrittenRule<P, N>, other: &WrittenRule<P, N>) -> bool {
    let single = |rule: &WrittenRule<P, N>| rule.nfs.value.span() == 0;
    match (&one.shown_as, &other.shown_as) {
        (Some(one_shown), Some(other_shown)) => {
            single(one) && single(other) && one_shown.value == other_shown.value
        }
        (Some(_), None) | (None, Some(_)) => single(one) && single(other),
        (None, None) => false,
    }
}

type Bounds = (u32, u32);

fn bounds<I: Id>(ids: Ids<I>) -> Bounds {
    (ids.first.get(), ids.last.get())
}

/// What a rule's NFS ids are shown as.
fn shown<P: Id, N: Id>(rule: &WrittenRule<P, N>) -> Bounds {
    rule.shown_as.as_ref().map_or_else(|| bounds(rule.pod.value), |at| (at.value.get(), at.value.get()))
}

fn common(one: Bounds, other: Bounds) -> Option<u32> {
    let first = one.0.max(other.0);
    (first <= one.1.min(other.1)).then_some(first)
}

/// The first id of `range` that lies in none of `covers`.
fn first_outside(range: Bounds, mut covers: Vec<Bounds>) -> Option<u32> {
    covers.sort_unstable();
    let mut id = range.0;
    for (first, last) in covers {
        if first > id {
            break;
        }
        if last >= id {
            // Ids end at 4294967294, so there is a next number.
            id = last + 1;
        }
    }
    (id <= range.1).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::first_outside;

    #[test]
    fn the_first_id_outside_is_found_between_before_and_after_the_covers() {
        assert_eq!(first_outside((5, 9), vec![]), Some(5));
        assert_eq!(first_outside((5, 9), vec![(0, 9)]), None);
        assert_eq!(first_outside((5, 9), vec![(7, 9), (0, 5)]), Some(6));
        assert_eq!(first_outside((5, 9), vec![(0, 6), (3, 8)]), Some(9));
        assert_eq!(first_outside((0, 0), vec![(1, 4_294_967_294)]), Some(0));
        assert_eq!(first_outside((1, 4_294_967_294), vec![(0, 4_294_967_294)]), None);
    }
}
