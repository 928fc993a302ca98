//! Plots of measured values over time, as SVG.

use std::path::Path;

use plotters::prelude::*;

/// Values of one kind over time, a line for each replica.
pub struct Panel<'a> {
    pub title: &'a str,
    /// For each replica: seconds since the start, and the value then.
    pub lines: Vec<Vec<(f64, f64)>>,
}

const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 190;
const COLOURS: [RGBColor; 3] = [RGBColor(31, 119, 180), RGBColor(214, 96, 20), RGBColor(44, 140, 60)];

/// Draws the panels one below the other, each from zero, over minutes.
pub fn draw(path: &Path, panels: &[Panel<'_>]) {
    let height = PANEL_HEIGHT * u32::try_from(panels.len()).unwrap();
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    for (panel, area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
        let end = panel.lines.iter().flatten().map(|(at, _)| *at).fold(1.0, f64::max);
        let most = panel.lines.iter().flatten().map(|(_, value)| *value).fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(&area)
            .caption(panel.title, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..end / 60.0, 0.0..most * 1.1)
            .unwrap();
        chart.configure_mesh().light_line_style(TRANSPARENT).y_labels(5).draw().unwrap();
        for (line, colour) in panel.lines.iter().zip(COLOURS) {
            chart.draw_series(LineSeries::new(line.iter().map(|(at, value)| (at / 60.0, *value)), colour)).unwrap();
        }
    }
    root.present().unwrap();
}
