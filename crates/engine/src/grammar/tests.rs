//! Guides by hand, over tokens that are bytes.

use super::*;
use ingle_model::gguf::Gguf;
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::Grammar;
use std::path::Path;

pub(super) fn tokenizer() -> Tokenizer {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/archs/qwen2.gguf");
    let file = Gguf::open(Path::new(path)).expect("a sound file");
    Tokenizer::from_gguf(&file).expect("a vocabulary")
}

fn guide(grammars: &Grammars, pattern: &str) -> Guide {
    grammars.guide(&Grammar::Regex(pattern.into())).expect("a grammar")
}

fn tokens(text: &str) -> Vec<Token> {
    text.bytes().map(Token::from).collect()
}

/// What may follow a text, as text; `.` for an end, and what is forced in brackets.
fn follow(grammars: &Grammars, pattern: &str, text: &str) -> String {
    let (mut guide, tokenizer) = (guide(grammars, pattern), tokenizer());
    let tokens = tokenizer.encode_continuation(text);
    tokens.iter().for_each(|&token| guide.accept(token).expect("is allowed"));
    let written = |token| String::from_utf8_lossy(tokenizer.bytes(token).expect("a token"));
    match guide.allowed(&[]).expect("a mask").remove(0) {
        Allowed::Nothing => "complete".into(),
        Allowed::One(token) => format!("[{}]", written(token)),
        Allowed::Some(set) => {
            let all = (0..tokenizer.vocab_len() as Token).filter(|&token| set.contains(token));
            let (ends, texts): (Vec<_>, Vec<_>) = all.partition(|&token| tokenizer.is_end(token));
            assert!(ends.is_empty() || ends == tokenizer.ends(), "all ends or none");
            let mut texts: Vec<String> = texts.into_iter().map(|t| written(t).into()).collect();
            texts.sort_unstable();
            texts.concat() + if ends.is_empty() { "" } else { "." }
        }
    }
}

#[test]
fn what_may_come_next() {
    let grammars = Grammars::new(tokenizer());
    let check = |pattern: &str, text: &str, expect: &str| {
        assert_eq!(follow(&grammars, pattern, text), expect, "{pattern:?} after {text:?}");
    };
    check("[abc]d?", "", "abc");
    check("[abc]d?", "b", "d.");
    check("[abc]d?", "bd", "complete");
    check("hello( you)?", "", "[he]");
    check("hello( you)?", "hell", "[o]");
    check("hello( you)?", "hello", " .");
    check("hello( you)?", "hello ", "[y]");
    check("(one|only|other)", "", "[o]");
    check("(one|only|other)", "o", "nt");
    check("(one|only|other)", "on", "el");
    check("(one|only|other)", "ot", "[he]");
    check("é", "", "[\u{fffd}]");
    check("", "", ".");
}

/// Masks along a draft are those of walking, whatever part of it is allowed.
#[test]
fn a_draft_is_walked_as_it_would_be_step_by_step() {
    let grammars = Grammars::new(tokenizer());
    let patterns = ["(ab|cd|e+f){1,4}", "[0-9]{2}(:[0-9]{2}){1,2}", "ababab(x|y)z", "a*b*c*"];
    let drafts = ["", "a", "ab", "abcd", "eeef", "ababx", "12:34", "12:3x4", "abababyz", "zz"];
    for pattern in patterns {
        for (start, draft) in ["", "a", "ab", "1"].iter().flat_map(|s| drafts.map(|d| (*s, d))) {
            let mut base = guide(&grammars, pattern);
            if base.agreed(&tokens(start)) < start.len() {
                continue;
            }
            tokens(start).iter().for_each(|&token| base.accept(token).expect("is allowed"));
            let draft = tokens(draft);
            let at_once = base.clone().allowed(&draft).expect("masks");
            let (mut walker, mut expect) = (base.clone(), Vec::new());
            for token in draft.iter().map(Some).chain([None]) {
                expect.push(walker.allowed(&[]).expect("a mask").remove(0));
                match token {
                    Some(&token) if expect[expect.len() - 1].contains(token) => {
                        walker.accept(token).expect("is allowed");
                    }
                    _ => break,
                }
            }
            let asked = at_once.len();
            assert!(asked >= expect.len(), "{pattern} {start:?} {draft:?}");
            assert_eq!(at_once[..expect.len()], expect, "{pattern} {start:?} {draft:?}");
            assert!(base.agreed(&draft) < expect.len() + usize::from(draft.is_empty()));
        }
    }
}

#[test]
fn the_ends_can_be_ignored() {
    let grammars = Grammars::new(tokenizer());
    let mut open = guide(&grammars, "ab*");
    open.ignore_ends(true);
    tokens("abb").iter().for_each(|&token| open.accept(token).expect("is allowed"));
    assert_eq!(
        open.allowed(&[]).expect("a mask"),
        [Allowed::Some(TokenSet::from({
            let mut words = vec![0; 9];
            words[3] = 1 << (b'b' - 96);
            words
        }))]
    );
    let mut empty = guide(&grammars, "");
    empty.ignore_ends(true);
    assert_eq!(empty.allowed(&[]).expect("a mask"), [Allowed::Nothing]);
    assert!(empty.complete());
}

/// After a failure the guide stays failed, and the next one is made anew.
#[test]
fn a_failed_grammar_is_compiled_anew() {
    let grammars = Grammars::new(tokenizer());
    let first = guide(&grammars, "[ab]c");
    let mut second = guide(&grammars, "[ab]c");
    assert!(Arc::ptr_eq(&first.compiled, &second.compiled), "kept");
    let fault = second.accept(Token::from(b'x')).expect_err("not allowed");
    assert!(fault.message.contains("cannot go on"), "{fault:?}");
    assert!(second.allowed(&[]).is_err() && second.accept(Token::from(b'a')).is_err());
    assert_eq!(second.agreed(&tokens("a")), 0);
    let mut third = guide(&grammars, "[ab]c");
    assert!(!Arc::ptr_eq(&first.compiled, &third.compiled), "compiled anew");
    tokens("bc").iter().for_each(|&token| third.accept(token).expect("is allowed"));
    assert!(third.complete());
    // A panic of the library's is a failure like any other.
    let mut panicking = guide(&grammars, "[ab]d");
    let panicked: Result<(), Fault> = panicking.guarded(|_| panic!("planted"));
    assert!(panicked.expect_err("caught").message.contains("panicked"));
    assert!(!Arc::ptr_eq(&panicking.compiled, &guide(&grammars, "[ab]d").compiled));
}

#[test]
fn only_the_last_grammars_are_kept() {
    let grammars = Grammars::new(tokenizer());
    let first = guide(&grammars, "a0");
    (1..16).for_each(|at| drop(guide(&grammars, &format!("a{at}"))));
    assert!(Arc::ptr_eq(&first.compiled, &guide(&grammars, "a0").compiled));
    drop(guide(&grammars, "a16"));
    assert!(Arc::ptr_eq(&first.compiled, &guide(&grammars, "a0").compiled), "lately used");
    (20..40).for_each(|at| drop(guide(&grammars, &format!("a{at}"))));
    assert!(!Arc::ptr_eq(&first.compiled, &guide(&grammars, "a0").compiled));
}

/// llama.cpp's notation: what is allowed is what the rules say.
#[test]
fn grammars_in_gbnf_are_followed() {
    const JSON: &str = r##"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
# Optional space
ws ::= | " " | "\n" [ \t]{0,20}
"##;
    const LIST: &str = "root ::= (\"- \" item)+\nitem ::= [^\\n]+ \"\\n\"";
    const EXPR: &str = "root ::= term ([-+*] term)*\nterm ::= [0-9]+ | \"(\" root \")\"";
    let grammars = Grammars::new(tokenizer());
    let check = |gbnf: &str, text: &str, expect: bool| {
        let mut guide = grammars.guide(&Grammar::Gbnf(gbnf.into())).expect("a grammar");
        let went = tokens(text).iter().all(|&token| {
            let may = guide.allowed(&[]).is_ok_and(|next| next[0].contains(token));
            may && guide.accept(token).is_ok()
        });
        let end = tokenizer().ends()[0];
        let ends = |next: &Allowed| *next == Allowed::Nothing || next.contains(end);
        let whole = went && guide.allowed(&[]).is_ok_and(|next| ends(&next[0]));
        assert_eq!(whole, expect, "{text:?} in {gbnf}");
    };
    for (text, expect) in [
        ("{}", true),
        (r#"{"a": [1, -2.5e3, {"b": null}], "c": "x\"y"}"#, true),
        ("{ \"a\" : 1}", true),
        (r#"{"a": 1,}"#, false),
        ("[1]", false),
        (r#"{"a": 01}"#, false),
        (r#"{"a""#, false),
    ] {
        check(JSON, text, expect);
    }
    check(LIST, "- a\n- b c\n", true);
    check(LIST, "- a", false);
    check(LIST, "a\n", false);
    check(EXPR, "(1+2)*30", true);
    check(EXPR, "1", true);
    check(EXPR, "(1+2", false);
    check(EXPR, "1+", false);
    let undefined = grammars.guide(&Grammar::Gbnf("root ::= nothing".into())).map(drop);
    let fault = undefined.expect_err("undefined");
    assert!(fault.message.contains("\"nothing\" is used and not defined"), "{fault}");
}
