//! `unsafe` lives in one room, and every block of it says why it is sound.

use std::ops::RangeInclusive;

use ingle_tidy::{Atom, File, Kind, tokens};

const ALLOWED: &[&str] = &["crates/backend/"];

fn unsafe_elsewhere(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_fixture()) {
        if ALLOWED.iter().any(|allowed| file.path.starts_with(allowed)) {
            continue;
        }
        let atoms = tokens(&file.text).unwrap_or_default();
        for (at, atom) in atoms.iter().enumerate() {
            let word = atom.kind == Kind::Ident && ["unsafe", "unsafe_code"].contains(&&*atom.text);
            let before = at.checked_sub(2).map_or("", |at| atoms[at].text.as_str());
            if word && !["deny", "forbid"].contains(&before) {
                complaints.push(format!("{}:{}: `{}`", file.path, atom.line, atom.text));
            }
        }
    }
    complaints
}

fn unexplained_blocks(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_fixture()) {
        let atoms = tokens(&file.text).unwrap_or_default();
        let lines: Vec<&str> = file.text.lines().collect();
        let covered = covered(&lines, &atoms);
        for pair in atoms.windows(2) {
            let is_unsafe = pair[0].kind == Kind::Ident && pair[0].text == "unsafe";
            let needs_reason = pair[1].text == "{" || pair[1].text == "impl";
            let line = pair[0].line;
            let explained =
                || covered.iter().any(|of| of.contains(&line)) || has_reason(&lines, line - 1);
            if is_unsafe && needs_reason && !explained() {
                complaints.push(format!("{}:{line}: no reason given", file.path));
            }
        }
    }
    complaints
}

/// Lines of the items under `// SAFETY (all ...)`: one reason for a whole `impl` of like methods.
fn covered(lines: &[&str], atoms: &[Atom]) -> Vec<RangeInclusive<usize>> {
    let marks = (1..).zip(lines).filter(|(_, line)| line.contains("// SAFETY (all "));
    let bodies = marks.filter_map(|(mark, _)| {
        let mut after = atoms.iter().filter(|atom| atom.line > mark && atom.text == "{");
        after.find_map(|atom| match atom.kind {
            Kind::Open { close, .. } => Some(mark..=close),
            _ => None,
        })
    });
    bodies.collect()
}

/// Whether `SAFETY:` stands in the line `at` or in the comments right above its statement.
fn has_reason(lines: &[&str], at: usize) -> bool {
    let is_reason = |line: &str| line.contains("// SAFETY: ");
    let above = lines[..at].iter().rev().take_while(|line| {
        let line = line.trim();
        let between = line.starts_with("//") || line.starts_with("#[");
        let ends_another = line.is_empty() || line.ends_with([';', '{', '}']);
        between || !(ends_another || line.ends_with("},"))
    });
    is_reason(lines[at]) || above.into_iter().any(|line| is_reason(line))
}

#[test]
fn unsafe_stays_in_the_backend() {
    let why = "`unsafe` belongs to crates/backend; elsewhere find a safe way";
    super::hold(why, unsafe_elsewhere);
}

#[test]
fn unsafe_says_why_it_is_sound() {
    let why = "write `// SAFETY: ` and why it is sound right above each unsafe block or impl";
    super::hold(why, unexplained_blocks);
}

#[test]
fn stray_unsafe_is_found() {
    let check = |path, text, complaints| super::expect(unsafe_elsewhere, path, text, complaints);
    check("crates/engine/src/lib.rs", "fn f() { unsafe { g() } }", 1);
    check("crates/engine/src/lib.rs", "#![allow(unsafe_code)]", 1);
    check("crates/engine/src/lib.rs", "#![forbid(unsafe_code)]", 0);
    check("crates/engine/src/lib.rs", "// unsafe\nconst A: &str = \"unsafe\";", 0);
    check("crates/backend/src/lib.rs", "fn f() { unsafe { g() } }", 0);
}

#[test]
fn an_unexplained_block_is_found() {
    let check = |text, complaints| super::expect(unexplained_blocks, "a.rs", text, complaints);
    check("fn f() {\n    unsafe { g() }\n}\n", 1);
    check("// SAFETY: of another\nfn f() {\n    unsafe { g() }\n}\n", 1);
    check("fn f() {\n    // SAFETY: g asks nothing.\n    unsafe { g() }\n}\n", 0);
    check(
        "fn f() {\n    // SAFETY: g asks\n    // nothing.\n    let a =\n        unsafe { g() };\n}\n",
        0,
    );
    check("unsafe impl Send for A {}\n", 1);
    check("unsafe fn f() {}\n", 0);
    let all = "// SAFETY (all methods): the trait's.\nimpl A {\n    fn f() {\n        unsafe { g() }\n    }\n}\n";
    check(all, 0);
    check(&format!("{all}fn h() {{\n    unsafe {{ g() }}\n}}\n"), 1);
}
