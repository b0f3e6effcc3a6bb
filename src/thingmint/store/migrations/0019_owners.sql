-- Brokers of Yandex IoT Core, registries that are disabled, and the operations of each owner.

CREATE TABLE brokers (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    folder TEXT NOT NULL REFERENCES folders (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL,               -- a JSON object
    log_options TEXT NOT NULL,          -- a JSON object
    created_at BIGINT NOT NULL
);

CREATE INDEX brokers_by_age ON brokers (folder, created_at, id);

-- Names are unique where they are given at all.
CREATE UNIQUE INDEX brokers_by_name ON brokers (folder, name) WHERE name <> '';

ALTER TABLE registries ADD COLUMN disabled BIGINT NOT NULL DEFAULT 0;

-- The device, registry or broker that the operation is about; empty for operations from before this was kept.
ALTER TABLE operations ADD COLUMN owner TEXT NOT NULL DEFAULT '';

CREATE INDEX operations_by_owner ON operations (owner, created_at, id);

CREATE INDEX operations_by_age ON operations (created_at);
