-- What the devices' door needs to know: device policies, things and their groups, templates, authorities of devices.
-- Everything belongs to an account and region. Ids are UUIDs; documents and attributes are JSON.

CREATE TABLE device_policies (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    default_version BIGINT NOT NULL,
    last_version BIGINT NOT NULL,       -- version ids are never used again
    generation TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, name)
);

-- Lists run along this one.
CREATE INDEX device_policies_by_age ON device_policies (account, region, created_at, name);

CREATE TABLE device_policy_versions (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    policy TEXT NOT NULL,
    version BIGINT NOT NULL,
    document TEXT NOT NULL,
    generation TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, policy, version),
    FOREIGN KEY (account, region, policy) REFERENCES device_policies (account, region, name)
);

CREATE TABLE device_policy_attachments (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- cert or thinggroup
    target TEXT NOT NULL,               -- a fingerprint or a group's name
    policy TEXT NOT NULL,
    attached_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, kind, target, policy),
    FOREIGN KEY (account, region, policy) REFERENCES device_policies (account, region, name)
);

CREATE INDEX device_policy_attachments_by_policy
    ON device_policy_attachments (account, region, policy, attached_at, kind, target);

CREATE TABLE thing_types (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    description TEXT,
    searchable_attributes TEXT NOT NULL,
    deprecated_at BIGINT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, name)
);

CREATE TABLE things (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT,
    attributes TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, name),
    FOREIGN KEY (account, region, type) REFERENCES thing_types (account, region, name)
);

CREATE INDEX things_by_type ON things (account, region, type, name);

-- The attributes once more, for finding things by them.
CREATE TABLE thing_attributes (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    thing TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (account, region, thing, name),
    FOREIGN KEY (account, region, thing) REFERENCES things (account, region, name)
);

CREATE INDEX thing_attributes_by_value ON thing_attributes (account, region, name, value, thing);

CREATE TABLE thing_groups (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    parent TEXT,
    path TEXT NOT NULL,                 -- the names from the root to this one, with slashes between; never changes
    description TEXT,
    attributes TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, name),
    FOREIGN KEY (account, region, parent) REFERENCES thing_groups (account, region, name)
);

CREATE INDEX thing_groups_by_parent ON thing_groups (account, region, parent, name);
CREATE UNIQUE INDEX thing_groups_by_path ON thing_groups (account, region, path);

CREATE TABLE thing_group_members (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    thing_group TEXT NOT NULL,
    thing TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, thing_group, thing),
    FOREIGN KEY (account, region, thing_group) REFERENCES thing_groups (account, region, name),
    FOREIGN KEY (account, region, thing) REFERENCES things (account, region, name)
);

CREATE INDEX thing_group_members_by_thing ON thing_group_members (account, region, thing, thing_group);

CREATE TABLE thing_principals (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    thing TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    exclusive BIGINT NOT NULL,          -- 1 if the certificate is for this thing alone
    attached_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, thing, fingerprint),
    FOREIGN KEY (account, region, thing) REFERENCES things (account, region, name),
    FOREIGN KEY (account, region, fingerprint) REFERENCES registrations (account, region, fingerprint)
);

CREATE INDEX thing_principals_by_certificate ON thing_principals (account, region, fingerprint, thing);

CREATE TABLE tags (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    resource TEXT NOT NULL,             -- what follows the account in its ARN: thinggroup/NAME and so on
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (account, region, resource, key)
);

CREATE TABLE provisioning_templates (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL,                 -- FLEET_PROVISIONING or JITP
    description TEXT,
    enabled BIGINT NOT NULL,
    role_arn TEXT NOT NULL,
    hook_arn TEXT,
    hook_payload_version TEXT,
    default_version BIGINT NOT NULL,
    last_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, name)
);

CREATE TABLE provisioning_template_versions (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    template TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, template, version),
    FOREIGN KEY (account, region, template) REFERENCES provisioning_templates (account, region, name)
);

-- Claims by a trusted user: certificates of a few minutes that are good for provisioning by one template.
CREATE TABLE provisioning_claims (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    template TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, fingerprint),
    FOREIGN KEY (account, region, template) REFERENCES provisioning_templates (account, region, name)
);

CREATE INDEX provisioning_claims_by_expiry ON provisioning_claims (expires_at);
CREATE INDEX provisioning_claims_by_fingerprint ON provisioning_claims (fingerprint);

-- Who holds the token of a certificate that was made over MQTT may register a thing with it, once.
CREATE TABLE ownership_tokens (
    token_sha256 BYTEA PRIMARY KEY,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    claim TEXT NOT NULL,                -- the fingerprint of the certificate that asked for it
    expires_at BIGINT NOT NULL,
    request_sha256 BYTEA,               -- of the request that succeeded, and what it was answered
    answer TEXT
);

CREATE INDEX ownership_tokens_by_expiry ON ownership_tokens (expires_at);
CREATE INDEX ownership_tokens_by_certificate ON ownership_tokens (account, region, fingerprint);

-- Certificate authorities that accounts brought along. The certificate itself lies in certificates.
CREATE TABLE ca_certificates (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    fingerprint TEXT NOT NULL REFERENCES certificates (fingerprint),
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
    PRIMARY KEY (account, region, fingerprint)
);

CREATE INDEX ca_certificates_by_age ON ca_certificates (account, region, created_at, fingerprint);
CREATE INDEX ca_certificates_by_subject ON ca_certificates (subject);
CREATE INDEX ca_certificates_by_fingerprint ON ca_certificates (fingerprint);

CREATE TABLE registration_codes (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    code TEXT NOT NULL,
    PRIMARY KEY (account, region)
);

-- The registered authority that a leaf was registered under, and its serial number there. An ECDSA signature can be
-- written anew into another fingerprint that still verifies, so the fingerprint alone is not who a leaf is.
ALTER TABLE registrations ADD COLUMN ca TEXT;
ALTER TABLE registrations ADD COLUMN serial TEXT;

CREATE UNIQUE INDEX registrations_by_serial ON registrations (account, region, ca, serial) WHERE ca IS NOT NULL;

-- Lists of an authority's leaves run along this one.
CREATE INDEX registrations_by_ca ON registrations (account, region, ca, created_at, fingerprint) WHERE ca IS NOT NULL;

-- What was REVOKED when it was deleted: never to be registered again just in time.
CREATE TABLE revoked_certificates (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    ca TEXT,
    serial TEXT,
    revoked_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, fingerprint)
);

CREATE INDEX revoked_certificates_by_serial ON revoked_certificates (account, region, ca, serial);

-- Switches of an account that differ from their defaults.
CREATE TABLE account_settings (
    account TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (account, name)
);

-- What every gateway process has to learn of a change, written in the change's own transaction.
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    region TEXT NOT NULL,               -- '' for all regions of the account
    kind TEXT NOT NULL,                 -- certificate, policy, thing, thinggroup, ca, account
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX outbox_by_age ON outbox (created_at, id);
