//! Salts by number. A text keeps its number for as long as it is among those used last, and no
//! number is ever given twice; so a text that was forgotten gets a new one, finds nothing of what
//! it shared before, and nobody else finds it either.

use ingle_scheduler::Salt;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
struct Known {
    number: u64,
    used: u64,
}

/// The salts of an engine, the empty one always being 0.
#[derive(Debug)]
pub(crate) struct Salts {
    most: usize,
    known: BTreeMap<Arc<str>, Known>,
    texts: BTreeMap<u64, Arc<str>>,
    next: u64,
    clock: u64,
}

impl Salts {
    /// Remembers at most so many texts.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, known: BTreeMap::new(), texts: BTreeMap::new(), next: 1, clock: 0 }
    }

    /// The number of a text.
    pub(crate) fn number(&mut self, text: &str) -> Salt {
        if text.is_empty() {
            return Salt::default();
        }
        self.clock += 1;
        if let Some(known) = self.known.get_mut(text) {
            known.used = self.clock;
            return Salt(known.number);
        }
        if self.known.len() >= self.most {
            self.forget();
        }
        let (text, number) = (Arc::<str>::from(text), self.next);
        self.next += 1;
        self.known.insert(Arc::clone(&text), Known { number, used: self.clock });
        self.texts.insert(number, text);
        Salt(number)
    }

    /// The text of a number, unless it was forgotten.
    pub(crate) fn text(&self, salt: Salt) -> Option<Arc<str>> {
        if salt == Salt::default() { Some("".into()) } else { self.texts.get(&salt.0).cloned() }
    }

    fn forget(&mut self) {
        let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
        let Some((text, number)) = oldest.map(|(text, known)| (Arc::clone(text), known.number))
        else {
            return;
        };
        self.known.remove(&text);
        self.texts.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_one_text_for_ever() {
        let mut salts = Salts::new(2);
        let mut check = |text: &str, number: u64| {
            assert_eq!(salts.number(text), Salt(number), "{text:?}");
            assert_eq!(salts.text(Salt(number)).as_deref(), Some(text));
            assert!(salts.known.len() <= 2 && salts.texts.len() == salts.known.len());
        };
        check("", 0);
        check("a", 1);
        check("b", 2);
        check("a", 1);
        check("c", 3); // b makes room
        check("a", 1);
        check("b", 4);
        check("c", 5);
        check("", 0);
        assert_eq!(salts.text(Salt(1)), None);
    }
}
