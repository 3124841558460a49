//! What makes the ledger a chain: each row's hash is SHA-256 of the hash before it and of the row's
//! own text. No secret is in it; who holds an [`Anchor`] can tell whether the chain was rewritten.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::Error;

/// A SHA-256. The hash before the first row is all zeros.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of a row with this text behind a row with this hash.
    pub(crate) fn link(self, body: &str) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(body).finalize().into())
    }

    /// The digest of some bytes, which stand in no chain.
    pub(crate) fn digest(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of a column; `None` where it has not 32 bytes.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let pair = |pair: &[u8]| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8);
        let bytes: Option<Vec<u8>> =
            (text.len() == 64).then(|| text.as_bytes().chunks(2).map(pair).collect()).flatten();
        bytes.as_deref().and_then(Self::of).ok_or_else(|| Error::Place {
            what: "a hash is 64 hexadecimal digits, as `ingle audit export` writes it".into(),
        })
    }
}

/// A ledger's length and last hash at some time. Kept elsewhere, it shows later whether the chain
/// still begins as it did. As text it is `HASH:COUNT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// How many rows there were, those removed since the beginning too.
    pub count: u64,
    /// The last one's hash.
    pub head: Hash,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.head, self.count)
    }
}

impl FromStr for Anchor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Place {
            what: "an anchor is HASH:COUNT, as `ingle audit export` writes it".into(),
        };
        let (head, count) = text.trim().split_once(':').ok_or_else(wrong)?;
        Ok(Self { head: head.parse()?, count: count.parse().map_err(|_| wrong())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_the_hash_of_both() {
        // (printf '%064d' 0 | xxd -r -p; printf abc) | sha256sum
        let expect = "365aa7d8f7f9402c4b9434502b4cc89ddb09fe50d7cd95b493b834c62d5a5370";
        let first = Hash::default().link("abc");
        assert_eq!(first.to_string(), expect);
        assert_ne!(first, Hash::default().link("abd"));
        assert_ne!(first, first.link("abc"));
    }

    #[test]
    fn anchors_are_text_and_back() {
        let anchor = Anchor { count: 17, head: Hash::default().link("x") };
        assert_eq!(anchor.to_string().parse(), Ok(anchor));
        assert_eq!(format!(" {anchor}\n").parse(), Ok(anchor));
        let head = anchor.head.to_string();
        let check = |text: &str| assert!(text.parse::<Anchor>().is_err(), "{text:?}");
        check("");
        check(&head);
        check(&format!("{head}:"));
        check(&format!("{head}:-1"));
        check(&format!("{}:1", &head[1..]));
        check(&format!("{}é:1", &head[2..]));
        check(&format!("{}g:1", &head[1..]));
    }
}
