//! The detector held against the labelled set that `tools/detect-set.py` makes: what share of what
//! is in the texts is found (recall), and what share of what is found is in them (precision).
//! `cargo test -p ingle-gateway --test privacy_set -- --nocapture` prints the table of
//! docs/PRIVACY.md; `SHOW=1` before it prints what was missed, and `SET=FILE` takes another set,
//! such as one of another seed.

use std::collections::BTreeMap;
use std::ops::Range;

use ingle_gateway::privacy::{Detector, Finding, Kind};

const SET: &str = include_str!("fixtures/privacy.jsonl");

/// One value of a text: where, what, and how it is spaced.
struct Label {
    bytes: Range<usize>,
    kind: Kind,
    spacing: String,
}

/// A text, what is in it, and what it is where nothing is.
struct Line {
    text: String,
    labels: Vec<Label>,
    nothing: String,
}

fn lines() -> Vec<Line> {
    let line = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
        let place = |value: &serde_json::Value| value.as_u64().expect("a place") as usize;
        let label = |value: &serde_json::Value| Label {
            bytes: place(&value[1])..place(&value[2]),
            kind: Kind::named(&text(&value[0])).expect("a kind's name"),
            spacing: text(&value[3]),
        };
        let labels = row["f"].as_array().expect("labels").iter().map(label).collect();
        Line { text: text(&row["t"]), labels, nothing: text(&row["n"]) }
    };
    match std::env::var_os("SET") {
        Some(path) => std::fs::read_to_string(path).expect("a file").lines().map(line).collect(),
        None => SET.lines().map(line).collect(),
    }
}

/// How often a kind is in the set, found, found under its own name, and just as long as it is; how
/// often it is said to be where nothing is, and where something else is.
#[derive(Clone, Copy, Default)]
struct Score {
    there: u32,
    found: u32,
    named: u32,
    exact: u32,
    nothing: u32,
    other: u32,
}

impl Score {
    fn recall(self) -> f64 {
        f64::from(self.found) / f64::from(self.there.max(1))
    }

    fn precision(self) -> f64 {
        let said = self.named + self.nothing + self.other;
        if said == 0 { 1.0 } else { f64::from(self.named) / f64::from(said) }
    }
}

fn covers(finding: &Finding, label: &Label) -> bool {
    finding.bytes.start <= label.bytes.start && label.bytes.end <= finding.bytes.end
}

/// The scores by kind, and what was missed or said in error.
fn scores() -> (BTreeMap<Kind, Score>, Vec<String>) {
    let detector = Detector::new();
    let mut scores: BTreeMap<Kind, Score> = BTreeMap::new();
    let mut errors = Vec::new();
    for Line { text, labels, nothing } in lines() {
        let found = detector.detect(&text).expect("a short text");
        for label in &labels {
            let score = scores.entry(label.kind).or_default();
            score.there += 1;
            let hit = found.iter().find(|finding| covers(finding, label));
            score.found += u32::from(hit.is_some());
            let same = hit.is_some_and(|hit| hit.kind == label.kind);
            score.named += u32::from(same);
            score.exact += u32::from(same && hit.is_some_and(|hit| hit.bytes == label.bytes));
            let (kind, spacing) = (label.kind.name(), &label.spacing);
            match hit {
                None => errors.push(format!("missed {kind} ({spacing}): {text:?}: {found:?}")),
                Some(hit) if hit.bytes != label.bytes => {
                    errors.push(format!("wider {kind} ({spacing}): {text:?}: {hit:?}"));
                }
                Some(_) => {}
            }
        }
        for finding in &found {
            let label = labels.iter().find(|label| covers(finding, label));
            match label {
                Some(label) if label.kind == finding.kind => continue,
                Some(_) => scores.entry(finding.kind).or_default().other += 1,
                None => scores.entry(finding.kind).or_default().nothing += 1,
            }
            let (kind, said) = (finding.kind.name(), &text[finding.bytes.clone()]);
            let there = label.map_or(nothing.as_str(), |label| label.kind.name());
            errors.push(format!("said {kind} of {said:?} ({there}): {text:?}"));
        }
    }
    (scores, errors)
}

#[test]
fn what_has_a_checksum_is_found_and_little_else() {
    let (scores, errors) = scores();
    if std::env::var_os("SHOW").is_some() {
        errors.iter().for_each(|error| println!("{error}"));
    }
    println!("| kind | values | recall | exactly | precision |\n|---|---|---|---|---|");
    let mut checked = Score::default();
    let mut all = Score::default();
    for (kind, score) in &scores {
        let exact = f64::from(score.exact) / f64::from(score.there.max(1));
        let (recall, precision) = (score.recall(), score.precision());
        let (name, there) = (kind.name(), score.there);
        println!("| `{name}` | {there} | {recall:.3} | {exact:.3} | {precision:.3} |");
        for sum in [Some(&mut all), kind.checked().then_some(&mut checked)].into_iter().flatten() {
            sum.there += score.there;
            sum.found += score.found;
            sum.named += score.named;
            sum.exact += score.exact;
            sum.nothing += score.nothing;
            sum.other += score.other;
        }
    }
    let line = |name: &str, sum: Score| {
        let exact = f64::from(sum.exact) / f64::from(sum.there.max(1));
        let (there, recall, precision) = (sum.there, sum.recall(), sum.precision());
        println!("| {name} | {there} | {recall:.3} | {exact:.3} | {precision:.3} |");
    };
    line("all with a checksum", checked);
    line("all", all);
    let clean = lines().iter().filter(|line| line.labels.is_empty()).count();
    println!("{} findings in {clean} texts that hold nothing", all.nothing);
    assert!(checked.there > 700, "the set is there: {}", checked.there);
    assert!(checked.recall() >= 0.99, "recall of kinds with a checksum: {}", checked.recall());
    for (kind, score) in scores.iter().filter(|(kind, _)| kind.checked()) {
        assert!(score.recall() >= 0.95, "recall of {}: {}", kind.name(), score.recall());
    }
    assert!(all.recall() >= 0.99, "recall of all: {}", all.recall());
    let exact = f64::from(checked.exact) / f64::from(checked.there);
    assert!(exact >= 0.97, "found just as long as it is, of kinds with a checksum: {exact}");
    assert!(all.precision() >= 0.93, "precision of all: {}", all.precision());
}
