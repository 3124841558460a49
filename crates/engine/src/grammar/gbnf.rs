//! llama.cpp's notation for grammars (GBNF) written in Lark, which the grammar library reads.
//!
//! A rule that does not come back to itself is a regular expression, and becomes one terminal; the
//! others become rules over those. The library reads a terminal as long as it can, so that of an
//! ambiguous grammar fewer texts may be allowed than it describes, and never more.
//!
//! Absent: single tokens (`<[1000]>`, `<think>`), which belong to one vocabulary alone.

use super::compile::literal;
use std::collections::BTreeMap;

/// The most rules, and the deepest brackets.
const RULES_MAX: usize = 2000;
const DEPTH_MAX: usize = 64;
/// The most repetitions that are counted.
const TIMES_MAX: u32 = 10_000;
/// The most signs of repetition behind one item: each is one level deeper, too.
const SIGNS_MAX: usize = 4;

/// What a rule says: alternatives, each a sequence.
type Alternatives = Vec<Vec<Item>>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    /// A regular expression for one character.
    Class(String),
    Rule(usize),
    Group(Alternatives),
    Repeat(Box<Item>, u32, Option<u32>),
}

/// The same grammar in Lark.
///
/// # Errors
/// What is wrong with it, and in which line.
pub(super) fn to_lark(source: &str) -> Result<String, String> {
    let mut reader = Reader { rest: source, source, names: BTreeMap::new(), rules: Vec::new() };
    reader.read()?;
    let Some(&root) = reader.names.get("root") else {
        return Err("there is no rule \"root\"".into());
    };
    for (name, &at) in &reader.names {
        if reader.rules[at].is_none() {
            return Err(format!("the rule {name:?} is used and not defined"));
        }
    }
    let names = reader.names.into_iter().map(|(name, at)| (at, name)).collect();
    let rules = reader.rules.into_iter().map(Option::unwrap_or_default).collect();
    Ok(Writer::new(rules, names).write(root))
}

struct Reader<'a> {
    rest: &'a str,
    source: &'a str,
    names: BTreeMap<String, usize>,
    rules: Vec<Option<Alternatives>>,
}

impl Reader<'_> {
    fn wrong<T>(&self, what: &str) -> Result<T, String> {
        let read = &self.source[..self.source.len() - self.rest.len()];
        Err(format!("line {}: {what}", 1 + read.matches('\n').count()))
    }

    fn read(&mut self) -> Result<(), String> {
        self.space(true);
        while !self.rest.is_empty() {
            let name = self.name()?;
            let at = self.rule(name)?;
            self.space(false);
            let Some(rest) = self.rest.strip_prefix("::=") else {
                return self.wrong("`::=` should come");
            };
            self.rest = rest;
            self.space(true);
            let alternatives = self.alternatives(0)?;
            if self.rules[at].replace(alternatives).is_some() {
                return self.wrong("a rule is defined twice");
            }
            if !self.rest.is_empty() && !self.rest.starts_with('\n') {
                return self.wrong("the rule's end should come");
            }
            self.space(true);
        }
        Ok(())
    }

    /// Skips space and comments; a line's end only if `lines`.
    fn space(&mut self, lines: bool) {
        loop {
            let rest = self.rest.trim_start_matches([' ', '\t', '\r']);
            self.rest = match rest.strip_prefix('#') {
                Some(comment) => comment.find('\n').map_or("", |at| &comment[at..]),
                None if lines && rest.starts_with('\n') => &rest[1..],
                None => {
                    self.rest = rest;
                    return;
                }
            };
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let end = self.rest.find(|c| !letter(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return self.wrong("a rule's name should come");
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(name.to_owned())
    }

    fn rule(&mut self, name: String) -> Result<usize, String> {
        if let Some(&at) = self.names.get(&name) {
            return Ok(at);
        }
        if self.rules.len() == RULES_MAX {
            return self.wrong("it has more than 2000 rules");
        }
        self.rules.push(None);
        self.names.insert(name, self.rules.len() - 1);
        Ok(self.rules.len() - 1)
    }

    fn alternatives(&mut self, depth: usize) -> Result<Alternatives, String> {
        if depth > DEPTH_MAX {
            return self.wrong("its brackets are nested too deeply");
        }
        let mut all = vec![self.sequence(depth)?];
        while let Some(rest) = self.rest.strip_prefix('|') {
            self.rest = rest;
            self.space(true);
            all.push(self.sequence(depth)?);
        }
        Ok(all)
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Item>, String> {
        let mut items = Vec::new();
        loop {
            let item = match self.rest.chars().next() {
                None | Some('|' | ')' | '\n') => return Ok(items),
                Some('"') => self.text()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.rest = &self.rest[1..];
                    Item::Class("(.|\\n)".into())
                }
                Some('(') => {
                    self.rest = &self.rest[1..];
                    self.space(true);
                    let inner = self.alternatives(depth + 1)?;
                    let Some(rest) = self.rest.strip_prefix(')') else {
                        return self.wrong("a closing bracket is missing");
                    };
                    self.rest = rest;
                    Item::Group(inner)
                }
                Some('<' | '!') => {
                    return self.wrong("single tokens are not supported: write their text");
                }
                Some(_) => {
                    let name = self.name()?;
                    Item::Rule(self.rule(name)?)
                }
            };
            self.space(depth > 0);
            items.push(self.repeated(item, depth)?);
        }
    }

    fn repeated(&mut self, mut item: Item, depth: usize) -> Result<Item, String> {
        for _ in 0..=SIGNS_MAX {
            let (low, high) = match self.rest.chars().next() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.times()?,
                _ => return Ok(item),
            };
            self.rest = &self.rest[1..];
            self.space(depth > 0);
            item = Item::Repeat(Box::new(item), low, high);
        }
        self.wrong("too many signs of repetition follow each other")
    }

    /// `{m}`, `{m,}`, `{,n}` or `{m,n}`, up to its closing bracket.
    fn times(&mut self) -> Result<(u32, Option<u32>), String> {
        let Some(end) = self.rest.find('}') else { return self.wrong("`}` is missing") };
        let inner = &self.rest[1..end];
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n <= TIMES_MAX);
        let times = match inner.split_once(',') {
            None => number(inner).map(|n| (n, Some(n))),
            Some((low, high)) => {
                let low = if low.trim().is_empty() { Some(0) } else { number(low) };
                let high = if high.trim().is_empty() { Some(None) } else { number(high).map(Some) };
                low.zip(high)
            }
        };
        match times {
            Some((low, high)) if high.is_none_or(|high| low <= high) => {
                self.rest = &self.rest[end..];
                Ok((low, high))
            }
            _ => self.wrong("between { and } there should be numbers up to 10000"),
        }
    }

    fn text(&mut self) -> Result<Item, String> {
        self.rest = &self.rest[1..];
        let mut text = String::new();
        loop {
            match self.character()? {
                (c, true) => text.push(c),
                ('"', false) => return Ok(Item::Text(text)),
                ('\n', false) => return self.wrong("a text does not end in its line"),
                (c, false) => text.push(c),
            }
        }
    }

    fn class(&mut self) -> Result<Item, String> {
        self.rest = &self.rest[1..];
        let mut out = String::from("[");
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            out.push('^');
        }
        let mut members = 0;
        loop {
            let (from, escaped) = self.character()?;
            if from == ']' && !escaped {
                break;
            }
            members += 1;
            out += &escape(from);
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.rest = &self.rest[1..];
                let (to, _) = self.character()?;
                if to < from {
                    return self.wrong("a range ends before it begins");
                }
                out.push('-');
                out += &escape(to);
            }
        }
        match (members, out.as_str()) {
            (0, "[^") => Ok(Item::Class("(.|\\n)".into())),
            (0, _) => self.wrong("a class without characters matches nothing"),
            _ => Ok(Item::Class(out + "]")),
        }
    }

    /// The next character of a text or class, and whether it was escaped.
    fn character(&mut self) -> Result<(char, bool), String> {
        let mut chars = self.rest.chars();
        let Some(c) = chars.next() else { return self.wrong("it ends within a text or class") };
        self.rest = chars.as_str();
        if c != '\\' {
            return Ok((c, false));
        }
        let Some(c) = chars.next() else { return self.wrong("it ends in a backslash") };
        self.rest = chars.as_str();
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            'n' => return Ok(('\n', true)),
            'r' => return Ok(('\r', true)),
            't' => return Ok(('\t', true)),
            '\\' | '"' | '[' | ']' | '-' | '^' => return Ok((c, true)),
            _ => return self.wrong("a backslash escapes what needs none"),
        };
        let hex = self.rest.get(..digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32) {
            Some(c) => {
                self.rest = &self.rest[digits..];
                Ok((c, true))
            }
            None => self.wrong("an escape names no character"),
        }
    }
}

fn escape(c: char) -> String {
    format!("\\x{{{:X}}}", u32::from(c))
}

struct Writer {
    rules: Vec<Alternatives>,
    names: BTreeMap<usize, String>,
    /// Which rules are regular expressions, and which may be empty.
    regular: Vec<bool>,
    nullable: Vec<bool>,
}

impl Writer {
    fn new(rules: Vec<Alternatives>, names: BTreeMap<usize, String>) -> Self {
        let mut writer = Self {
            regular: vec![false; rules.len()],
            nullable: vec![false; rules.len()],
            rules,
            names,
        };
        // Whoever comes back to itself never becomes regular.
        writer.settle(|writer, at| {
            let known = writer.regular[at];
            writer.regular[at] = known || writer.regular_all(&writer.rules[at]);
            known != writer.regular[at]
        });
        writer.settle(|writer, at| {
            let known = writer.nullable[at];
            writer.nullable[at] = known || writer.empty_all(&writer.rules[at]);
            known != writer.nullable[at]
        });
        writer
    }

    /// Goes over all rules until nothing changes.
    fn settle(&mut self, change: impl Fn(&mut Self, usize) -> bool) {
        while (0..self.rules.len()).fold(false, |any, at| change(self, at) | any) {}
    }

    fn regular_all(&self, all: &Alternatives) -> bool {
        all.iter().flatten().all(|item| self.is_regular(item))
    }

    fn is_regular(&self, item: &Item) -> bool {
        match item {
            Item::Text(_) | Item::Class(_) => true,
            Item::Rule(at) => self.regular[*at],
            Item::Group(all) => self.regular_all(all),
            Item::Repeat(item, ..) => self.is_regular(item),
        }
    }

    fn empty_all(&self, all: &Alternatives) -> bool {
        all.iter().any(|sequence| sequence.iter().all(|item| self.may_be_empty(item)))
    }

    fn may_be_empty(&self, item: &Item) -> bool {
        match item {
            Item::Text(text) => text.is_empty(),
            Item::Class(_) => false,
            Item::Rule(at) => self.nullable[*at],
            Item::Group(all) => self.empty_all(all),
            Item::Repeat(item, low, _) => *low == 0 || self.may_be_empty(item),
        }
    }

    fn write(&self, root: usize) -> String {
        let mut out = format!("start: {}\n", self.reference(root));
        for (at, rule) in self.rules.iter().enumerate() {
            let regular = self.regular[at];
            let body = self.alternatives(rule, regular);
            out += &format!("{}: {body}\n", self.name(at));
            if regular && self.nullable[at] {
                out += &format!("{}_SOME: {} & /(.|\\n)+/\n", self.name(at), self.name(at));
            }
        }
        out
    }

    /// A rule's name in Lark: terminals are in capitals.
    fn name(&self, at: usize) -> String {
        let name = self.names.get(&at).map_or("", String::as_str).replace('-', "_");
        if self.regular[at] {
            format!("T{at}_{}", name.to_ascii_uppercase())
        } else {
            format!("r{at}_{}", name.to_ascii_lowercase())
        }
    }

    /// A rule as another rule names it. The library wants no terminals that may be empty.
    fn reference(&self, at: usize) -> String {
        match self.regular[at] && self.nullable[at] {
            true => format!("{}_SOME?", self.name(at)),
            false => self.name(at),
        }
    }

    fn alternatives(&self, all: &Alternatives, terminal: bool) -> String {
        let sequence = |items: &Vec<Item>| match items.as_slice() {
            [] => "\"\"".to_owned(),
            items => {
                let items: Vec<String> =
                    items.iter().map(|item| self.item(item, terminal)).collect();
                items.join(" ")
            }
        };
        all.iter().map(sequence).collect::<Vec<_>>().join(" | ")
    }

    fn item(&self, item: &Item, terminal: bool) -> String {
        match item {
            Item::Text(text) => literal(text),
            Item::Class(class) => format!("/{class}/"),
            Item::Rule(at) if terminal => self.name(*at),
            Item::Rule(at) => match self.reference(*at) {
                name if name.ends_with('?') => format!("({name})"),
                name => name,
            },
            Item::Group(all) => format!("({})", self.alternatives(all, terminal)),
            Item::Repeat(item, low, high) => {
                let inner = self.item(item, terminal);
                match (low, high) {
                    (0, None) => format!("({inner})*"),
                    (1, None) => format!("({inner})+"),
                    (0, Some(1)) => format!("({inner})?"),
                    (low, None) => format!("({inner}){{{low},}}"),
                    (low, Some(high)) => format!("({inner}){{{low},{high}}}"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_become_terminals_where_they_can() {
        let check =
            |gbnf: &str, lark: &str| assert_eq!(to_lark(gbnf).as_deref(), Ok(lark), "{gbnf}");
        check(
            "root ::= \"a\" [b-d]+ # more\n",
            "start: T0_ROOT\nT0_ROOT: \"a\" (/[\\x{62}-\\x{64}]/)+\n",
        );
        check(
            "root ::= \"(\" root \")\" | ws\nws ::= [ \\t]*",
            "start: r0_root\nr0_root: \"(\" r0_root \")\" | (T1_WS_SOME?)\n\
             T1_WS: (/[\\x{20}\\x{9}]/)*\nT1_WS_SOME: T1_WS & /(.|\\n)+/\n",
        );
        check(
            "root ::= (\n \"x\"{2} |\n [^\\]\\x41\\u00e9]{0,3}\n) a-b?\na-b ::= \"\\\"\\n\"",
            "start: T0_ROOT_SOME?\n\
             T0_ROOT: ((\"x\"){2,2} | (/[^\\x{5D}\\x{41}\\x{E9}]/){0,3}) (T1_A_B)?\n\
             T0_ROOT_SOME: T0_ROOT & /(.|\\n)+/\nT1_A_B: \"\\\"\\u000a\"\n",
        );
    }

    #[test]
    fn what_is_no_grammar_is_told_with_its_line() {
        for (gbnf, expect) in [
            ("", "no rule \"root\""),
            ("a ::= \"b\"", "no rule \"root\""),
            ("root ::= b", "\"b\" is used and not defined"),
            ("root ::= \"a\nb", "line 2: a text does not end"),
            ("root ::= \"a\"\nroot ::= \"b\"", "line 2: a rule is defined twice"),
            ("root = \"a\"", "line 1: `::=`"),
            ("root ::= (\"a\"", "closing bracket"),
            ("root ::= [b-a]", "range ends before"),
            ("root ::= []", "matches nothing"),
            ("root ::= \"a\"{3,2}", "numbers up to"),
            ("root ::= \"a\"{99999}", "numbers up to"),
            ("root ::= <think>", "single tokens"),
            ("root ::= \"\\q\"", "escapes what needs none"),
            ("root ::= \"\\uD800\"", "names no character"),
            ("root ::= \"\\x+1\"", "names no character"),
            ("root ::= \"a\"?+*?*", "signs of repetition"),
            ("root ::= \"a", "ends within"),
        ] {
            let error = to_lark(gbnf).expect_err(gbnf);
            assert!(error.contains(expect), "{gbnf:?}: {error}");
        }
        let deep = format!("root ::= {}\"a\"{}", "(".repeat(200), ")".repeat(200));
        assert!(to_lark(&deep).expect_err("too deep").contains("deeply"));
        let signs = format!("root ::= \"a\"{}", "*".repeat(100_000));
        assert!(to_lark(&signs).expect_err("too deep").contains("signs"));
        let many: String = (0..2100).map(|at| format!("r{at} ::= \"a\"\n")).collect();
        assert!(to_lark(&many).expect_err("too many").contains("2000"));
    }
}
