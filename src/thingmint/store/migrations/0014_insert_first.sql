-- What a transaction reads and others insert beside makes them conflict on PostgreSQL. A key is reserved by inserting it,
-- before its operation is recorded.

CREATE TABLE reserved_keys (
    caller TEXT NOT NULL,
    folder TEXT NOT NULL,
    method TEXT NOT NULL,
    key TEXT NOT NULL,
    request_sha256 BYTEA NOT NULL,
    operation TEXT NOT NULL,            -- its id
    created_at BIGINT NOT NULL,
    PRIMARY KEY (caller, method, key, folder)
);

INSERT INTO reserved_keys (caller, folder, method, key, request_sha256, operation, created_at)
SELECT caller, folder, method, key, request_sha256, operation, created_at FROM idempotency_keys;

DROP TABLE idempotency_keys;

ALTER TABLE reserved_keys RENAME TO idempotency_keys;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
