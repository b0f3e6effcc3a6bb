-- One file for both engines: BYTEA and BIGINT are PostgreSQL's words, and SQLite takes any word for a type.
-- Times are microseconds since 1970, UTC.

CREATE TABLE accounts (
    id TEXT PRIMARY KEY,                -- 12 digits, as AWS writes it
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Position 0 is the home region.
CREATE TABLE account_regions (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (account, region)
);

-- The names that clients reach this instance by; position 0 is the one that it tells them.
CREATE TABLE hostnames (
    name TEXT PRIMARY KEY,
    position BIGINT NOT NULL
);

CREATE TABLE principals (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    permissions TEXT NOT NULL,          -- actions, separated by spaces; * is all of them
    created_at BIGINT NOT NULL
);

-- SigV4 needs the secret itself, so it is kept sealed under the master key.
CREATE TABLE access_keys (
    id TEXT PRIMARY KEY,
    principal TEXT NOT NULL REFERENCES principals (id),
    sealed_secret BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    principal TEXT NOT NULL REFERENCES principals (id),
    secret_sha256 BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

-- The content, known by its fingerprint and shared by every account that registered it. Never changed.
CREATE TABLE certificates (
    fingerprint TEXT PRIMARY KEY,
    der BYTEA NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL
);

CREATE TABLE registrations (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    fingerprint TEXT NOT NULL REFERENCES certificates (fingerprint),
    status TEXT NOT NULL,
    mode TEXT NOT NULL,
    origin TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    generation TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (account, region, fingerprint)
);

-- Lists run along this one, so a page costs the same wherever it begins.
CREATE INDEX registrations_by_age ON registrations (account, region, created_at, fingerprint);

-- Whether anybody still claims a certificate.
CREATE INDEX registrations_by_fingerprint ON registrations (fingerprint);
