//! How placeholders look, and how models spoil them. One is a word for the kind and a number, in
//! square brackets: `[EMAIL_1]`; where the texts have such words themselves, a letter stands before
//! all numbers: `[EMAIL_A1]`. Read as the same are those in other case, with a space or a hyphen or
//! nothing for the underscore, with spaces within the brackets, with Markdown's backslashes, and
//! without brackets where the word is in capitals and nothing touches it: `EMAIL_1`. Absent: what
//! they stand for.

/// The most digits of a number.
const MOST_DIGITS: usize = 6;

/// A placeholder as it is written.
pub(super) fn written(tag: &str, series: Option<u8>, number: u32) -> String {
    let series = series.map_or(String::new(), |letter| char::from(letter).to_string());
    format!("[{tag}_{series}{number}]")
}

/// What a placeholder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Where it ends.
    pub(super) end: usize,
    /// Which of the words.
    pub(super) tag: usize,
    /// The letter before its number, a capital.
    pub(super) series: Option<u8>,
    /// Its number.
    pub(super) number: u32,
}

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// No placeholder.
    No,
    /// The beginning of one, if the right text follows.
    More,
    /// One.
    Form(Form),
}

/// A place in a text, and whether its end was met while more was wanted.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    short: bool,
}

impl Cursor<'_> {
    fn peek(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied();
        self.short |= byte.is_none();
        byte
    }

    fn take(&mut self, holds: impl Fn(u8) -> bool) -> Option<u8> {
        let byte = self.peek().filter(|byte| holds(*byte))?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, wanted: u8) -> bool {
        self.take(|byte| byte == wanted).is_some()
    }

    fn word(&mut self, word: &str, any_case: bool) -> bool {
        let start = self.at;
        let fits = word.bytes().all(|wanted| {
            let same =
                |byte: u8| byte == wanted || (any_case && byte.eq_ignore_ascii_case(&wanted));
            self.take(same).is_some()
        });
        if !fits {
            self.at = start;
        }
        fits
    }
}

/// Whether a placeholder may begin with this character, of those with these words.
pub(super) fn begins(tags: &[&str], byte: u8) -> bool {
    let letter = || tags.iter().any(|tag| tag.as_bytes().first() == Some(&byte));
    !tags.is_empty() && (matches!(byte, b'[' | b'\\') || letter())
}

/// What stands at a place: `prior` is the character before it, `ended` says that nothing follows
/// the text.
pub(super) fn read(tags: &[&str], text: &[u8], at: usize, prior: u8, ended: bool) -> Step {
    let mut cursor = Cursor { text, at, short: false };
    let first = text.get(at).copied().unwrap_or(b' ');
    let form = if matches!(first, b'[' | b'\\') {
        bracketed(tags, &mut cursor)
    } else if prior.is_ascii_alphanumeric() || prior == b'_' {
        None
    } else {
        bare(tags, &mut cursor)
    };
    match form {
        // A bare number may go on; what has its bracket is whole.
        Some(form) if ended || !cursor.short => Step::Form(form),
        _ if cursor.short && !ended => Step::More,
        _ => Step::No,
    }
}

/// The letter of what would be a placeholder without brackets if nothing touched it.
pub(super) fn touched(tags: &[&str], text: &[u8], at: usize) -> Option<Option<u8>> {
    let mut cursor = Cursor { text, at, short: false };
    core(tags, &mut cursor, false).map(|form| form.series)
}

fn bracketed(tags: &[&str], cursor: &mut Cursor<'_>) -> Option<Form> {
    let escaped = cursor.eat(b'\\');
    if !cursor.eat(b'[') {
        return None;
    }
    cursor.eat(b' ');
    let form = core(tags, cursor, true)?;
    cursor.eat(b' ');
    let closed = cursor.eat(b'\\');
    let whole = (closed || !escaped) && cursor.eat(b']');
    whole.then_some(Form { end: cursor.at, ..form })
}

fn bare(tags: &[&str], cursor: &mut Cursor<'_>) -> Option<Form> {
    let form = core(tags, cursor, false)?;
    match cursor.peek() {
        Some(byte) if byte.is_ascii_alphanumeric() || byte == b'_' => None,
        _ => Some(form),
    }
}

/// The word and the number.
fn core(tags: &[&str], cursor: &mut Cursor<'_>, any_case: bool) -> Option<Form> {
    let tag = tags.iter().position(|tag| cursor.word(tag, any_case))?;
    let slashes = (0..2).filter(|_| cursor.eat(b'\\')).count();
    let joined = cursor.eat(b'_')
        || (any_case && slashes == 0 && cursor.take(|byte| matches!(byte, b'-' | b' ')).is_some());
    let needless = any_case && slashes == 0;
    if !joined && !needless {
        return None;
    }
    let letter = |byte: u8| byte.is_ascii_uppercase() || (any_case && byte.is_ascii_alphabetic());
    let series = cursor.take(letter).map(|byte| byte.to_ascii_uppercase());
    let mut number = 0;
    let mut digits = 0;
    while digits < MOST_DIGITS
        && let Some(digit) = cursor.take(|byte| byte.is_ascii_digit())
    {
        number = number * 10 + u32::from(digit - b'0');
        digits += 1;
        if number == 0 {
            return None;
        }
    }
    (digits > 0).then_some(Form { end: cursor.at, tag, series, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: &[&str] = &["EMAIL", "IP"];

    #[test]
    fn spoilt_placeholders_are_read() {
        let check = |text: &str, expect: Option<(usize, Option<u8>, u32)>| {
            let form = match read(TAGS, text.as_bytes(), 0, b' ', true) {
                Step::Form(form) if form.end == text.len() => Some(form),
                _ => None,
            };
            assert_eq!(form.map(|form| (form.tag, form.series, form.number)), expect, "{text:?}");
        };
        for text in [
            "[EMAIL_12]",
            "[email_12]",
            "[Email 12]",
            "[ EMAIL_12 ]",
            "[EMAIL-12]",
            "[EMAIL12]",
            "\\[EMAIL\\_12\\]",
            "[EMAIL\\_12]",
            "[EMAIL\\\\_12]",
            "EMAIL_12",
            "EMAIL\\_12",
            "[EMAIL_12\\]",
        ] {
            check(text, Some((0, None, 12)));
        }
        check("[IP_B7]", Some((1, Some(b'B'), 7)));
        check("[ip_b7]", Some((1, Some(b'B'), 7)));
        check("IP_B7", Some((1, Some(b'B'), 7)));
        for text in [
            "email_12",
            "EMAIL 12",
            "EMAIL12",
            "[EMAIL_]",
            "[EMAIL_012]",
            "[EMAIL_1234567]",
            "[EMAILS_1]",
            "(EMAIL_1)",
            "\\[EMAIL_1]",
            "[EMAIL_1",
            "[EMAIL__1]",
            "EMAIL_1a",
            "[]",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn every_beginning_waits_and_no_other() {
        let text = b"[EMAIL_12]";
        for end in 1..text.len() {
            assert_eq!(read(TAGS, &text[..end], 0, b' ', false), Step::More, "{end}");
        }
        assert!(matches!(read(TAGS, text, 0, b' ', false), Step::Form(_)));
        let check = |text: &str, expect: Step| {
            assert_eq!(read(TAGS, text.as_bytes(), 0, b' ', false), expect, "{text}");
        };
        check("[x", Step::No);
        check("[EMAIX", Step::No);
        check("EMAIL_1", Step::More);
        check("EMAIL_1 ", Step::Form(Form { end: 7, tag: 0, series: None, number: 1 }));
        check("EMAIL_1x", Step::No);
        check("EMAIL ", Step::No);
        check("\\", Step::More);
        check("\\n", Step::No);
    }
}
