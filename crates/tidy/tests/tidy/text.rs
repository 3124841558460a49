//! What every text file keeps to, and how long a file may grow.

use std::collections::BTreeSet;

use ingle_tidy::{File, Kind, tokens};

const MOST_COLUMNS: usize = 100;
const MOST_LINES: usize = 800;

/// Source files that are longer than they should be, and how long they are. The figure may only
/// fall; a file that falls below the limit leaves the list.
const TOO_LONG: &[(&str, usize)] = &[];

/// Words that no file says, in halves so that this file does not say them either, and why.
const BANNED: &[(&str, &str, &str)] = &[
    ("/ho", "me/", "somebody's own folder"),
    ("/ro", "ot/", "somebody's own folder"),
    ("/Use", "rs/", "somebody's own folder"),
    ("pypi", ".org", "a package comes through the user's own pip, wherever that looks"),
    ("pythonhosted", ".org", "a package comes through the user's own pip, wherever that looks"),
    ("npmjs", ".org", "a package comes through the user's own npm, wherever that looks"),
    ("npmjs", ".com", "a package comes through the user's own npm, wherever that looks"),
    ("crates", ".io", "a crate comes through the user's own cargo, wherever that looks"),
];

/// Marks of unfinished work, in halves likewise.
const UNFINISHED: &[(&str, &str)] = &[("TO", "DO"), ("FIX", "ME"), ("XX", "X")];

/// Files that others wrote or that a program writes.
fn is_foreign(file: &File) -> bool {
    file.is_fixture() || file.path.ends_with(".lock") || file.path == "LICENSE"
}

fn own(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| !is_foreign(file))
}

fn banned_words(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in own(files) {
        for (number, line) in (1..).zip(file.text.lines()) {
            for (first, second, why) in BANNED {
                let word = format!("{first}{second}");
                if line.contains(&word) {
                    complaints.push(format!("{}:{number}: `{word}`: {why}", file.path));
                }
            }
        }
    }
    complaints
}

fn unfinished_work(files: &[File]) -> Vec<String> {
    let marks: Vec<String> = UNFINISHED.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let mut complaints = Vec::new();
    for file in own(files) {
        for (number, line) in (1..).zip(file.text.lines()) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(word) = words.find(|word| marks.iter().any(|mark| mark == word)) {
                complaints.push(format!("{}:{number}: `{word}`", file.path));
            }
        }
    }
    complaints
}

fn loose_whitespace(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in own(files) {
        for (number, line) in (1..).zip(file.text.split('\n')) {
            if line.contains('\t') {
                complaints.push(format!("{}:{number}: a tab", file.path));
            }
            if line.ends_with([' ', '\r']) {
                complaints.push(format!("{}:{number}: space at the line's end", file.path));
            }
        }
        let ends_well = file.text.ends_with('\n') && !file.text.ends_with("\n\n");
        if !file.text.is_empty() && !ends_well {
            complaints.push(format!("{}: ends without exactly one newline", file.path));
        }
    }
    complaints
}

fn long_lines(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in own(files).filter(|file| file.is_rust()) {
        let atoms = tokens(&file.text).unwrap_or_default();
        let literals = atoms.iter().filter(|atom| atom.kind == Kind::Literal);
        let texts = literals.filter(|atom| atom.text.contains('"'));
        // A text that may not be broken makes its own width: a prompt, a message, a pattern. To
        // the parser a documentation comment is a text too.
        let free: BTreeSet<usize> = texts.flat_map(|atom| atom.line..=atom.end).collect();
        for (number, line) in (1..).zip(file.text.lines()) {
            let columns = line.chars().count();
            let free = free.contains(&number) && !line.trim_start().starts_with("//");
            if columns > MOST_COLUMNS && !free {
                complaints.push(format!("{}:{number}: {columns} columns", file.path));
            }
        }
    }
    complaints
}

fn silent_modules(files: &[File]) -> Vec<String> {
    let rust = own(files).filter(|file| file.is_rust());
    let silent = rust.filter(|file| !file.text.starts_with("//! "));
    silent.map(|file| file.path.clone()).collect()
}

fn long_files(files: &[File], listed: &[(&str, usize)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in own(files).filter(|file| file.is_rust()) {
        let lines = file.text.lines().count();
        let most = listed.iter().find(|(path, _)| *path == file.path).map(|(_, lines)| *lines);
        match most {
            None if lines > MOST_LINES => complaints.push(format!("{}: {lines} lines", file.path)),
            Some(most) if lines > most => {
                complaints.push(format!("{}: {lines} lines, {most} listed", file.path));
            }
            Some(_) if lines <= MOST_LINES => {
                complaints.push(format!("{}: short now: take it off the list", file.path));
            }
            _ => {}
        }
    }
    let gone = listed.iter().filter(|(path, _)| !files.iter().any(|file| file.path == *path));
    complaints.extend(gone.map(|(path, _)| format!("{path}: gone: take it off the list")));
    complaints
}

#[test]
fn no_file_names_what_is_not_its_own() {
    super::hold("words that no file says", banned_words);
}

#[test]
fn no_work_is_left_marked() {
    super::hold("finish it, or write an issue and say here what is absent", unfinished_work);
}

#[test]
fn whitespace_is_plain() {
    super::hold("whitespace that nobody sees", loose_whitespace);
}

#[test]
fn lines_fit() {
    super::hold("a line has at most 100 columns", long_lines);
}

#[test]
fn modules_say_what_they_are() {
    super::hold("a module opens with `//! ` and its one idea", silent_modules);
}

#[test]
fn files_do_not_grow_without_bound() {
    let why = "a file has at most 800 lines: give a part of it a name and a file";
    super::hold(why, |files| long_files(files, TOO_LONG));
}

#[test]
fn breaches_are_found() {
    for (first, second, _) in BANNED {
        super::expect(banned_words, "a.md", &format!("see {first}{second}x\n"), 1);
    }
    super::expect(banned_words, "tests/fixtures/a.md", concat!("crates", ".io\n"), 0);
    for (first, second) in UNFINISHED {
        super::expect(unfinished_work, "a.py", &format!("# {first}{second}: more\n"), 1);
        super::expect(unfinished_work, "a.py", &format!("# {first}{second}s\n"), 0);
    }
    let whitespace = |text, complaints| super::expect(loose_whitespace, "a.rs", text, complaints);
    whitespace("a\tb\n", 1);
    whitespace("a \n", 1);
    whitespace("a\r\n", 1);
    whitespace("a", 1);
    whitespace("a\n\n", 1);
    whitespace("a\n\nb\n", 0);
    super::expect(silent_modules, "a.rs", "use a;\n", 1);
    super::expect(silent_modules, "a.rs", "//! A.\nuse a;\n", 0);
}

#[test]
fn long_lines_and_files_are_found() {
    let wide = "a".repeat(101);
    super::expect(long_lines, "a.rs", &format!("fn {wide}() {{}}\n"), 1);
    super::expect(long_lines, "a.rs", &format!("// {wide}\n"), 1);
    super::expect(long_lines, "a.rs", &format!("/// {wide}\nfn f() {{}}\n"), 1);
    super::expect(long_lines, "a.rs", &format!("const A: &str = \"{wide}\";\n"), 0);
    super::expect(long_lines, "a.rs", &format!("const A: &str = r#\"\n{wide}\n\"#;\n"), 0);

    let file = [File::new("a.rs", &"//! A.\n".repeat(801))];
    assert_eq!(long_files(&file, &[]).len(), 1);
    assert_eq!(long_files(&file, &[("a.rs", 801)]).len(), 0);
    assert_eq!(long_files(&file, &[("a.rs", 800)]).len(), 1);
    assert_eq!(long_files(&file, &[("a.rs", 801), ("b.rs", 900)]).len(), 1);
    assert_eq!(long_files(&[File::new("a.rs", "//! A.\n")], &[("a.rs", 900)]).len(), 1);
}
