//! The lines of a passage that say most about a question, to be shown. Absent: colours.

use std::ops::Range;

use crate::words;

/// A line to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number in the file, from 1; `None` where the passage is not in the file as it is shown,
    /// as text from HTML.
    pub number: Option<usize>,
    /// The line, or the part of a long one around what was asked.
    pub text: String,
    /// Words of the question in it, as bytes of `text`.
    pub marks: Vec<Range<usize>>,
}

/// Bytes of a line that are shown, about.
const WIDTH: usize = 200;

/// Up to `most` lines of a passage, in order: those with the most different words of the question,
/// the first ones where that is equal. `first` is the passage's first line in the file, if lines
/// can be counted from it.
pub(crate) fn lines(
    passage: &str,
    first: Option<usize>,
    words: &[String],
    most: usize,
) -> Vec<Line> {
    let wanted: Vec<String> = words.iter().map(|word| words::stem(word)).collect();
    let filled = passage.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut lines: Vec<(usize, usize, &str)> =
        filled.map(|(index, line)| (different(line, &wanted), index, line)).collect();
    lines.sort_by_key(|(count, index, _)| (std::cmp::Reverse(*count), *index));
    // Lines with nothing in them tell nothing, beside others.
    let any = lines.first().is_some_and(|line| line.0 > 0);
    lines.retain(|line| line.0 > 0 || !any);
    lines.truncate(if any { most } else { 1 });
    lines.sort_by_key(|line| line.1);
    let shown = lines.into_iter().map(|(_, index, line)| {
        let text = around(line, &wanted);
        Line { number: first.map(|first| first + index), marks: marks(&text, &wanted), text }
    });
    shown.collect()
}

/// How many of the words are in it.
fn different(line: &str, wanted: &[String]) -> usize {
    let stems: Vec<String> = words::words(line).map(|(_, word)| words::stem(word)).collect();
    wanted.iter().filter(|word| stems.contains(word)).count()
}

fn marks(line: &str, wanted: &[String]) -> Vec<Range<usize>> {
    let meant = words::words(line).filter(|(_, word)| wanted.contains(&words::stem(word)));
    meant.map(|(at, word)| at..at + word.len()).collect()
}

/// The line, or the part of it with the most words that are marked.
fn around(line: &str, wanted: &[String]) -> String {
    let line = line.trim_end();
    if line.len() <= WIDTH + WIDTH / 4 {
        return line.to_owned();
    }
    let marks = marks(line, wanted);
    let within = |start: usize| {
        marks.iter().filter(|mark| mark.start >= start && mark.end <= start + WIDTH).count()
    };
    let starts = marks.iter().map(|mark| mark.start);
    let best = starts.rev().max_by_key(|start| within(*start)).unwrap_or(0);
    let from = line.floor_char_boundary(best.saturating_sub(WIDTH / 8));
    let from = if from == 0 { 0 } else { next_word(line, from) };
    let to = line.floor_char_boundary(from + WIDTH);
    let (before, after) =
        (if from > 0 { "… " } else { "" }, if to < line.len() { " …" } else { "" });
    format!("{before}{}{after}", line[from..to].trim())
}

/// The beginning of the next word, where one is near.
fn next_word(line: &str, at: usize) -> usize {
    let blank = line[at..].char_indices().take(WIDTH / 8).find(|(_, c)| c.is_whitespace());
    blank.map_or(at, |(behind, c)| at + behind + c.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(passage: &str, question: &str, expect: &[(usize, &str)]) {
        let found = lines(passage, Some(1), &words::telling(question), 2);
        let found: Vec<(usize, &str)> =
            found.iter().map(|line| (line.number.expect("known"), line.text.as_str())).collect();
        assert_eq!(found, expect, "{question}");
    }

    #[test]
    fn the_lines_that_tell_most_are_shown() {
        let passage = "Cats sleep.\n\nDogs run.\nA dog sleeps and runs.\nNothing.";
        check(passage, "Do dogs run?", &[(3, "Dogs run."), (4, "A dog sleeps and runs.")]);
        check(passage, "sleeping cat", &[(1, "Cats sleep."), (4, "A dog sleeps and runs.")]);
        check(passage, "zebra", &[(1, "Cats sleep.")]);
        check("", "zebra", &[]);
    }

    #[test]
    fn long_lines_are_shown_in_part_and_say_so() {
        let line = format!("{} the needle is here {}", "hay ".repeat(200), "straw ".repeat(200));
        let found = lines(&line, None, &["needle".to_owned()], 1);
        let text = &found[0].text;
        assert!(text.starts_with("… ") && text.ends_with(" …") && text.len() < 260, "{text}");
        assert_eq!(
            found[0].marks.iter().map(|at| &text[at.clone()]).collect::<Vec<_>>(),
            ["needle"]
        );
    }
}
