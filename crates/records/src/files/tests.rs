//! Files over their life: kept, listed in pages, bounded, owned, deleted, swept.

use std::io::Read;

use super::*;
use crate::testing::Folder;

const ROOMY: FileLimits = FileLimits { count: 100, bytes: 1 << 20 };

fn keep(records: &Records, owner: &str, id: &str, text: &str, limits: FileLimits) -> Kept {
    let mut upload = records.upload(id).expect("begins");
    upload.write(text.as_bytes()).expect("writes");
    let file = FileRecord {
        id: id.to_owned(),
        owner: owner.to_owned(),
        purpose: if id.starts_with('b') { "batch" } else { "user_data" }.to_owned(),
        name: format!("{id}.jsonl"),
        bytes: upload.bytes(),
        created_s: 7,
        expires_s: id.ends_with('x').then_some(100),
        origin: Some(format!("where {id} came from")),
    };
    records.keep(upload, &file, limits).expect("keeps")
}

fn text(records: &Records, id: &str) -> Option<String> {
    let mut text = String::new();
    records.open_file(id).ok()?.read_to_string(&mut text).expect("reads");
    Some(text)
}

#[test]
fn a_file_is_its_owners_and_outlives_the_process() {
    let folder = Folder::new("file");
    let records = Records::open(folder.path()).expect("opens");
    assert_eq!(keep(&records, "a", "b1", "hello", ROOMY), Kept::Yes);
    drop(records);
    let records = Records::open(folder.path()).expect("opens again");
    let file = records.file("a", "b1").expect("reads").expect("is there");
    assert_eq!((file.bytes, file.name.as_str()), (5, "b1.jsonl"));
    assert_eq!(file.origin.as_deref(), Some("where b1 came from"));
    assert_eq!(text(&records, "b1").as_deref(), Some("hello"));
    assert_eq!(records.file("b", "b1").expect("reads"), None);
    assert_eq!(records.delete_file("b", "b1").expect("reads"), Deleted::Unknown);
    assert_eq!(records.delete_file("a", "b1").expect("deletes"), Deleted::Yes);
    assert_eq!(records.delete_file("a", "b1").expect("reads"), Deleted::Unknown);
    assert_eq!(text(&records, "b1"), None);
}

#[test]
fn pages() {
    let folder = Folder::new("pages");
    let records = Records::open(folder.path()).expect("opens");
    for id in ["b1", "u2", "b3", "b4", "u5"] {
        assert_eq!(keep(&records, "a", id, id, ROOMY), Kept::Yes);
    }
    keep(&records, "other", "b6", "x", ROOMY);
    type Row<'a> = (Option<&'a str>, Option<&'a str>, u32, bool, Option<(&'a str, bool)>);
    let rows: &[Row<'_>] = &[
        (None, None, 10, true, Some(("u5 b4 b3 u2 b1", false))),
        (None, None, 10, false, Some(("b1 u2 b3 b4 u5", false))),
        (None, None, 2, true, Some(("u5 b4", true))),
        (None, Some("b4"), 2, true, Some(("b3 u2", true))),
        (None, Some("u2"), 2, true, Some(("b1", false))),
        (None, Some("b4"), 2, false, Some(("u5", false))),
        (Some("batch"), None, 2, false, Some(("b1 b3", true))),
        (Some("batch"), Some("u2"), 9, false, Some(("b3 b4", false))),
        (Some("none"), None, 9, false, Some(("", false))),
        (None, Some("b6"), 9, false, None),
        (None, Some("b7"), 9, false, None),
    ];
    for (purpose, after, limit, newest_first, expect) in rows {
        let page = Page { after: *after, limit: *limit, newest_first: *newest_first };
        let listed = records.files("a", *purpose, &page).expect("reads");
        let ids = |listed: Listed<FileRecord>| {
            let ids: Vec<String> = listed.rows.into_iter().map(|file| file.id).collect();
            (ids.join(" "), listed.more)
        };
        let expect = expect.map(|(ids, more)| (ids.to_owned(), more));
        assert_eq!(listed.map(ids), expect, "{purpose:?} {page:?}");
    }
}

#[test]
fn one_owner_can_keep_so_much() {
    let folder = Folder::new("bounds");
    let records = Records::open(folder.path()).expect("opens");
    let limits = FileLimits { count: 2, bytes: 10 };
    let rows = [
        ("a", "b1", "123456", Kept::Yes),
        ("a", "b2", "12345", Kept::TooLarge),
        ("b", "b2", "12345", Kept::Yes),
        ("a", "b3", "1234", Kept::Yes),
        ("a", "b4", "", Kept::TooMany),
    ];
    for (owner, id, contents, expect) in rows {
        assert_eq!(keep(&records, owner, id, contents, limits), expect, "{owner} {id}");
        assert_eq!(text(&records, id).is_some(), expect == Kept::Yes, "{owner} {id}");
    }
}

#[test]
fn an_upload_that_is_given_up_leaves_nothing() {
    let folder = Folder::new("given-up");
    let records = Records::open(folder.path()).expect("opens");
    let mut upload = records.upload("b1").expect("begins");
    upload.write(b"half").expect("writes");
    drop(upload);
    assert_eq!(fs::read_dir(folder.path().join(FOLDER)).expect("lists").count(), 0);
}

#[test]
fn no_id_leads_out_of_the_folder() {
    let folder = Folder::new("ids");
    let records = Records::open(folder.path()).expect("opens");
    for id in ["", ".", "..", "../records.sqlite", "a/b", "a.part", &"a".repeat(65)] {
        assert!(records.open_file(id).is_err() && records.upload(id).is_err(), "{id:?}");
    }
}

#[test]
fn what_is_due_and_what_a_crash_left_is_swept_away() {
    let folder = Folder::new("sweep");
    let records = Records::open(folder.path()).expect("opens");
    keep(&records, "a", "b1", "stays", ROOMY);
    keep(&records, "a", "b2x", "is due at 100", ROOMY);
    let age = |name: &str, age: Duration| {
        let path = folder.path().join(FOLDER).join(name);
        let file = fs::OpenOptions::new().create(true).append(true).open(path).expect("opens");
        file.set_modified(SystemTime::now() - age).expect("sets");
    };
    age("b1", STRAY);
    age("stray", STRAY);
    age("stray.part", STRAY);
    age("fresh.part", Duration::from_secs(60));
    assert_eq!(records.sweep_files(99).expect("sweeps"), 2);
    assert_eq!(records.sweep_files(100).expect("sweeps"), 1);
    let names = fs::read_dir(folder.path().join(FOLDER)).expect("lists");
    let mut names: Vec<_> = names.map(|entry| entry.expect("lists").file_name()).collect();
    names.sort();
    assert_eq!(names, ["b1", "fresh.part"]);
}
