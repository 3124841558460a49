//! How good probabilities are, in words, as JSON and as pictures: what `ingle classify --calibrate`
//! and `ingle train` tell.

use std::path::Path;

use ingle_heads::{Calibration, Interval, Report, reliability_svg, reliability_text};
use serde_json::{Value, json};

use crate::ui::{Style, Ui};

/// Shows a calibration. With `--json` it is one object, with what `more` has beside.
pub(crate) fn show(
    ui: &Ui,
    calibration: &Calibration,
    plot: Option<&Path>,
    more: Value,
) -> anyhow::Result<()> {
    let Calibration { temperature, before, after } = calibration;
    if let Some(path) = plot {
        std::fs::write(path, reliability_svg(after))
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    }
    if ui.json {
        let mut object = json!({
            "rows": after.rows, "temperature": temperature,
            "before": figures(before), "after": figures(after),
        });
        let more = more.as_object().into_iter().flatten();
        more.for_each(|(name, value)| object[name] = value.clone());
        return ui.object(&object);
    }
    let row = |name: &str, of: fn(&Report) -> String| vec![name.to_owned(), of(before), of(after)];
    let head = ["", "as it was", "calibrated"].map(str::to_owned).to_vec();
    let rows = [
        head,
        row("accuracy", |it| told(&it.accuracy)),
        row("macro-F1", |it| told(&it.macro_f1)),
        row("calibration error", |it| told(&it.ece)),
        row("log loss", |it| format!("{:.4}", it.log_loss)),
    ];
    ui.table(&rows, &[])?;
    ui.line("")?;
    ui.line(ui.paint_out(Style::Bold, "How often it is right, by how sure it is (calibrated)"))?;
    ui.out(reliability_text(after))?;
    ui.line(format_args!("\n{} rows, temperature {temperature:.3}", after.rows))
}

fn told(interval: &Interval) -> String {
    let Interval { value, low, high } = interval;
    format!("{value:.4} ({low:.4} to {high:.4})")
}

fn figures(report: &Report) -> Value {
    let interval = |it: &Interval| json!({ "value": it.value, "low": it.low, "high": it.high });
    let bins = report.bins.iter().map(
        |bin| json!({ "rows": bin.rows, "confidence": bin.confidence, "accuracy": bin.accuracy }),
    );
    json!({
        "accuracy": interval(&report.accuracy),
        "macro_f1": interval(&report.macro_f1),
        "ece": interval(&report.ece),
        "log_loss": report.log_loss,
        "bins": bins.collect::<Vec<_>>(),
    })
}
