//! The gate on instruction counts (`benches/instructions/`): what makes it fail, what it lets pass, and what it says.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)]

#[path = "../benches/instructions/gate.rs"]
mod gate;

use std::collections::BTreeMap;

use gate::{Record, grown, judge};

fn record(rustc: &str, counts: &[(&str, f64)]) -> Record {
    let instructions: BTreeMap<_, _> = counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    Record { rustc: rustc.to_owned(), instructions }
}

#[test]
fn growth_beyond_three_percent_fails_and_is_named() {
    let before = record("1.95", &[("fs/lookup", 1000.0), ("fs/create", 5000.0)]);
    let now = record("1.95", &[("fs/lookup", 1031.0), ("fs/create", 5149.0)]);
    let judgement = judge(&before, &now);
    assert!(!judgement.passes);
    assert!(judgement.text.contains("fs/lookup: GROWN"), "{}", judgement.text);
    assert!(!judgement.text.contains("fs/create: GROWN"), "{}", judgement.text);
    assert!(judgement.text.contains("--record"), "{}", judgement.text);
    assert_eq!(grown(&before, &now), ["fs/lookup"]);
}

#[test]
fn what_is_within_three_percent_passes_without_a_word_about_recording() {
    let judgement =
        judge(&record("1.95", &[("fs/lookup", 1000.0)]), &record("1.95", &[("fs/lookup", 1029.0)]));
    assert!(judgement.passes);
    assert!(!judgement.text.contains("--record"), "{}", judgement.text);
}

#[test]
fn what_has_shrunk_passes_and_asks_to_be_recorded() {
    let judgement =
        judge(&record("1.95", &[("fs/lookup", 1000.0)]), &record("1.95", &[("fs/lookup", 900.0)]));
    assert!(judgement.passes);
    assert!(judgement.text.contains("fs/lookup: shrunk") && judgement.text.contains("--record"));
}

#[test]
fn a_decision_of_few_instructions_is_not_failed_for_one_call_inlined_or_not() {
    let before = record("1.95", &[("policy/translate", 20.0)]);
    assert!(judge(&before, &record("1.95", &[("policy/translate", 32.0)])).passes);
    assert!(!judge(&before, &record("1.95", &[("policy/translate", 33.0)])).passes);
}

#[test]
fn another_compiler_is_told_of_and_given_more_room_but_not_any() {
    let before = record("1.95", &[("fs/lookup", 1000.0)]);
    let some = judge(&before, &record("1.96", &[("fs/lookup", 1140.0)]));
    assert!(some.passes);
    assert!(some.text.contains("recorded with 1.95, counted with 1.96"), "{}", some.text);
    assert!(!judge(&before, &record("1.96", &[("fs/lookup", 1160.0)])).passes);
}

#[test]
fn what_is_not_recorded_or_not_counted_any_more_fails() {
    let (one, other) = (record("1.95", &[("fs/lookup", 1.0)]), record("1.95", &[("fs/getattr", 1.0)]));
    let judgement = judge(&one, &other);
    assert!(!judgement.passes);
    assert!(judgement.text.contains("fs/getattr: NOT RECORDED"), "{}", judgement.text);
    assert!(judgement.text.contains("fs/lookup is recorded, but is not counted"), "{}", judgement.text);
}
