//! What is read of files of each kind.

use super::*;

fn read(kind: Kind, bytes: &[u8]) -> Text {
    Text::read(kind, bytes).expect("is text")
}

#[test]
fn bytes_are_text_or_are_not() {
    let check = |kind, bytes: &[u8], expect: Option<&str>| {
        let text = Text::read(kind, bytes);
        assert_eq!(text.as_ref().map(|it| it.text.as_str()), expect, "{bytes:?}");
    };
    check(Kind::Plain, b"plain", Some("plain"));
    check(Kind::Plain, b"", Some(""));
    check(Kind::Plain, b"\xef\xbb\xbfmarked", Some("marked"));
    check(Kind::Plain, b"one br\xffken letter", Some("one br\u{fffd}ken letter"));
    check(Kind::Nameless, b"one br\xffken letter", None);
    check(Kind::Plain, b"\xff\xfe\xfd\xfcabc", None);
    check(Kind::Plain, b"a\0b", None);
    check(Kind::Code, b"\x7fELF\x02\x01\x01\0", None);
}

#[test]
fn text_knows_where_it_stands() {
    let check = |kind, source: &[u8], word: &str, expect: &str| {
        let text = read(kind, source);
        let at = text.text.find(word).unwrap_or_else(|| panic!("{word:?} in {:?}", text.text));
        let range = text.source_range(&(at..at + word.len()));
        assert_eq!(&source[range], expect.as_bytes(), "{:?}", text.text);
    };
    check(Kind::Plain, b"\xef\xbb\xbfone two", "two", "two");
    check(Kind::Plain, b"a long br\xffken line, then more", "then", "then");
    check(Kind::Html, b"<p>one</p>  <p>two &amp; three</p>", "two & three", "two &amp; three");
    check(Kind::Html, b"<b>bold</b> text\n\n  goes on", "text goes on", "text\n\n  goes on");
    check(Kind::Html, b"<i>a long br\xffken page</i><i>then</i>", "then", "then");
    check(Kind::Html, "<h1>Über</h1>süß".as_bytes(), "süß", "süß");
}

#[test]
fn pages_are_read_as_they_are_seen() {
    let check = |html: &str, expect: &str| {
        assert_eq!(read(Kind::Html, html.as_bytes()).text.trim(), expect, "{html}");
    };
    check("a<script>if (a < b) { '</p>' }</script>b", "ab");
    check("<STYLE>p {}</Style >x<!-- <p>gone</p> -->y", "xy");
    check("<p class='a > b'>one<p>two<br/>three", "one\n\ntwo\nthree");
    check("<ul><li>one<li>two</ul>", "one\ntwo");
    check("<tr><td>a</td><td>b</td></tr>", "a b");
    check("<pre>a\n  b</pre>", "a\n  b");
    check("&lt;b&gt; &#65;&#x42; &eacute; &nosuch; &", "<b> AB é &nosuch; &");
    check("1 < 2 and <3", "1 < 2 and <3");
    check("an <unclosed tag", "an <unclosed tag");
    check("a <b title=\"never closed>bold</b> end", "a bold end");
    check("<script>never closed", "");
    check("<!-- never closed", "");
    check("&#0;&#xffffffff;", "&#0;&#xffffffff;");
}

#[test]
fn headings_are_found() {
    let check = |kind, source: &str, expect: &[(u8, &str)]| {
        let text = read(kind, source.as_bytes());
        let found: Vec<(u8, &str)> =
            text.headings.iter().map(|it| (it.level, it.title.as_str())).collect();
        assert_eq!(found, expect, "{source}");
    };
    check(Kind::Markdown, "# One\n\ntext\n### Three ###\n#no\n", &[(1, "One"), (3, "Three")]);
    check(Kind::Markdown, "Title\n=====\n\nSub\n---\n\n---\n", &[(1, "Title"), (2, "Sub")]);
    check(Kind::Markdown, "```\n# code\n```\n# Real\n~~~\n# code\n", &[(1, "Real")]);
    check(Kind::Markdown, "    # code\n####### seven\n", &[]);
    check(Kind::Html, "<title>T</title><h2>Two <b>words</b></h2>", &[(1, "T"), (2, "Two words")]);
    check(Kind::Plain, "# comment\n", &[]);
}

#[test]
fn rows_name_their_values() {
    let check = |kind, source: &str, expect: &[(&str, &str)]| {
        let text = read(kind, source.as_bytes());
        let rows = text.rows.iter();
        let found: Vec<(&str, &str)> =
            rows.map(|row| (&text.text[row.text.clone()], &source[row.source.clone()])).collect();
        assert_eq!(found, expect, "{source}");
    };
    let csv = "name,town\nAnna,Bern\n\"B, C\",\"two\nlines\"\nshort\n";
    check(
        Kind::Table,
        csv,
        &[
            ("name: Anna\ntown: Bern\n", "Anna,Bern\n"),
            ("name: B, C\ntown: two\nlines\n", "\"B, C\",\"two\nlines\"\n"),
            ("name: short\n", "short\n"),
        ],
    );
    check(Kind::Table, "a\tb\n1\t2,3", &[("a: 1\nb: 2,3\n", "1\t2,3")]);
    check(Kind::Table, "alone\n", &[]);
    let json = "{\"q\": \"why?\", \"a\": {\"b\": [1, true, null]}}\nno json\n\n";
    check(
        Kind::JsonLines,
        json,
        &[
            (
                "q: why?\na.b: 1\na.b: true\n",
                "{\"q\": \"why?\", \"a\": {\"b\": [1, true, null]}}\n",
            ),
            ("no json\n", "no json\n"),
        ],
    );
}
