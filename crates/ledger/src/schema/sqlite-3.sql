-- How far a process's journal is in these tables: the last number of it, in the same transaction as
-- what it stands for.
CREATE TABLE ledger_journals (
    process TEXT PRIMARY KEY,
    through INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
