-- Certificates are known by an id of 8 bytes that sorts by time. Their fingerprint, 32 bytes, is in one index only; a
-- random key in every index of every table was most of what a certificate cost. Ids of old certificates are made of the
-- time that they were first registered, in 1/64 microseconds.
--
-- Rows that are there before or after their certificate's own have its fingerprint as bytes: claims, ownership tokens,
-- and what is remembered of certificates that were deleted. UUIDs that every device has are 16 bytes.

CREATE TABLE certificate_ids (
    fingerprint TEXT PRIMARY KEY,
    id BIGINT NOT NULL
);

INSERT INTO certificate_ids (fingerprint, id)
SELECT fingerprint, place + max(moment - place) OVER (ORDER BY place)
FROM (
    SELECT fingerprint, moment, row_number() OVER (ORDER BY moment, fingerprint) AS place
    FROM (
        SELECT fingerprint, 64 * min(since) AS moment
        FROM (
            SELECT fingerprint, created_at AS since FROM registrations
            UNION ALL
            SELECT fingerprint, created_at FROM ca_certificates
            -- CA certificates that are deleted, while something is registered under them.
            UNION ALL
            SELECT ca, created_at FROM registrations WHERE ca IS NOT NULL
            UNION ALL
            SELECT ca, revoked_at FROM revoked_certificates WHERE ca IS NOT NULL
            UNION ALL
            SELECT fingerprint, since FROM ca_owners
        ) AS known
        GROUP BY fingerprint
    ) AS ages
) AS places;

CREATE UNIQUE INDEX certificate_ids_by_id ON certificate_ids (id);

-- The DER of a CA certificate that is deleted is empty, until the same one is registered again.
CREATE TABLE new_certificates (
    id INTEGER PRIMARY KEY,
    fingerprint BYTEA NOT NULL,
    der BYTEA NOT NULL,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL
);

INSERT INTO new_certificates (id, fingerprint, der, not_before, not_after)
SELECT i.id, decode(i.fingerprint, 'hex'), coalesce(c.der, decode('', 'hex')), coalesce(c.not_before, 0),
    coalesce(c.not_after, 0)
FROM certificate_ids AS i LEFT JOIN certificates AS c ON c.fingerprint = i.fingerprint
ORDER BY i.id;

CREATE UNIQUE INDEX certificates_by_fingerprint ON new_certificates (fingerprint);

CREATE TABLE new_registrations (
    certificate BIGINT NOT NULL REFERENCES new_certificates (id),
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    status TEXT NOT NULL,
    mode TEXT NOT NULL,
    origin TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    generation BYTEA NOT NULL,          -- a UUID
    version BIGINT NOT NULL,
    ca BIGINT,                          -- the certificate of the CA that it was registered under
    serial TEXT,                        -- and its serial number there, in hex
    deactivated_by TEXT,
    made_by_binding BIGINT NOT NULL,
    PRIMARY KEY (certificate, account, region)
) WITHOUT ROWID;

INSERT INTO new_registrations (
    certificate, account, region, status, mode, origin, created_at, modified_at, generation, version, ca, serial,
    deactivated_by, made_by_binding
)
SELECT i.id, r.account, r.region, r.status, r.mode, r.origin, r.created_at, r.modified_at,
    decode(replace(r.generation, '-', ''), 'hex'), r.version, a.id, r.serial, r.deactivated_by, r.made_by_binding
FROM certificate_ids AS i CROSS JOIN registrations AS r
LEFT JOIN certificate_ids AS a ON a.fingerprint = r.ca
WHERE r.fingerprint = i.fingerprint
ORDER BY i.id;

CREATE TABLE new_ca_certificates (
    certificate BIGINT NOT NULL REFERENCES new_certificates (id),
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    subject BYTEA NOT NULL,             -- the DER of its name
    status TEXT NOT NULL,
    mode TEXT NOT NULL,
    auto_registration BIGINT NOT NULL,
    template_body TEXT,
    template_name TEXT,
    role_arn TEXT,
    generation TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (certificate, account, region)
);

INSERT INTO new_ca_certificates (
    certificate, account, region, subject, status, mode, auto_registration, template_body, template_name, role_arn,
    generation, version, created_at, modified_at
)
SELECT i.id, c.account, c.region, c.subject, c.status, c.mode, c.auto_registration, c.template_body, c.template_name,
    c.role_arn, c.generation, c.version, c.created_at, c.modified_at
FROM ca_certificates AS c JOIN certificate_ids AS i ON i.fingerprint = c.fingerprint;

CREATE TABLE new_ca_owners (
    certificate BIGINT NOT NULL,
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    key_id TEXT NOT NULL,               -- SHA-256 of its public key
    since BIGINT NOT NULL,
    PRIMARY KEY (certificate, account, region)
);

INSERT INTO new_ca_owners (certificate, account, region, key_id, since)
SELECT i.id, o.account, o.region, o.key_id, o.since
FROM ca_owners AS o JOIN certificate_ids AS i ON i.fingerprint = o.fingerprint;

CREATE TABLE new_bindings (
    certificate BIGINT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- device or registry
    owner TEXT NOT NULL,
    submitted_pem TEXT,                 -- as it was sent, where that is not the canonical PEM
    created_at BIGINT NOT NULL,
    PRIMARY KEY (certificate, account),
    FOREIGN KEY (certificate, account, region) REFERENCES new_registrations (certificate, account, region)
);

INSERT INTO new_bindings (certificate, account, region, kind, owner, submitted_pem, created_at)
SELECT i.id, b.account, b.region, b.kind, b.owner, b.submitted_pem, b.created_at
FROM bindings AS b JOIN certificate_ids AS i ON i.fingerprint = b.fingerprint;

CREATE TABLE new_things (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    id BYTEA NOT NULL,                  -- a UUID
    type TEXT,
    attributes TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, name),
    FOREIGN KEY (account, region, type) REFERENCES thing_types (account, region, name)
) WITHOUT ROWID;

INSERT INTO new_things (account, region, name, id, type, attributes, version, created_at)
SELECT account, region, name, decode(replace(id, '-', ''), 'hex'), type, attributes, version, created_at
FROM things ORDER BY account, region, name;

CREATE TABLE new_thing_attributes (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    thing TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (account, region, thing, name),
    FOREIGN KEY (account, region, thing) REFERENCES new_things (account, region, name)
) WITHOUT ROWID;

INSERT INTO new_thing_attributes (account, region, thing, name, value)
SELECT account, region, thing, name, value FROM thing_attributes ORDER BY account, region, thing, name;

CREATE TABLE new_thing_group_members (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    thing_group TEXT NOT NULL,          -- its id
    thing TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, thing_group, thing),
    FOREIGN KEY (account, region, thing) REFERENCES new_things (account, region, name)
) WITHOUT ROWID;

INSERT INTO new_thing_group_members (account, region, thing_group, thing, added_at)
SELECT account, region, thing_group, thing, added_at
FROM thing_group_members ORDER BY account, region, thing_group, thing;

CREATE TABLE new_thing_principals (
    certificate BIGINT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    thing TEXT NOT NULL,
    exclusive BIGINT NOT NULL,          -- 1 if the certificate is for this thing alone
    attached_at BIGINT NOT NULL,
    PRIMARY KEY (certificate, account, region, thing),
    FOREIGN KEY (account, region, thing) REFERENCES new_things (account, region, name),
    FOREIGN KEY (certificate, account, region) REFERENCES new_registrations (certificate, account, region)
) WITHOUT ROWID;

INSERT INTO new_thing_principals (certificate, account, region, thing, exclusive, attached_at)
SELECT i.id, p.account, p.region, p.thing, p.exclusive, p.attached_at
FROM thing_principals AS p JOIN certificate_ids AS i ON i.fingerprint = p.fingerprint;

CREATE TABLE new_device_policy_attachments (
    certificate BIGINT NOT NULL,        -- 0 where the policy is attached to a group
    thing_group TEXT NOT NULL,          -- empty where it is attached to a certificate
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    policy TEXT NOT NULL,
    attached_at BIGINT NOT NULL,
    PRIMARY KEY (certificate, thing_group, account, region, policy),
    FOREIGN KEY (account, region, policy) REFERENCES device_policies (account, region, name)
) WITHOUT ROWID;

INSERT INTO new_device_policy_attachments (certificate, thing_group, account, region, policy, attached_at)
SELECT i.id, '', a.account, a.region, a.policy, a.attached_at
FROM device_policy_attachments AS a JOIN certificate_ids AS i ON i.fingerprint = a.target
WHERE a.kind = 'cert';

INSERT INTO new_device_policy_attachments (certificate, thing_group, account, region, policy, attached_at)
SELECT 0, target, account, region, policy, attached_at FROM device_policy_attachments WHERE kind = 'thinggroup';

CREATE TABLE new_provisioning_claims (
    fingerprint BYTEA NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    template TEXT NOT NULL,
    template_generation TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (fingerprint, account, region)
);

INSERT INTO new_provisioning_claims (
    fingerprint, account, region, template, template_generation, expires_at, created_at
)
SELECT decode(fingerprint, 'hex'), account, region, template, template_generation, expires_at, created_at
FROM provisioning_claims;

CREATE TABLE new_ownership_tokens (
    token_sha256 BYTEA PRIMARY KEY,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    claim BYTEA NOT NULL,               -- the fingerprint of the certificate that asked for it
    expires_at BIGINT NOT NULL,
    request_sha256 BYTEA,               -- of the request that succeeded, and what it was answered
    answer TEXT
);

INSERT INTO new_ownership_tokens (
    token_sha256, account, region, fingerprint, claim, expires_at, request_sha256, answer
)
SELECT token_sha256, account, region, decode(fingerprint, 'hex'), decode(claim, 'hex'), expires_at, request_sha256,
    answer
FROM ownership_tokens;

CREATE TABLE new_revoked_certificates (
    fingerprint BYTEA NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    ca BIGINT,
    serial TEXT,
    revoked_at BIGINT NOT NULL,
    PRIMARY KEY (fingerprint, account, region)
) WITHOUT ROWID;

INSERT INTO new_revoked_certificates (fingerprint, account, region, ca, serial, revoked_at)
SELECT decode(r.fingerprint, 'hex'), r.account, r.region, i.id, r.serial, r.revoked_at
FROM revoked_certificates AS r LEFT JOIN certificate_ids AS i ON i.fingerprint = r.ca;

CREATE TABLE new_ended_bindings (
    fingerprint BYTEA NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (fingerprint, account, region)
) WITHOUT ROWID;

INSERT INTO new_ended_bindings (fingerprint, account, region, status)
SELECT decode(fingerprint, 'hex'), account, region, status FROM ended_bindings;

-- Record and hash stay what they were: an id's bytes are those that its 32 hexadecimal digits in the hash mean.
CREATE TABLE new_audit_records (
    id BYTEA PRIMARY KEY,               -- begins with the time, so that ids sort by it
    call BYTEA,                         -- the UUID of the request that made the change; none in older records
    account TEXT,                       -- none for callers who could not be told
    record TEXT NOT NULL,               -- a JSON object, in the very bytes that the hash is taken of
    sequence BIGINT,                    -- from 1; none until the record is sealed
    hash BYTEA                          -- SHA-256 of the hash before and of all that the row says
);

INSERT INTO new_audit_records (id, account, record, sequence, hash)
SELECT decode(id, 'hex'), account, record, sequence, hash FROM audit_records ORDER BY id;

CREATE TABLE new_audit_activity (
    id BYTEA PRIMARY KEY,
    account TEXT,
    record TEXT NOT NULL,
    sequence BIGINT,
    hash BYTEA
);

INSERT INTO new_audit_activity (id, account, record, sequence, hash)
SELECT decode(id, 'hex'), account, record, sequence, hash FROM audit_activity ORDER BY id;

DROP TABLE certificate_ids;
DROP TABLE thing_principals;
DROP TABLE thing_attributes;
DROP TABLE thing_group_members;
DROP TABLE things;
DROP TABLE bindings;
DROP TABLE registrations;
DROP TABLE ca_certificates;
DROP TABLE ca_owners;
DROP TABLE certificates;
DROP TABLE device_policy_attachments;
DROP TABLE provisioning_claims;
DROP TABLE ownership_tokens;
DROP TABLE revoked_certificates;
DROP TABLE ended_bindings;
DROP TABLE audit_records;
DROP TABLE audit_activity;

ALTER TABLE new_certificates RENAME TO certificates;
ALTER TABLE new_registrations RENAME TO registrations;
ALTER TABLE new_ca_certificates RENAME TO ca_certificates;
ALTER TABLE new_ca_owners RENAME TO ca_owners;
ALTER TABLE new_bindings RENAME TO bindings;
ALTER TABLE new_things RENAME TO things;
ALTER TABLE new_thing_attributes RENAME TO thing_attributes;
ALTER TABLE new_thing_group_members RENAME TO thing_group_members;
ALTER TABLE new_thing_principals RENAME TO thing_principals;
ALTER TABLE new_device_policy_attachments RENAME TO device_policy_attachments;
ALTER TABLE new_provisioning_claims RENAME TO provisioning_claims;
ALTER TABLE new_ownership_tokens RENAME TO ownership_tokens;
ALTER TABLE new_revoked_certificates RENAME TO revoked_certificates;
ALTER TABLE new_ended_bindings RENAME TO ended_bindings;
ALTER TABLE new_audit_records RENAME TO audit_records;
ALTER TABLE new_audit_activity RENAME TO audit_activity;

-- Lists run along this one, so a page costs the same wherever it begins.
CREATE INDEX registrations_by_age ON registrations (account, region, created_at, certificate);
-- What is registered under a CA certificate: its list, and whether its own row is still needed.
CREATE INDEX registrations_by_ca ON registrations (ca, account, region, created_at, certificate) WHERE ca IS NOT NULL;
-- An ECDSA signature can be written anew into another fingerprint that verifies too, so the fingerprint alone is not
-- who a certificate is.
CREATE UNIQUE INDEX registrations_by_serial ON registrations (ca, serial, account, region) WHERE ca IS NOT NULL;
CREATE INDEX revoked_certificates_by_serial ON revoked_certificates (ca, serial, account, region)
    WHERE ca IS NOT NULL;

CREATE INDEX ca_certificates_by_age ON ca_certificates (account, region, created_at, certificate);
CREATE INDEX ca_certificates_by_subject ON ca_certificates (subject);
-- Whether any account but one has a CA that registers devices wherever they connect, which is asked at connections.
CREATE INDEX ca_certificates_registering ON ca_certificates (account)
    WHERE mode = 'DEFAULT' AND auto_registration = 1;
CREATE INDEX ca_owners_by_key ON ca_owners (key_id, since);

CREATE INDEX bindings_by_owner ON bindings (owner, created_at, certificate);

CREATE INDEX things_by_type ON things (account, region, type, name) WHERE type IS NOT NULL;
CREATE INDEX thing_attributes_by_value ON thing_attributes (account, region, name, value, thing);
CREATE INDEX thing_group_members_by_thing ON thing_group_members (account, region, thing, thing_group);
CREATE INDEX thing_principals_by_thing ON thing_principals (account, region, thing, certificate);
CREATE INDEX device_policy_attachments_by_policy
    ON device_policy_attachments (account, region, policy, attached_at, thing_group, certificate);

CREATE INDEX provisioning_claims_by_expiry ON provisioning_claims (expires_at);
CREATE INDEX ownership_tokens_by_expiry ON ownership_tokens (expires_at);

-- A COMMIT without an answer is resolved by the call: found means that it was kept.
CREATE UNIQUE INDEX audit_records_by_call ON audit_records (call) WHERE call IS NOT NULL;
-- Partial, so that the oldest unsealed record is found by no other index than the next one.
CREATE UNIQUE INDEX audit_records_by_sequence ON audit_records (sequence) WHERE sequence IS NOT NULL;
CREATE INDEX audit_records_unsealed ON audit_records (id) WHERE sequence IS NULL;
CREATE INDEX audit_records_by_account ON audit_records (account, id);

CREATE UNIQUE INDEX audit_activity_by_sequence ON audit_activity (sequence) WHERE sequence IS NOT NULL;
CREATE INDEX audit_activity_unsealed ON audit_activity (id) WHERE sequence IS NULL;
CREATE INDEX audit_activity_by_account ON audit_activity (account, id);
