-- Times are seconds since 1970; owners are digests of keys, or empty where there are none.
CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    purpose TEXT NOT NULL,
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_s INTEGER NOT NULL,
    expires_s INTEGER
) STRICT;
CREATE INDEX files_of_owner ON files (owner, seq);

-- Each *_s beside created_s and expires_s is when the batch came to that status.
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_file TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    metadata TEXT,
    status TEXT NOT NULL,
    errors TEXT,
    output_file TEXT,
    error_file TEXT,
    total INTEGER NOT NULL DEFAULT 0,
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    created_s INTEGER NOT NULL,
    expires_s INTEGER NOT NULL,
    in_progress_s INTEGER,
    finalizing_s INTEGER,
    completed_s INTEGER,
    failed_s INTEGER,
    expired_s INTEGER,
    cancelling_s INTEGER,
    cancelled_s INTEGER
) STRICT;
CREATE INDEX batches_of_owner ON batches (owner, seq);
CREATE INDEX batches_by_status ON batches (status, seq);

-- A batch's lines while it runs: where in the input file each stands, and what became of it.
-- outcome: 0 none yet, 1 answered, 2 failed. result: the line of the output or error file.
CREATE TABLE batch_lines (
    batch INTEGER NOT NULL REFERENCES batches (seq) ON DELETE CASCADE,
    line INTEGER NOT NULL,
    custom_id TEXT NOT NULL,
    start INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    outcome INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    PRIMARY KEY (batch, line)
) STRICT, WITHOUT ROWID;
CREATE INDEX batch_lines_by_outcome ON batch_lines (batch, outcome, line);
