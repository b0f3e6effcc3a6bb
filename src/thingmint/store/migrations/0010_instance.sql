-- What a data directory must hold to serve this database: the SHA-256 of the roots and of the audit key's public half.

CREATE TABLE instance_keys (
    name TEXT PRIMARY KEY,              -- ca, device-ca, audit
    sha256 TEXT NOT NULL
);
