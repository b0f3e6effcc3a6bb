-- Reads and refusals: a second part of the audit trail with a chain of its own, as they are kept for less long than
-- changes, and a chain can only lose its beginning. What is older than this migration stays where it is.

CREATE TABLE audit_activity (
    id TEXT PRIMARY KEY,                -- begins with the time, as in audit_records, so that lists hold both in order
    account TEXT,
    record TEXT NOT NULL,
    sequence BIGINT,                    -- from 1; none until the record is sealed
    hash BYTEA
);

CREATE UNIQUE INDEX audit_activity_by_sequence ON audit_activity (sequence);
CREATE INDEX audit_activity_unsealed ON audit_activity (id) WHERE sequence IS NULL;
CREATE INDEX audit_activity_by_account ON audit_activity (account, id);

CREATE TABLE audit_activity_checkpoints (
    sequence BIGINT PRIMARY KEY,
    checkpoint TEXT NOT NULL            -- a JSON object, with the bytes of all records so far
);
