//! `ingle score`: how near a model comes to a reference's log-probabilities.

use clap::Args as ClapArgs;
use ingle_engine::{Case, Gold, Options, Report};
use ingle_model::pull::Reference;
use serde_json::{Value, json};

use super::model::{self, ModelArgs};
use crate::ui::{Ui, Usage};

/// Compare a model's log-probabilities with a reference's
///
/// The reference is a JSON list of cases. Each has `ids` (tokens) and `top10`: for each position,
/// pairs of a token and its log-probability as the next one, likeliest first. The likeliest token
/// is compared, and the log-probabilities of the likeliest three.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The model: a catalogue name, a path, hf:…, pypi:… or npm:…
    #[arg(value_name = "MODEL", value_parser = super::reference)]
    model: Reference,

    /// The cases, as a JSON file; `-` reads standard input
    #[arg(value_name = "CASES")]
    cases: String,

    #[command(flatten)]
    run: ModelArgs,
}

const AFTER_HELP: &str = "\
Examples:
  ingle score smollm2 crates/engine/tests/fixtures/smollm2-135m.gold.json
  ingle score smollm2 cases.json --kernels reference
  ingle score ./model.gguf cases.json --json | jq .mean_abs_delta";

/// The most that a file of cases may have.
const CASES_MOST: u64 = 256 << 20;
/// Logits are kept for every position of a step, so steps are short.
const STEP_TOKENS: usize = 64;

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let cases = cases(&model::read(&args.cases, CASES_MOST)?)
        .map_err(|what| Usage(format!("{}: {what}", args.cases)))?;
    if args.run.draft_model.is_some() {
        return Err(Usage("nothing is guessed here: leave --draft-model out".into()).into());
    }
    let options = Options { step_tokens: STEP_TOKENS, ..args.run.options() };
    let model = model::open(&args.model, &options, ui)?;
    let report = Report::of(&model, &cases)?;
    if ui.json {
        return ui.object(&json!({
            "model": args.model.to_string(),
            "kernels": model.info().kernels,
            "kv_type": model.info().kv_type,
            "positions": report.positions,
            "top1_agreement": report.top1_agreement,
            "mean_abs_delta": report.mean_abs_delta,
            "p99_abs_delta": report.p99_abs_delta,
        }));
    }
    let rows = [
        ("positions", report.positions.to_string()),
        ("top-1 agreement", format!("{:.4}", report.top1_agreement)),
        ("mean |Δ log-probability|, top 3", format!("{:.5}", report.mean_abs_delta)),
        ("99th percentile of it", format!("{:.5}", report.p99_abs_delta)),
    ];
    rows.iter().try_for_each(|(name, value)| ui.line(format_args!("{name:<32} {value}")))
}

fn cases(bytes: &[u8]) -> Result<Vec<Case>, String> {
    let parsed: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let list = parsed.as_array().ok_or("not a JSON list of cases")?;
    list.iter()
        .enumerate()
        .map(|(at, row)| case(row).map_err(|what| format!("case {at}: {what}")))
        .collect()
}

fn case(row: &Value) -> Result<Case, String> {
    let token = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| format!("{value} is no token"))
    };
    let pair = |pair: &Value| {
        let id = token(&pair[0])?;
        let logprob =
            pair[1].as_f64().ok_or_else(|| format!("{pair} is no token with a log-probability"))?;
        Ok((id, logprob))
    };
    let list = |key: &str| row[key].as_array().ok_or_else(|| format!("`{key}` is no list"));
    let gold = |top: &Value| {
        let top = top.as_array().ok_or("`top10` is no list of lists")?;
        Ok(Gold { top: top.iter().map(pair).collect::<Result<_, String>>()? })
    };
    let ids: Vec<u32> = list("ids")?.iter().map(token).collect::<Result<_, _>>()?;
    let gold: Vec<Gold> = list("top10")?.iter().map(gold).collect::<Result<_, String>>()?;
    if gold.len() > ids.len() {
        return Err(format!("{} positions of {} tokens", gold.len(), ids.len()));
    }
    Ok(Case { ids, gold })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_cases_are_named() {
        let check = |json: &str, expect: &str| {
            let error = cases(json.as_bytes()).expect_err("malformed");
            assert!(error.contains(expect), "{json}: {error}");
        };
        check("{}", "not a JSON list");
        check("[{}]", "case 0: `ids` is no list");
        check(r#"[{"ids": [-1], "top10": []}]"#, "-1 is no token");
        check(r#"[{"ids": [1], "top10": [[[1, null]]]}]"#, "log-probability");
        check(r#"[{"ids": [1], "top10": [[], []]}]"#, "2 positions of 1");
    }
}
