//! The picture of a timeline, as SVG: no script, no font and nothing else from elsewhere. Its colours follow the system's
//! light or dark setting, on a background that the picture brings, because a picture cannot know the page around it.
//!
//! A picture is as wide as a small screen, so that its text stays readable there. On a wide screen it is shown larger.

use std::fmt::Write as _;

use super::list::in_words;
use super::{MarkSign, Place, Timeline, TimelineBar, TimelineMark, TimelineRow};
use crate::xml::escaped;

/// The width in units of the picture.
const WIDTH: f64 = 360.0;
/// How many pixels a unit has where there is room.
const SCALE: f64 = 1.5;
/// The distance of the first and of the last moment from the edge: half of the longest word.
const EDGE: f64 = 40.0;
/// The distance of bars and names from the edge.
const MARGIN: f64 = 10.0;
/// The heights of the axis, of a row without words, of a line of words, and of the legend.
const AXIS: f64 = 62.0;
const ROW: f64 = 42.0;
const LINE: f64 = 12.0;
const LEGEND: f64 = 22.0;
/// The middle of the bar, from the top of its row.
const BAR: f64 = 26.0;

const STYLE: &str = "\
text { font: 11px system-ui, -apple-system, \"Segoe UI\", sans-serif; fill: #1f2328 }
.m { text-anchor: middle } .e { text-anchor: end } .b { font-weight: 600 } .s { font-size: 10px; fill: #57606a }
.w { paint-order: stroke; stroke: #ffffff; stroke-width: 3px; stroke-linejoin: round }
.bg { fill: #ffffff; stroke: #d0d7de } .line { fill: none; stroke: #8c959f } .guide { stroke: #d0d7de; stroke-dasharray: 2 3 }
.bar { fill: #54aeff } .gone { fill: #ddf4ff; stroke: #0969da; stroke-dasharray: 3 2 } .fault { fill: #d4a72c }
.yes { fill: #1a7f37 } .no { fill: #cf222e } .sign { fill: none; stroke: #ffffff; stroke-width: 2 }
.dot { fill: #1f2328 } .ring { fill: #ffffff; stroke: #1f2328; stroke-width: 1.5 } .end { fill: none; stroke: #cf222e; stroke-width: 2.5 }
.n { fill: #57606a } .nt { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .s { fill: #9da7b3 } .w { stroke: #0d1117 }
.bg { fill: #0d1117; stroke: #30363d } .line { stroke: #6e7681 } .guide { stroke: #30363d }
.bar { fill: #1f6feb } .gone { fill: #0c2d6b; stroke: #58a6ff } .fault { fill: #9e6a03 }
.yes { fill: #2ea043 } .no { fill: #da3633 }
.dot { fill: #e6edf3 } .ring { fill: #0d1117; stroke: #e6edf3 } .end { stroke: #ff7b72 }
.n { fill: #9da7b3 } .nt { fill: #0d1117 }
}
";

impl Timeline {
    /// The picture.
    pub fn to_svg(&self) -> String {
        let legend = self.legend();
        let rows: f64 = self.rows.iter().map(TimelineRow::height).sum();
        let height = AXIS + rows + if legend.is_empty() { 4.0 } else { LEGEND };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{}\" height=\"{}\" role=\"img\" \
             aria-labelledby=\"title desc\">\n<title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n<style>\n{STYLE}</style>\n",
            WIDTH * SCALE,
            height * SCALE,
            escaped(&self.title),
            escaped(&self.description())
        );
        let _ = writeln!(
            svg,
            "<rect class=\"bg\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\"/>",
            WIDTH - 1.0,
            height - 1.0
        );
        for position in 0..self.moments.len() {
            let x = self.x(2 * position);
            let _ = writeln!(svg, "<path class=\"guide\" d=\"M{x} 54V{}\"/>", AXIS + rows);
        }
        self.draw_axis(&mut svg);
        let mut top = AXIS;
        for row in &self.rows {
            self.draw_row(row, top, &mut svg);
            top += row.height();
        }
        let mut x = MARGIN + 4.0;
        for (sign, meaning) in legend {
            draw_sign(sign, x, top + 10.0, &mut svg);
            text(&mut svg, "s", x + 8.0, top + 13.5, meaning);
            x += 24.0 + 5.2 * f64::from(u8::try_from(meaning.len()).unwrap_or(u8::MAX));
        }
        svg + "</svg>\n"
    }

    /// Where a place is.
    fn x(&self, place: Place) -> f64 {
        let gaps = u8::try_from(self.moments.len().saturating_sub(1).max(1)).unwrap_or(u8::MAX);
        let place = u8::try_from(place).unwrap_or(u8::MAX);
        rounded(EDGE + (WIDTH - 2.0 * EDGE) * f64::from(place) / (2.0 * f64::from(gaps)))
    }

    /// The numbers of the moments, their times, and how long it is between them.
    fn draw_axis(&self, svg: &mut String) {
        let mut last_day = String::new();
        for (position, moment) in self.moments.iter().enumerate() {
            let x = self.x(2 * position);
            if position > 0 {
                let before = self.x(2 * position - 2);
                let _ =
                    writeln!(svg, "<path class=\"line\" d=\"M{} 20H{}\"/>", rounded(before + 11.0), rounded(x - 11.0));
                if let Some(words) = in_words(moment.passed) {
                    text(svg, "s m", rounded(f64::midpoint(before, x)), 14.0, &words);
                }
            }
            let _ = writeln!(svg, "<circle class=\"n\" cx=\"{x}\" cy=\"20\" r=\"8\"/>");
            text(svg, "nt b m", x, 24.0, &(position + 1).to_string());
            let shown = super::list::day_and_time(moment.at);
            let (day, time) = shown.split_once(' ').unwrap_or(("", &shown));
            text(svg, "m", x, 40.0, time);
            if day != last_day {
                text(svg, "s m", x, 51.0, day);
                day.clone_into(&mut last_day);
            }
        }
    }

    fn draw_row(&self, row: &TimelineRow, top: f64, svg: &mut String) {
        text(svg, "b", MARGIN, top + 13.0, &row.name);
        if let Some(note) = &row.note {
            text(svg, "s e", WIDTH - MARGIN, top + 13.0, note);
        }
        let middle = top + BAR;
        for bar in &row.bars {
            self.draw_bar(bar, middle, svg);
        }
        for mark in &row.marks {
            let x = self.x(mark.at);
            draw_sign(mark.sign, x, middle, svg);
            let mut y = middle + 20.0;
            for word in &mark.words {
                text(svg, "w m", x, y, word);
                y += LINE;
            }
        }
    }

    fn draw_bar(&self, bar: &TimelineBar, middle: f64, svg: &mut String) {
        // A session that lasts longer than the picture ends in a point.
        let (from, to) = (self.x(bar.from), bar.to.map_or(WIDTH - MARGIN - 6.0, |to| self.x(to)));
        let browser = bar.forgotten.map_or(to, |forgotten| self.x(forgotten));
        let (top, below) = (middle - 5.0, middle + 5.0);
        let class = if bar.is_fault { "fault" } else { "bar" };
        let point = if bar.to.is_none() { format!("L{} {middle}L{to} {below}", to + 6.0) } else { format!("V{below}") };
        let _ = if browser < to {
            writeln!(svg, "<path class=\"{class}\" d=\"M{from} {top}H{browser}V{below}H{from}z\"/>")
                .and_then(|()| writeln!(svg, "<path class=\"gone\" d=\"M{browser} {top}H{to}{point}H{browser}z\"/>"))
        } else {
            writeln!(svg, "<path class=\"{class}\" d=\"M{from} {top}H{to}{point}H{from}z\"/>")
        };
    }

    /// The signs without words that the picture has, and what they mean.
    fn legend(&self) -> Vec<(MarkSign, &'static str)> {
        let has = |sign| self.rows.iter().flat_map(|row| &row.marks).any(|mark: &TimelineMark| mark.sign == sign);
        let all = [(MarkSign::Counts, "counts for this login"), (MarkSign::DoesNotCount, "does not count")];
        all.into_iter().filter(|(sign, _)| has(*sign)).collect()
    }
}

impl TimelineRow {
    fn height(&self) -> f64 {
        let lines = self.marks.iter().map(|mark| mark.words.len()).max().unwrap_or_default();
        ROW + LINE * f64::from(u8::try_from(lines).unwrap_or(u8::MAX))
    }
}

fn draw_sign(sign: MarkSign, x: f64, y: f64, svg: &mut String) {
    let _ = match sign {
        MarkSign::Allowed => writeln!(
            svg,
            "<circle class=\"yes\" cx=\"{x}\" cy=\"{y}\" r=\"8\"/><path class=\"sign\" d=\"M{} {y}l3 3 5-6\"/>",
            rounded(x - 4.0)
        ),
        MarkSign::Blocked => writeln!(
            svg,
            "<path class=\"no\" d=\"M{} {}h7l5 5v7l-5 5h-7l-5-5v-7z\"/><path class=\"sign\" d=\"M{} {}l7 7m0-7l-7 7\"/>",
            rounded(x - 3.5),
            y - 8.5,
            rounded(x - 3.5),
            y - 3.5
        ),
        MarkSign::Asked => {
            let _ = writeln!(svg, "<circle class=\"n\" cx=\"{x}\" cy=\"{y}\" r=\"8\"/>");
            text(svg, "nt b m", x, y + 4.0, "?");
            Ok(())
        }
        MarkSign::Counts => writeln!(svg, "<circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"3.5\"/>"),
        MarkSign::DoesNotCount => writeln!(svg, "<circle class=\"ring\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>"),
        MarkSign::Ended => {
            writeln!(svg, "<path class=\"end\" d=\"M{} {}l10 10m0-10l-10 10\"/>", rounded(x - 5.0), y - 5.0)
        }
        MarkSign::Plain => Ok(()),
    };
}

/// A coordinate, rounded to a tenth.
fn rounded(coordinate: f64) -> f64 {
    (10.0 * coordinate).round() / 10.0
}

/// A line of text. A class with `m` centres it at `x`, one with `e` ends it there.
fn text(svg: &mut String, class: &str, x: f64, y: f64, words: &str) {
    let _ = writeln!(svg, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(words));
}
