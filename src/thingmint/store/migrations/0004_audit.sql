-- The audit trail. A change inserts its record, unchained, in its own transaction; the sealer numbers and chains later.

CREATE TABLE audit_records (
    id TEXT PRIMARY KEY,                -- begins with the time, so that ids sort by it
    account TEXT,                       -- none for callers who could not be told
    record TEXT NOT NULL,               -- a JSON object, in the very bytes that the hash is taken of
    sequence BIGINT,                    -- from 1; none until the record is sealed
    hash BYTEA                          -- SHA-256 of the hash before and of all that the row says
);

CREATE UNIQUE INDEX audit_records_by_sequence ON audit_records (sequence);
CREATE INDEX audit_records_unsealed ON audit_records (id) WHERE sequence IS NULL;
CREATE INDEX audit_records_by_account ON audit_records (account, id);

-- What the chain was at a time, signed with the audit key. They also go to a file outside of the store.
CREATE TABLE audit_checkpoints (
    sequence BIGINT PRIMARY KEY,
    checkpoint TEXT NOT NULL            -- a JSON object
);
