//! Pictures in turns, as all formats that have them share them: data URLs, the first bytes by which
//! a picture's type is known, and a turn's text cut where its pictures stand. Absent: fetching,
//! decoding and looking.

use super::check::{self, Read};
use crate::{Message, Picture, Source};

/// At most this many pictures a turn.
const PICTURES_MAX: usize = 256;
/// The longest address of a picture that lies elsewhere, in bytes.
const URL_MAX: usize = 8192;

/// How base64 of each type of picture begins.
static BEGINNINGS: &[(&str, &str)] = &[
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("Qk", "image/bmp"),
];

/// A turn's text and pictures while its parts are read: texts are lines of it, and a picture stands
/// between them.
#[derive(Default)]
pub(super) struct Mixed {
    pub(super) text: String,
    pub(super) pictures: Vec<Picture>,
    begun: bool,
}

impl Mixed {
    /// A text of its own lines, empty ones too.
    pub(super) fn line(&mut self, text: &str) {
        if std::mem::replace(&mut self.begun, true) {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }

    /// A picture behind all that was read so far.
    pub(super) fn picture(&mut self, at: &str, picture: Picture) -> Read<()> {
        push(at, &self.text, &mut self.pictures, picture)
    }
}

/// Puts a picture behind `text`.
pub(super) fn push(
    at: &str,
    text: &str,
    pictures: &mut Vec<Picture>,
    picture: Picture,
) -> Read<()> {
    if pictures.len() == PICTURES_MAX {
        return check::bad(
            at,
            format!("is one picture too many: a turn has {PICTURES_MAX} at most"),
        );
    }
    pictures.push(Picture { at: text.len(), ..picture });
    Ok(())
}

/// An address of the web, or a data URL of an image in base64.
pub(super) fn from_url(at: &str, url: &str) -> Read<Picture> {
    if let Some(data) = url.strip_prefix("data:") {
        let Some((media, data)) = data.split_once(";base64,") else {
            return check::bad(at, "must hold its data in base64: data:image/png;base64,…");
        };
        return from_base64(at, media, data);
    }
    address(at, url)?;
    Ok(Picture { source: Source::Url(url.to_owned()), ..Picture::default() })
}

/// An address of the web alone.
pub(super) fn address(at: &str, url: &str) -> Read<()> {
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        return check::bad(at, "must begin with https://, http:// or data:image/");
    }
    if url.len() > URL_MAX || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let why = format!("must be an address of at most {URL_MAX} bytes without blanks");
        return check::bad(at, why);
    }
    Ok(())
}

/// A picture of that type, in base64.
pub(super) fn from_base64(at: &str, media: &str, data: &str) -> Read<Picture> {
    let letter = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let subtype = media.strip_prefix("image/").filter(|it| it.len() <= 64);
    if subtype.is_none_or(|it| it.is_empty() || !it.chars().all(letter)) {
        return check::bad(at, "must be of an image's type, such as image/png");
    }
    is_base64(at, data)?;
    let source = Source::Base64(data.to_owned());
    Ok(Picture { media: media.to_owned(), source, ..Picture::default() })
}

/// A picture whose type its first bytes tell, if they do.
pub(super) fn from_bare(at: &str, data: &str) -> Read<Picture> {
    is_base64(at, data)?;
    let media = BEGINNINGS.iter().find(|row| data.starts_with(row.0)).map_or("", |row| row.1);
    let source = Source::Base64(data.to_owned());
    Ok(Picture { media: media.to_owned(), source, ..Picture::default() })
}

fn is_base64(at: &str, data: &str) -> Read<()> {
    let body = data.strip_suffix("==").or_else(|| data.strip_suffix('=')).unwrap_or(data);
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    if data.is_empty() || !data.len().is_multiple_of(4) || !body.bytes().all(letter) {
        return check::bad(at, "is no base64 (of the standard alphabet, padded)");
    }
    Ok(())
}

/// A picture as an address: its own, or a data URL.
pub(super) fn to_url(picture: &Picture) -> String {
    match &picture.source {
        Source::Url(url) => url.clone(),
        Source::Base64(data) => format!("data:{};base64,{data}", media(picture)),
    }
}

/// A picture's type, for formats that want one.
pub(super) fn media(picture: &Picture) -> &str {
    // What nobody told is said to be the usual type: who looks at it reads its first bytes.
    if picture.media.is_empty() { "image/png" } else { &picture.media }
}

/// A part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Some of its text.
    Text(&'a str),
    /// One of its pictures.
    Picture(&'a Picture),
}

/// A turn's text, cut where its pictures stand. A line feed behind a picture is what joined the
/// text before it to that behind it, and is left out. A picture that stands within a character
/// stands before it.
pub(super) fn parts(message: &Message) -> Vec<Part<'_>> {
    let (text, mut from, mut out) = (message.content.as_str(), 0, Vec::new());
    let mut told = false;
    for picture in &message.pictures {
        let to = text.floor_char_boundary(picture.at.min(text.len())).max(from);
        if to > from {
            out.push(Part::Text(rest(&text[from..to], told)));
            (told, from) = (true, to);
        }
        out.push(Part::Picture(picture));
    }
    if from < text.len() {
        out.push(Part::Text(rest(&text[from..], told)));
    }
    out
}

/// A piece of text behind others, without the line feed that joined it to them.
fn rest(text: &str, told: bool) -> &str {
    if told { text.strip_prefix('\n').unwrap_or(text) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(content: &str, at: &[usize]) -> Message {
        let picture = |at: &usize| Picture { at: *at, ..Picture::default() };
        let pictures = at.iter().map(picture).collect();
        Message { content: content.into(), pictures, ..Message::default() }
    }

    #[test]
    fn a_turn_is_cut_at_its_pictures() {
        let check = |content: &str, at: &[usize], expect: &[&str]| {
            let turn = turn(content, at);
            let told: Vec<&str> = parts(&turn)
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text,
                    Part::Picture(_) => "#",
                })
                .collect();
            assert_eq!(told, expect, "{content:?} {at:?}");
        };
        check("a", &[], &["a"]);
        check("", &[0], &["#"]);
        check("a", &[0], &["#", "a"]);
        check("a", &[1], &["a", "#"]);
        check("a\nb", &[1], &["a", "#", "b"]);
        check("a\nb", &[1, 1], &["a", "#", "#", "b"]);
        check("\nb", &[0], &["#", "\nb"]);
        check("ab", &[1], &["a", "#", "b"]);
        check("é", &[1], &["#", "é"]);
        check("a", &[9, 0], &["a", "#", "#"]);
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let check = |url: &str, words: &str| {
            let fault = from_url("x", url).expect_err(url);
            assert!(fault.message.contains(words), "{fault}");
        };
        check("data:image/png,abc", "in base64");
        check("data:text/plain;base64,aGk=", "image's type");
        check("data:image/;base64,aGk=", "image's type");
        check("data:image/png;base64,aGk", "no base64");
        check("data:image/png;base64,a=k=", "no base64");
        check("data:image/png;base64,", "no base64");
        check("file:///etc/passwd", "https://");
        check("https://a b", "without blanks");
        let picture = from_url("x", "data:image/png;base64,aGk=").expect("a picture");
        assert_eq!(to_url(&picture), "data:image/png;base64,aGk=");
        assert_eq!(from_bare("x", "/9j/4AAQ").expect("a picture").media, "image/jpeg");
        assert_eq!(from_bare("x", "aGk=").expect("a picture").media, "");
    }
}
