-- Certificates by their common names. Some have none.

CREATE INDEX registrations_by_common_name ON registrations (account, region, common_name, certificate)
    WHERE common_name IS NOT NULL;
