-- What ends, ends at once for every reader, and its rows are removed in small steps.

-- What unbinding deactivated, binding activates again; what anything else did stays.
ALTER TABLE registrations ADD COLUMN deactivated_by TEXT;
-- 1 if binding the certificate made the registration, which then ends with it unless something else holds it.
ALTER TABLE registrations ADD COLUMN made_by_binding BIGINT NOT NULL DEFAULT 0;

UPDATE registrations SET made_by_binding = 1 WHERE EXISTS (
    SELECT 1 FROM bindings AS b
    WHERE b.account = registrations.account AND b.region = registrations.region
        AND b.fingerprint = registrations.fingerprint AND b.made_registration = 1
);

ALTER TABLE bindings DROP COLUMN made_registration;

-- What AWS or an operator had made of a certificate whose registration ended with its binding: bound again, it is that.
CREATE TABLE ended_bindings (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status TEXT NOT NULL,
    PRIMARY KEY (account, region, fingerprint)
);

-- Work that is left to do in the background, in transactions of a bounded size.
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,              -- a JSON object
    failures BIGINT NOT NULL,           -- in a row
    due_at BIGINT NOT NULL,             -- not to be run before: a process has it until then, or it failed
    created_at BIGINT NOT NULL
);

CREATE INDEX jobs_by_due ON jobs (due_at, id);

-- Members are of a group's id: those of a group that was deleted, which a job removes, are of no later one of its name.
CREATE UNIQUE INDEX thing_groups_by_id ON thing_groups (account, region, id);

CREATE TABLE members_by_group_id (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    thing_group TEXT NOT NULL,          -- its id
    thing TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, thing_group, thing),
    FOREIGN KEY (account, region, thing) REFERENCES things (account, region, name)
);

INSERT INTO members_by_group_id (account, region, thing_group, thing, added_at)
SELECT m.account, m.region, g.id, m.thing, m.added_at
FROM thing_group_members AS m
JOIN thing_groups AS g ON g.account = m.account AND g.region = m.region AND g.name = m.thing_group;

DROP TABLE thing_group_members;

ALTER TABLE members_by_group_id RENAME TO thing_group_members;

CREATE INDEX thing_group_members_by_thing ON thing_group_members (account, region, thing, thing_group);

-- The same for claims, which end with their template and are removed once they have expired.
ALTER TABLE provisioning_templates ADD COLUMN generation TEXT NOT NULL DEFAULT '';

CREATE TABLE claims_by_generation (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    template TEXT NOT NULL,
    template_generation TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, fingerprint)
);

INSERT INTO claims_by_generation (
    account, region, fingerprint, template, template_generation, expires_at, created_at
)
SELECT account, region, fingerprint, template, '', expires_at, created_at FROM provisioning_claims;

DROP TABLE provisioning_claims;

ALTER TABLE claims_by_generation RENAME TO provisioning_claims;

CREATE INDEX provisioning_claims_by_expiry ON provisioning_claims (expires_at);
CREATE INDEX provisioning_claims_by_fingerprint ON provisioning_claims (fingerprint);
