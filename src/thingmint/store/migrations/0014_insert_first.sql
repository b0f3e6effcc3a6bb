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

-- What is left of a quota, of which lanes hold shares, so that transactions do not wait for one row. What counted them
-- before becomes the part of no lane, with a quota of nothing until the server starts.
CREATE TABLE quota_shares (
    kind TEXT NOT NULL,                 -- certificates, devices
    owner TEXT NOT NULL,                -- the account, or the registry
    lane BIGINT NOT NULL,               -- 0 for what is not handed out to lanes
    room BIGINT NOT NULL,               -- how many more there may be; below 0 if there are too many
    quota BIGINT NOT NULL,              -- that all of the owner's add up to, with what there is
    PRIMARY KEY (kind, owner, lane)
);

INSERT INTO quota_shares (kind, owner, lane, room, quota) SELECT kind, owner, 0, -used, 0 FROM usage;

DROP TABLE usage;
