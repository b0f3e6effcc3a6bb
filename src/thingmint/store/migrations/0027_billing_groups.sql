-- Billing groups of things. A thing has the id of its group: deleting a group then changes one row, and a later group
-- of that name has no things.

CREATE TABLE billing_groups (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    description TEXT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, name)
);

CREATE UNIQUE INDEX billing_groups_by_id ON billing_groups (account, region, id);

ALTER TABLE things ADD COLUMN billing_group TEXT;

CREATE INDEX things_by_billing_group ON things (account, region, billing_group, name) WHERE billing_group IS NOT NULL;
