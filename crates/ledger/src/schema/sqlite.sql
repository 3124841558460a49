-- The chain's two ends: one row. Whoever writes changes it in the same transaction.
CREATE TABLE ledger_chain (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    count INTEGER NOT NULL,
    head BLOB NOT NULL,
    base_count INTEGER NOT NULL,
    base_head BLOB NOT NULL,
    base_before_ms INTEGER NOT NULL,
    base_at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO ledger_chain VALUES (1, 0, zeroblob(32), 0, zeroblob(32), 0, 0);

-- The text comes last: sums are read without it. What has a column is what is asked for.
CREATE TABLE ledger_entries (
    seq INTEGER PRIMARY KEY,
    prev BLOB NOT NULL,
    hash BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    id TEXT NOT NULL,
    key_name TEXT NOT NULL,
    team TEXT NOT NULL,
    path TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    ended TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost_micros INTEGER,
    estimated INTEGER NOT NULL,
    instead_micros INTEGER,
    remote INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
-- Times grow, so this index grows at its end. Ids are in none: they are in no order, and an index
-- of them would cost more than the rows.
CREATE INDEX ledger_entries_at ON ledger_entries (at_ms);

-- Calls that are under way.
CREATE TABLE ledger_announced (
    id TEXT PRIMARY KEY,
    process TEXT NOT NULL,
    body TEXT NOT NULL,
    reserved TEXT NOT NULL
) STRICT, WITHOUT ROWID;
