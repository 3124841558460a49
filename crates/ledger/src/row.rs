//! An entry as a row: its canonical text, and the columns that are asked for, which say nothing
//! that the text does not. Columns are for looking up: long names are cut there, not in the text.

use ingle_protocol::{Entry, wire};

use crate::Missed;

/// A column's longest text, in characters.
const NAME_CHARS: usize = 256;
/// An entry whose text is longer than this has its own texts and lists cut.
const BODY_BYTES: usize = 64 << 10;
/// Items of a list that is cut.
const ITEMS: usize = 32;
/// Numbers are kept up to here, so that a million of them can be added up.
const MOST: u64 = 1 << 43;
/// What stands in the place of an entry's end in a row that is no call's, and how its text begins:
/// others were removed, calls were not kept, what a call asked and got is kept beside it.
const NOTICES: &[(&str, &str)] =
    &[("pruned", r#"{"pruned":"#), ("missed", r#"{"missed":"#), ("content", r#"{"content":"#)];
/// The rows that are calls', in SQL.
pub(crate) const CALLS: &str = "ended NOT IN ('pruned', 'missed', 'content')";

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Cell {
    pub(crate) fn int(&self) -> i64 {
        if let Self::Int(int) = self { *int } else { 0 }
    }

    pub(crate) fn count(&self) -> u64 {
        self.int().try_into().unwrap_or(0)
    }

    pub(crate) fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }
}

impl From<u64> for Cell {
    /// What is larger than a column holds is the largest that it does.
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A column's name, and what of an entry is in it.
type Column = (&'static str, fn(&Entry) -> Cell);

/// The columns between a row's hashes and its text, in their order.
pub(crate) const COLUMNS: &[Column] = &[
    ("at_ms", |it| number(it.at_ms)),
    ("id", |it| Cell::Text(name(&it.id))),
    ("key_name", |it| Cell::Text(name(&it.key))),
    ("team", |it| Cell::Text(name(&it.team))),
    ("path", |it| Cell::Text(name(&it.path))),
    ("provider", |it| Cell::Text(name(&it.provider))),
    ("model", |it| Cell::Text(name(&it.model))),
    ("ended", |it| wire::entry::end_name(it.end).into()),
    ("prompt_tokens", |it| number(it.usage.prompt_tokens.into())),
    ("cached_tokens", |it| number(it.usage.cached_tokens.into())),
    ("completion_tokens", |it| number(it.usage.completion_tokens.into())),
    ("reasoning_tokens", |it| number(it.usage.reasoning_tokens.into())),
    ("cost_micros", |it| it.cost.micros.map_or(Cell::Null, number)),
    ("estimated", |it| Cell::Int(it.cost.estimated.into())),
    ("instead_micros", |it| it.instead_micros.map_or(Cell::Null, number)),
    ("remote", |it| Cell::Int((!it.hosts.is_empty()).into())),
    ("bytes_out", |it| number(it.bytes_out)),
    ("tries", |it| number(it.tries.into())),
];

fn number(number: u64) -> Cell {
    number.min(MOST).into()
}

/// A name as a column holds it, which no database refuses.
pub(crate) fn name(text: &str) -> String {
    text.chars().take(NAME_CHARS).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect()
}

/// A row, but for its place in the chain: the columns, and its text behind them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) cells: Vec<Cell>,
    pub(crate) body: Cell,
}

impl Row {
    /// Of an entry; one whose text is too long is cut.
    pub(crate) fn of(entry: &Entry) -> Self {
        let body = wire::entry::write(entry);
        if body.len() <= BODY_BYTES {
            return Self { cells: cells(entry), body: Cell::Text(body) };
        }
        let entry = cut(entry.clone());
        Self { cells: cells(&entry), body: Cell::Text(wire::entry::write(&entry)) }
    }

    /// Of a text that stands in the ledger; `None` where it is not one of ours.
    pub(crate) fn read(body: &str) -> Option<Self> {
        if let Some(row) = Self::notice(body.to_owned()) {
            return Some(row);
        }
        let entry = wire::entry::read(body).ok()?;
        Some(Self { cells: cells(&entry), body: body.into() })
    }

    /// A row that is no call's; `None` where the text is none of those.
    pub(crate) fn notice(body: String) -> Option<Self> {
        let known = NOTICES.iter().find(|(_, begins)| body.starts_with(begins))?;
        let mut cells = cells(&Entry::default());
        let ended = COLUMNS.iter().position(|column| column.0 == "ended");
        if let Some(at) = ended {
            cells[at] = known.0.into();
        }
        Some(Self { cells, body: Cell::Text(body) })
    }

    /// When the call came, in milliseconds since 1970.
    pub(crate) fn at_ms(&self) -> u64 {
        self.cells[0].count()
    }

    /// The call's id, as the column has it.
    pub(crate) fn id(&self) -> &str {
        self.cells[1].text()
    }

    /// The first column that is another in the other row.
    pub(crate) fn differs(&self, other: &[Cell]) -> Option<&'static str> {
        let pairs = self.cells.iter().zip(other).zip(COLUMNS);
        pairs.filter(|((ours, theirs), _)| ours != theirs).map(|(_, column)| column.0).next()
    }
}

fn cells(entry: &Entry) -> Vec<Cell> {
    COLUMNS.iter().map(|column| column.1(entry)).collect()
}

/// What a row says where rows were removed.
pub(crate) fn pruned_body(through: u64, hash: crate::Hash, before_ms: u64, now_ms: u64) -> String {
    format!(
        "{{\"pruned\":{{\"through\":{through},\"hash\":\"{hash}\",\"before_ms\":{before_ms},\
         \"at_ms\":{now_ms}}}}}"
    )
}

/// What a row says of calls that were not kept: how many, and when the first and the last came.
pub(crate) fn missed_body(missed: &Missed) -> String {
    let Missed { calls, from_ms, to_ms } = missed;
    format!("{{\"missed\":{{\"calls\":{calls},\"from_ms\":{from_ms},\"to_ms\":{to_ms}}}}}")
}

/// The same, read; `None` where the text says something else.
pub(crate) fn read_missed(body: &str) -> Option<Missed> {
    let rest = body.strip_prefix(r#"{"missed":{"calls":"#)?.strip_suffix("}}")?;
    let (calls, rest) = rest.split_once(r#","from_ms":"#)?;
    let (from_ms, to_ms) = rest.split_once(r#","to_ms":"#)?;
    let missed = Missed {
        calls: calls.parse().ok()?,
        from_ms: from_ms.parse().ok()?,
        to_ms: to_ms.parse().ok()?,
    };
    (missed_body(&missed) == body).then_some(missed)
}

/// What a row says of content that is kept beside it: the digest of its bytes, and how many of
/// them there are.
pub(crate) fn content_body(content: &[u8]) -> String {
    let (digest, bytes) = (crate::Hash::digest(content), content.len());
    format!("{{\"content\":{{\"sha256\":\"{digest}\",\"bytes\":{bytes}}}}}")
}

/// Whether a row tells of content.
pub(crate) fn tells_of_content(body: &str) -> bool {
    body.starts_with(r#"{"content":"#)
}

fn cut(mut entry: Entry) -> Entry {
    let texts = [
        &mut entry.id,
        &mut entry.key,
        &mut entry.team,
        &mut entry.path,
        &mut entry.asked,
        &mut entry.policy,
        &mut entry.provider,
        &mut entry.model,
        &mut entry.cost.price,
    ];
    texts.into_iter().for_each(shorten);
    entry.classes.truncate(ITEMS);
    entry.classes.iter_mut().for_each(shorten);
    entry.found.truncate(ITEMS);
    entry.found.iter_mut().for_each(|found| shorten(&mut found.0));
    // The first hosts are as good as any; of a route the end says what was taken.
    entry.hosts.truncate(ITEMS);
    entry.hosts.iter_mut().for_each(shorten);
    let surplus = entry.route.len().saturating_sub(ITEMS);
    entry.route.drain(..surplus);
    for step in &mut entry.route {
        shorten(&mut step.candidate);
        shorten(&mut step.reason);
    }
    entry
}

fn shorten(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(NAME_CHARS) {
        text.truncate(at);
    }
}

#[cfg(test)]
mod tests {
    use ingle_protocol::Step;

    use super::*;

    #[test]
    fn a_row_says_what_its_text_does() {
        let long = "\u{0}é".repeat(NAME_CHARS);
        let entry = Entry {
            id: long.clone(),
            at_ms: u64::MAX,
            model: long.clone(),
            bytes_out: u64::MAX,
            hosts: vec!["far".into()],
            ..Entry::default()
        };
        let row = Row::of(&entry);
        assert_eq!(Row::read(row.body.text()).as_ref(), Some(&row));
        assert_eq!(row.id().chars().count(), NAME_CHARS);
        assert!(!row.id().contains('\0'));
        assert_eq!(wire::entry::read(row.body.text()).expect("is read"), entry, "nothing is cut");
    }

    #[test]
    fn what_was_missed_is_text_and_back() {
        for (calls, from_ms, to_ms) in [(0, 0, 0), (1, 5, 5), (u64::MAX, u64::MAX, 0)] {
            let missed = Missed { calls, from_ms, to_ms };
            assert_eq!(read_missed(&missed_body(&missed)), Some(missed));
        }
        let check = |body: &str| assert_eq!(read_missed(body), None, "{body}");
        check("");
        check(r#"{"missed":{"calls":1,"from_ms":2}}"#);
        check(r#"{"missed":{"calls":1,"from_ms":2,"to_ms":+3}}"#);
        check(r#"{"missed":{"calls":01,"from_ms":2,"to_ms":3}}"#);
        check(r#"{"missed":{"calls":-1,"from_ms":2,"to_ms":3}}"#);
    }

    #[test]
    fn a_huge_entry_is_cut_and_keeps_its_end() {
        let huge = "\u{1}".repeat(BODY_BYTES);
        let step =
            |at: usize| Step { candidate: at.to_string(), taken: false, reason: huge.clone() };
        let mut entry = Entry {
            id: "a".into(),
            asked: huge.clone(),
            route: (0..100).map(step).collect(),
            classes: vec![huge.clone(); 100],
            hosts: vec![huge.clone(); 100],
            found: vec![(huge.clone(), 1); 100],
            ..Entry::default()
        };
        entry.cost.micros = Some(7);
        let row = Row::of(&entry);
        assert!(row.body.text().len() < wire::entry::ENTRY_BYTES / 2);
        let read = wire::entry::read(row.body.text()).expect("is read");
        assert_eq!(read.route.last().map(|step| step.candidate.as_str()), Some("99"));
        assert_eq!(read.cost.micros, Some(7));
        assert_eq!(Row::read(row.body.text()).as_ref(), Some(&row));
    }
}
