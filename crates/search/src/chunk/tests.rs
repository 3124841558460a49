//! Where passages begin and end.

use proptest::prelude::*;

use super::*;

const KINDS: [Kind; 7] = [
    Kind::Plain,
    Kind::Markdown,
    Kind::Html,
    Kind::Code,
    Kind::Table,
    Kind::JsonLines,
    Kind::Nameless,
];

fn cut_up(kind: Kind, source: &[u8], bytes: usize, overlap: usize) -> Vec<Chunk> {
    let text = Text::read(kind, source).expect("is text");
    chunks(&text, kind, Chunking { bytes, overlap }, source)
}

fn check(kind: Kind, source: &str, bytes: usize, expect: &[&str]) {
    let found = cut_up(kind, source.as_bytes(), bytes, 0);
    let texts: Vec<&str> = found.iter().map(|chunk| chunk.text.as_str()).collect();
    assert_eq!(texts, expect, "{source:?}");
}

#[test]
fn cuts_are_where_something_ends() {
    check(Kind::Plain, "", 64, &[]);
    check(Kind::Plain, " \n\n \n", 64, &[]);
    check(Kind::Plain, "short", 64, &["short"]);
    let (a, b) = ("The first is so long, it ends here.", "The second one follows it.");
    check(Kind::Plain, &format!("{a}\n\n{b}\n\n{b}"), 64, &[a, &format!("{b}\n\n{b}")]);
    check(Kind::Plain, &format!("{a} {b} {b}"), 64, &[&format!("{a} {b}"), b]);
    let wrapped = "This sentence is wrapped\nat forty. And a second one\nis longer than that.";
    let parts = ["This sentence is wrapped\nat forty.", "And a second one\nis longer than that."];
    check(Kind::Plain, wrapped, 64, &parts);
    let parts = ["This sentence is wrapped\nat forty. And a second one", "is longer than that."];
    check(Kind::Code, wrapped, 64, &parts);
    let ideographs = "山".repeat(40);
    check(Kind::Plain, &ideographs, 64, &[&ideographs[..63], &ideographs[63..]]);
}

#[test]
fn indents_stay() {
    let code =
        "fn a() {\n    let long_name = 1;\n}\n\n    fn inner() {\n        let b = 2;\n    }\n";
    let parts = [&code[..34], "    fn inner() {\n        let b = 2;\n    }"];
    check(Kind::Code, code, 64, &[parts[0].trim_end(), parts[1]]);
}

#[test]
fn neighbours_share_sentences() {
    let text =
        "One sentence here. Two sentence here. Three of them here. Four of them there. Five.";
    let found = cut_up(Kind::Plain, text.as_bytes(), 80, 24);
    let texts: Vec<&str> = found.iter().map(|chunk| chunk.text.as_str()).collect();
    assert_eq!(texts, [&text[..77], &text[58..]]);
}

#[test]
fn passages_know_their_headings_and_lines() {
    let source =
        "# Guide\n\n## Install\n\nRun it.\n\n### Linux\n\nUse a shell.\n\n## Use\n\nAsk.\n";
    let found = cut_up(Kind::Markdown, source.as_bytes(), 200, 0);
    let found: Vec<(&str, &str, (usize, usize))> =
        found.iter().map(|it| (it.heading.as_str(), it.text.as_str(), it.lines)).collect();
    assert_eq!(
        found,
        [
            ("", "# Guide\n\n## Install\n\nRun it.", (1, 5)),
            ("Guide > Install", "### Linux\n\nUse a shell.", (7, 9)),
            ("Guide", "## Use\n\nAsk.", (11, 13)),
        ]
    );
    let long = format!("# Top\n## Part\n{}", "A sentence like any other. ".repeat(8));
    let headings: Vec<String> =
        cut_up(Kind::Markdown, long.as_bytes(), 100, 0).into_iter().map(|it| it.heading).collect();
    assert_eq!(headings[0], "");
    assert!(headings.len() > 2 && headings[1..].iter().all(|it| it == "Top > Part"));
}

#[test]
fn a_row_is_a_passage() {
    let found = cut_up(Kind::Table, b"a,b\n1,2\n3,4\n", 200, 20);
    let found: Vec<(&str, (usize, usize))> =
        found.iter().map(|chunk| (chunk.text.as_str(), chunk.lines)).collect();
    assert_eq!(found, [("a: 1\nb: 2", (2, 2)), ("a: 3\nb: 4", (3, 3))]);
}

/// Whatever the bytes are: no panic, passages within their bounds, and where the file is plain
/// text, all of it in some passage, as it stands in the file.
fn holds(kind: Kind, source: &[u8], bytes: usize, overlap: usize) {
    let Some(text) = Text::read(kind, source) else { return };
    let rule = Chunking { bytes, overlap }.sane();
    let found = chunks(&text, kind, rule, source);
    let lines = source.iter().filter(|byte| **byte == b'\n').count() + 1;
    let mut covered = vec![false; source.len()];
    for chunk in &found {
        assert!(chunk.text.len() <= rule.bytes && !chunk.text.is_empty(), "{chunk:?}");
        assert!(chunk.source.start <= chunk.source.end && chunk.source.end <= source.len());
        assert!(1 <= chunk.lines.0 && chunk.lines.0 <= chunk.lines.1 && chunk.lines.1 <= lines);
        covered[chunk.source.clone()].fill(true);
        if kind == Kind::Plain && std::str::from_utf8(source).is_ok() {
            assert_eq!(chunk.text.as_bytes(), &source[chunk.source.clone()]);
        }
    }
    if matches!(kind, Kind::Plain | Kind::Code)
        && let Ok(plain) = std::str::from_utf8(source)
    {
        let lost = plain
            .char_indices()
            .find(|(at, c)| !c.is_whitespace() && *c != '\u{feff}' && !covered[*at]);
        assert_eq!(lost, None, "{plain:?}");
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_whatever_the_bytes_are(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        text in "([a-z.?!<>/&;#=\"'`~{}:,|\\\\ \\n\\t-]|é|山|。|<p>|</?h1>|# |\\n\\n|&amp;){0,300}",
        bytes_most in 0_usize..200,
        overlap in 0_usize..200,
    ) {
        for kind in KINDS {
            holds(kind, &bytes, bytes_most, overlap);
            holds(kind, text.as_bytes(), bytes_most, overlap);
            let mut broken = text.clone().into_bytes();
            broken.extend_from_slice(&[b'x', 0xff, b' ', 0xc3]);
            broken.extend_from_slice(text.as_bytes());
            holds(kind, &broken, bytes_most, overlap);
        }
    }
}
