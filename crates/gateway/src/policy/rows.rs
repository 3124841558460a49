//! The tables and keys of a policy's file, as they stand there: serde refuses what is not among
//! them. Absent: whether what they say makes sense together (`read`).

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use toml::Spanned;

/// A table of tables, by name.
pub(super) type Named<T> = BTreeMap<Spanned<String>, T>;

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) default_class: Option<Spanned<String>>,
    pub(super) providers: Named<Spanned<Provider>>,
    pub(super) models: Named<Spanned<Model>>,
    pub(super) classes: Named<Class>,
    pub(super) rules: Vec<Spanned<Rule>>,
    pub(super) budgets: Named<Spanned<Budget>>,
    pub(super) weights: Weights,
    pub(super) limits: Limits,
    pub(super) local: Local,
    pub(super) compare: Option<Compare>,
    pub(super) prices: Named<Price>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) kind: Spanned<String>,
    pub(super) url: Option<Spanned<String>>,
    pub(super) key: Option<Spanned<String>>,
    pub(super) region: Option<Spanned<String>>,
    pub(super) project: Option<String>,
    pub(super) api_version: Option<String>,
    pub(super) models: Option<Many>,
    pub(super) max_concurrent: Option<Spanned<u32>>,
    pub(super) try_timeout_ms: Option<Spanned<u64>>,
    pub(super) idle_timeout_ms: Option<Spanned<u64>>,
    pub(super) total_timeout_ms: Option<Spanned<u64>>,
    pub(super) retries: Option<Spanned<u32>>,
    pub(super) hedge_after_ms: Option<Spanned<u64>>,
    pub(super) trust: Option<Many>,
    #[serde(default)]
    pub(super) headers: Named<Spanned<String>>,
    pub(super) prices: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub(super) candidates: Vec<Spanned<String>>,
    pub(super) order: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    #[serde(default)]
    pub(super) local_only: bool,
    pub(super) providers: Option<Many>,
    pub(super) regions: Option<Many>,
    #[serde(default)]
    pub(super) redact: bool,
    #[serde(default)]
    pub(super) block: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) class: Spanned<String>,
    pub(super) key: Option<Many>,
    pub(super) team: Option<Many>,
    pub(super) path: Option<Many>,
    pub(super) workspace: Option<Many>,
    #[serde(default)]
    pub(super) header: Named<Many>,
    pub(super) detected: Option<Many>,
    pub(super) at_least: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub(super) scope: Spanned<String>,
    pub(super) of: Option<Many>,
    pub(super) per: Spanned<String>,
    pub(super) usd: Option<Spanned<Decimal>>,
    pub(super) tokens: Option<Spanned<u64>>,
    pub(super) over: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) local: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Weights {
    pub(super) cost: Option<Spanned<u64>>,
    pub(super) latency: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) max_cost_micros: Option<u64>,
    pub(super) max_ttft_ms: Option<u64>,
    pub(super) max_answer_tokens: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Local {
    pub(super) stand_in: Option<String>,
    pub(super) kwh_usd: Option<Spanned<Decimal>>,
    pub(super) watts: Option<Spanned<u64>>,
    pub(super) hardware_usd: Option<Spanned<Decimal>>,
    pub(super) years: Option<Spanned<u64>>,
    pub(super) busy_percent: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Compare {
    pub(super) model: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub(super) input_per_million: Spanned<Decimal>,
    pub(super) cached_per_million: Option<Spanned<Decimal>>,
    pub(super) written_per_million: Option<Spanned<Decimal>>,
    pub(super) output_per_million: Option<Spanned<Decimal>>,
    pub(super) reasoning_per_million: Option<Spanned<Decimal>>,
    pub(super) batch_input_per_million: Option<Spanned<Decimal>>,
    pub(super) batch_output_per_million: Option<Spanned<Decimal>>,
}

/// A number's digits: a text's, or a number's as it is written shortest, which for up to 15 digits
/// is as it stood there.
#[derive(Debug)]
pub(super) struct Decimal(pub(super) String);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Digits;

        impl Visitor<'_> for Digits {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number, such as \"2.50\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Decimal, E> {
                Ok(Decimal(text.to_owned()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Decimal, E> {
                Ok(Decimal(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Decimal, E> {
                let digits = number.to_string();
                match digits.bytes().filter(u8::is_ascii_digit).count() {
                    ..=15 => Ok(Decimal(digits)),
                    _ => Err(E::custom("too many digits for a number: put it in quotes")),
                }
            }
        }

        from.deserialize_any(Digits)
    }
}

/// One text, or several.
#[derive(Debug)]
pub(super) struct Many(pub(super) Vec<Spanned<String>>);

impl<'de> Deserialize<'de> for Many {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Many;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts, such as [\"one\", \"two\"]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Many, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = all.next_element()? {
                    texts.push(text);
                }
                Ok(Many(texts))
            }
        }

        from.deserialize_seq(Texts)
    }
}
