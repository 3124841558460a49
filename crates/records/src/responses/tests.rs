//! Responses: kept, chained, bounded, and each owner's own.

use super::*;
use crate::testing::Folder;

const LIMITS: ResponseLimits = ResponseLimits { count: 100, bytes: 1 << 20, age_s: 1000 };
const DEPTH: ChainLimits = ChainLimits { count: 10, bytes: 1 << 20 };

fn response(id: &str, owner: &str, previous: Option<&str>, created_s: u64) -> ResponseRecord {
    ResponseRecord {
        id: id.into(),
        owner: owner.into(),
        previous: previous.map(str::to_owned),
        status: "completed".into(),
        created_s,
        input: format!("input of {id}"),
        response: format!("response {id}"),
        ..ResponseRecord::default()
    }
}

fn keep(records: &Records, record: &ResponseRecord, limits: ResponseLimits) {
    assert!(records.keep_response(record, limits).expect("is written"), "{record:?}");
}

/// Which of the ids are kept.
fn left(records: &Records, owner: &str, ids: &[&str]) -> Vec<String> {
    let kept = |id: &&&str| records.response(owner, id).expect("is read").is_some();
    ids.iter().filter(kept).map(|id| (*id).to_owned()).collect()
}

#[test]
fn what_was_kept_is_there_for_its_owner() {
    let folder = Folder::new("responses");
    let origin = Some("where it came from".to_owned());
    let record = ResponseRecord { origin, ..response("a", "me", None, 1) };
    let find = |records: &Records, owner: &str| records.response(owner, "a").expect("is read");
    {
        let records = Records::open(folder.path()).expect("opens");
        keep(&records, &record, LIMITS);
    }
    let records = Records::open(folder.path()).expect("opens");
    assert_eq!(find(&records, "me"), Some(record));
    assert_eq!(find(&records, "you"), None);
    assert!(!records.delete_response("you", "a").expect("is asked"), "not another's");
    assert!(records.delete_response("me", "a").expect("is asked"));
    assert!(!records.delete_response("me", "a").expect("is asked"), "once");
    assert_eq!(find(&records, "me"), None);
}

#[test]
fn a_chain_is_followed_to_its_beginning() {
    let folder = Folder::new("chains");
    let records = Records::open(folder.path()).expect("opens");
    keep(&records, &response("a", "me", None, 1), LIMITS);
    keep(&records, &response("b", "me", Some("a"), 2), LIMITS);
    keep(&records, &response("c", "me", Some("b"), 3), LIMITS);
    keep(&records, &response("d", "you", Some("a"), 3), LIMITS);
    let chain =
        |owner: &str, id: &str, most| records.response_chain(owner, id, most).expect("is read");
    let Chain::Whole(whole) = chain("me", "c", DEPTH) else { panic!("it is whole") };
    let ids: Vec<&str> = whole.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(chain("me", "x", DEPTH), Chain::Unknown("x".into()));
    assert_eq!(chain("you", "d", DEPTH), Chain::Unknown("a".into()), "another's is unknown");
    assert_eq!(chain("me", "c", ChainLimits { count: 2, ..DEPTH }), Chain::TooLong);
    assert_eq!(chain("me", "c", ChainLimits { bytes: 40, ..DEPTH }), Chain::TooLong);
    assert!(records.delete_response("me", "a").expect("is asked"));
    assert_eq!(chain("me", "c", DEPTH), Chain::Unknown("a".into()), "a deleted one breaks it");
}

#[test]
fn the_oldest_go_first() {
    let folder = Folder::new("bounds");
    let records = Records::open(folder.path()).expect("opens");
    let few = ResponseLimits { count: 2, ..LIMITS };
    for (id, at) in [("a", 1), ("b", 2), ("c", 3)] {
        keep(&records, &response(id, "me", None, at), few);
    }
    keep(&records, &response("other", "you", None, 3), few);
    assert_eq!(left(&records, "me", &["a", "b", "c"]), ["b", "c"]);
    assert_eq!(left(&records, "you", &["other"]), ["other"], "each owner has room of its own");
    let large = ResponseRecord { response: "x".repeat(500), ..response("d", "me", None, 4) };
    let small = ResponseLimits { bytes: 520, ..LIMITS };
    keep(&records, &large, small);
    assert_eq!(left(&records, "me", &["b", "c", "d"]), ["d"], "by bytes too");
    let huge = ResponseRecord { response: "x".repeat(600), ..response("e", "me", None, 4) };
    assert!(!records.keep_response(&huge, small).expect("is asked"), "never fits");
    assert_eq!(left(&records, "me", &["d", "e"]), ["d"], "and nothing went for it");
    keep(&records, &response("f", "me", None, 2000), LIMITS);
    assert_eq!(left(&records, "me", &["d", "f"]), ["f"], "by age too");
    assert_eq!(left(&records, "you", &["other"]), [""; 0]);
}

#[test]
fn what_is_under_way_stays_and_is_ended() {
    let folder = Folder::new("under-way");
    let records = Records::open(folder.path()).expect("opens");
    let few = ResponseLimits { count: 1, ..LIMITS };
    let mut running = response("a", "me", None, 1);
    (running.server, running.status) = (Some("s".into()), "queued".into());
    keep(&records, &running, few);
    keep(&records, &response("b", "me", None, 2000), few);
    assert_eq!(left(&records, "me", &["a", "b"]), ["a"], "who is computed stays");
    assert_eq!(records.responses_under_way().expect("is read"), [running.clone()]);
    let mut ended = running.clone();
    (ended.server, ended.status) = (None, "completed".into());
    ended.events = "event".into();
    assert!(records.end_response(&ended, few).expect("is written"));
    assert_eq!(records.response("me", "a").expect("is read"), Some(ended.clone()));
    assert_eq!(records.responses_under_way().expect("is read"), []);
    assert!(records.delete_response("me", "a").expect("is asked"));
    assert!(!records.end_response(&ended, few).expect("is written"), "it was deleted meanwhile");
    assert_eq!(left(&records, "me", &["a"]), [""; 0]);
}
