//! Tokens back to text, one by one: what is shown is always whole characters. Bytes that begin a
//! character wait for the rest of it; bytes that cannot be UTF-8 become U+FFFD.

use super::Tokenizer;
use crate::Token;

/// Decodes one sequence. Push its tokens, then flush.
#[derive(Debug)]
pub struct Decoder {
    tokenizer: Tokenizer,
    /// At most three bytes that begin a character.
    waiting: Vec<u8>,
    /// Whether the next space is one that encoding put before the text.
    strip_space: bool,
}

impl Decoder {
    pub(super) fn new(tokenizer: Tokenizer, strip_space: bool) -> Self {
        Self { tokenizer, waiting: Vec::new(), strip_space }
    }

    /// The text that is complete with this token; empty while a character is not, and for control
    /// tokens and ids that the vocabulary lacks.
    pub fn push(&mut self, token: Token) -> String {
        let mut bytes = self.tokenizer.bytes(token).unwrap_or_default();
        if self.strip_space && !bytes.is_empty() {
            self.strip_space = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        if self.waiting.is_empty()
            && let Ok(text) = str::from_utf8(bytes)
        {
            return text.to_owned();
        }
        self.waiting.extend_from_slice(bytes);
        let mut text = String::new();
        let mut done = 0;
        for chunk in self.waiting.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            let at_end = done + invalid.len() == self.waiting.len();
            if invalid.is_empty() || at_end && may_continue(invalid) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            done += invalid.len();
        }
        self.waiting.drain(..done);
        text
    }

    /// What is left at the end: U+FFFD where a character was begun and not finished.
    pub fn flush(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.waiting).into_owned();
        self.waiting.clear();
        rest
    }
}

/// Whether more bytes can make a character of these.
fn may_continue(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
