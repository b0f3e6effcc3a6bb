-- Checking a foreign key reads where others insert, so on PostgreSQL none leads to what is made in the same transaction.
-- A transaction that refers to a row has read or made it, and one that deletes a row has looked for references to it:
-- serializable transactions need no more. SQLite cannot drop constraints, and does not mind them.
ALTER TABLE registrations DROP CONSTRAINT new_registrations_certificate_fkey;
ALTER TABLE bindings DROP CONSTRAINT new_bindings_certificate_account_region_fkey;
ALTER TABLE thing_principals DROP CONSTRAINT new_thing_principals_account_region_thing_fkey;
ALTER TABLE thing_principals DROP CONSTRAINT new_thing_principals_certificate_account_region_fkey;
ALTER TABLE thing_attributes DROP CONSTRAINT new_thing_attributes_account_region_thing_fkey;

-- Whether a certificate is exclusively a thing's, without reading where others are attached.
CREATE INDEX thing_principals_exclusive ON thing_principals (certificate, account, region) WHERE exclusive = 1;

-- How many certificates are bound to a device or registry, of which there may be 50.
CREATE TABLE binding_counts (
    owner TEXT PRIMARY KEY,
    bound BIGINT NOT NULL
);

INSERT INTO binding_counts (owner, bound) SELECT owner, count(*) FROM bindings GROUP BY owner;
