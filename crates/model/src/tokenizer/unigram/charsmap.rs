//! SentencePiece's table of replaced characters, as models carry it (`precompiled_charsmap`): the
//! length of a double-array trie in bytes, the trie's units, and the texts that its values point
//! to, each ended by a zero byte. Layout of units: darts-clone (S. Yata), `DoubleArrayUnit`.

use crate::Error;

#[derive(Debug)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    /// What is put instead, each ended by a zero byte.
    texts: String,
}

impl Charsmap {
    pub(super) fn new(bytes: &[u8]) -> Result<Self, Error> {
        let broken = |what: &str| Error::Unsupported(format!("the tokenizer's charsmap {what}"));
        let Some((length, rest)) = bytes.split_first_chunk() else {
            return Err(broken("is too short"));
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some((trie, texts)) = rest.split_at_checked(length) else {
            return Err(broken("is cut off"));
        };
        let (units, left) = trie.as_chunks();
        if !left.is_empty() || units.is_empty() {
            return Err(broken("has parts of units"));
        }
        let texts = str::from_utf8(texts).map_err(|_| broken("holds what is no UTF-8"))?;
        let units = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Self { units, texts: texts.to_owned() })
    }

    /// The longest beginning of a text that is replaced: its bytes, and by what.
    pub(super) fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let mut at = offset(*self.units.first()?);
        let mut found = None;
        for (i, byte) in text.bytes().enumerate() {
            if byte == 0 {
                break;
            }
            at ^= usize::from(byte);
            let unit = *self.units.get(at)?;
            if unit & (1 << 31 | 0xFF) != u32::from(byte) {
                break;
            }
            at ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = *self.units.get(at)? & !(1 << 31);
                found = Some((i + 1, value as usize));
            }
        }
        let (bytes, value) = found.filter(|(bytes, _)| text.is_char_boundary(*bytes))?;
        let to = self.texts.get(value..)?;
        Some((bytes, &to[..to.find('\0').unwrap_or(to.len())]))
    }
}

/// Where a unit's children are, apart from it.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_table_is_refused_and_replaces_nothing() {
        let refused = |bytes: &[u8], expect: &str| {
            let error = Charsmap::new(bytes).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        };
        refused(&[1, 2], "too short");
        refused(&[255, 255, 255, 255, 0], "cut off");
        refused(&[3, 0, 0, 0, 1, 2, 3], "parts of units");
        refused(&[0, 0, 0, 0], "parts of units");
        refused(&[4, 0, 0, 0, 0, 0, 0, 0, 255], "no UTF-8");
        for unit in [0, u32::MAX, 1 << 9, 0xFFFF_FC00, 97, 97 | 1 << 8] {
            let units = [4u32, unit].map(u32::to_le_bytes).concat();
            let map = Charsmap::new(&units).expect("has its lengths");
            for text in ["", "a", "é", "\0", "abc"] {
                assert_eq!(map.longest(text), None, "{unit:x} {text}");
            }
        }
    }
}
