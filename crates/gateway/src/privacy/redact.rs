//! What is found in a request, and the request without it: first all values are gathered, then each
//! is replaced wherever it stands, also where it was not found, so that none of them leaves.
//! Absent: what was never found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use ingle_protocol::Request;

use super::detect::Search;
use super::forms::{self, Step};
use super::json::{Leaf, rewrite};
use super::restore::{Book, Redaction};
use super::texts::{self, Sort};
use super::{Group, Kind, MOST_BYTES, MOST_FINDINGS, Survey, Unsure};

/// The most bytes of all values together.
const MOST_VALUES: usize = 2 << 20;
/// Keys of a protocol's own, whose texts have to stay as they are where all around them is.
const FIXED: &[&str] = &[
    "model",
    "id",
    "tool_call_id",
    "tool_use_id",
    "call_id",
    "item_id",
    "previous_response_id",
    "role",
    "type",
];
/// Keys of the objects that protocols have names and ids of their own in. What stands within any
/// other one (metadata, arguments, a schema) is the caller's, whatever its keys are.
const OWN: &[&str] = &[
    "messages",
    "content",
    "tool_calls",
    "function",
    "function_call",
    "tools",
    "tool_choice",
    "output",
    "summary",
    "contents",
    "parts",
    "reasoning",
    "reasoning_details",
    "thinking",
    "system",
    "source",
    "cache_control",
    "response_format",
    "text",
    "format",
    "audio",
];
/// What stands at the top alone: elsewhere it is a call's arguments.
const INPUT: &str = "input";
/// Where protocols have what a provider made and nobody can read: within which keys, and its own.
const SEALED: &[(&[&str], &str)] = &[
    (&["messages", "content"], "signature"),
    (&["messages", "reasoning_details"], "signature"),
    (&[INPUT], "encrypted_content"),
    (&["contents", "parts"], "thoughtSignature"),
    (&["contents", "parts"], "thought_signature"),
    (&["messages", "extra_content", "google"], "thought_signature"),
    (&["messages", "tool_calls", "extra_content", "google"], "thought_signature"),
];
/// Nothing that was sealed is shorter.
const SEALED_LEAST: usize = 64;
/// Nothing that is shorter is anything.
const SHORTEST: usize = 6;
/// What is so long is searched once, whatever its key.
const LONG: usize = 128;
/// From so many bytes on a text in base 64 without a word of its own is a file.
const FILE_LEAST: usize = 256;

/// What was gathered of a request.
struct Gathered<'a, W> {
    search: &'a Search,
    which: W,
    /// Values and their places in `order`.
    known: BTreeMap<String, usize>,
    order: Vec<(Kind, String)>,
    counts: BTreeMap<Kind, u32>,
    /// Texts that were searched already; a body says again what was read of it.
    seen: BTreeSet<String>,
    bytes: usize,
}

impl<'a, W: Fn(Kind) -> bool> Gathered<'a, W> {
    fn new(search: &'a Search, which: W) -> Self {
        Self {
            search,
            which,
            known: BTreeMap::new(),
            order: Vec::new(),
            counts: BTreeMap::new(),
            seen: BTreeSet::new(),
            bytes: 0,
        }
    }

    fn all(&mut self, request: &mut Request) -> Result<(), Unsure> {
        texts::each(request, &mut |place, sort, text| match sort {
            Sort::Words => self.words("", text, false),
            Sort::Fixed => self.fixed(text),
            Sort::Json => {
                let json = self.json(text, false)?;
                if json { Ok(()) } else { self.words("", text, false) }
            }
            Sort::Body => {
                let json = self.body(text).map_err(|unsure| match unsure {
                    Unsure::Opaque { place: within } => {
                        Unsure::Opaque { place: format!("`{within}` of {}", place()) }
                    }
                    unsure => unsure,
                })?;
                if json { Ok(()) } else { Err(Unsure::NotJson { place: place() }) }
            }
        })
    }

    fn json(&mut self, text: &str, again: bool) -> Result<bool, Unsure> {
        let read = rewrite(text, &mut |Leaf { key, value, .. }| {
            self.words(key, value, again)?;
            Ok(None)
        })?;
        Ok(read.is_some())
    }

    fn body(&mut self, text: &str) -> Result<bool, Unsure> {
        let read = rewrite(text, &mut |leaf| {
            let Leaf { key, value, .. } = leaf;
            if is_sealed(&leaf) {
            } else if is_file(key, value) {
                return Err(Unsure::Opaque { place: key.to_owned() });
            } else if is_fixed(&leaf) {
                self.fixed(value)?;
            } else if !(inner(key, value) && self.json(value, true)?) {
                self.words(key, value, true)?;
            }
            Ok(None)
        })?;
        Ok(read.is_some())
    }

    /// What is found in a text whose key may name it; `again` says that it may have been read
    /// before.
    fn words(&mut self, key: &str, text: &str, again: bool) -> Result<(), Unsure> {
        if text.len() < SHORTEST || (again && self.seen.contains(text)) {
            return Ok(());
        }
        self.bytes += text.len();
        if self.bytes > MOST_BYTES {
            return Err(Unsure::TooLong { bytes: self.bytes });
        }
        // What is short may mean something else under another key.
        if text.len() >= LONG {
            self.seen.insert(text.to_owned());
        }
        let (whole, head) = match key {
            "" => (None, 0),
            key => (Some(format!("{key}: {text}")), key.len() + 2),
        };
        let searched = whole.as_deref().unwrap_or(text);
        for found in self.search.findings(searched)? {
            let bytes = found.bytes.start.max(head)..found.bytes.end;
            if !bytes.is_empty() && (self.which)(found.kind) {
                self.keep(found.kind, &searched[bytes], again)?;
            }
        }
        Ok(())
    }

    /// What is found in names and ids: only what is plainly itself, since their numbers are
    /// usually nobody's.
    fn fixed(&mut self, text: &str) -> Result<(), Unsure> {
        for found in self.search.findings(text)? {
            if plain(found.kind) && (self.which)(found.kind) {
                self.keep(found.kind, &text[found.bytes], true)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, kind: Kind, value: &str, again: bool) -> Result<(), Unsure> {
        let new = !self.known.contains_key(value);
        if new {
            self.known.insert(value.to_owned(), self.order.len());
            self.order.push((kind, value.to_owned()));
        }
        if new || !again {
            *self.counts.entry(kind).or_default() += 1;
        }
        let total: u64 = self.counts.values().map(|count| u64::from(*count)).sum();
        if total > MOST_FINDINGS as u64 { Err(Unsure::TooMany) } else { Ok(()) }
    }
}

fn plain(kind: Kind) -> bool {
    kind.group() == Group::Secret || matches!(kind, Kind::Email | Kind::Iban | Kind::Card)
}

/// Whether a string is one of a protocol's own names and ids.
fn is_fixed(leaf: &Leaf<'_>) -> bool {
    let own = |(at, key): (usize, &String)| {
        OWN.contains(&key.as_str()) || (at == 0 && key.as_str() == INPUT)
    };
    FIXED.contains(&leaf.key) && leaf.within.iter().enumerate().all(own)
}

/// Whether a string is what a provider sealed, where its protocol has that.
fn is_sealed(leaf: &Leaf<'_>) -> bool {
    SEALED.iter().any(|(within, key)| *key == leaf.key && leaf.within == *within)
        && leaf.value.len() >= SEALED_LEAST
        && leaf.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte))
}

/// Whether a string holds a call's arguments, as JSON within JSON.
fn inner(key: &str, value: &str) -> bool {
    key == "arguments" && value.trim_start().starts_with('{')
}

/// Whether a string is a picture, sound or another file.
fn is_file(key: &str, value: &str) -> bool {
    let head = value.as_bytes();
    let head = &head[..head.len().min(128)];
    let inline = value.starts_with("data:") && head.windows(7).any(|part| part == b"base64,");
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_-\r\n".contains(&byte);
    let sealed = matches!(key, "data" | "file_data")
        && value.len() >= FILE_LEAST
        && value.bytes().all(base64);
    inline || sealed
}

/// What is in a request.
pub(super) fn survey(search: &Search, request: &Request) -> Survey {
    let mut gathered = Gathered::new(search, |_| true);
    let unsure = gathered.all(&mut request.clone()).err();
    Survey { found: gathered.counts.into_iter().collect(), unsure }
}

/// The request without what is found in it, and what that was.
pub(super) fn redact(
    search: &Search,
    request: &Request,
    which: impl Fn(Kind) -> bool,
) -> Result<(Request, Redaction), Unsure> {
    let mut request = request.clone();
    let mut gathered = Gathered::new(search, which);
    gathered.all(&mut request)?;
    let Gathered { order, .. } = gathered;
    if order.is_empty() {
        return Ok((request, Redaction::default()));
    }
    if order.iter().map(|(_, value)| value.len()).sum::<usize>() > MOST_VALUES {
        return Err(Unsure::TooMany);
    }
    let finder = AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(order.iter().map(|(_, value)| value))
        .map_err(|_| Unsure::TooMany)?;
    let series = free_series(&mut request, &order)?;
    let book = Book::new(order, series);
    let mut swap = Swap { finder, book: &book, replaced: 0 };
    texts::each(&mut request, &mut |place, sort, text| swap.text(&place, sort, text))?;
    let replaced = swap.replaced;
    Ok((request, Redaction::new(Arc::new(book), replaced)))
}

/// A letter that stands in no text where placeholders' letters would, or none where none does.
fn free_series(request: &mut Request, order: &[(Kind, String)]) -> Result<Option<u8>, Unsure> {
    let tags: BTreeSet<&str> = order.iter().map(|(kind, _)| kind.tag()).collect();
    let tags: Vec<&str> = tags.into_iter().collect();
    let mut taken: BTreeSet<Option<u8>> = BTreeSet::new();
    let mut look = |text: &str| {
        let bytes = text.as_bytes();
        for (at, _) in bytes.iter().enumerate().filter(|(_, b)| forms::begins(&tags, **b)) {
            if let Step::Form(form) = forms::read(&tags, bytes, at, b' ', true) {
                taken.insert(form.series);
            }
            // What touches it may be replaced itself.
            taken.extend(forms::touched(&tags, bytes, at));
        }
    };
    texts::each(request, &mut |_, sort, text| {
        look(text);
        if sort != Sort::Words && sort != Sort::Fixed {
            rewrite::<Unsure>(text, &mut |leaf| {
                look(leaf.value);
                Ok(None)
            })?;
        }
        Ok(())
    })?;
    let letters = (b'A'..=b'Z').map(Some);
    [None].into_iter().chain(letters).find(|one| !taken.contains(one)).ok_or(Unsure::Crowded)
}

/// Puts placeholders where values are.
struct Swap<'a> {
    finder: AhoCorasick,
    book: &'a Book,
    replaced: u32,
}

impl Swap<'_> {
    fn text(
        &mut self,
        place: &dyn Fn() -> String,
        sort: Sort,
        text: &mut String,
    ) -> Result<(), Unsure> {
        let changed = match sort {
            Sort::Words => self.words(text, true),
            Sort::Fixed => match self.finder.find(text.as_str()) {
                Some(found) => {
                    let kind = self.book.kind(found.pattern().as_usize());
                    return Err(Unsure::Fixed { place: place(), kind });
                }
                None => None,
            },
            Sort::Json => {
                match rewrite::<Unsure>(text, &mut |leaf| Ok(self.words(leaf.value, true)))? {
                    None => self.words(text, true),
                    changed => changed,
                }
            }
            // What a body says was counted where it was read.
            Sort::Body => rewrite::<Unsure>(text, &mut |leaf| self.leaf(leaf))?,
        };
        if let Some(changed) = changed {
            *text = changed;
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: Leaf<'_>) -> Result<Option<String>, Unsure> {
        let Leaf { key, value, .. } = leaf;
        if is_sealed(&leaf) {
            return Ok(None);
        }
        if inner(key, value) {
            let inner = rewrite::<Unsure>(value, &mut |leaf| Ok(self.words(leaf.value, false)))?;
            if let Some(inner) = inner {
                return Ok((inner != value).then_some(inner));
            }
        }
        Ok(self.words(value, false))
    }

    fn words(&mut self, text: &str, count: bool) -> Option<String> {
        let mut out = String::new();
        let mut told = 0;
        for found in self.finder.find_iter(text) {
            out.push_str(&text[told..found.start()]);
            out.push_str(self.book.placeholder(found.pattern().as_usize()));
            told = found.end();
            self.replaced += u32::from(count);
        }
        if told == 0 {
            return None;
        }
        out.push_str(&text[told..]);
        Some(out)
    }
}
