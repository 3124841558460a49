//! The text of an HTML page, as a reader sees it: without tags, scripts, styles and comments,
//! blocks apart, entities as characters. A page that is broken gives what can be read of
//! it; each byte is looked at a few times at most.
//!
//! Absent: what scripts would write, and what styles hide.

use super::{Heading, Text};

/// Elements whose contents nobody reads.
const HIDDEN: &[&str] = &["script", "style", "noscript", "template", "svg", "iframe", "object"];
/// Elements that stand apart from what is around them.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "header",
    "hr",
    "li",
    "main",
    "nav",
    "ol",
    "option",
    "p",
    "pre",
    "section",
    "select",
    "summary",
    "table",
    "tbody",
    "tfoot",
    "thead",
    "title",
    "tr",
    "ul",
];
/// Of these, those that only begin a line.
const LINES: &[&str] = &["br", "dd", "dt", "li", "option", "tr"];

/// Named characters that are frequent; others stay as they are written.
const ENTITIES: &[(&str, &str)] = &[
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("ndash", "–"),
    ("mdash", "—"),
    ("hellip", "…"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("bull", "•"),
    ("middot", "·"),
    ("copy", "©"),
    ("reg", "®"),
    ("trade", "™"),
    ("euro", "€"),
    ("pound", "£"),
    ("yen", "¥"),
    ("cent", "¢"),
    ("sect", "§"),
    ("deg", "°"),
    ("plusmn", "±"),
    ("times", "×"),
    ("divide", "÷"),
    ("frac12", "½"),
    ("micro", "µ"),
    ("para", "¶"),
    ("shy", ""),
    ("rarr", "→"),
    ("larr", "←"),
    ("auml", "ä"),
    ("ouml", "ö"),
    ("uuml", "ü"),
    ("Auml", "Ä"),
    ("Ouml", "Ö"),
    ("Uuml", "Ü"),
    ("szlig", "ß"),
    ("agrave", "à"),
    ("aacute", "á"),
    ("acirc", "â"),
    ("aring", "å"),
    ("aelig", "æ"),
    ("ccedil", "ç"),
    ("egrave", "è"),
    ("eacute", "é"),
    ("ecirc", "ê"),
    ("euml", "ë"),
    ("iacute", "í"),
    ("icirc", "î"),
    ("iuml", "ï"),
    ("ntilde", "ñ"),
    ("oacute", "ó"),
    ("ocirc", "ô"),
    ("oslash", "ø"),
    ("uacute", "ú"),
    ("ucirc", "û"),
];
/// Bytes of an entity, at most.
const ENTITY: usize = 12;

/// Reads a page.
pub(super) fn read(base: &Text) -> Text {
    let mut page = Page::new(base);
    while page.at < page.html.len() {
        page.step();
    }
    page.out
}

struct Page<'a> {
    base: &'a Text,
    html: &'a str,
    at: usize,
    out: Text,
    /// Within so many `pre`.
    pre: usize,
    /// The heading that is being read: where it began, and its level.
    heading: Option<(usize, u8)>,
    /// A `<` was met that no `>` follows; there are no more tags then.
    no_more_tags: bool,
    /// A tag's quote does not end; quotes mean nothing from there on.
    quotes_broken: bool,
}

/// A tag.
#[derive(Debug, PartialEq)]
struct Tag {
    name: String,
    closes: bool,
}

impl<'a> Page<'a> {
    fn new(base: &'a Text) -> Self {
        let (html, out) = (base.text.as_str(), Text::default());
        let (no_more_tags, quotes_broken) = (false, false);
        Self { base, html, at: 0, out, pre: 0, heading: None, no_more_tags, quotes_broken }
    }

    fn rest(&self) -> &'a str {
        &self.html[self.at..]
    }

    /// Reads what comes next: a comment, a tag, an entity or a run of text.
    fn step(&mut self) {
        let rest = self.rest();
        if let Some(inner) = rest.strip_prefix("<!--") {
            self.at += inner.find("-->").map_or(rest.len(), |end| "<!---->".len() + end);
        } else if self.is_tag(rest) {
            self.tag();
        } else if let Some((text, bytes)) = rest.strip_prefix('&').and_then(entity) {
            self.text(&text, true);
            self.at += 1 + bytes;
        } else {
            let first = rest.chars().next().map_or(1, char::len_utf8);
            let run = rest[first..].find(['<', '&']).map_or(rest.len(), |end| first + end);
            self.text(&rest[..run], false);
            self.at += run;
        }
    }

    fn is_tag(&self, rest: &str) -> bool {
        let second = rest.as_bytes().get(1).copied().unwrap_or_default();
        let opens = second.is_ascii_alphabetic() || matches!(second, b'/' | b'!' | b'?');
        rest.starts_with('<') && opens && !self.no_more_tags
    }

    fn tag(&mut self) {
        let rest = self.rest();
        let Some(end) = self.tag_end(rest) else {
            self.no_more_tags = true;
            return;
        };
        let inner = rest[1..end].trim_start_matches('/');
        let closes = rest.as_bytes()[1] == b'/';
        let name: String = inner.chars().take(16).take_while(char::is_ascii_alphanumeric).collect();
        self.at += end + 1;
        let tag = Tag { name: name.to_ascii_lowercase(), closes };
        if HIDDEN.contains(&tag.name.as_str()) && !closes && !inner.ends_with('/') {
            self.skip_to_close(&tag.name);
        } else {
            self.mark(&tag);
        }
    }

    /// Where the tag's `>` is, one within quotes aside.
    fn tag_end(&mut self, rest: &str) -> Option<usize> {
        let mut quote = None;
        for (at, byte) in rest.bytes().enumerate().filter(|_| !self.quotes_broken) {
            match (byte, quote) {
                (b'>', None) => return Some(at),
                (b'"' | b'\'', None) => quote = Some(byte),
                (_, Some(open)) if open == byte => quote = None,
                _ => {}
            }
        }
        self.quotes_broken = true;
        rest.find('>')
    }

    /// Goes behind the tag that closes an element whose contents nobody reads.
    fn skip_to_close(&mut self, name: &str) {
        let rest = self.rest();
        let is_close = |at: &usize| {
            let word = rest.as_bytes().get(at + 2..at + 2 + name.len());
            word.is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()))
        };
        let close = rest.match_indices("</").map(|found| found.0).find(is_close);
        let behind = |at: usize| rest[at..].find('>').map_or(rest.len(), |end| at + end + 1);
        self.at += close.map_or(rest.len(), behind);
    }

    /// What a tag does to the text around it.
    fn mark(&mut self, tag: &Tag) {
        let name = tag.name.as_str();
        if LINES.contains(&name) {
            self.apart(1);
        } else if BLOCKS.contains(&name) {
            self.apart(2);
        } else if matches!(name, "td" | "th") && !tag.closes {
            self.text(" ", true);
        }
        if name == "pre" {
            self.pre = if tag.closes { self.pre.saturating_sub(1) } else { self.pre + 1 };
        }
        let level = match name {
            "title" | "h1" => 1,
            "h2" | "h3" | "h4" | "h5" | "h6" => name.as_bytes()[1] - b'0',
            _ => return,
        };
        if !tag.closes {
            self.heading = Some((self.out.text.len(), level));
        } else if let Some((start, level)) = self.heading.take() {
            let title = self.out.text[start..].split_whitespace().collect::<Vec<_>>().join(" ");
            let at = start..self.out.text.len();
            self.out.headings.push(Heading { at, level, title });
        }
    }

    /// Ends the line, or the paragraph.
    fn apart(&mut self, feeds: usize) {
        let there = self.out.text.len() - self.out.text.trim_end_matches('\n').len();
        if !self.out.text.is_empty() && there < feeds {
            self.out.put(self.base.source(self.at), &"\n".repeat(feeds - there));
        }
    }

    /// Adds text that stands here, each run of blanks as one outside of `pre`; `derived` where it
    /// is not in the file as it is here.
    fn text(&mut self, text: &str, derived: bool) {
        let at = self.at;
        if derived {
            let blank = text == " " && self.out.text.ends_with(char::is_whitespace);
            if !blank || self.pre > 0 {
                self.out.put(self.base.source(at), text);
            }
            return;
        }
        if self.pre > 0 {
            self.out.take(self.base, at, text);
            return;
        }
        let mut start = 0;
        for word in text.split_inclusive(char::is_whitespace) {
            let bare = word.trim_end();
            if !bare.is_empty() {
                self.out.take(self.base, at + start, bare);
            }
            let ended = self.out.text.is_empty() || self.out.text.ends_with(char::is_whitespace);
            if bare.len() < word.len() && !ended {
                self.out.put(self.base.source(at + start + bare.len()), " ");
            }
            start += word.len();
        }
    }
}

/// The character that an entity stands for, behind its `&`, and its bytes there.
fn entity(rest: &str) -> Option<(String, usize)> {
    let end = rest.bytes().take(ENTITY).position(|byte| byte == b';')?;
    let name = rest.get(..end)?;
    let text = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code).filter(|c| *c != '\0')?.to_string()
        }
        None => ENTITIES.iter().find(|row| row.0 == name)?.1.to_owned(),
    };
    Some((text, end + 1))
}
