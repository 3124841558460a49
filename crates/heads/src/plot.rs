//! Reliability plots: how often a label is right by how sure the head is of it, as text and as SVG.

use std::fmt::Write;

use crate::metrics::{BINS, Bin, Report};

/// Characters of a bar of 1.
const WIDE: usize = 40;
/// Of the plot itself, in the picture's own units.
const SIDE: f64 = 300.0;
const MARGIN: f64 = 50.0;

/// A line a bin that has rows: `#` as far as labels are right, `|` where they should be.
pub fn reliability_text(report: &Report) -> String {
    let mut text = String::from("confidence   right   rows\n");
    for (at, bin) in report.bins.iter().enumerate().filter(|(_, bin)| bin.rows > 0) {
        let (low, high) = bounds(at);
        let place = |share: f64| (share * WIDE as f64).round() as usize;
        let mut bar: Vec<char> = vec![' '; WIDE + 1];
        bar[..place(bin.accuracy)].fill('#');
        bar[place(bin.confidence)] = '|';
        let bar: String = bar.into_iter().collect();
        let right = 100.0 * bin.accuracy;
        let _ = writeln!(text, "{low:.2}–{high:.2} {right:8.1}% {:6} {}", bin.rows, bar.trim_end());
    }
    text
}

fn bounds(at: usize) -> (f64, f64) {
    (at as f64 / BINS as f64, (at + 1) as f64 / BINS as f64)
}

/// A picture of its own, bars being as dark as they have rows.
pub fn reliability_svg(report: &Report) -> String {
    let all = SIDE + 2.0 * MARGIN;
    let (left, bottom) = (MARGIN, MARGIN + SIDE);
    let most = report.bins.iter().map(|bin| bin.rows).max().unwrap_or(1).max(1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {all} {all}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{all}\" height=\"{all}\" fill=\"white\"/>\n"
    );
    for (at, bin) in report.bins.iter().enumerate().filter(|(_, bin)| bin.rows > 0) {
        svg.push_str(&bar(at, bin, most));
    }
    let (right, top) = (left + SIDE, bottom - SIDE);
    let _ = write!(
        svg,
        "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\n\
         <path d=\"M{left} {bottom}L{right} {top}\" stroke=\"#888\" stroke-dasharray=\"4\"/>\n"
    );
    for tick in 0..=5 {
        let (share, way) = (f64::from(tick) / 5.0, f64::from(tick) / 5.0 * SIDE);
        let (x, y, low, near) = (left + way, bottom - way + 4.0, bottom + 16.0, left - 6.0);
        let _ = write!(
            svg,
            "<text x=\"{x}\" y=\"{low}\" text-anchor=\"middle\">{share:.1}</text>\n\
             <text x=\"{near}\" y=\"{y}\" text-anchor=\"end\">{share:.1}</text>\n"
        );
    }
    let (middle, below) = (left + SIDE / 2.0, bottom + 38.0);
    let ece = format!("{} rows, calibration error {:.3}", report.rows, report.ece.value);
    let _ = write!(
        svg,
        "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">confidence</text>\n\
         <text x=\"16\" y=\"{middle}\" text-anchor=\"middle\" \
         transform=\"rotate(-90 16 {middle})\">accuracy</text>\n\
         <text x=\"{middle}\" y=\"30\" text-anchor=\"middle\">{ece}</text>\n</svg>\n"
    );
    svg
}

fn bar(at: usize, bin: &Bin, most: usize) -> String {
    let width = SIDE / BINS as f64;
    let (x, height) = (MARGIN + at as f64 * width, bin.accuracy * SIDE);
    let y = MARGIN + SIDE - height;
    let dark = 0.25 + 0.75 * bin.rows as f64 / most as f64;
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
         fill=\"#2b6cb0\" fill-opacity=\"{dark:.2}\" stroke=\"white\">\
         <title>{} rows: confidence {:.3}, accuracy {:.3}</title></rect>\n",
        bin.rows, bin.confidence, bin.accuracy
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    #[test]
    fn plots_show_the_bins_that_have_rows() {
        let rows = vec![vec![0.95, 0.05], vec![0.95, 0.05], vec![0.55, 0.45]];
        let told = report(&rows, &[0, 0, 1], 1);
        let bar = format!("0.93–1.00    100.0%      2 {}|##", "#".repeat(38));
        let text = reliability_text(&told);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[1].trim_end(), format!("0.53–0.60      0.0%      1 {}|", " ".repeat(22)));
        assert_eq!(lines[2], bar.trim_end_matches("##").to_owned() + "#");
        let svg = reliability_svg(&told);
        assert_eq!(svg.matches("<title>").count(), 2);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("2 rows: confidence 0.950, accuracy 1.000"), "{svg}");
    }
}
