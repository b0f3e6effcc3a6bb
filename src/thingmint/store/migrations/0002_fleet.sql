-- Registries of devices, the certificates bound to them, and operations: what Yandex IoT Core adds to the core.

CREATE TABLE folders (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX folders_by_account ON folders (account);

CREATE TABLE registries (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    folder TEXT NOT NULL REFERENCES folders (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL,               -- a JSON object
    log_options TEXT NOT NULL,          -- a JSON object
    created_at BIGINT NOT NULL
);

CREATE INDEX registries_by_age ON registries (folder, created_at, id);

-- Names are unique where they are given at all.
CREATE UNIQUE INDEX registries_by_name ON registries (folder, name) WHERE name <> '';

CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    folder TEXT NOT NULL REFERENCES folders (id),
    registry TEXT NOT NULL REFERENCES registries (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    labels TEXT NOT NULL,               -- a JSON object
    topic_aliases TEXT NOT NULL,        -- a JSON object
    created_at BIGINT NOT NULL
);

CREATE INDEX devices_by_registry ON devices (registry, created_at, id);
CREATE INDEX devices_by_folder ON devices (folder, created_at, id);
CREATE UNIQUE INDEX devices_by_name ON devices (registry, name) WHERE name <> '';

-- A certificate is bound to at most one device, registry or broker of its account. The region is the account's home.
CREATE TABLE bindings (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- device or registry
    owner TEXT NOT NULL,
    submitted_pem TEXT,                 -- as it was sent, where that is not the canonical PEM
    made_registration BIGINT NOT NULL,  -- 1 if the registration was made for this binding, and ends with it
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, fingerprint),
    FOREIGN KEY (account, region, fingerprint) REFERENCES registrations (account, region, fingerprint)
);

CREATE INDEX bindings_by_owner ON bindings (owner, created_at, fingerprint);

-- What a change answered, as it was answered: a serialised yandex.cloud.operation.Operation.
CREATE TABLE operations (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    answer BYTEA NOT NULL,
    finishes_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE idempotency_keys (
    caller TEXT NOT NULL,
    folder TEXT NOT NULL,
    method TEXT NOT NULL,
    key TEXT NOT NULL,
    request_sha256 BYTEA NOT NULL,
    operation TEXT NOT NULL REFERENCES operations (id),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (caller, method, key, folder)
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

-- Authorized keys of service accounts: only their public halves.
CREATE TABLE authorized_keys (
    id TEXT PRIMARY KEY,
    principal TEXT NOT NULL REFERENCES principals (id),
    public_key BYTEA NOT NULL,          -- PEM
    created_at BIGINT NOT NULL
);
