-- Imports of fleets. An import's ``place`` is written in the transaction of each batch, so that an import that was
-- interrupted goes on there.

CREATE TABLE imports (
    id BYTEA PRIMARY KEY,               -- a UUID
    account TEXT NOT NULL REFERENCES accounts (id),
    source TEXT NOT NULL,               -- yandex, aws or csv
    origin TEXT NOT NULL,               -- where the source reads, for people
    identity TEXT NOT NULL,             -- a hash of what the source reads: another export is another import
    place TEXT NOT NULL,                -- JSON that the source understands
    counts TEXT NOT NULL,               -- a JSON object: how many items had each result
    findings BIGINT NOT NULL,           -- how many there are, also those that are not kept
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    finished_at BIGINT
);

CREATE INDEX imports_by_age ON imports (created_at, id);
CREATE INDEX imports_by_identity ON imports (account, source, identity, created_at);

CREATE TABLE import_findings (
    import BYTEA NOT NULL REFERENCES imports (id),
    number BIGINT NOT NULL,             -- from 1
    kind TEXT NOT NULL,                 -- of the item
    outcome TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (import, number)
);
