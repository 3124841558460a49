//! The price table that is part of the program, as of its day. `tools/extract-prices.py` writes it;
//! it is read once, when somebody asks. Absent: prices of the user's own, which a policy has.

use std::sync::OnceLock;

use super::{Price, Rates, Tier};

const TEXT: &str = include_str!("table.csv");

/// What a model can do, as far as the table knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Tokens of a prompt, at most.
    pub context_tokens: Option<u64>,
    /// Tokens of an answer, at most.
    pub max_output_tokens: Option<u64>,
    /// Whether it calls tools.
    pub tools: Option<bool>,
    /// Whether it sees pictures.
    pub vision: Option<bool>,
    /// Whether it answers by JSON schemas.
    pub schema: Option<bool>,
}

/// A model of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The provider, as the table calls it.
    pub provider: &'static str,
    /// The model, as its provider calls it.
    pub model: &'static str,
    /// What it can do.
    pub can: Capabilities,
    /// By length of the prompt, the shortest first.
    tiers: Vec<Tier>,
    /// What calls to one region cost, in thousandths of the price; 1,000 where it is the same.
    uplift: u64,
}

/// The table.
#[derive(Debug)]
pub struct Book {
    /// The day it was made, `2026-11-22`.
    pub date: &'static str,
    /// By provider, then by model.
    pub rows: Vec<Row>,
}

/// The table that is part of the program.
pub fn book() -> &'static Book {
    static BOOK: OnceLock<Book> = OnceLock::new();
    BOOK.get_or_init(|| read(TEXT).expect("it is part of the program, and a test has read it"))
}

impl Book {
    /// A provider's model.
    pub fn find(&self, provider: &str, model: &str) -> Option<&Row> {
        let at =
            self.rows.binary_search_by(|row| (row.provider, row.model).cmp(&(provider, model)));
        at.ok().and_then(|at| self.rows.get(at))
    }

    /// A provider's model as it is in a region, where the table has that apart.
    pub fn find_in(&self, provider: &str, model: &str, region: Option<&str>) -> Option<&Row> {
        let apart = region.and_then(|region| self.find(provider, &format!("{region}/{model}")));
        apart.or_else(|| self.find(provider, model))
    }

    /// What a model costs in a region; `None` where the table knows no price.
    pub fn price(&self, provider: &str, model: &str, region: Option<&str>) -> Option<Price> {
        let row = self.find_in(provider, model, region)?;
        row.tiers.first()?.rates.input?;
        let regional = region.is_some_and(|region| region != "global");
        let uplift = if regional { row.uplift } else { 1_000 };
        let tiers = row.tiers.iter().map(|tier| Tier {
            above: tier.above,
            rates: raised(tier.rates, uplift),
            batch: raised(tier.batch, uplift),
        });
        Some(Price { tiers: tiers.collect(), date: self.date.to_owned() })
    }
}

/// Thousandths of prices, rounded up.
fn raised(rates: Rates, thousandths: u64) -> Rates {
    let raise = |rate: Option<u64>| {
        rate.map(|rate| {
            let all = (u128::from(rate) * u128::from(thousandths)).div_ceil(1_000);
            u64::try_from(all).unwrap_or(u64::MAX)
        })
    };
    Rates {
        input: raise(rates.input),
        cached: raise(rates.cached),
        written: raise(rates.written),
        output: raise(rates.output),
        reasoning: raise(rates.reasoning),
    }
}

/// Reads the table: a line with its date, one with names of columns, then the rows.
fn read(text: &'static str) -> Result<Book, String> {
    let mut lines = text.lines().enumerate();
    let date = lines.next().and_then(|(_, line)| line.strip_prefix("# ")?.split(' ').next());
    let mut rows: Vec<Row> = Vec::new();
    for (at, line) in lines.skip(1) {
        let row = read_row(line).map_err(|why| format!("line {}: {why}", at + 1))?;
        let tier = row.tiers.first().copied().unwrap_or_default();
        match rows.last_mut() {
            Some(last) if tier.above > 0 => {
                let same = (last.provider, last.model) == (row.provider, row.model);
                let after = last.tiers.last().is_some_and(|last| last.above < tier.above);
                if !same || !after {
                    return Err(format!("line {}: a tier of another model", at + 1));
                }
                last.tiers.push(tier);
            }
            Some(last) if (last.provider, last.model) >= (row.provider, row.model) => {
                return Err(format!("line {}: not in order", at + 1));
            }
            _ => rows.push(row),
        }
    }
    Ok(Book { date: date.ok_or("no date")?, rows })
}

fn read_row(line: &'static str) -> Result<Row, String> {
    let mut fields = line.split(',');
    let mut text = || fields.next().unwrap_or("");
    let (provider, model, _mode) = (text(), text(), text());
    let mut number = || match text() {
        "" => Ok(None),
        digits => digits.parse::<u64>().map(Some).map_err(|_| format!("{digits:?} is no number")),
    };
    let above = number()?.unwrap_or(0);
    let mut rates = || {
        let [input, cached, written] = [number()?, number()?, number()?];
        Ok::<_, String>(Rates { input, cached, written, output: number()?, reasoning: number()? })
    };
    let tier = Tier { above, rates: rates()?, batch: rates()? };
    let (context_tokens, max_output_tokens) = (number()?, number()?);
    let letters = text();
    let can = |yes: char| match letters {
        _ if letters.contains(yes) => Some(true),
        _ if letters.contains(yes.to_ascii_uppercase()) => Some(false),
        _ => None,
    };
    let can = Capabilities {
        context_tokens,
        max_output_tokens,
        tools: can('t'),
        vision: can('v'),
        schema: can('s'),
    };
    let uplift = match text() {
        "" => 1_000,
        digits => digits.parse().map_err(|_| format!("{digits:?} is no number"))?,
    };
    Ok(Row { provider, model, can, tiers: vec![tier], uplift })
}

#[cfg(test)]
mod tests {
    use super::{book, read};

    #[test]
    fn the_table_is_read_whole() {
        let book = book();
        let lines = super::TEXT.lines().count() - 2;
        let tiers: usize = book.rows.iter().map(|row| row.tiers.len()).sum();
        assert_eq!(tiers, lines);
        assert!(lines > 2_000, "{lines} rows");
        assert!(super::TEXT.len() < 500_000);
        assert_eq!(book.date.len(), "2026-11-22".len());
        for row in &book.rows {
            let found = book.find(row.provider, row.model).expect("each row is found");
            assert_eq!(found, row);
            let free = |tier: &super::Tier| {
                tier.rates.input == Some(0) && tier.rates.output.unwrap_or(0) == 0
            };
            assert!(!row.tiers.iter().any(free), "{}/{} is free", row.provider, row.model);
        }
        assert!(book.find("openai", "no-such-model").is_none());
        assert!(book.price("github_copilot", "gpt-4o", None).is_none(), "not known, and not free");
    }

    #[test]
    fn tables_that_are_not_whole_are_refused() {
        let check = |text: &'static str, why: &str| {
            let error = read(text).expect_err(text);
            assert!(error.contains(why), "{error}");
        };
        check("", "no date");
        check("# 2026-01-01\nhead\na,b,c,,x", "line 3: \"x\" is no number");
        check("# 2026-01-01\nhead\na,b,c,,1\na,b,c,,1", "line 4: not in order");
        check("# 2026-01-01\nhead\na,b,c,,1\na,c,c,200,1", "line 4: a tier of another model");
        check("# 2026-01-01\nhead\na,b,c,,1\na,b,c,200,1\na,b,c,100,1", "line 5: a tier");
        check("# 2026-01-01\nhead\na,b,c,,,,,,,,,,,,,,,y", "\"y\" is no number");
    }

    #[test]
    fn regions_cost_what_they_do_there() {
        let read = read("# 2026-01-01\nhead\na,b,c,,10,,,21,,,,,,,,,,1100\na,eu/b,c,,50,,,60\n");
        let book = read.expect("it is whole");
        let check = |region, input, output| {
            let rates = book.price("a", "b", region).expect("a price").rates(1, false);
            assert_eq!((rates.input, rates.output), (Some(input), Some(output)), "{region:?}");
        };
        check(None, 10, 21);
        check(Some("global"), 10, 21);
        check(Some("us"), 11, 24); // 23.1
        check(Some("eu"), 50, 60);
    }
}
