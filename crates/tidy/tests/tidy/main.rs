//! The repository's rules. Each is a function from files to complaints, run over all files by one
//! test and over a planted breach by another, so that a rule which has gone blind is noticed.

mod archs;
mod crates;
mod docs;
mod functions;
mod purity;
mod reach;
mod soundness;
mod text;

use ingle_tidy::File;

/// Runs a rule over the repository and fails with everything it found.
fn hold(why: &str, rule: impl Fn(&[File]) -> Vec<String>) {
    let files = ingle_tidy::files().expect("the repository can be read");
    assert!(files.len() > 20, "only {} files found: the walk is broken", files.len());
    let complaints = rule(&files);
    assert!(complaints.is_empty(), "{why}\n  {}\n", complaints.join("\n  "));
}

/// Checks how many complaints a rule has about one file.
fn expect(rule: impl Fn(&[File]) -> Vec<String>, path: &str, text: &str, complaints: usize) {
    let found = rule(&[File::new(path, text)]);
    assert_eq!(found.len(), complaints, "{path}: {text:?} gave {found:?}");
}
