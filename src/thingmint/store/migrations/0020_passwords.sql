-- Passwords of devices, registries and brokers of Yandex IoT Core. ``scheme`` says how ``hash`` was made of the
-- password, so that its cost can be changed.

CREATE TABLE passwords (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- device, registry or broker
    scheme TEXT NOT NULL,
    hash BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX passwords_by_owner ON passwords (owner, created_at, id);
