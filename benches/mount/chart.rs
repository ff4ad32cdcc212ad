//! The outcome as an SVG: for each row a bar of every candidate, from nothing to its ratio, with the rounds' range.

use std::fmt::Write;

use super::outcome::Outcome;
use super::table;

/// Pixels.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 820.0;
const TOP: f64 = 96.0;
const BAR: f64 = 7.0;
/// Between two rows.
const GAP: f64 = 10.0;
/// The ratio at the right end; what is longer is cut, its number tells it.
const LONGEST: f64 = 1.25;
/// One for each candidate; permfs stands out.
const COLOURS: [&str; 5] = ["#0b6e99", "#7fb8d0", "#c8553d", "#b8a24a", "#9a8fa8"];

/// The document.
pub fn draw(outcome: &Outcome) -> String {
    let rows = table::rows(outcome);
    let bars = outcome.candidates.iter().fold(0.0, |height, _| height + BAR);
    let bottom = rows.iter().fold(TOP, |y, _| y + bars + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>permfs and its peers</title>\n<style>text{{font:12px system-ui,sans-serif;fill:#1f2933}}\
         .quiet{{font-size:10px;fill:#6b7785}}.end{{text-anchor:end}}.title{{font-size:17px;font-weight:600}}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n",
        height = bottom + 30.0
    );
    text(&mut svg, 20.0, 28.0, "title", "Speed by the bare directory's: longer is faster");
    text(&mut svg, 20.0, 46.0, "quiet", &table::heading(outcome));
    let mut x = 20.0;
    for (candidate, colour) in outcome.candidates.iter().zip(COLOURS.iter().cycle()) {
        element(
            &mut svg,
            format_args!("<rect x=\"{x}\" y=\"58\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"),
        );
        text(&mut svg, x + 17.0, 68.0, "", candidate.name);
        x += 130.0;
    }
    for ratio in [0.0, 0.25, 0.5, 0.75, 1.0, 1.25] {
        let (x, stroke) = (at(ratio), if ratio == 1.0 { "#1f2933" } else { "#e4e8ec" });
        element(
            &mut svg,
            format_args!("<path d=\"M{x:.1} {:.1}V{bottom:.1}\" stroke=\"{stroke}\"/>", TOP - 6.0),
        );
        text(&mut svg, x - 8.0, bottom + 16.0, "quiet", &ratio.to_string());
    }
    let mut y = TOP;
    for (index, row) in rows.iter().enumerate() {
        text(&mut svg, LEFT - 8.0, y + bars / 2.0 + 4.0, "end", row.name);
        for (candidate, colour) in outcome.candidates.iter().zip(COLOURS.iter().cycle()) {
            match candidate.report.rows[index].ratio {
                Some(ratio) => {
                    let (end, middle) = (at(ratio.median), y + BAR / 2.0);
                    element(
                        &mut svg,
                        format_args!(
                            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
                             <path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"#1f2933\" stroke-width=\".8\"/>",
                            end - LEFT,
                            BAR - 1.0,
                            at(ratio.min),
                            at(ratio.max)
                        ),
                    );
                    let right = end.max(at(ratio.max)) + 4.0;
                    text(&mut svg, right, y + BAR - 0.5, "quiet", &format!("{:.2}", ratio.median));
                }
                None => text(&mut svg, LEFT + 4.0, y + BAR - 0.5, "quiet", "not measured"),
            }
            y += BAR;
        }
        y += GAP;
    }
    svg + "</svg>\n"
}

fn at(ratio: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * (ratio / LONGEST).clamp(0.0, 1.0)
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let safe = text.replace('&', "&amp;").replace('<', "&lt;");
    element(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{safe}</text>"));
}

fn element(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(svg, "{element}");
}
