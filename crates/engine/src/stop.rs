//! Finds stop texts in a stream of text, across the edges of its pieces.
//!
//! Text is held back only while it may still turn out to be the beginning of a stop text, so a
//! stream without one arrives at once. The stop text that is complete first ends the answer; of
//! several that are complete at the same character, the longest. So what is found depends on the
//! text alone, never on how it was cut into pieces.
//!
//! Absent here: tokens, and the model's own end of generation.

/// What a push showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// No stop text yet; this much can be shown to the caller.
    Safe(String),
    /// A stop text was met; this is the last text before it.
    Found(String),
}

/// Watches one answer's text.
#[derive(Clone, Debug)]
pub struct StopText {
    stops: Vec<String>,
    /// Not yet shown: the beginning of some stop text.
    held: String,
    found: Option<String>,
}

impl StopText {
    /// Watches for these texts; an empty one is ignored.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new(), found: None }
    }

    /// Takes in more text. After a stop text was found, whatever comes is swallowed.
    pub fn push(&mut self, text: &str) -> Pushed {
        if self.found.is_some() {
            return Pushed::Found(String::new());
        }
        self.held.push_str(text);
        let matches = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        if let Some((end, start)) = matches.min() {
            self.found = Some(self.held[start..end].to_owned());
            self.held.truncate(start);
            return Pushed::Found(std::mem::take(&mut self.held));
        }
        let kept = self.held.split_off(self.safe());
        Pushed::Safe(std::mem::replace(&mut self.held, kept))
    }

    /// The stop text that was met.
    pub fn met(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// The stream is over: what was held back was no stop text after all.
    pub fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// How many bytes of `held` belong to no stop text, whatever follows.
    fn safe(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let first = (self.held.len() + 1).saturating_sub(longest);
        let mut starts = self.held.char_indices().map(|(at, _)| at).filter(|&at| at >= first);
        let begins = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        starts.find(begins).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown in all, and whether a stop text was found.
    fn stream<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut watch = StopText::new(&stops);
        let mut shown = String::new();
        for piece in pieces {
            match watch.push(piece) {
                Pushed::Safe(text) => shown += &text,
                Pushed::Found(text) => {
                    assert!(watch.met().is_some_and(|met| stops.iter().any(|stop| stop == met)));
                    return (shown + &text, true);
                }
            }
        }
        (shown + &watch.rest(), false)
    }

    /// The same, by looking at every end and every stop text of the whole.
    fn naive(stops: &[&str], text: &str) -> (String, bool) {
        for end in 0..=text.len() {
            let ends = |stop: &&&str| {
                !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes())
            };
            if let Some(longest) = stops.iter().filter(ends).map(|stop| stop.len()).max() {
                return (text[..end - longest].to_string(), true);
            }
        }
        (text.to_string(), false)
    }

    #[test]
    fn pieces_are_watched_across_their_edges() {
        let check = |stops: &[&str], pieces: &[&str], shown: &str, found: bool| {
            let told = stream(stops, pieces.iter().copied());
            assert_eq!(told, (shown.to_string(), found), "{stops:?} in {pieces:?}");
        };
        check(&[], &["a", "b"], "ab", false);
        check(&[""], &["a", "b"], "ab", false);
        check(&["\n\n"], &["one\n", "\ntwo"], "one", true);
        check(&["\n\n"], &["one\n", "two\n"], "one\ntwo\n", false);
        check(&["aab"], &["a", "a", "a", "b"], "a", true);
        check(&["abcd", "bc"], &["abcd"], "a", true);
        check(&["bc", "abc"], &["ab", "c"], "", true);
        check(&["END"], &["the END", " and more"], "the ", true);
        check(&["é!"], &["caf", "é", "é!", "x"], "café", true);
    }

    #[test]
    fn only_what_may_become_a_stop_text_is_held_back() {
        let mut watch = StopText::new(&["###".to_string(), "日本".to_string()]);
        let safe = |text: &str| Pushed::Safe(text.to_string());
        assert_eq!(watch.push("a#b"), safe("a#b"));
        assert_eq!(watch.push("c##"), safe("c"));
        assert_eq!(watch.push("d日"), safe("##d"));
        assert_eq!(watch.push("日"), safe("日"));
        assert_eq!(watch.push("本 and"), Pushed::Found(String::new()));
        assert_eq!(watch.push("more"), Pushed::Found(String::new()));
        assert_eq!(watch.rest(), "");
    }

    #[test]
    fn any_cut_finds_what_a_search_of_the_whole_finds() {
        let letters = ["a", "b", "é", "日", "🦀"];
        let mut state = 7u64;
        let mut below = |n: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let mut found = 0;
        for _ in 0..20_000 {
            let mut word = |max: usize| -> String {
                let (kinds, length) = (1 + below(letters.len()), below(max));
                (0..length).map(|_| letters[below(kinds)]).collect()
            };
            let (text, stops) = (word(24), [word(5), word(4), word(8)]);
            let mut edges: Vec<usize> =
                text.char_indices().map(|(at, _)| at).filter(|_| below(3) > 0).collect();
            edges.extend([0, text.len()]);
            edges.sort_unstable();
            let pieces = edges.windows(2).map(|edge| &text[edge[0]..edge[1]]);
            let stops = stops.each_ref().map(String::as_str);
            let told = stream(&stops, pieces);
            assert_eq!(told, naive(&stops, &text), "{stops:?} in {text:?} cut at {edges:?}");
            found += usize::from(told.1);
        }
        assert!((2_000..19_000).contains(&found), "the texts decide nothing: {found}");
    }
}
