-- Responses that may be asked for again. input, response and events are texts of their protocol;
-- events only of those that were computed in the background. server: who computes it, while its
-- status says that somebody does.
CREATE TABLE responses (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    previous TEXT,
    server TEXT,
    status TEXT NOT NULL,
    created_s INTEGER NOT NULL,
    input TEXT NOT NULL,
    response TEXT NOT NULL,
    events TEXT NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX responses_of_owner ON responses (owner, seq, bytes);
CREATE INDEX responses_by_age ON responses (created_s);
CREATE INDEX responses_under_way ON responses (server) WHERE server IS NOT NULL;
