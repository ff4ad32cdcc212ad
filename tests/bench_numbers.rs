//! `permfs bench`, what is computed and shown: statistics, thresholds, JSON, chart and table.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use permfs::bench::report::{Place, Report, RowReport, Sample};
use permfs::bench::row::{ROWS, Row, Unit};
use permfs::bench::stats::Spread;
use permfs::bench::{Thresholds, chart, table};
use proptest::prelude::*;

/// A report in which each row has these ratios to a native rate of 1000 a second; none: not compared.
fn report(ratios: &[f64], path: &str) -> Report {
    let place = |compared| Place { path: path.to_owned(), filesystem: "ext4".to_owned(), compared };
    let compared = !ratios.is_empty();
    let source = compared.then_some(1000.0);
    let rows = ROWS.iter().map(|row| {
        let rates = if compared { ratios.iter().map(|ratio| ratio * 1000.0).collect() } else { vec![1000.0] };
        let samples: Vec<_> = rates.into_iter().map(|target| Sample { source, target }).collect();
        RowReport {
            name: row.name,
            what: row.what,
            unit: row.unit,
            ratio: Spread::of(ratios.iter().copied()),
            source: Spread::of(source),
            target: Spread::of(samples.iter().map(|sample| sample.target)),
            samples,
            not_measured: None,
        }
    });
    Report {
        schema: 1,
        permfs: "0.1.0",
        started: "2026-11-21T05:22:17Z".to_owned(),
        kernel: "6.18".to_owned(),
        cpus: 2,
        rounds: 5,
        quick: false,
        source: place(compared),
        target: place(true),
        notes: vec![path.to_owned()],
        rows: rows.collect(),
    }
}

fn all() -> Vec<&'static Row> {
    ROWS.iter().collect()
}

fn gate(text: &str) -> Result<Thresholds, String> {
    Thresholds::parse(Path::new("gate.toml"), text, &all())
}

proptest! {
    #[test]
    fn half_of_the_numbers_lie_on_each_side_of_the_median(numbers in prop::collection::vec(-1e12..1e12f64, 1..50)) {
        let spread = Spread::of(numbers.iter().copied()).unwrap();
        let half = numbers.len().div_ceil(2);
        prop_assert!(numbers.iter().filter(|&&number| number <= spread.median).count() >= half);
        prop_assert!(numbers.iter().filter(|&&number| number >= spread.median).count() >= half);
        prop_assert!(spread.min <= spread.median && spread.median <= spread.max);
        prop_assert!(numbers.contains(&spread.min) && numbers.contains(&spread.max));
    }

    #[test]
    fn the_order_of_the_rounds_does_not_matter(mut numbers in prop::collection::vec(0.0..1e9f64, 0..20)) {
        let spread = Spread::of(numbers.iter().copied());
        numbers.reverse();
        prop_assert_eq!(spread, Spread::of(numbers));
    }

    #[test]
    fn a_chart_is_well_formed_whatever_the_paths_and_ratios(
        path in any::<String>(),
        ratios in prop::collection::vec(0.0..1e6f64, 0..6),
        gated: bool,
    ) {
        let gate = gate("append = 0.7").unwrap();
        let svg = chart(&report(&ratios, &path), gated.then_some(&gate));
        let document = roxmltree::Document::parse(&svg).unwrap();
        for bar in document.descendants().filter(|node| node.attribute("class") == Some("bar")) {
            let end: f64 = ["x", "width"].map(|name| bar.attribute(name).unwrap().parse::<f64>().unwrap()).iter().sum();
            prop_assert!((0.0..=680.0).contains(&end), "the bar ends at {}", end);
        }
    }

    #[test]
    fn a_threshold_fails_exactly_where_the_median_is_below_it(least in 0.01..1.0f64, ratios in prop::collection::vec(0.0..2.0f64, 1..8)) {
        let gate = gate(&format!("append = {least}")).unwrap();
        let median = Spread::of(ratios.iter().copied()).unwrap().median;
        prop_assert_eq!(gate.failures(&report(&ratios, "/")).is_empty(), median >= least);
    }

    #[test]
    fn no_text_makes_the_thresholds_panic(text in any::<String>()) {
        let _ = gate(&text);
    }
}

#[test]
fn no_rounds_have_no_median() {
    assert_eq!(Spread::of([]), None);
    assert_eq!(Spread::of([1.0, 4.0]).unwrap().median, 2.5);
    assert_eq!(Spread::of([9.0, 1.0, 4.0]), Some(Spread { median: 4.0, min: 1.0, max: 9.0 }));
}

#[test]
fn a_wrong_threshold_is_refused_with_its_line_and_what_to_write() {
    for (text, sentence) in [
        ("\napend = 0.7", "gate.toml:2: unknown row `apend`; did you mean `append`?"),
        ("append = 70", "gate.toml:1: `append` is a ratio such as 0.7, not 70"),
        ("append = 7.5", "gate.toml:1: `append` is a ratio above 0 and up to 2, such as 0.7, not 7.5"),
        ("append = nan", "gate.toml:1: `append` is a ratio above 0 and up to 2, such as 0.7, not NaN"),
        ("append = \"0.7\"", "gate.toml:1: `append` is a ratio such as 0.7, not \"0.7\""),
        ("# nothing\n", "gate.toml has no thresholds; write lines such as `append = 0.7`"),
    ] {
        assert_eq!(gate(text).unwrap_err(), sentence);
    }
    assert!(gate("mkdir = 0.5\nappend = 0.7\nappend = 0.8").unwrap_err().starts_with("gate.toml:3: "));
    assert!(gate("append 0.7").unwrap_err().starts_with("gate.toml:1: "));
    let only = [&ROWS[0]];
    let refused = Thresholds::parse(Path::new("gate.toml"), "append = 0.7", &only).unwrap_err();
    assert_eq!(refused, "gate.toml:1: `append` is not among the rows of --only");
}

#[test]
fn each_row_below_its_threshold_is_one_sentence() {
    let gate = gate("append = 0.7\nmkdir = 0.5\ncreate = 1").unwrap();
    let sentences = gate.failures(&report(&[0.6, 0.69999, 0.8], "/"));
    assert_eq!(
        sentences,
        [
            "append: 0.69999 of native (0.60..0.80), below the 0.7 that gate.toml:1 asks for",
            "create: 0.70 of native (0.60..0.80), below the 1 that gate.toml:3 asks for",
        ]
    );
}

#[test]
fn what_was_not_compared_does_not_pass() {
    let gate = gate("append = 0.1").unwrap();
    let sentences = gate.failures(&report(&[], "/"));
    assert_eq!(sentences.len(), 1);
    assert!(sentences[0].starts_with("append: not compared with native"), "{sentences:?}");
    let mut skipped = report(&[1.0], "/");
    for row in &mut skipped.rows {
        (row.ratio, row.not_measured) = (None, Some("no such thing here".to_owned()));
    }
    assert!(gate.failures(&skipped)[0].contains("(no such thing here)"));
}

#[test]
fn the_json_has_the_form_that_scripts_rely_on() {
    let json = serde_json::to_value(report(&[0.5, 0.9, 1.1], "/srv")).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    // serde_json sorts the keys of a value.
    let top = "cpus kernel notes permfs quick rounds rows schema source started target";
    assert_eq!(keys(&json), top.split(' ').collect::<Vec<_>>());
    assert_eq!(json["schema"], 1);
    assert_eq!(keys(&json["source"]), ["compared", "filesystem", "path"]);
    let row = &json["rows"][6];
    let columns = "name not_measured ratio samples source target unit what";
    assert_eq!(keys(row), columns.split(' ').collect::<Vec<_>>());
    assert_eq!((&row["name"], &row["unit"]), (&"append".into(), &"operations".into()));
    assert_eq!(row["ratio"], serde_json::json!({ "median": 0.9, "min": 0.5, "max": 1.1 }));
    assert_eq!(row["samples"][0], serde_json::json!({ "source": 1000.0, "target": 500.0 }));
    assert_eq!(serde_json::to_value(Unit::Bytes).unwrap(), "bytes");
}

#[test]
fn the_table_puts_the_ratio_first_and_colours_nothing_unasked() {
    let text = table(&report(&[0.5, 0.9, 1.1], "/srv"), None, false);
    let append = text.lines().find(|line| line.contains("append")).unwrap();
    assert!(append.starts_with(" 0.90  0.50..1.10   append "), "{append}");
    assert!(!text.contains('\x1b'));
    let gate = gate("append = 0.95").unwrap();
    let coloured = table(&report(&[0.9], "/srv"), Some(&gate), true);
    assert!(coloured.contains("\x1b[1;31m 0.90\x1b[0m"), "{coloured}");
}

#[test]
fn a_mount_measured_alone_has_numbers_and_no_ratios() {
    let alone = report(&[], "/srv");
    let text = table(&alone, None, false);
    assert!(text.contains("alone") && text.contains("1.00 ms") && !text.contains("ratio"), "{text}");
    let svg = chart(&alone, None);
    assert!(svg.contains("1.00 ms") && !svg.contains("class=\"bar\""), "{svg}");
}
