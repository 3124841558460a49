//! A Rust file as a flat run of tokens with their lines, comments left out and literals whole.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What an [`Atom`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a name.
    Ident,
    /// A string, character or number.
    Literal,
    /// One character of punctuation.
    Punct,
    /// An opening bracket; `close` is the line of its partner.
    Open {
        /// The last line of the group.
        close: usize,
        /// How many atoms stand between the two brackets.
        inside: usize,
    },
    /// A closing bracket.
    Close,
}

/// One token.
#[derive(Clone, Debug)]
pub struct Atom {
    /// What it is.
    pub kind: Kind,
    /// As written; a bracket is one of `(`, `[`, `{` and their partners, or nothing.
    pub text: String,
    /// The line it starts in, from 1.
    pub line: usize,
    /// The line it ends in.
    pub end: usize,
}

/// The tokens of a Rust text.
///
/// # Errors
/// If the text has an unbalanced bracket or a malformed literal.
pub fn tokens(text: &str) -> Result<Vec<Atom>, String> {
    let stream: TokenStream = text.parse().map_err(|error| format!("no Rust: {error}"))?;
    let mut atoms = Vec::new();
    flatten(stream, &mut atoms);
    Ok(atoms)
}

fn flatten(stream: TokenStream, atoms: &mut Vec<Atom>) {
    for tree in stream {
        let span = tree.span();
        let (line, end) = (span.start().line, span.end().line);
        let mut push = |kind, text: String, line, end| atoms.push(Atom { kind, text, line, end });
        match tree {
            TokenTree::Ident(ident) => push(Kind::Ident, ident.to_string(), line, end),
            TokenTree::Literal(literal) => push(Kind::Literal, literal.to_string(), line, end),
            TokenTree::Punct(punct) => push(Kind::Punct, punct.as_char().to_string(), line, end),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                let at = atoms.len();
                let kind = Kind::Open { close: end, inside: 0 };
                atoms.push(Atom { kind, text: open.to_owned(), line, end: line });
                flatten(group.stream(), atoms);
                let inside = atoms.len() - at - 1;
                atoms[at].kind = Kind::Open { close: end, inside };
                atoms.push(Atom { kind: Kind::Close, text: close.to_owned(), line: end, end });
            }
        }
    }
}

/// Every function that has a body: its name and its lines from `fn` to the closing brace.
pub fn functions(atoms: &[Atom]) -> Vec<(String, RangeInclusive<usize>)> {
    (0..atoms.len()).filter_map(|at| function(atoms, at)).collect()
}

fn function(atoms: &[Atom], at: usize) -> Option<(String, RangeInclusive<usize>)> {
    if atoms[at].kind != Kind::Ident || atoms[at].text != "fn" {
        return None;
    }
    let mut next = at + 1;
    if atoms.get(next)?.text == "$" {
        next += 1; // a macro names it
    }
    let name = atoms.get(next).filter(|atom| atom.kind == Kind::Ident)?;
    while let Some(atom) = atoms.get(next) {
        match (atom.kind, atom.text.as_str()) {
            (Kind::Open { close, .. }, "{") => {
                return Some((name.text.clone(), atoms[at].line..=close));
            }
            (Kind::Open { inside, .. }, _) => next += inside + 2,
            (Kind::Close, _) | (Kind::Punct, ";") => return None, // declared, not defined
            _ => next += 1,
        }
    }
    None
}

/// The lines of each item under `#[cfg(test)]`.
pub fn test_ranges(atoms: &[Atom]) -> Vec<RangeInclusive<usize>> {
    let texts: Vec<&str> = atoms.iter().map(|atom| atom.text.as_str()).collect();
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let starts = (0..atoms.len()).filter(|&at| texts[at..].starts_with(&mark));
    starts.map(|at| atoms[at].line..=item_end(atoms, at + mark.len())).collect()
}

/// The last line of the item that starts at `next`.
fn item_end(atoms: &[Atom], mut next: usize) -> usize {
    while let Some(atom) = atoms.get(next) {
        match (atom.kind, atom.text.as_str()) {
            (Kind::Open { close, .. }, "{") => return close,
            (Kind::Open { inside, .. }, _) => next += inside + 2,
            (Kind::Close, _) | (Kind::Punct, ";") => return atom.line,
            _ => next += 1,
        }
    }
    atoms.last().map_or(0, |atom| atom.end)
}
