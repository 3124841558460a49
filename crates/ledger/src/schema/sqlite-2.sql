-- What was asked and answered, encrypted: the row of the chain that has its digest, the call, when
-- it came, and the bytes. It may go while that row stays.
CREATE TABLE ledger_content (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    content BLOB NOT NULL
) STRICT;
