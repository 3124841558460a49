//! Texts with known tokens, as JSON, held against a tokenizer: anyone can repeat the check.

use super::{Special, Tokenizer};
use crate::{Error, Token};
use serde::Deserialize;

/// What became of a list of cases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseReport {
    /// How many cases there were.
    pub rows: usize,
    /// Those that came out otherwise.
    pub mismatches: Vec<Mismatch>,
}

/// A case that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The case's place in its list, from 0.
    pub row: usize,
    /// Its text.
    pub text: String,
    /// The ids that it names.
    pub expected: Vec<Token>,
    /// The tokenizer's.
    pub found: Vec<Token>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<Token>,
    /// `None`: the ids are a whole prompt's, BOS included where the model asks for it.
    parse_special: Option<bool>,
}

/// Encodes each case of a JSON list and compares. Rows `{text, parse_special, ids}` are encoded
/// as they stand; rows without `parse_special` as whole prompts ([`Tokenizer::encode_prompt`]).
///
/// # Errors
/// [`Error::Refused`] where the text is no such list.
pub fn check_cases(tokenizer: &Tokenizer, json: &str) -> Result<CaseReport, Error> {
    let wanted = r#"a JSON list of {"text": .., "ids": [..]}"#;
    let cases: Vec<serde_json::Value> = serde_json::from_str(json)
        .map_err(|error| Error::Refused(format!("the cases are not {wanted}: {error}")))?;
    let mut report = CaseReport { rows: cases.len(), mismatches: Vec::new() };
    for (row, case) in cases.into_iter().enumerate() {
        let case: Case = serde_json::from_value(case).map_err(|error| {
            Error::Refused(format!("row {row} of the cases is wrong in {wanted}: {error}"))
        })?;
        let found = match case.parse_special {
            Some(true) => tokenizer.encode(&case.text, Special::Parse),
            Some(false) => tokenizer.encode(&case.text, Special::Plain),
            None => tokenizer.encode_prompt(&case.text, Special::Parse),
        };
        if found != case.ids {
            let Case { text, ids: expected, .. } = case;
            report.mismatches.push(Mismatch { row, text, expected, found });
        }
    }
    Ok(report)
}
