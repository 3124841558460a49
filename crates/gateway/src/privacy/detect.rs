//! All that looks for something, in turn over one folded text, and what becomes of what they find
//! in the same place. Absent: what stands in a request (`texts.rs`).

use super::addresses::{Ats, colons, hyphens, ips};
use super::fold::{Folded, OTHER};
use super::iban::iban;
use super::labels::Labels;
use super::lettered::lettered;
use super::phones::phones;
use super::runs::{Candidate, Page, Run, numbers};
use super::secrets::Beginnings;
use super::{Finding, Group, Kind, MOST_BYTES, MOST_FINDINGS, Unsure};

/// The most candidates that are looked at; more of them are too many findings, whatever they
/// would become.
const MOST_CANDIDATES: usize = 8 * MOST_FINDINGS;

/// What texts are searched with.
#[derive(Debug)]
pub(super) struct Search {
    labels: Labels,
    ats: Ats,
    beginnings: Beginnings,
}

impl Search {
    pub(super) fn new() -> Self {
        Self { labels: Labels::new(), ats: Ats::new(), beginnings: Beginnings::new() }
    }

    pub(super) fn findings(&self, text: &str) -> Result<Vec<Finding>, Unsure> {
        if text.len() > MOST_BYTES {
            return Err(Unsure::TooLong { bytes: text.len() });
        }
        let mut folded = Folded::new(text);
        // A UUID's digits are nobody's number.
        for uuid in uuids(&folded.bytes) {
            folded.bytes.to_mut()[uuid].fill(OTHER);
        }
        let page = Page { bytes: &folded.bytes, labels: &self.labels };
        let mut all = Vec::new();
        self.ats.each(page, &mut all);
        self.beginnings.each(page, &mut all);
        colons(page, &mut all);
        words(page, &mut all);
        Run::each(page.bytes, |run| {
            if all.len() <= MOST_CANDIDATES {
                ips(page, run, &mut all);
                phones(page, run, &mut all);
                numbers(page, run, &mut all);
            }
        });
        let many = all.len() > MOST_CANDIDATES;
        let merged = merged(all);
        if many || merged.len() > MOST_FINDINGS {
            return Err(Unsure::TooMany);
        }
        let original = |found: Candidate| Finding {
            bytes: folded.original(found.bytes),
            kind: found.kind,
            checked: found.kind.checked(),
        };
        Ok(merged.into_iter().map(original).collect())
    }
}

/// A number with letters has a digit so soon, in characters: behind six letters and their gaps.
const DIGIT_WITHIN: usize = 24;

/// What begins where a word does.
fn words(page: Page<'_>, out: &mut Vec<Candidate>) {
    let mut inside = false;
    // Where the next digit is: all but a network card's address have one soon.
    let mut digit = 0;
    for (at, byte) in page.bytes.iter().enumerate() {
        let word = byte.is_ascii_alphanumeric();
        if word && !inside {
            hyphens(page, at, out);
            while digit < page.bytes.len() && (digit < at || !page.bytes[digit].is_ascii_digit()) {
                digit += 1;
            }
            if digit - at <= DIGIT_WITHIN {
                lettered(page, at, out);
                iban(page, at, out);
            }
        }
        inside = word;
    }
}

/// Where UUIDs are.
fn uuids(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    const SIZES: [usize; 5] = [8, 4, 4, 4, 12];
    let hex = |at: usize, size: usize| {
        bytes.get(at..at + size).is_some_and(|part| part.iter().all(u8::is_ascii_hexdigit))
    };
    let hyphens = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'-');
    let mut found: Vec<std::ops::Range<usize>> = Vec::new();
    for (hyphen, _) in hyphens {
        let Some(start) = hyphen.checked_sub(SIZES[0]) else { continue };
        let mut at = start;
        let whole = SIZES.iter().enumerate().all(|(part, size)| {
            let joined = part == 0 || bytes.get(at) == Some(&b'-');
            at += usize::from(part > 0);
            let fits = joined && hex(at, *size);
            at += size;
            fits
        });
        if whole && found.last().is_none_or(|last| last.end <= start) {
            found.push(start..at);
        }
    }
    found
}

/// Candidates in the text's order, those that overlap as one.
fn merged(mut all: Vec<Candidate>) -> Vec<Candidate> {
    all.sort_by_key(|one| (one.bytes.start, one.bytes.end));
    let mut merged: Vec<Candidate> = Vec::new();
    // The best of those that the last of them was made of.
    let mut best: Option<Candidate> = None;
    for one in all {
        match (merged.last_mut(), &best) {
            (Some(last), Some(was)) if one.bytes.start < last.bytes.end => {
                last.bytes.end = last.bytes.end.max(one.bytes.end);
                if weight(&one) > weight(was) {
                    (last.kind, last.named) = (one.kind, one.named);
                    best = Some(one);
                }
            }
            _ => {
                merged.push(one.clone());
                best = Some(one);
            }
        }
    }
    merged
}

/// A secret is the best candidate, then the longest, one that is named, one with a checksum, an
/// early row.
fn weight(one: &Candidate) -> (bool, usize, bool, bool, std::cmp::Reverse<Kind>) {
    let secret = one.kind.group() == Group::Secret;
    (secret, one.bytes.len(), one.named, one.kind.checked(), std::cmp::Reverse(one.kind))
}
