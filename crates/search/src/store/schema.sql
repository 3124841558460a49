-- What the index is of and how it was made: folder, model, dimensions, probe, chunking.
CREATE TABLE about (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Files that were looked at. Times are nanoseconds since 1970: checked_ns is when the file was read
-- last. skipped: why nothing of it can be searched; then it has no chunks.
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    checked_ns INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    skipped TEXT
) STRICT;
CREATE INDEX documents_by_content ON documents (sha256);

-- Passages. start and stop are bytes of the file, first_line and last_line its lines from 1. No
-- number is used twice, so that who has a passage's number never gets another one for it.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    heading TEXT NOT NULL,
    text TEXT NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    first_line INTEGER NOT NULL,
    last_line INTEGER NOT NULL
) STRICT;
CREATE INDEX chunks_of_document ON chunks (document);

-- Apart from the texts, so that reading all of them reads little else. codes: a signed byte a
-- dimension; times scale it is the component of a vector of length 1.
CREATE TABLE vectors (
    chunk INTEGER PRIMARY KEY REFERENCES chunks (id) ON DELETE CASCADE,
    scale REAL NOT NULL,
    codes BLOB NOT NULL
) STRICT;

-- The words alone; the texts stand in chunks.
CREATE VIRTUAL TABLE words USING fts5 (
    path, heading, text,
    content = '', contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER chunks_leave AFTER DELETE ON chunks BEGIN
    DELETE FROM words WHERE rowid = old.id;
END;
