//! Keys, tokens and passwords, by what their makers begin them with. Absent: secrets without a
//! form of their own, such as a password in a sentence.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use super::Kind;
use super::runs::{Candidate, Page};

/// Which characters follow a beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Letters and digits.
    Alnum,
    /// Those and `_`.
    Word,
    /// Those and `-`.
    Url,
    /// Those and `.` or `/`.
    Path,
    /// Capitals and digits.
    Upper,
    /// Hexadecimal digits in small letters.
    Hex,
    /// Those of base 64: letters, digits, `+` and `/`.
    Base64,
}

impl Body {
    fn holds(self, byte: u8) -> bool {
        match self {
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Word => byte.is_ascii_alphanumeric() || byte == b'_',
            Self::Url => byte.is_ascii_alphanumeric() || b"_-".contains(&byte),
            Self::Path => byte.is_ascii_alphanumeric() || b"_-./".contains(&byte),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::Base64 => byte.is_ascii_alphanumeric() || b"+/".contains(&byte),
        }
    }
}

/// One beginning: its kind, what follows it, and how many characters at least and at most. Where
/// there must be exactly so many, it is no key with more.
struct Row(Kind, &'static str, Body, usize, usize);

/// One row a beginning; the longest that fits counts.
const ROWS: &[Row] = &[
    Row(Kind::Anthropic, "sk-ant-", Body::Url, 20, 200),
    Row(Kind::OpenRouter, "sk-or-", Body::Url, 30, 200),
    Row(Kind::OpenAi, "sk-proj-", Body::Url, 20, 300),
    Row(Kind::OpenAi, "sk-svcacct-", Body::Url, 20, 300),
    Row(Kind::OpenAi, "sk-admin-", Body::Url, 20, 300),
    Row(Kind::OpenAi, "sk-None-", Body::Url, 20, 300),
    Row(Kind::OpenAi, "sk-", Body::Word, 20, 200),
    Row(Kind::Aws, "AKIA", Body::Upper, 16, 16),
    Row(Kind::Aws, "ASIA", Body::Upper, 16, 16),
    Row(Kind::Aws, "ABIA", Body::Upper, 16, 16),
    Row(Kind::Aws, "ACCA", Body::Upper, 16, 16),
    Row(Kind::Google, "AIza", Body::Url, 35, 35),
    Row(Kind::Google, "ya29.", Body::Path, 30, 400),
    Row(Kind::Google, "GOCSPX-", Body::Url, 28, 28),
    Row(Kind::GitHub, "ghp_", Body::Alnum, 36, 255),
    Row(Kind::GitHub, "gho_", Body::Alnum, 36, 255),
    Row(Kind::GitHub, "ghu_", Body::Alnum, 36, 255),
    Row(Kind::GitHub, "ghs_", Body::Alnum, 36, 255),
    Row(Kind::GitHub, "ghr_", Body::Alnum, 36, 255),
    Row(Kind::GitHub, "github_pat_", Body::Word, 40, 255),
    Row(Kind::GitLab, "glpat-", Body::Path, 20, 300),
    Row(Kind::GitLab, "gldt-", Body::Url, 20, 300),
    Row(Kind::GitLab, "glrt-", Body::Url, 20, 300),
    Row(Kind::GitLab, "glptt-", Body::Url, 20, 300),
    Row(Kind::GitLab, "glcbt-", Body::Url, 20, 300),
    Row(Kind::Slack, "xoxb-", Body::Url, 20, 300),
    Row(Kind::Slack, "xoxp-", Body::Url, 20, 300),
    Row(Kind::Slack, "xoxa-", Body::Url, 20, 300),
    Row(Kind::Slack, "xoxr-", Body::Url, 20, 300),
    Row(Kind::Slack, "xoxs-", Body::Url, 20, 300),
    Row(Kind::Slack, "xoxe-", Body::Url, 20, 300),
    Row(Kind::Slack, "xoxe.xoxp-", Body::Url, 20, 300),
    Row(Kind::Slack, "xoxe.xoxb-", Body::Url, 20, 300),
    Row(Kind::Slack, "xapp-", Body::Url, 20, 300),
    Row(Kind::Slack, "hooks.slack.com/services/", Body::Path, 20, 100),
    Row(Kind::Stripe, "sk_live_", Body::Alnum, 16, 255),
    Row(Kind::Stripe, "sk_test_", Body::Alnum, 16, 255),
    Row(Kind::Stripe, "rk_live_", Body::Alnum, 16, 255),
    Row(Kind::Stripe, "rk_test_", Body::Alnum, 16, 255),
    Row(Kind::Stripe, "whsec_", Body::Base64, 24, 255),
    Row(Kind::HuggingFace, "hf_", Body::Alnum, 30, 60),
    Row(Kind::HuggingFace, "api_org_", Body::Alnum, 30, 60),
    Row(Kind::Npm, "npm_", Body::Alnum, 36, 36),
    Row(Kind::PyPi, "pypi-AgE", Body::Url, 50, 500),
    Row(Kind::SendGrid, "SG.", Body::Path, 60, 72),
    Row(Kind::Twilio, "SK", Body::Hex, 32, 32),
    Row(Kind::Twilio, "AC", Body::Hex, 32, 32),
    Row(Kind::DigitalOcean, "dop_v1_", Body::Hex, 64, 64),
    Row(Kind::DigitalOcean, "doo_v1_", Body::Hex, 64, 64),
    Row(Kind::DigitalOcean, "dor_v1_", Body::Hex, 64, 64),
    Row(Kind::Shopify, "shpat_", Body::Hex, 32, 32),
    Row(Kind::Shopify, "shpca_", Body::Hex, 32, 32),
    Row(Kind::Shopify, "shppa_", Body::Hex, 32, 32),
    Row(Kind::Shopify, "shpss_", Body::Hex, 32, 32),
    Row(Kind::Groq, "gsk_", Body::Alnum, 40, 80),
    Row(Kind::Xai, "xai-", Body::Alnum, 60, 100),
    Row(Kind::Replicate, "r8_", Body::Alnum, 37, 40),
    Row(Kind::Age, "AGE-SECRET-KEY-1", Body::Upper, 58, 58),
];

/// What is found by more than its beginning, after the rows.
const SPECIAL: &[(&str, Special)] = &[
    ("-----BEGIN ", pem),
    ("eyJ", jwt),
    ("://", url),
    (":AA", telegram),
    ("aws_secret_access_key", aws_secret),
    ("AWS_SECRET_ACCESS_KEY", aws_secret),
    ("aws_secret_key", aws_secret),
    ("SecretAccessKey", aws_secret),
    ("secretAccessKey", aws_secret),
    ("secret_access_key", aws_secret),
];

/// What a beginning at a place begins, if anything.
type Special = fn(Page<'_>, Range<usize>) -> Option<(Kind, Range<usize>)>;

/// What secrets are found by.
#[derive(Debug)]
pub(super) struct Beginnings(AhoCorasick);

impl Beginnings {
    pub(super) fn new() -> Self {
        let words = ROWS.iter().map(|row| row.1).chain(SPECIAL.iter().map(|(word, _)| *word));
        let all = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(words)
            .expect("less than a hundred short words are no automaton too large");
        Self(all)
    }

    /// The secrets of a text.
    pub(super) fn each(&self, page: Page<'_>, out: &mut Vec<Candidate>) {
        let mut free = 0;
        for found in self.0.find_iter(page.bytes) {
            if found.start() < free {
                continue;
            }
            let at = found.pattern().as_usize();
            let secret = match ROWS.get(at) {
                Some(row) => key(page, found.range(), row),
                None => SPECIAL.get(at - ROWS.len()).and_then(|row| row.1(page, found.range())),
            };
            if let Some((kind, bytes)) = secret {
                free = bytes.end;
                out.push(Candidate { bytes, kind, named: true });
            }
        }
    }
}

/// How many characters from here on hold.
fn length(page: Page<'_>, at: usize, most: usize, holds: impl Fn(u8) -> bool) -> usize {
    let end = page.bytes.len().min(at + most);
    page.bytes[at.min(end)..end].iter().take_while(|byte| holds(**byte)).count()
}

/// The key that begins so. Its body may be broken by a space or a line's end, where as many
/// characters are known to be missing and those there look drawn by chance.
fn key(page: Page<'_>, begin: Range<usize>, row: &Row) -> Option<(Kind, Range<usize>)> {
    let Row(kind, _, body, least, most) = row;
    if page.prior(begin.start).is_ascii_alphanumeric() {
        return None;
    }
    let mut at = begin.end;
    let mut taken = length(page, at, most + 1, |byte| body.holds(byte));
    at += taken;
    let whole = taken >= *least;
    while taken > 3 && taken < *least {
        let space = length(page, at, 2, |byte| matches!(byte, b' ' | b'\n'));
        let more = length(page, at + space, most + 1 - taken, |byte| body.holds(byte));
        if space == 0 || more == 0 {
            break;
        }
        taken += more;
        at += space + more;
    }
    let exact = least == most;
    let text = &page.bytes[begin.end..at];
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    let capitals = text.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    let drawn = match body {
        _ if whole => digits > 0 || exact,
        Body::Hex | Body::Upper => digits > 1,
        _ => digits > 1 && capitals > 1,
    };
    let dotted = *kind != Kind::SendGrid || text.contains(&b'.');
    let fits = taken >= *least && (!exact || taken == *least) && drawn && dotted;
    // A sentence's full stop is none of the key.
    let end = at - text.iter().rev().take_while(|byte| b"./".contains(byte)).count();
    fits.then_some((*kind, begin.start..end))
}

/// A private key, whole or cut short.
fn pem(page: Page<'_>, begin: Range<usize>) -> Option<(Kind, Range<usize>)> {
    let line = length(page, begin.end, 64, |byte| byte != b'-' && byte != b'\n');
    let name = &page.bytes[begin.end..begin.end + line];
    if !name.windows(11).any(|part| part == b"PRIVATE KEY") {
        return None;
    }
    let mut at = begin.end + line;
    let mut dashes = length(page, at, 5, |byte| byte == b'-');
    at += dashes;
    // To the next five hyphens: lines of base 64, and headers before them.
    dashes = 0;
    while at < page.bytes.len() && dashes < 5 {
        let byte = page.byte(at);
        let text = byte.is_ascii_alphanumeric() || b"+/=:,. \n\\\"'->|".contains(&byte);
        if !text {
            return Some((Kind::PrivateKey, begin.start..at));
        }
        dashes = if byte == b'-' { dashes + 1 } else { 0 };
        at += 1;
    }
    if dashes == 5 && page.bytes[at..].starts_with(b"END ") {
        at += length(page, at, 64, |byte| byte != b'-' && byte != b'\n');
        at += length(page, at, 5, |byte| byte == b'-');
    } else if dashes == 5 {
        at -= 5;
    }
    Some((Kind::PrivateKey, begin.start..at))
}

/// The most characters of a token's part.
const PART_MOST: usize = 16_384;

/// A JSON Web Token: two JSON objects in base 64, and a signature, which may be empty.
fn jwt(page: Page<'_>, begin: Range<usize>) -> Option<(Kind, Range<usize>)> {
    let url = |byte: u8| Body::Url.holds(byte);
    if url(page.prior(begin.start)) {
        return None;
    }
    let head = begin.start + length(page, begin.start, PART_MOST, url);
    if page.byte(head) != b'.' || !page.bytes[head + 1..].starts_with(b"eyJ") {
        return None;
    }
    let claims = head + 1 + length(page, head + 1, PART_MOST, url);
    let signed = page.byte(claims) == b'.';
    let end = if signed { claims + 1 + length(page, claims + 1, PART_MOST, url) } else { claims };
    (head - begin.start > 8 && claims - head > 8).then_some((Kind::Jwt, begin.start..end))
}

/// A name and a password between a scheme and a host. What is found is both, without the host.
fn url(page: Page<'_>, begin: Range<usize>) -> Option<(Kind, Range<usize>)> {
    let scheme = page.prior(begin.start).is_ascii_alphanumeric();
    let part = |byte: u8| byte.is_ascii_graphic() && !b"/:@?#\"'<>`[]{}()|\\^,".contains(&byte);
    let name = begin.end + length(page, begin.end, 128, part);
    if !scheme || page.byte(name) != b':' {
        return None;
    }
    let secret = |byte: u8| byte.is_ascii_graphic() && !b"/@?#\"'<>`\\".contains(&byte);
    let end = name + 1 + length(page, name + 1, 256, secret);
    // A place where a password is to be written is none.
    let blank = matches!(page.byte(name + 1), b'$' | b'{' | b'*' | b'%');
    let found = page.byte(end) == b'@' && end > name + 1 && !blank;
    found.then_some((Kind::UrlPassword, begin.end..end))
}

/// A bot's number, a colon, and 35 characters.
fn telegram(page: Page<'_>, begin: Range<usize>) -> Option<(Kind, Range<usize>)> {
    let from = begin.start.saturating_sub(11);
    let text = &page.bytes[from..begin.start];
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let start = begin.start - digits;
    let body = length(page, begin.end, 34, |byte| Body::Url.holds(byte));
    let glued = page.prior(start).is_ascii_alphabetic();
    let fits = (8..=10).contains(&digits) && body == 33 && !glued;
    fits.then_some((Kind::Telegram, start..begin.end + body))
}

/// What stands behind the name of AWS's secret: 40 characters of base 64.
fn aws_secret(page: Page<'_>, begin: Range<usize>) -> Option<(Kind, Range<usize>)> {
    let gap = length(page, begin.end, 8, |byte| b" :='\">\n\\".contains(&byte));
    let start = begin.end + gap;
    let body = length(page, start, 41, |byte| Body::Base64.holds(byte));
    (body == 40 && gap > 0).then_some((Kind::Aws, start..start + body))
}
