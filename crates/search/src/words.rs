//! A question as words: what full-text search is asked, and which words of a passage are meant.
//! Words are letters and digits, folded to small ones. Absent: what words mean.

use std::collections::BTreeSet;

/// Bytes of a question, at most.
pub(crate) const QUESTION: usize = 8192;

/// English words that stand nearly everywhere: they tell passages apart by next to nothing, and
/// looking each of their places up is most of the time that a search takes.
const COMMON: &[&str] = &[
    "a", "about", "an", "and", "are", "as", "at", "be", "been", "by", "can", "did", "do", "does",
    "for", "from", "had", "has", "have", "he", "her", "his", "how", "i", "in", "is", "it", "its",
    "many", "much", "of", "on", "or", "s", "she", "that", "the", "their", "there", "they", "this",
    "to", "was", "were", "what", "when", "where", "which", "who", "whom", "whose", "why", "will",
    "with", "you", "your",
];

/// The words of a text, with the byte that each begins at.
pub(crate) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split(|c: char| !c.is_alphanumeric()).filter_map(move |word| {
        let start = at;
        let behind = text[start + word.len()..].chars().next().map_or(0, char::len_utf8);
        at = start + word.len() + behind;
        (!word.is_empty()).then_some((start, word))
    })
}

/// The different words of a question that tell anything, in order; all where none does.
pub(crate) fn telling(question: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let all = words(question).map(|(_, word)| word.to_lowercase());
    let all: Vec<String> = all.filter(|word| seen.insert(word.clone())).collect();
    let is_common = |word: &String| COMMON.binary_search(&word.as_str()).is_ok();
    if all.iter().all(is_common) {
        return all;
    }
    all.into_iter().filter(|word| !is_common(word)).collect()
}

/// What an FTS5 table is asked for any of these words; `None` where there are none.
pub(crate) fn query(words: &[String]) -> Option<String> {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    (!quoted.is_empty()).then(|| quoted.join(" OR "))
}

/// Endings of English that do not make another word of it, the longest first.
const ENDINGS: &[&str] = &["ings", "ing", "edly", "ed", "ies", "es", "ly", "s", "e", "y"];

/// A word without its ending: enough to see that `searching` is meant by `search`. The index has a
/// better stemmer of its own (Porter, 1980); this one only chooses what is shown.
pub(crate) fn stem(word: &str) -> String {
    let word = word.to_lowercase();
    let bare = ENDINGS.iter().find_map(|end| word.strip_suffix(end));
    bare.filter(|bare| bare.chars().count() >= 3).map_or(word.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_queries() {
        let check = |question: &str, expect: Option<&str>| {
            assert_eq!(query(&telling(question)).as_deref(), expect, "{question}");
        };
        check("What is the speed of light?", Some("\"speed\" OR \"light\""));
        check("who was it", Some("\"who\" OR \"was\" OR \"it\""));
        check("light LIGHT Light", Some("\"light\""));
        check("a\" OR text:b* NEAR(c)", Some("\"text\" OR \"b\" OR \"near\" OR \"c\""));
        check("Überprüfung 2.0", Some("\"überprüfung\" OR \"2\" OR \"0\""));
        check("…?!", None);
        check("", None);
    }

    #[test]
    fn words_have_places() {
        let found: Vec<(usize, &str)> = words("é-a  bc.").collect();
        assert_eq!(found, [(0, "é"), (3, "a"), (6, "bc")]);
    }

    #[test]
    fn common_words_can_be_searched_in() {
        assert!(COMMON.is_sorted());
    }

    #[test]
    fn endings_are_no_other_words() {
        for [a, b] in [["searching", "search"], ["cities", "city"], ["files", "file"]] {
            assert_eq!(stem(a), stem(b));
        }
        assert_ne!(stem("red"), stem("r"));
    }
}
