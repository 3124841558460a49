//! Markdown's headings: `#` to `######`, and lines underlined with `=` or `-`; what stands between
//! fences is code and has none. All else of Markdown reads well as it is.

use super::{Heading, Text};

/// The text with its headings.
pub(super) fn read(mut text: Text) -> Text {
    let mut headings = Vec::new();
    let (mut at, mut fence, mut last) = (0, None, None);
    for line in text.text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let bare = line.trim();
        if let Some(mark) = fence {
            if bare.starts_with(mark) {
                fence = None;
            }
            continue;
        }
        fence = ["```", "~~~"].into_iter().find(|mark| bare.starts_with(mark));
        if let Some((level, title)) = marked(line) {
            headings.push(Heading { at: start..at, level, title: title.to_owned() });
            last = None;
        } else if let Some((level, (from, title))) = underline(bare).zip(last.take()) {
            headings.push(Heading { at: from..at, level, title });
        } else if !bare.is_empty() && fence.is_none() && !bare.starts_with(['|', '-', '>', '*']) {
            last = Some((start, bare.to_owned()));
        }
    }
    text.headings = headings;
    text
}

/// A heading that is marked by `#`; at most three blanks stand before them.
fn marked(line: &str) -> Option<(u8, &str)> {
    let bare = line.trim_start_matches(' ');
    let level = bare.bytes().take_while(|byte| *byte == b'#').count();
    let title = bare.get(level..)?;
    let is_one = (1..=6).contains(&level) && line.len() - bare.len() <= 3;
    let title = title.starts_with([' ', '\t', '\n', '\r']).then(|| title.trim());
    Some((level as u8, title.filter(|_| is_one)?.trim_end_matches('#').trim_end()))
}

/// The level of the heading that such a line stands under.
fn underline(bare: &str) -> Option<u8> {
    let all = |mark: char| bare.len() >= 3 && bare.chars().all(|c| c == mark);
    if all('=') {
        Some(1)
    } else if all('-') {
        Some(2)
    } else {
        None
    }
}
