//! A function fits on a screen: 70 lines from `fn` to its closing brace, in tests and macros too.

use ingle_tidy::{File, functions, tokens};

const MOST_LINES: usize = 70;

fn long_functions(files: &[File]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_fixture()) {
        let atoms = match tokens(&file.text) {
            Ok(atoms) => atoms,
            Err(error) => {
                complaints.push(format!("{}: {error}", file.path));
                continue;
            }
        };
        for (name, lines) in functions(&atoms) {
            let count = lines.end() - lines.start() + 1;
            if count > MOST_LINES {
                let (path, start) = (&file.path, lines.start());
                complaints.push(format!("{path}:{start}: `{name}` has {count} lines"));
            }
        }
    }
    complaints
}

#[test]
fn functions_fit_on_a_screen() {
    super::hold("a function has at most 70 lines: split it where its steps meet", long_functions);
}

#[test]
fn a_long_function_is_found() {
    let body = |lines: usize| "    work();\n".repeat(lines);
    let check = |text: String, complaints| super::expect(long_functions, "a.rs", &text, complaints);
    check(format!("fn f() {{\n{}}}\n", body(68)), 0);
    check(format!("fn f() {{\n{}}}\n", body(69)), 1);
    check(format!("impl A {{ fn f(&self)\nwhere Self: Sized,\n{{\n{}}} }}\n", body(67)), 1);
    check(format!("macro_rules! m {{ ($n:ident) => {{ fn $n() {{\n{}}} }} }}\n", body(69)), 1);
    check(format!("trait T {{ fn f(); }}\nconst A: fn() = g;\nmod m {{\n{}}}\n", body(90)), 0);
    check("fn f( {".to_owned(), 1);
}
