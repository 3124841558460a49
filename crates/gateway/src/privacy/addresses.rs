//! Addresses: e-mail, also where it is written so that programs do not see it (`[at]`, spaces),
//! IP of both versions, and network cards. Absent: postal addresses, host names.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use super::Kind;
use super::fold::LETTER;
use super::runs::{Candidate, Page, Run};

/// What stands between an address's halves.
const ATS: &[&str] = &["@", "%40", "[at]", "(at)", "{at}", "<at>"];
/// What stands between a domain's parts, where somebody hides it.
const DOTS: &[&str] = &["[dot]", "(dot)", "{dot}", "[.]", "(.)"];
/// The most characters before the at, and behind it.
const LOCAL_MOST: usize = 64;
const DOMAIN_MOST: usize = 253;

/// Ends of file names, which stand behind an at as domains do.
const FILES: &[&str] = &[
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "webp",
    "avif",
    "bmp",
    "ico",
    "css",
    "scss",
    "js",
    "mjs",
    "ts",
    "tsx",
    "jsx",
    "json",
    "html",
    "htm",
    "xml",
    "yaml",
    "yml",
    "toml",
    "lock",
    "txt",
    "md",
    "pdf",
    "py",
    "java",
    "cpp",
    "exe",
    "dll",
    "zip",
    "tar",
    "gz",
    "tgz",
    "service",
    "socket",
    "timer",
    "target",
    "mount",
    "class",
    "prototype",
    "wasm",
    "map",
];
/// Ends of domains that are looked for where an address is spaced out.
const COMMON: &[&str] = &[
    "com", "org", "net", "edu", "gov", "mil", "int", "info", "biz", "name", "io", "ai", "app",
    "dev", "co", "me", "de", "fr", "es", "it", "nl", "be", "ch", "at", "pl", "pt", "se", "no",
    "dk", "fi", "ie", "uk", "eu", "us", "ca", "mx", "br", "ar", "cl", "in", "cn", "jp", "kr", "au",
    "nz", "za", "ru", "ua", "cz", "sk", "hu", "ro", "bg", "gr", "tr", "il", "online", "site",
    "tech", "cloud", "test", "example",
];

/// What e-mail addresses are found by.
#[derive(Debug)]
pub(super) struct Ats(AhoCorasick);

impl Ats {
    pub(super) fn new() -> Self {
        let ats = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(ATS)
            .expect("six short words are no automaton too large");
        Self(ats)
    }

    /// The e-mail addresses of a text.
    pub(super) fn each(&self, page: Page<'_>, out: &mut Vec<Candidate>) {
        let mut free = 0;
        for found in self.0.find_iter(page.bytes) {
            let at = found.range();
            if let Some(bytes) = email(page, &at, free) {
                free = bytes.end;
                out.push(Candidate { bytes, kind: Kind::Email, named: true });
            }
        }
    }
}

fn local_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == LETTER || b"._%+-'&~".contains(&byte)
}

/// Where the half before the at begins, not before `free`.
fn local(page: Page<'_>, end: usize, free: usize) -> Option<usize> {
    let least = end.saturating_sub(LOCAL_MOST).max(free);
    let text = page.bytes.get(least..end)?;
    let mut start = end - text.iter().rev().take_while(|byte| local_byte(**byte)).count();
    while start < end && b".'-%&~".contains(&page.byte(start)) {
        start += 1;
    }
    let sound = start < end && page.prior(end) != b'.';
    sound.then_some(start)
}

fn known(list: &[&str], label: &[u8]) -> bool {
    list.iter().any(|known| label.eq_ignore_ascii_case(known.as_bytes()))
}

/// Where the domain ends that begins here, as it is usually written.
fn domain(page: Page<'_>, start: usize) -> Option<usize> {
    let limit = page.bytes.len().min(start + DOMAIN_MOST);
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == LETTER;
    let mut at = start;
    let mut parts = 0;
    let mut best = None;
    loop {
        let length = page.bytes.get(at..limit)?.iter().take_while(|byte| part(byte)).count();
        let label = &page.bytes[at..at + length];
        if label.is_empty() || label[0] == b'-' {
            break;
        }
        parts += 1;
        let top = label.len() >= 2 && label.iter().all(u8::is_ascii_alphabetic);
        let top = top || label.starts_with(b"xn--");
        if parts > 1 && top && !known(FILES, label) {
            best = Some(at + length);
        } else if parts > 1 && known(FILES, label) {
            best = None;
        }
        at += length;
        if page.bytes.get(at) != Some(&b'.') || at >= limit {
            break;
        }
        at += 1;
    }
    best
}

/// What length a dot has here that somebody hid, spaces around it included.
fn hidden_dot(page: Page<'_>, at: usize) -> Option<usize> {
    let rest = page.bytes.get(at..)?;
    let before = usize::from(matches!(rest.first(), Some(b' ' | b'\n')));
    let rest = &rest[before..];
    let hidden = DOTS.iter().find(|dot| {
        rest.get(..dot.len()).is_some_and(|text| text.eq_ignore_ascii_case(dot.as_bytes()))
    });
    let dot = hidden.map(|dot| dot.len()).or((rest.first() == Some(&b'.')).then_some(1))?;
    let after = usize::from(matches!(rest.get(dot), Some(b' ' | b'\n')));
    Some(before + dot + after)
}

/// Where the domain ends that begins here and is spaced out or hidden; its end is a common one.
fn hidden_domain(page: Page<'_>, start: usize) -> Option<usize> {
    let part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-';
    let mut at = start;
    let mut best = None;
    for parts in 1..=4 {
        let length = page.bytes.get(at..)?.iter().take(63).take_while(part).count();
        if length == 0 {
            break;
        }
        let label = &page.bytes[at..at + length];
        at += length;
        if parts > 1 && known(COMMON, label) {
            best = Some(at);
        }
        match hidden_dot(page, at) {
            Some(dot) => at += dot,
            None => break,
        }
    }
    best
}

fn email(page: Page<'_>, at: &Range<usize>, free: usize) -> Option<Range<usize>> {
    let plain = at.len() == 1 || page.byte(at.start) == b'%';
    if plain
        && let Some(start) = local(page, at.start, free)
        && let Some(end) = domain(page, at.end)
    {
        // Where a repository is cloned from is nobody's address.
        let clone = &page.bytes[start..at.start] == b"git" && page.byte(end) == b':';
        return (!clone && !is_password(page, start)).then_some(start..end);
    }
    let space = |byte: u8| usize::from(matches!(byte, b' ' | b'\n'));
    let left = at.start - space(page.prior(at.start)).min(at.start);
    let right = at.end + space(page.byte(at.end));
    let start = local(page, left, free)?;
    let end = hidden_domain(page, right)?;
    (left - start >= 2 && page.byte(start) != b'-').then_some(start..end)
}

/// Whether what begins here is a password in a URL, which `secrets.rs` finds.
fn is_password(page: Page<'_>, start: usize) -> bool {
    let Some(colon) = start.checked_sub(1).filter(|at| page.byte(*at) == b':') else {
        return false;
    };
    let before = &page.bytes[colon.saturating_sub(128)..colon];
    let name = before.iter().rev().take_while(|byte| local_byte(**byte)).count();
    before[..before.len() - name].ends_with(b"://")
}

/// Where machines are that are nobody's: this one, none, and all.
const NOBODY: &[&[u16]] = &[&[127], &[0], &[255, 255, 255, 255]];

/// The IP addresses of version 4 in a run.
pub(super) fn ips(page: Page<'_>, run: &Run, out: &mut Vec<Candidate>) {
    for (first, groups) in run.groups.windows(4).enumerate() {
        let last = first + 3;
        let dots = groups[1..]
            .iter()
            .all(|group| group.gap == b'.' && (group.width == 1 || group.width == 3));
        if !dots {
            continue;
        }
        let parts: Vec<u16> = (first..=last)
            .map(|at| match run.digits(at, at) {
                [0, _, ..] => u16::MAX,
                digits if digits.len() > 3 => u16::MAX,
                digits => u16::try_from(super::sums::number(digits)).unwrap_or(u16::MAX),
            })
            .collect();
        let bytes = groups[0].start..groups[3].end;
        let (left, right) = page.glued(&bytes);
        if parts.iter().any(|part| *part > 255) || left || right || run.torn(first, last) {
            continue;
        }
        let nobody = NOBODY.iter().any(|start| parts.starts_with(start));
        let near = page.near(bytes.start);
        let named = near.names(Kind::Ip);
        // A version is written so, too, in small numbers.
        let version = parts.iter().all(|part| *part < 10) || near.denies(Kind::Ip);
        if !nobody && (named || !version) {
            out.push(Candidate { bytes, kind: Kind::Ip, named });
        }
    }
}

/// Addresses of version 6, and of network cards: of letters from a to f, digits and colons.
pub(super) fn colons(page: Page<'_>, out: &mut Vec<Candidate>) {
    let mut at = 0;
    while at < page.bytes.len() {
        let token = page.bytes[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit() || **byte == b':')
            .count();
        let bytes = at..at + token;
        at += token + 1;
        if !(2..=48).contains(&token) || !page.bytes[bytes.clone()].contains(&b':') {
            continue;
        }
        let before = page.prior(bytes.start);
        let after = page.byte(bytes.end);
        let edge = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if edge(before) || edge(after) {
            continue;
        }
        // A sentence's colon is none of the address.
        let text = &page.bytes[bytes.clone()];
        let text = match text {
            [head @ .., last, b':'] if *last != b':' => &text[..head.len() + 1],
            _ => text,
        };
        let end = bytes.start + text.len();
        if v6(text) {
            out.push(Candidate { bytes: bytes.start..end, kind: Kind::Ip, named: true });
        } else if card(text, b':') {
            out.push(Candidate { bytes: bytes.start..end, kind: Kind::Mac, named: true });
        }
    }
}

/// Six pairs of hexadecimal digits.
fn card(text: &[u8], gap: u8) -> bool {
    let pairs = text
        .split(|byte| *byte == gap)
        .all(|pair| pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit));
    let same = text.iter().all(|byte| *byte == gap || *byte == text[0]);
    text.len() == 17 && pairs && !same
}

/// A network card's address with hyphens, which begins at a word's beginning.
pub(super) fn hyphens(page: Page<'_>, start: usize, out: &mut Vec<Candidate>) {
    let Some(text) = page.bytes.get(start..start + 17) else { return };
    let ends = !page.byte(start + 17).is_ascii_alphanumeric() && page.byte(start + 17) != b'-';
    if text[2] == b'-' && ends && page.prior(start) != b'-' && card(text, b'-') {
        out.push(Candidate { bytes: start..start + 17, kind: Kind::Mac, named: true });
    }
}

/// Whether it is an address of version 6 of some machine's: not of this one, not of none, and not
/// two words of a program with colons between them.
fn v6(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).unwrap_or("");
    let (head, tail) = text.split_once("::").unwrap_or((text, ""));
    let short = text.contains("::");
    let groups = |part: &str| -> Option<usize> {
        if part.is_empty() {
            return Some(0);
        }
        let sound = part.split(':').all(|group| (1..=4).contains(&group.len()));
        sound.then(|| part.split(':').count())
    };
    let (Some(before), Some(after)) = (groups(head), groups(tail)) else { return false };
    let count = before + after;
    let enough = if short { (2..8).contains(&count) } else { count == 8 };
    let first = head.find(':').unwrap_or(head.len());
    let telling = first >= 3 || count >= 4;
    enough && telling && text.bytes().any(|byte| byte.is_ascii_digit()) && before > 0
}
