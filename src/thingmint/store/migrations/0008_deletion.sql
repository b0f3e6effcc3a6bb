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

-- The same of one that was REVOKED when it was deleted: binding it again makes it no ACTIVE one.
ALTER TABLE revoked_certificates ADD COLUMN made_by_binding BIGINT NOT NULL DEFAULT 0;
