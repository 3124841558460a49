-- The same as in SQLite.
CREATE TABLE IF NOT EXISTS ledger_content (
    seq BIGINT PRIMARY KEY,
    id TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    content BYTEA NOT NULL
);
UPDATE ledger_chain SET version = 2 WHERE version = 1;
