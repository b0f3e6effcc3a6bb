-- One kind of row for every kind of credential, and policies in place of lists of permissions.

ALTER TABLE principals ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
ALTER TABLE principals ADD COLUMN trust_policy TEXT;

CREATE UNIQUE INDEX principals_by_name ON principals (account, kind, name);

CREATE TABLE credentials (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,                 -- access-key, session, api-token, authorized-key
    principal TEXT NOT NULL REFERENCES principals (id),
    secret BYTEA NOT NULL,              -- sealed (access-key, session), SHA-256 (api-token), public key (authorized-key)
    token_sha256 BYTEA,                 -- of a session's token
    policy TEXT,                        -- what narrows it down, besides the principal's own policies
    status TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT
);

CREATE INDEX credentials_by_principal ON credentials (principal, created_at);
CREATE INDEX credentials_by_expiry ON credentials (expires_at) WHERE expires_at IS NOT NULL;

INSERT INTO credentials (id, kind, principal, secret, status, description, created_at)
SELECT id, 'access-key', principal, sealed_secret, 'active', '', created_at FROM access_keys;
INSERT INTO credentials (id, kind, principal, secret, status, description, created_at)
SELECT id, 'api-token', principal, secret_sha256, 'active', '', created_at FROM api_tokens;
INSERT INTO credentials (id, kind, principal, secret, status, description, created_at)
SELECT id, 'authorized-key', principal, public_key, 'active', '', created_at FROM authorized_keys;

DROP TABLE access_keys;
DROP TABLE api_tokens;
DROP TABLE authorized_keys;

CREATE TABLE policies (
    account TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);

-- The policy is one of the account's, or a ready-made one (thingmint/NAME, yandex/ROLE); a role holds for a resource.
CREATE TABLE policy_attachments (
    principal TEXT NOT NULL REFERENCES principals (id),
    policy TEXT NOT NULL,
    resource TEXT NOT NULL,
    attached_at BIGINT NOT NULL,
    PRIMARY KEY (principal, policy, resource)
);

INSERT INTO policy_attachments (principal, policy, resource, attached_at)
SELECT id, 'thingmint/Administrator', '*', created_at FROM principals WHERE permissions = '*';

ALTER TABLE principals DROP COLUMN permissions;

-- IAM tokens that are refused although they have not ended.
CREATE TABLE revoked_tokens (
    id TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
