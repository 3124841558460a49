//! A folder's life with its index: found, changed, moved, interrupted, asked.

mod support;

use ingle_search::{Error, Index, Mode, Question, Searcher, Settings, Skip};
use support::{Folder, Hashing, Stops};

const TEXTS: [(&str, &str); 4] = [
    ("bread.md", "# Bread\n\nFlour, water and yeast rise for an hour before baking.\n"),
    ("sea/tides.txt", "The moon pulls the sea, and tides follow it twice a day."),
    (
        "code.rs",
        "/// Sorts names.\nfn sort_names(names: &mut Vec<String>) {\n    names.sort();\n}\n",
    ),
    ("data.csv", "town,height\nBern,540\nDavos,1560\n"),
];

fn filled(name: &str) -> Folder {
    let folder = Folder::new(name);
    for (path, text) in TEXTS {
        folder.put(path, text);
    }
    folder
}

#[test]
fn what_is_asked_is_found_in_each_mode() {
    let folder = filled("modes");
    let report = folder.update();
    assert_eq!((report.new, report.changed, report.deleted), (4, 0, 0));
    for (_, mode) in Mode::ALL {
        let check = |question: &str, expect: (&str, (u64, u64))| {
            let question = Question { mode, ..Question::new(question) };
            let hits = folder.ask(&question);
            let first = hits.first().unwrap_or_else(|| panic!("{mode:?}: nothing found"));
            assert_eq!((first.path.as_str(), first.lines), expect, "{mode:?} {question:?}");
        };
        check("How long does the yeast rise?", ("bread.md", (1, 3)));
        check("moon and tides", ("sea/tides.txt", (1, 1)));
        check("sort names", ("code.rs", (1, 4)));
        check("height of Davos", ("data.csv", (3, 3)));
    }
    let counts = Index::open(&folder.0, None).expect("opens").counts().expect("counts");
    assert_eq!((counts.documents, counts.passages), (4, 5));
}

#[test]
fn hits_say_where_they_stand() {
    let folder = filled("hits");
    folder.update();
    let hits = folder.ask(&Question::new("baking with yeast"));
    let (hit, text) = (&hits[0], TEXTS[0].1);
    assert_eq!(&text[hit.bytes.0 as usize..hit.bytes.1 as usize], hit.text);
    assert_eq!((hit.snippet[0].number, hit.stale), (Some(3), false));
    let line = &hit.snippet[0];
    let marks: Vec<&str> = line.marks.iter().map(|mark| &line.text[mark.clone()]).collect();
    assert_eq!(marks, ["yeast", "baking"]);
    assert!(hit.placed.vector.is_some() && hit.placed.words.is_some());
    folder.put("bread.md", "Something else by now, of another length.");
    assert!(folder.ask(&Question::new("baking with yeast"))[0].stale);
}

#[test]
fn fusion_is_by_ranks() {
    let folder = filled("fusion");
    folder.update();
    for hit in folder.ask(&Question::new("the sea and bread")) {
        let part = |rank: Option<u32>| rank.map_or(0.0, |rank| 1.0 / (60.0 + f64::from(rank)));
        let ranks = (hit.placed.vector.map(|it| it.0), hit.placed.words.map(|it| it.0));
        assert!((hit.score - part(ranks.0) - part(ranks.1)).abs() < 1e-12, "{hit:?}");
    }
}

#[test]
fn only_what_differs_is_touched() {
    let folder = filled("changes");
    assert_eq!(folder.update().embedded, 5);
    let report = folder.update();
    assert_eq!((report.unchanged, report.embedded, report.changes()), (4, 0, false));

    folder.put("sea/tides.txt", "Whales sing below the waves.");
    folder.put("new.txt", "Volcanoes make islands.");
    folder.remove("code.rs");
    let report = folder.update();
    assert_eq!((report.new, report.changed, report.deleted), (1, 1, 1));
    assert_eq!((report.unchanged, report.embedded), (2, 2));
    let first = |question: &str| folder.ask(&Question::new(question))[0].path.clone();
    assert_eq!(first("whales singing"), "sea/tides.txt");
    assert_eq!(first("volcano islands"), "new.txt");
    let gone = Question { mode: Mode::Words, ..Question::new("moon sort_names") };
    assert_eq!(folder.ask(&gone), []);

    // Moved: nothing is read again. Left out from now on: gone.
    folder.rename("new.txt", "moved.txt");
    let report = folder.update();
    assert_eq!((report.new, report.deleted, report.embedded), (1, 1, 0));
    assert_eq!(first("volcano islands"), "moved.txt");
    folder.put(".gitignore", "moved.txt\n");
    assert_eq!(folder.update().deleted, 1);
}

#[test]
fn a_change_that_keeps_size_and_time_is_seen() {
    let folder = Folder::new("racy");
    folder.put("a.txt", "Cats purr.");
    folder.update();
    let before = folder.modified("a.txt");
    folder.put("a.txt", "Dogs bark.");
    folder.set_modified("a.txt", before);
    assert_eq!(folder.update().changed, 1);
    folder.set_modified("a.txt", before + std::time::Duration::from_secs(60));
    let report = folder.update();
    assert_eq!((report.unchanged, report.embedded), (1, 0), "touched, but the same");
}

#[test]
fn what_is_no_text_is_counted_and_told_again() {
    let folder = filled("binary");
    folder.put("sound.txt", "RIFF\0\0\0");
    for _ in 0..2 {
        let report = folder.update();
        assert_eq!(report.skipped.get(&Skip::Binary), Some(&1));
    }
    folder.put("sound.txt", "It is a text by now.");
    assert_eq!(folder.update().embedded, 1);
    assert_eq!(folder.ask(&Question::new("a text by now"))[0].path, "sound.txt");
}

#[test]
fn an_ended_update_goes_on() {
    let folder = Folder::new("ended");
    for at in 0..300 {
        let name = format!("{at:03}.txt");
        folder.put(&name, &format!("Text number {at} is about item{at}."));
        folder.set_modified(&name, std::time::UNIX_EPOCH);
    }
    let (mut read, mut runs) = (0, 0);
    loop {
        let mut index = Index::open(&folder.0, None).expect("opens");
        let mut stops = Stops::after(140);
        let report = index.update(&Settings::default(), &Hashing::new(1), &mut stops);
        let report = report.expect("updates");
        (read, runs) = (read + report.embedded, runs + 1);
        assert!(runs < 10);
        if !report.cancelled {
            break;
        }
    }
    assert!(runs > 1);
    assert_eq!(read, 300, "each passage was read once");
    assert_eq!(folder.ask(&Question::new("item271"))[0].path, "271.txt");
}

#[test]
fn another_model_is_refused() {
    let folder = filled("models");
    folder.update();
    let mut index = Index::open(&folder.0, None).expect("opens");
    let settings = Settings::default();
    for other in [Hashing::new(2), Hashing { dimensions: 64, ..Hashing::new(1) }] {
        let error = index.update(&settings, &other, &mut ()).expect_err("is refused");
        assert!(matches!(error, Error::OtherModel { .. }), "{error}");
        assert!(error.to_string().contains("--rebuild"), "{error}");
        let mut searcher = Searcher::open(&folder.0, None).expect("opens");
        let error = searcher.ask(&Question::new("sea"), Some(&other), None);
        assert!(matches!(error, Err(Error::OtherModel { .. })));
    }
    // What it makes counts, not what it is called.
    let renamed = Hashing { name: "another name".into(), ..Hashing::new(1) };
    index.update(&settings, &renamed, &mut ()).expect("is the same model");
    drop(index);
    Index::remove(&folder.0, None).expect("removes");
    let mut index = Index::open(&folder.0, None).expect("opens");
    index.update(&settings, &Hashing::new(2), &mut ()).expect("is a new index");
}

#[test]
fn passages_of_other_lengths_are_refused() {
    let folder = filled("lengths");
    folder.update();
    let mut settings = Settings::default();
    settings.chunking.bytes = 500;
    let mut index = Index::open(&folder.0, None).expect("opens");
    let error = index.update(&settings, &Hashing::new(1), &mut ()).expect_err("is refused");
    assert!(matches!(error, Error::OtherChunking { .. }), "{error}");
}

#[test]
fn questions_have_bounds() {
    let folder = filled("bounds");
    folder.update();
    let long = "a ".repeat(5000);
    let words: String = (0..2000).map(|at| format!("{at:x} ")).collect();
    for (text, answered) in [("", false), ("  \n", false), (&long, false), (&words, true)] {
        let mut searcher = Searcher::open(&folder.0, None).expect("opens");
        let answer = searcher.ask(&Question::new(text), Some(&Hashing::new(1)), None);
        assert_eq!(answer.is_ok(), answered, "{answer:?}");
    }
    let punctuation = Question { mode: Mode::Words, ..Question::new("?!") };
    assert_eq!(folder.ask(&punctuation), []);
    let mut searcher = Searcher::open(&folder.0, None).expect("opens");
    let without = searcher.ask(&Question::new("sea"), None, None);
    assert!(matches!(without, Err(Error::Question(_))));
}

#[test]
fn a_reranker_has_the_last_word() {
    let folder = filled("rerank");
    folder.update();
    let mut searcher = Searcher::open(&folder.0, None).expect("opens");
    let question = Question::new("yeast");
    let ranked = searcher.ask(&question, Some(&Hashing::new(1)), Some(&support::Longest));
    let hits = ranked.expect("answers").hits;
    assert!(hits.iter().is_sorted_by(|a, b| a.text.len() >= b.text.len()) && hits.len() > 1);
    assert!(hits.iter().all(|hit| hit.placed.rerank == Some(hit.text.len() as f32)));
}

#[test]
fn no_index_and_foreign_ones_are_told() {
    let folder = filled("foreign");
    let error = Searcher::open(&folder.0, None).expect_err("is not there");
    assert!(matches!(&error, Error::NotIndexed { .. }), "{error}");
    let other = folder.0.join("other.sqlite");
    std::fs::write(&other, vec![7; 5000]).expect("is written");
    let error = Index::open(&folder.0, Some(&other)).expect_err("is damaged");
    assert!(matches!(&error, Error::Damaged { .. }), "{error}");
    let error = Index::remove(&folder.0, Some(&other)).expect_err("is not ours to remove");
    assert!(matches!(&error, Error::Foreign { .. }) && other.exists(), "{error}");
    let elsewhere = Folder::new("elsewhere");
    let file = elsewhere.0.join("shared.sqlite");
    drop(Index::open(&folder.0, Some(&file)).expect("is made"));
    let third = Folder::new("third");
    let error = Index::open(&third.0, Some(&file)).expect_err("is another folder's");
    assert!(matches!(&error, Error::OtherFolder { .. }), "{error}");
    Index::remove(&folder.0, Some(&file)).expect("is ours");
    assert!(!file.exists());
}

#[cfg(unix)]
#[test]
fn the_index_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = filled("private");
    folder.update();
    let index = Index::open(&folder.0, None).expect("opens");
    let mode = index.path().metadata().expect("is there").permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn an_open_searcher_sees_what_changes() {
    let folder = filled("fresh");
    folder.update();
    let mut searcher = Searcher::open(&folder.0, None).expect("opens");
    let model = Hashing::new(1);
    let mut first = |question: &str| {
        let question = Question { mode: Mode::Vector, ..Question::new(question) };
        let answer = searcher.ask(&question, Some(&model), None).expect("answers");
        answer.hits[0].path.clone()
    };
    assert_eq!(first("moon tides"), "sea/tides.txt");
    folder.put("late.txt", "moon tides");
    folder.update();
    assert_eq!(first("moon tides"), "late.txt");
}
