//! What stands in a block's file, and how it is named.
//!
//! `magic, identity, salt's length, salt, count of tokens, tokens, payload's length, payload,
//! checksum`; numbers are little-endian, lengths and tokens of 32 bits, the last two of 64.

use ingle_protocol::Token;
use sha2::{Digest, Sha256};

/// Changes whenever the form does.
const MAGIC: &[u8; 8] = b"INGLEKV1";
/// Bytes of the checksum.
pub(crate) const SUM: usize = 8;

/// What computed a block: model, program and arithmetic.
pub(crate) type Identity = [u8; 32];

/// What a block's file is called. Two blocks of one name would hide each other, and no more.
pub(crate) type Name = u128;

/// Who a block is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) salt: &'a str,
    /// From the start of the sequence to the end of the block.
    pub(crate) tokens: &'a [Token],
}

/// The names of a sequence's full blocks, first to last.
pub(crate) fn names<'a>(key: Key<'a>, block_tokens: usize) -> impl Iterator<Item = Name> + 'a {
    let start = Sha256::new().chain_update(key.identity).chain_update(key.salt);
    let start: [u8; 32] = start.finalize().into();
    key.tokens.chunks_exact(block_tokens).scan(start, |before, block| {
        let mut hash = Sha256::new().chain_update(*before);
        block.iter().for_each(|token| hash.update(token.to_le_bytes()));
        *before = hash.finalize().into();
        before.first_chunk::<16>().map(|name| Name::from_le_bytes(*name))
    })
}

/// How a block's file begins, up to its payload.
pub(crate) fn head(key: Key<'_>, payload_bytes: usize) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).expect("far below 2^32").to_le_bytes();
    let mut head = Vec::with_capacity(64 + key.salt.len() + 4 * key.tokens.len());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(key.identity);
    head.extend_from_slice(&number(key.salt.len()));
    head.extend_from_slice(key.salt.as_bytes());
    head.extend_from_slice(&number(key.tokens.len()));
    key.tokens.iter().for_each(|token| head.extend_from_slice(&token.to_le_bytes()));
    head.extend_from_slice(&(payload_bytes as u64).to_le_bytes());
    head
}

/// Bytes of the file of a block.
pub(crate) fn file_bytes(head: usize, payload: usize) -> u64 {
    (head + payload + SUM) as u64
}

/// Completes a file's bytes, head and payload, by their checksum.
pub(crate) fn seal(bytes: &mut Vec<u8>) {
    let sum = checksum(bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
}

/// The payload of a file, if the file is just what its head and its checksum say.
pub(crate) fn payload<'a>(bytes: &'a [u8], head: &[u8]) -> Option<&'a [u8]> {
    let (content, sum) = bytes.split_last_chunk::<SUM>()?;
    let payload = content.strip_prefix(head)?;
    (checksum(content) == u64::from_le_bytes(*sum)).then_some(payload)
}

/// A sum that misses no damage within one word of 8 bytes, and other damage once in 2⁶⁴: each step
/// is one-to-one in the word for a given state, and in the state for a given word. Against chance
/// alone, not against whoever may write into the directory.
fn checksum(bytes: &[u8]) -> u64 {
    const LANES: usize = 4;
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let step = |state: u64, word: u64| (state ^ word).wrapping_mul(ODD).rotate_left(29);
    let mut lanes: [u64; LANES] = [1, 2, 3, 4];
    let (words, rest) = bytes.as_chunks::<8>();
    let (rows, odd) = words.as_chunks::<LANES>();
    for row in rows {
        for (lane, word) in lanes.iter_mut().zip(row) {
            *lane = step(*lane, u64::from_le_bytes(*word));
        }
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let tail = odd.iter().chain([&last]).map(|word| u64::from_le_bytes(*word));
    let all = lanes.into_iter().chain(tail).chain([bytes.len() as u64]);
    all.fold(0, |sum, word| {
        let sum = step(sum, word);
        sum ^ (sum >> 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Identity = [7; 32];

    fn key<'a>(salt: &'a str, tokens: &'a [Token]) -> Key<'a> {
        Key { identity: &ID, salt, tokens }
    }

    #[test]
    fn names_go_by_all_that_came_before() {
        let tokens: Vec<Token> = (0..64).collect();
        let all: Vec<Name> = names(key("", &tokens), 16).collect();
        assert_eq!(all.len(), 4);
        let prefix: Vec<Name> = names(key("", &tokens[..40]), 16).collect();
        assert_eq!(prefix, all[..2], "a longer sequence names its prefix alike");
        let others = [key("a", &tokens), key("", &tokens[16..]), key("", &[0; 64])];
        let others = others.into_iter().flat_map(|key| names(key, 16).collect::<Vec<_>>());
        assert!(others.into_iter().all(|name| !all.contains(&name)));
    }

    /// Whatever is changed, cut or added is noticed.
    #[test]
    fn no_damage_goes_unnoticed() {
        for payload_bytes in [0, 1, 7, 8, 31, 32, 33, 100] {
            let head = head(key("salt", &[1, 2, 3]), payload_bytes);
            let content: Vec<u8> = (0..payload_bytes as u8).collect();
            let mut sound = [&head[..], &content].concat();
            seal(&mut sound);
            assert_eq!(sound.len() as u64, file_bytes(head.len(), payload_bytes));
            assert_eq!(payload(&sound, &head), Some(&content[..]));
            for at in 0..sound.len() {
                for bit in 0..8 {
                    let mut broken = sound.clone();
                    broken[at] ^= 1 << bit;
                    assert_eq!(payload(&broken, &head), None, "bit {bit} of byte {at}");
                }
                assert_eq!(payload(&sound[..at], &head), None, "cut at {at}");
                let mut zeroed = sound.clone();
                zeroed[at..].fill(0);
                assert!(zeroed == sound || payload(&zeroed, &head).is_none(), "zeros from {at}");
            }
            assert_eq!(payload(&[&sound[..], &[0]].concat(), &head), None, "one byte more");
        }
    }

    /// A head is of one key alone.
    #[test]
    fn a_file_of_another_is_no_file() {
        let own = key("ab", &[1, 2]);
        let mut bytes = head(own, 0);
        seal(&mut bytes);
        let others = [
            key("a", &[1, 2]),
            key("ab", &[1, 3]),
            key("ab", &[1, 2, 3]),
            key("ab", &[]),
            Key { identity: &[8; 32], ..own },
        ];
        assert!(payload(&bytes, &head(own, 0)).is_some());
        assert!(others.into_iter().all(|other| payload(&bytes, &head(other, 0)).is_none()));
    }
}
