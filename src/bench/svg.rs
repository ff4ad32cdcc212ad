//! The chart: one bar a row, from nothing to the ratio, with the rounds' range as a whisker. SVG by hand: it is text.
//!
//! Ratios are linear and begin at 0, so that a bar half as long is half as fast. A mount that was measured alone has no
//! ratios, and gets its numbers without bars.

use std::fmt::Write;

use super::report::{Report, RowReport};
use super::table::counted;
use super::{Thresholds, units};

/// Pixels, as long as nobody scales it.
const WIDTH: f64 = 980.0;
const MARGIN: f64 = 32.0;
/// The first row's upper end.
const TOP: f64 = 128.0;
const ROW: f64 = 36.0;
const BAR: f64 = 16.0;
/// Where the bars begin and end.
const LEFT: f64 = 280.0;
const RIGHT: f64 = 680.0;
/// Where the columns of numbers end.
const RATIO: f64 = 742.0;
const NATIVE: f64 = 846.0;
const MOUNT: f64 = WIDTH - MARGIN;
/// Where the mount's numbers end, and their ranges begin, when there are no bars.
const ALONE: f64 = LEFT + 80.0;
const RANGE: f64 = ALONE + 24.0;
/// From one line of the grid to the next, as a ratio.
const GRID: f64 = 0.25;
/// A ratio beyond this leaves the chart; its number tells it.
const MAX_AXIS: f64 = 2.0;
/// Characters of a path or note that fit.
const MAX_PATH: usize = 52;
const MAX_NOTE: usize = 150;

const STYLE: &str = "\
text{font-family:system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:13px;fill:#1f2933}\
.title{font-size:20px;font-weight:600}.quiet{fill:#6b7785;font-size:11px}.end{text-anchor:end}.mid{text-anchor:middle}\
.strong{font-weight:600}.bar{fill:#2f7f9d}.bad{fill:#c8553d}.grid{stroke:#e4e8ec}.native{stroke:#1f2933;stroke-width:1.5}\
.whisker{stroke:#12303d;stroke-width:1.5}.gate{stroke:#c8553d;stroke-width:2.5}";

/// The run as an SVG document.
#[must_use]
pub fn chart(report: &Report, thresholds: Option<&Thresholds>) -> String {
    let bottom = top_of(report.rows.len());
    let notes: Vec<_> = report.notes.iter().map(|note| shorten(note, MAX_NOTE)).collect();
    let below = bottom + 44.0;
    let height = notes.iter().fold(below, |height, _| height + 16.0) + 12.0;
    let mut svg = Svg(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>permfs bench</title>\n<style>{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    ));
    heading(&mut svg, report);
    let axis = Axis::of(report);
    if report.is_compared() {
        axis.draw(&mut svg, bottom);
    }
    for (index, row) in report.rows.iter().enumerate() {
        draw_row(&mut svg, &axis, top_of(index), row, thresholds.and_then(|gate| gate.of(row.name)));
    }
    if report.is_compared() {
        let gate = if thresholds.is_some() { "; red tick: the threshold" } else { "" };
        let legend = format!(
            "bar: median of the rounds' ratios; whisker: smallest to largest{gate}; longer is faster"
        );
        svg.text(LEFT, bottom + 32.0, "quiet", &legend);
    }
    for (index, note) in notes.iter().enumerate() {
        let y = (0..index).fold(below + 8.0, |y, _| y + 16.0);
        svg.text(MARGIN, y, "quiet", note);
    }
    svg.0.push_str("</svg>\n");
    svg.0
}

fn top_of(index: usize) -> f64 {
    (0..index).fold(TOP, |top, _| top + ROW)
}

fn heading(svg: &mut Svg, report: &Report) {
    let place =
        |place: &super::report::Place| format!("{} ({})", shorten(&place.path, MAX_PATH), place.filesystem);
    let (sides, title) = match report.is_compared() {
        true => (
            format!("{} against {}", place(&report.target), place(&report.source)),
            "Throughput through the mount, native = 1",
        ),
        false => (format!("{}, alone", place(&report.target)), "Throughput through the mount"),
    };
    let Report { kernel, started, rounds, cpus, .. } = report;
    let (cpus, rounds) = (counted(*cpus, "CPU"), counted(*rounds, "round"));
    let day = started.split('T').next().unwrap_or(started);
    svg.text(MARGIN, 42.0, "title", title);
    svg.text(MARGIN, 64.0, "", &sides);
    svg.text(
        MARGIN,
        82.0,
        "quiet",
        &format!("Linux {kernel}, {cpus}, {rounds}, {day}, permfs {}", report.permfs),
    );
    if report.is_compared() {
        svg.text(RATIO, TOP - 12.0, "quiet end", "ratio");
        svg.text(NATIVE, TOP - 12.0, "quiet end", "native");
        svg.text(MOUNT, TOP - 12.0, "quiet end", "mount");
    } else {
        svg.text(ALONE, TOP - 12.0, "quiet end", "mount");
        svg.text(RANGE, TOP - 12.0, "quiet", "range");
    }
}

fn draw_row(svg: &mut Svg, axis: &Axis, top: f64, row: &RowReport, least: Option<f64>) {
    let (middle, baseline) = (top + ROW / 2.0, top + ROW / 2.0 + 4.5);
    svg.text(MARGIN, middle - 1.0, "strong", row.name);
    svg.text(MARGIN, middle + 12.0, "quiet", row.what);
    if let Some(why) = &row.not_measured {
        svg.text(LEFT + 8.0, baseline, "quiet", why);
        return;
    }
    let Some(target) = row.target else { return };
    let mount = units::rate(row.unit, target.median);
    let (Some(ratio), Some(source)) = (row.ratio, row.source) else {
        svg.text(ALONE, baseline, "strong end", &mount);
        svg.text(RANGE, baseline, "quiet", &units::rates(row.unit, target));
        return;
    };
    svg.text(MOUNT, baseline, "end", &mount);
    let fails = least.is_some_and(|least| ratio.median < least);
    let (end, y) = (axis.at(ratio.median), middle - BAR / 2.0);
    let class = if fails { "bar bad" } else { "bar" };
    svg.element(format_args!(
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
        end - LEFT
    ));
    let (min, max) = (axis.at(ratio.min), axis.at(ratio.max));
    svg.line("whisker", (min, middle), (max, middle));
    for x in [min, max] {
        svg.line("whisker", (x, middle - 4.0), (x, middle + 4.0));
    }
    if let Some(least) = least {
        svg.line("gate", (axis.at(least), middle - 13.0), (axis.at(least), middle + 13.0));
    }
    svg.text(
        RATIO,
        baseline,
        if fails { "strong end bad" } else { "strong end" },
        &units::ratio(ratio.median),
    );
    svg.text(NATIVE, baseline, "end", &units::rate(row.unit, source.median));
}

/// From ratios to pixels.
struct Axis {
    end: f64,
}

impl Axis {
    /// Reaches the largest ratio, and at least a little more than native.
    fn of(report: &Report) -> Self {
        let largest =
            report.rows.iter().filter_map(|row| row.ratio).map(|ratio| ratio.max).fold(1.1, f64::max);
        Self { end: ((largest / GRID).ceil() * GRID).min(MAX_AXIS) }
    }

    fn at(&self, ratio: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (ratio / self.end).clamp(0.0, 1.0)
    }

    fn draw(&self, svg: &mut Svg, bottom: f64) {
        let mut ratio = 0.0;
        while ratio <= self.end {
            let native = ratio == 1.0;
            let x = self.at(ratio);
            svg.line(if native { "native" } else { "grid" }, (x, TOP - 4.0), (x, bottom));
            svg.text(x, bottom + 14.0, "quiet mid", &ratio.to_string());
            if native {
                svg.text(x, TOP - 12.0, "quiet mid", "native");
            }
            ratio += GRID;
        }
    }
}

/// A document being written.
struct Svg(String);

impl Svg {
    fn element(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.element(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>",
            escape(text)
        ));
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.element(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
        ));
    }
}

/// Text that XML 1.0 can carry: its own signs escaped, what it has no form for replaced.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
        safe
    })
}

/// The end says more than the beginning: of a path the directory, of a sentence what follows.
fn shorten(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        return text.to_owned();
    }
    let end: String = text.chars().skip(length - (most - 1)).collect();
    format!("…{end}")
}
