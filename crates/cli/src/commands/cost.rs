//! `ingle cost`: what calls cost, by what they have in common; what was saved; and what calls will
//! cost, as they are or otherwise.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ingle_data::{Fields, Format, Journal, Writer};
use ingle_ledger::{By, Forecast, Reader, Spend, WhatIf, forecast};
use ingle_protocol::Usage;
use serde_json::{Value, json};

use super::ledger::{DAY_MS, LedgerArgs, When, about, dollars, now_ms};
use crate::ui::{Style, Ui, Usage as WrongUsage, count};

/// Show what calls cost, what was saved, and what they will cost
#[derive(Debug, ClapArgs)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Args {
    /// What calls are added up by
    #[arg(long, value_name = "WHAT", default_value = "model")]
    #[arg(value_parser = ways())]
    by: By,

    /// Calls from this day on (2026-11-01, in UTC), or from so many days ago (7d)
    #[arg(long, value_name = "DAY", default_value = "30d")]
    since: When,

    /// Calls before this day [default: until now]
    #[arg(long, value_name = "DAY")]
    until: Option<When>,

    /// Forecast so many calls: 1000000/day, 500/hour, 3e6/month [default: as many as there were]
    #[arg(long, value_name = "CALLS")]
    volume: Option<Volume>,

    /// Forecast with this share of calls answered on this machine, 0 to 1 [default: as it was]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    local_share: Option<f64>,

    /// Forecast with calls that leave at this price, in dollars for a million tokens of prompts
    /// and of answers: 0.15/0.60 [default: what they did cost]
    #[arg(long, value_name = "IN/OUT")]
    price: Option<Price>,

    /// Write the rows as CSV
    #[arg(long, group = "form")]
    csv: bool,

    /// Write the rows to a Parquet file
    #[arg(long, value_name = "FILE", group = "form")]
    parquet: Option<PathBuf>,

    /// Write over a file that is there
    #[arg(long, requires = "parquet")]
    overwrite: bool,

    /// Show bars
    #[arg(long, group = "form")]
    plot: bool,

    #[command(flatten)]
    ledger: LedgerArgs,
}

const AFTER_HELP: &str = "\
A cost that is not known is never counted as nothing: UNKNOWN says how many calls that was. SAVED is
against the model that the policy compares with, over calls for which both are known.

Examples:
  ingle cost
  ingle cost --by day --since 2026-11-01 --plot
  ingle cost --volume 1000000/day --local-share 0.8
  ingle cost --price 0.15/0.60
  ingle cost --by key --csv > keys.csv
  ingle cost --by team --parquet teams.parquet";

/// Characters of the longest bar.
const WIDE: usize = 40;

fn ways() -> impl TypedValueParser<Value = By> {
    PossibleValuesParser::new(By::names()).map(|name| By::named(&name).unwrap_or(By::All))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is from 0 to 1".to_owned())
}

/// Calls a day.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Volume(f64);

impl std::str::FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const TIMES: &[(&str, f64)] =
            &[("hour", 24.0), ("day", 1.0), ("week", 1.0 / 7.0), ("month", 1.0 / 30.0)];
        let (calls, unit) = text.split_once('/').unwrap_or((text, "day"));
        let calls = calls.parse().ok().filter(|calls: &f64| calls.is_finite() && *calls >= 0.0);
        let times = TIMES.iter().find(|row| row.0 == unit).map(|row| row.1);
        let (Some(calls), Some(times)) = (calls, times) else {
            return Err("write how many calls in which time: 1000000/day".to_owned());
        };
        Ok(Self(calls * times))
    }
}

/// Millionths of a micro-dollar for a token of a prompt and of an answer, which is micro-dollars
/// for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Price {
    prompt: u64,
    answer: u64,
}

impl std::str::FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(prompt, answer)| {
            Some(Self { prompt: micros(prompt)?, answer: micros(answer)? })
        });
        parsed.ok_or_else(|| {
            "write dollars for a million tokens, of prompts and of answers: 0.15/0.60".to_owned()
        })
    }
}

/// Dollars with at most six decimals as micro-dollars, exactly.
fn micros(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(rest) {
        return None;
    }
    format!("{whole}{rest:0<6}").parse().ok()
}

impl Price {
    /// What a call costs, rounded up.
    fn of(self, usage: &Usage) -> Option<u64> {
        let tokens = |count: u32, price: u64| u64::from(count).checked_mul(price);
        let prompt = tokens(usage.prompt_tokens, self.prompt)?;
        let answer = tokens(usage.completion_tokens, self.answer)?;
        Some(prompt.checked_add(answer)?.div_ceil(1_000_000))
    }
}

/// Runs the command.
pub(crate) fn run(args: Args, ui: &mut Ui) -> anyhow::Result<()> {
    let now_ms = now_ms();
    let from = args.since.ms(now_ms);
    let to = args.until.map_or(now_ms, |until| until.ms(now_ms));
    if from >= to {
        return Err(WrongUsage("--since has to be before --until".into()).into());
    }
    let mut reader = args.ledger.reader()?;
    let rows = reader.spend(args.by, from, to)?;
    if let Some(path) = &args.parquet {
        return parquet(&args, path, &rows, ui);
    }
    if args.csv {
        return csv(args.by, &rows, ui);
    }
    let total = reader.spend(By::All, from, to)?.pop().unwrap_or_default();
    let expected = expect(&args, &mut reader, &total, from, to);
    if ui.json {
        rows.iter().try_for_each(|row| ui.object(&Value::Object(fields(args.by, row))))?;
        ui.object(&json!({ "total": fields(By::All, &total) }))?;
        return match expected? {
            Some(expected) => ui.object(&json!({ "forecast": future(&expected) })),
            None => Ok(()),
        };
    }
    if total.calls == 0 {
        ui.note("no call was made in this time");
    } else if args.plot {
        let bars = bars(&rows);
        ui.out(ui.safe(&bars))?;
    } else {
        table(args.by, &rows, &total, ui)?;
    }
    match expected? {
        Some(expected) => told(&expected, &total, ui),
        None => Ok(()),
    }
}

/// What is to be expected. Where nothing was asked to be otherwise and nothing can be told, that is
/// no error.
fn expect(
    args: &Args,
    reader: &mut Reader,
    total: &Spend,
    from: u64,
    to: u64,
) -> anyhow::Result<Option<Forecast>> {
    let what_if = WhatIf {
        calls_per_day: args.volume.map(|volume| volume.0),
        local_share: args.local_share,
        remote: match args.price {
            None => None,
            Some(price) => Some(reader.reprice(from, to, &|usage: &Usage| price.of(usage))?),
        },
        local_micros: None,
    };
    let asked = what_if != WhatIf::default();
    let days = reader.spend(By::Day, from, to)?;
    let first = days.first().and_then(|day| day.name.parse::<When>().ok());
    let first = first.map_or(from, |day| day.ms(to).max(from));
    let days = to.saturating_sub(first) as f64 / DAY_MS as f64;
    match forecast(total, days, &what_if) {
        Ok(expected) => Ok(Some(expected)),
        Err(why) if asked => Err(anyhow::anyhow!("{why}")),
        Err(_) => Ok(None),
    }
}

/// A row's figures: the one place that names them for all machine formats.
fn fields(by: By, row: &Spend) -> Fields {
    let figures = [
        ("calls", row.calls.into()),
        ("prompt_tokens", row.prompt_tokens.into()),
        ("cached_tokens", row.cached_tokens.into()),
        ("completion_tokens", row.completion_tokens.into()),
        ("reasoning_tokens", row.reasoning_tokens.into()),
        ("cost_micros", row.cost_micros.into()),
        ("unknown_cost_calls", row.unknown.into()),
        ("estimated_cost_calls", row.estimated.into()),
        ("left_machine_calls", row.left.into()),
        ("left_machine_micros", row.left_micros.into()),
        ("left_machine_bytes", row.bytes_out.into()),
        ("refused_calls", row.refused.into()),
        ("compared_calls", row.compared.into()),
        ("instead_micros", row.instead_micros.into()),
        ("saved_micros", row.saved_micros().into()),
    ];
    let name = (by.name().to_owned(), Value::from(row.name.as_str()));
    [name].into_iter().chain(figures.map(|(name, value)| (name.to_owned(), value))).collect()
}

fn future(it: &Forecast) -> Value {
    json!({
        "calls_per_day": it.calls_per_day,
        "local_share": it.local_share,
        "local_micros_per_call": it.local_micros,
        "remote_micros_per_call": it.remote_micros,
        "micros_per_call": it.call_micros,
        "micros_per_day": it.day_micros,
        "micros_per_30_days": it.month_micros,
        "unknown_share": it.unknown_share,
    })
}

fn csv(by: By, rows: &[Spend], ui: &Ui) -> anyhow::Result<()> {
    let heading = fields(by, &Spend::default()).into_iter().map(|field| field.0).collect();
    let mut writer = Writer::new(Format::Csv, &[])?.with_heading(heading);
    let mut out = Vec::new();
    for row in rows {
        writer.write(&fields(by, row), &mut out).map_err(anyhow::Error::msg)?;
    }
    ui.out(String::from_utf8(out)?)
}

fn parquet(args: &Args, path: &Path, rows: &[Spend], ui: &Ui) -> anyhow::Result<()> {
    let task = json!({ "cost": args.by.name() });
    let mut journal = Journal::open(path, &task, args.overwrite)?;
    anyhow::ensure!(
        journal.rows() == 0,
        "{} is left of another run\nhint: remove it, or begin anew with --overwrite",
        journal.folder().display()
    );
    let rows: Vec<Fields> = rows.iter().map(|row| fields(args.by, row)).collect();
    journal.write(&rows)?;
    journal.finish(Format::Parquet, &[])?;
    ui.note(format_args!("{} rows in {}", rows.len(), path.display()));
    Ok(())
}

fn table(by: By, rows: &[Spend], total: &Spend, ui: &Ui) -> anyhow::Result<()> {
    let name = by.name().to_uppercase();
    let head = [&name, "CALLS", "PROMPT", "ANSWER", "COST", "UNKNOWN", "LEFT", "SAVED"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| cells(row, &ui.safe(&row.name))));
    if rows.len() > 1 {
        lines.push(cells(total, "all"));
    }
    ui.table(&lines, &[1, 2, 3, 4, 5, 6, 7])
}

fn cells(row: &Spend, name: &str) -> Vec<String> {
    let left = row.left_share().map_or("-".into(), |share| format!("{:.0} %", share * 100.0));
    let saved = row.saved_micros().map_or("-".into(), |saved| {
        let sign = if saved < 0 { "-" } else { "" };
        format!("{sign}{}", dollars(saved.unsigned_abs()))
    });
    vec![
        if name.is_empty() { "-".into() } else { name.to_owned() },
        count(row.calls),
        count(row.prompt_tokens),
        count(row.completion_tokens),
        dollars(row.cost_micros),
        if row.unknown == 0 { "-".into() } else { count(row.unknown) },
        left,
        saved,
    ]
}

/// A line a row: `#` for what it cost, as a share of the dearest.
fn bars(rows: &[Spend]) -> String {
    let wide = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).min(40);
    let most = rows.iter().map(|row| row.cost_micros).max().unwrap_or(0).max(1);
    let mut text = String::new();
    for row in rows {
        let name: String = row.name.chars().take(40).collect();
        let long = u128::from(row.cost_micros) * WIDE as u128 / u128::from(most);
        let bar = "#".repeat(usize::try_from(long).unwrap_or(WIDE));
        let cost = dollars(row.cost_micros);
        let unknown = match row.unknown {
            0 => String::new(),
            calls => format!(" and {} of unknown cost", count(calls)),
        };
        let _ = writeln!(text, "{name:wide$} {bar:WIDE$} {cost}{unknown}");
    }
    text
}

fn told(it: &Forecast, total: &Spend, ui: &Ui) -> anyhow::Result<()> {
    ui.line(ui.paint_out(Style::Bold, "\nForecast"))?;
    let each = about(it.call_micros);
    let (calls, local) = (it.calls_per_day, it.local_share * 100.0);
    ui.line(format_args!("{calls:.0} calls a day, {local:.0} % on this machine: {each} a call"))?;
    let (day, month) = (about(it.day_micros), about(it.month_micros));
    ui.line(format_args!("{day} a day, {month} in 30 days"))?;
    if total.unknown > 0 {
        let share = it.unknown_share * 100.0;
        ui.line(format_args!("The cost of {share:.0} % of calls is unknown: told as the others'"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_calls_a_day() {
        let check = |text: &str, expect: Option<f64>| {
            assert_eq!(text.parse::<Volume>().ok(), expect.map(Volume), "{text}");
        };
        check("1000000/day", Some(1e6));
        check("5", Some(5.0));
        check("10/hour", Some(240.0));
        check("3e6/month", Some(1e5));
        for text in ["", "x/day", "1/year", "-1/day", "inf", "nan/day"] {
            check(text, None);
        }
    }

    #[test]
    fn prices_are_exact() {
        let check = |text: &str, expect: Option<(u64, u64)>| {
            let price = text.parse::<Price>().ok().map(|price| (price.prompt, price.answer));
            assert_eq!(price, expect, "{text}");
        };
        check("0.15/0.60", Some((150_000, 600_000)));
        check("3/15", Some((3_000_000, 15_000_000)));
        check("0.000001/0", Some((1, 0)));
        for text in ["", "1", "1/", "/1", "-1/1", "1.0000001/1", "1/2/3", "1e3/1", "1234567/1"] {
            check(text, None);
        }
        let usage = Usage { prompt_tokens: 900, completion_tokens: 101, ..Usage::default() };
        let price: Price = "0.15/0.60".parse().expect("a price");
        assert_eq!(price.of(&usage), Some(196), "135 and 60.6, rounded up once");
        let huge = Usage { prompt_tokens: u32::MAX, completion_tokens: u32::MAX, ..usage };
        let dear: Price = "999999.999999/999999.999999".parse().expect("a price");
        assert_eq!(dear.of(&huge), None, "a sum too large is unknown, not wrong");
    }

    #[test]
    fn bars_are_shares_of_the_dearest() {
        let row = |name: &str, cost_micros, unknown| Spend {
            name: name.into(),
            cost_micros,
            unknown,
            ..Spend::default()
        };
        let text = bars(&[row("large", 2_000_000, 0), row("b", 500_000, 3), row("", 0, 0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("large {} $2.00", "#".repeat(40)));
        let half = format!("b     {:40} $0.50 and 3 of unknown cost", "#".repeat(10));
        assert_eq!(lines[1], half);
        assert_eq!(lines[2], format!("      {:40} $0.00", ""));
        assert_eq!(bars(&[]), "");
    }

    #[test]
    fn unknown_is_never_nothing() {
        let row = Spend { calls: 2, unknown: 2, ..Spend::default() };
        let row = cells(&row, "");
        assert_eq!(row, ["-", "2", "0", "0", "$0.00", "2", "0 %", "-"]);
        let fields = fields(By::Model, &Spend { unknown: 2, ..Spend::default() });
        assert_eq!(
            (&fields["unknown_cost_calls"], &fields["saved_micros"]),
            (&2.into(), &Value::Null)
        );
    }
}
