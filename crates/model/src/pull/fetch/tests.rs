//! Models in several parts, and sources tried in turn.

use super::super::tests::{Scratch, scratch};
use super::super::{Quiet, Settings};
use super::*;

const PARTS: [&str; 3] = ["GGUF one ", "two two ", "three three three"];

fn piece(folder: &Path, part: usize) -> Piece {
    let size = Some(PARTS[part].len() as u64);
    Piece { from: Reference::Path(folder.join(format!("part{part}"))), size, download: None }
}

fn want(sources: Vec<Vec<Piece>>, sha256: &str) -> Want {
    Want {
        name: "m".into(),
        title: "m".into(),
        reference: "m".into(),
        file: "m.gguf".into(),
        size: Some(PARTS.concat().len() as u64),
        sha256: Some(sha256.into()),
        licence: None,
        terms: None,
        sources,
        files: Vec::new(),
    }
}

/// A store, the folder of its model, and the parts as files.
fn setting(name: &str) -> (Scratch, Store, PathBuf) {
    let folder = scratch(name);
    let store = Store::with_settings(folder.join("home"), Settings::default());
    let model = store.folder("m");
    fs::create_dir_all(&model).expect("created");
    for (number, text) in PARTS.iter().enumerate() {
        fs::write(folder.join(format!("part{number}")), text).expect("written");
    }
    (folder, store, model)
}

#[test]
fn parts_are_joined_and_whole_ones_are_not_fetched_again() {
    let (folder, store, model) = setting("parts");
    let want =
        want(vec![(0..3).map(|part| piece(&folder, part)).collect()], &hash_text(&PARTS.concat()));
    fs::remove_file(folder.join("part2")).expect("removed");
    assert!(from_any_source(&store, &want, &model, &mut Quiet).is_err());
    let kept = fs::read_to_string(model.join("m.gguf.partial")).expect("kept");
    assert_eq!(kept, PARTS[..2].concat());
    // If a whole part were read again, the checksum would tell.
    fs::write(folder.join("part0"), "GGUF ONE ").expect("written");
    fs::write(folder.join("part2"), PARTS[2]).expect("written");
    let entry = from_any_source(&store, &want, &model, &mut Quiet).expect("joined");
    assert_eq!(fs::read_to_string(entry.path).expect("read"), PARTS.concat());
}

#[test]
fn a_partial_file_that_was_tampered_with_is_begun_again() {
    let (folder, store, model) = setting("tampered");
    let want =
        want(vec![(0..3).map(|part| piece(&folder, part)).collect()], &hash_text(&PARTS.concat()));
    fs::remove_file(folder.join("part2")).expect("removed");
    assert!(from_any_source(&store, &want, &model, &mut Quiet).is_err());
    fs::write(folder.join("part2"), PARTS[2]).expect("written");
    let joined = |attempt: Result<Entry, Error>| {
        fs::read_to_string(attempt.expect("joined").path).expect("read") == PARTS.concat()
    };
    let first = fs::read(model.join("m.gguf.partial.json")).expect("read");
    for (tampered, seen_at_once) in [("", true), ("GGUF", true), ("GGUF xxx two two ", false)] {
        fs::write(model.join("m.gguf.partial"), tampered).expect("written");
        fs::write(model.join("m.gguf.partial.json"), &first).expect("written");
        let attempt = from_any_source(&store, &want, &model, &mut Quiet);
        // Too short is seen at once; other bytes at the checksum, and then nothing of them is kept.
        assert_eq!(attempt.is_ok(), seen_at_once, "{tampered:?}");
        let again = |_| from_any_source(&store, &want, &model, &mut Quiet);
        assert!(joined(attempt.or_else(again)));
    }
}

#[test]
fn the_next_source_is_tried_where_one_serves_wrong_bytes() {
    let (folder, store, model) = setting("sources");
    let wrong = vec![piece(&folder, 1), piece(&folder, 0), piece(&folder, 2)];
    let right = (0..3).map(|part| piece(&folder, part)).collect();
    let want = want(vec![wrong, right], &hash_text(&PARTS.concat()));
    let entry = from_any_source(&store, &want, &model, &mut Quiet).expect("the second is right");
    assert!(entry.manifest.source.contains("part0"));
    assert_eq!(fs::read_to_string(entry.path).expect("read"), PARTS.concat());
}

#[test]
fn names_made_from_references_are_sound_and_differ() {
    let cases = [
        ("Model-Q4.GGUF", "hf:o/r/Model-Q4.GGUF", "model-q4-"),
        ("a b (1).gguf", "hf:o/r/a b (1).gguf", "a-b--1--"),
        ("_x.bin", "hf:o/r/_x.bin", "x.bin-"),
        ("con.x.gguf", "hf:o/r/con.x.gguf", "model-"),
    ];
    for (file, reference, expect) in cases {
        let name = derived_name(file, reference);
        assert!(is_store_name(&name) && name.starts_with(expect), "{name}");
        assert_ne!(name, derived_name(file, &format!("{reference}x")));
    }
}

#[test]
fn a_full_disk_is_foreseen() {
    let folder = scratch("disk");
    assert!(check_disk(&folder, 0).is_ok());
    let error = check_disk(&folder, u64::MAX).expect_err("nobody has that much").to_string();
    assert!(error.contains("MB free") && error.contains("INGLE_HOME"), "{error}");
}
