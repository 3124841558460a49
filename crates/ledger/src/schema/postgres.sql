-- The same tables as in SQLite; `version` counts the steps that made them.
CREATE TABLE IF NOT EXISTS ledger_chain (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    version BIGINT NOT NULL,
    count BIGINT NOT NULL,
    head BYTEA NOT NULL,
    base_count BIGINT NOT NULL,
    base_head BYTEA NOT NULL,
    base_before_ms BIGINT NOT NULL,
    base_at_ms BIGINT NOT NULL
);
INSERT INTO ledger_chain
    VALUES (1, 1, 0, decode(repeat('00', 32), 'hex'), 0, decode(repeat('00', 32), 'hex'), 0, 0)
    ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS ledger_entries (
    seq BIGINT PRIMARY KEY,
    prev BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    id TEXT NOT NULL,
    key_name TEXT NOT NULL,
    team TEXT NOT NULL,
    path TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    ended TEXT NOT NULL,
    prompt_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    cost_micros BIGINT,
    estimated BIGINT NOT NULL,
    instead_micros BIGINT,
    remote BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_entries_at ON ledger_entries (at_ms);

CREATE TABLE IF NOT EXISTS ledger_announced (
    id TEXT PRIMARY KEY,
    process TEXT NOT NULL,
    body TEXT NOT NULL,
    reserved TEXT NOT NULL
);
