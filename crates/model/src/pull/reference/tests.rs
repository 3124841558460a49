//! What is a reference, what is not, and that what is read writes back the same.

use proptest::prelude::*;

use super::*;

fn check(text: &str, expect: Option<&str>) {
    let read = text.parse::<Reference>();
    let kind = read.as_ref().ok().map(|reference| match reference {
        Reference::Path(path) => format!("path {}", path.display()),
        Reference::Name(name) => format!("name {name}"),
        Reference::Hub(hub) => {
            let revision = hub.revision.as_deref().unwrap_or("-");
            format!("hub {} {} {} {revision}", hub.owner, hub.repo, hub.file)
        }
        Reference::Repository(Repository { owner, repo, revision }) => {
            format!("repository {owner} {repo} {}", revision.as_deref().unwrap_or("-"))
        }
        Reference::Package(Package { registry, name, version, member }) => {
            format!("{registry:?} {name} {version} {member}")
        }
    });
    assert_eq!(kind.as_deref(), expect, "{text:?}");
    if let Err(error) = read {
        assert!(matches!(error, Error::Refused(_)));
        assert!(error.to_string().contains("hint: a reference is"), "{error}");
    }
}

#[test]
fn sound_references_are_read() {
    let cases = [
        ("smollm2", "name smollm2"),
        ("  SmolLM2 ", "name smollm2"),
        ("gemma-3.1_x", "name gemma-3.1_x"),
        ("./a", "path ./a"),
        ("../m/model.bin", "path ../m/model.bin"),
        ("/m/model.gguf", "path /m/model.gguf"),
        ("model.GGUF", "path model.GGUF"),
        ("dir/a:b.gguf", "path dir/a:b.gguf"),
        ("hf:o/r/f.gguf", "hub o r f.gguf -"),
        ("hf:o/r/sub/f.gguf@v1", "hub o r sub/f.gguf v1"),
        ("hf:o/r/f.gguf@refs/pr/1", "hub o r f.gguf refs/pr/1"),
        ("hf:o/r@v1/f.gguf", "hub o r f.gguf v1"),
        ("hf:o/r", "repository o r -"),
        ("hf:o/r@v1", "repository o r v1"),
        ("pypi:a-b==1.2.post1/x/y.gguf", "Pypi a-b 1.2.post1 x/y.gguf"),
        ("npm:a@1.2.3-rc.1/x.gguf", "Npm a 1.2.3-rc.1 x.gguf"),
        ("npm:@s/a@1.2.3/x/y.gguf", "Npm @s/a 1.2.3 x/y.gguf"),
    ];
    for (text, expect) in cases {
        check(text, Some(expect));
    }
}

#[test]
fn hostile_references_are_refused() {
    let long = format!("hf:o/r/{}", "a/".repeat(2000));
    let cases = [
        "",
        " ",
        "a b",
        "-rf",
        ".hidden",
        "con",
        "com1.x",
        "name.",
        "naïve",
        "ftp:a",
        "hf:o",
        "hf:o/",
        "hf:/r",
        "hf:o/r@",
        "hf:o/r/",
        "hf:o/r//f",
        "hf:o/r/../f",
        "hf:o/r/a/../../f",
        "hf:../r/f",
        "hf:o/../f",
        "hf:o/r/f@",
        "hf:o/r/f@../main",
        "hf:o/r/f@a@b",
        "hf:o/r@a/f@b",
        "hf:o/r/f?download=true",
        "hf:o/r/f%2e%2e",
        "hf:o/r/a\\b",
        "hf:-o/r/f",
        "pypi:a/b",
        "pypi:a==1",
        "pypi:a>=1/f",
        "pypi:a==/f",
        "pypi:a==*/f",
        "pypi:a==1;x/f",
        "pypi:--index-url==1/f",
        "pypi:a[b]==1/f",
        "pypi:a==1//etc/passwd",
        "pypi:a==1/../f",
        "pypi:a==1/c:/f",
        "npm:a/f",
        "npm:a@latest/f",
        "npm:a@^1/f",
        "npm:@s@1/f",
        "npm:@/a@1/f",
        "npm:--x@1/f",
        "npm:a@1/./f",
        "a\u{1b}[2J",
        "a\n",
        &long,
    ];
    for text in cases.into_iter().filter(|text| *text != "a\n") {
        check(text, None);
    }
    check("a\n", Some("name a")); // white space around it is not part of it
    check("a\nb", None);
}

#[test]
fn file_names_are_the_last_component() {
    let cases = [
        ("hf:o/r/a/b.gguf", Some("b.gguf")),
        ("npm:@s/a@1/x/y.gguf", Some("y.gguf")),
        ("./x/y.gguf", Some("y.gguf")),
        ("smollm2", None),
    ];
    for (text, expect) in cases {
        let reference: Reference = text.parse().expect("sound");
        assert_eq!(reference.file_name(), expect);
    }
}

fn piece() -> impl Strategy<Value = String> {
    "[a-z0-9][a-zA-Z0-9_-]{0,8}(\\.[a-z0-9]{1,4})?"
}

proptest! {
    #[test]
    fn reading_never_panics_and_writing_reads_back(text in "\\PC{0,60}|(hf|pypi|npm):[@a-z=./0-9-]{0,40}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let again: Reference = reference.to_string().parse().expect("what is written is sound");
            prop_assert_eq!(again, reference);
        }
    }

    #[test]
    fn no_sound_member_leaves_its_folder(text in "(\\.|/|\\\\|a|:| ){0,12}") {
        if is_member(&text) {
            let path = std::path::Path::new(&text);
            prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))));
        }
    }

    #[test]
    fn sound_parts_make_sound_references(
        owner in piece(), repo in piece(), file in piece(), version in "[0-9](\\.[0-9]){0,3}",
    ) {
        for text in [
            format!("hf:{owner}/{repo}/{file}"),
            format!("hf:{owner}/{repo}/{owner}/{file}@{repo}"),
            format!("npm:@{owner}/{repo}@{version}/{file}"),
        ] {
            let reference: Reference = text.parse().expect("sound");
            prop_assert_eq!(reference.to_string(), text);
        }
    }
}
