//! Opening what is there: nothing, our own, an older one, a newer one, another's, rubbish.

use super::*;
use crate::testing::Folder;

fn opened(folder: &Folder) -> Result<u32> {
    let records = Records::open(folder.path())?;
    records.read(schema::version)
}

/// Writes to the database of a folder by hand.
fn by_hand(folder: &Folder, sql: &str) {
    let connection = Connection::open(folder.path().join(NAME)).expect("opens");
    connection.execute_batch(sql).expect("runs");
}

#[test]
fn a_new_folder_gets_the_newest_schema_and_keeps_it() {
    let folder = Folder::new("new");
    for _ in 0..2 {
        assert_eq!(opened(&folder).expect("opens") as usize, schema::STEPS.len());
    }
}

#[test]
fn each_step_is_taken_once_from_wherever_a_file_stands() {
    let steps = [("one", "CREATE TABLE a (x)"), ("two", "CREATE TABLE b (x)")];
    for seen in 0..=steps.len() {
        let mut connection = Connection::open_in_memory().expect("opens");
        schema::migrate(&mut connection, &steps[..seen]).expect("the old program's");
        schema::migrate(&mut connection, &steps).expect("the new program's");
        assert_eq!(schema::version(&connection).expect("reads") as usize, steps.len(), "{seen}");
        connection.execute_batch("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)").expect("in");
    }
}

/// What an older program kept is there, and says of what it does not know that it does not.
#[test]
fn records_of_before_say_nothing_of_where_they_come_from() {
    let folder = Folder::new("before");
    let mut connection = Connection::open(folder.path().join(NAME)).expect("opens");
    schema::migrate(&mut connection, &schema::STEPS[..2]).expect("the old program's");
    drop(connection);
    by_hand(&folder, &format!("PRAGMA application_id = {}", schema::APPLICATION_ID));
    by_hand(
        &folder,
        "INSERT INTO batches (id, owner, endpoint, input_file, completion_window, status, \
         created_s, expires_s) \
         VALUES ('b', 'me', '/v1/completions', 'f', '24h', 'validating', 1, 9); \
         INSERT INTO responses (id, owner, status, created_s, input, response, events, bytes) \
         VALUES ('r', 'me', 'completed', 1, 'in', 'out', '', 5); \
         INSERT INTO files (id, owner, purpose, name, bytes, created_s) \
         VALUES ('f', 'me', 'batch', 'jobs', 5, 1)",
    );
    let records = Records::open(folder.path()).expect("opens");
    let batch = records.batch("me", "b").expect("reads").expect("is there");
    assert_eq!((batch.asked.endpoint.as_str(), batch.asked.origin), ("/v1/completions", None));
    let response = records.response("me", "r").expect("reads").expect("is there");
    assert_eq!((response.response.as_str(), response.origin), ("out", None));
    let file = records.file("me", "f").expect("reads").expect("is there");
    assert_eq!((file.name.as_str(), file.origin), ("jobs", None));
}

#[test]
fn what_is_not_ours_or_whole_is_refused_with_the_next_step() {
    let check = |name: &str, make: &dyn Fn(&Folder), expect: &str| {
        let folder = Folder::new(name);
        make(&folder);
        let before = fs::read(folder.path().join(NAME)).expect("is there");
        let error = opened(&folder).expect_err(name).to_string();
        assert!(error.contains(expect) && error.contains("hint:"), "{name}: {error}");
        let after = fs::read(folder.path().join(NAME)).expect("is there");
        assert_eq!(before, after, "{name}: the file was touched");
    };
    let rubbish = |folder: &Folder| {
        fs::write(folder.path().join(NAME), "rubbish, and enough of it".repeat(64))
            .expect("writes");
    };
    check("rubbish", &rubbish, "no database");
    check("foreign", &|folder| by_hand(folder, "CREATE TABLE theirs (x)"), "another program");
    check("foreign-id", &|folder| by_hand(folder, "PRAGMA application_id = 7"), "another program");
    let newer = |folder: &Folder| {
        opened(folder).expect("opens");
        by_hand(folder, "PRAGMA user_version = 999");
        by_hand(folder, "PRAGMA wal_checkpoint(TRUNCATE)");
    };
    check("newer", &newer, "newer Ingle (its version is 999");
}

#[test]
fn damage_is_found_when_it_is_opened() {
    let folder = Folder::new("damage");
    opened(&folder).expect("opens");
    let path = folder.path().join(NAME);
    let mut bytes = fs::read(&path).expect("reads");
    let from = bytes.len() / 2;
    bytes[from..].fill(0xa5);
    fs::write(&path, bytes).expect("writes");
    let error = opened(&folder).expect_err("is damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn only_its_user_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("private");
    let path = folder.path().join(NAME);
    fs::write(&path, "").expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("sets");
    let records = Records::open(folder.path()).expect("opens");
    records.write(|change| change.execute("DELETE FROM files", ())).expect("writes");
    for file in fs::read_dir(folder.path()).expect("lists") {
        let file = file.expect("lists");
        let mode = file.metadata().expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let folder = Folder::new("rollback");
    let records = Records::open(folder.path()).expect("opens");
    let outcome: Result<()> = records.write(|change| {
        change.execute_batch("CREATE TABLE half (x)")?;
        change.execute_batch("no SQL")
    });
    assert!(outcome.is_err());
    let there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'half')";
    assert!(!records.read(|c| c.query_row(there, (), |row| row.get::<_, bool>(0))).expect("reads"));
}

#[test]
fn what_is_removed_is_what_was_made() {
    for other in [false, true] {
        let folder = Folder::new("remove");
        let home = folder.path().join("home");
        let records = Records::open(&home).expect("opens");
        drop(records.upload("a").expect("begins"));
        drop(records.lease().expect("locks"));
        drop(records);
        if other {
            fs::write(home.join("other"), "not ours").expect("writes");
        }
        Records::remove(&home).expect("removes");
        let left = fs::read_dir(&home).map(|names| names.count()).unwrap_or(0);
        assert_eq!((home.exists(), left), (other, usize::from(other)));
    }
}
