-- Indexes for what lists and screens ask. Text to be found again as it is has a key of 6 bytes, made of the account, what
-- it is and the text itself (store/search_keys.py, which gives rows from before this migration theirs).

-- Certificates that end soon, with a serial number, and with a common name in the subject.
ALTER TABLE registrations ADD COLUMN not_after BIGINT NOT NULL DEFAULT 0;
ALTER TABLE registrations ADD COLUMN serial_key BIGINT;
ALTER TABLE registrations ADD COLUMN subject_key BIGINT;

CREATE INDEX registrations_by_not_after ON registrations (account, region, not_after, certificate);
CREATE INDEX registrations_by_serial_key ON registrations (serial_key, certificate) WHERE serial_key IS NOT NULL;
CREATE INDEX registrations_by_subject ON registrations (subject_key, certificate) WHERE subject_key IS NOT NULL;

-- Who did something, what was done, and which resource was changed: the first that a record names. Of reads and refusals
-- resources have none, as each of them is paid for with an index.
ALTER TABLE audit_records ADD COLUMN event_key BIGINT;
ALTER TABLE audit_records ADD COLUMN principal_key BIGINT;
ALTER TABLE audit_records ADD COLUMN resource_key BIGINT;

CREATE INDEX audit_records_by_event ON audit_records (event_key, id) WHERE event_key IS NOT NULL;
CREATE INDEX audit_records_by_principal ON audit_records (principal_key, id) WHERE principal_key IS NOT NULL;
CREATE INDEX audit_records_by_resource ON audit_records (resource_key, id) WHERE resource_key IS NOT NULL;

ALTER TABLE audit_activity ADD COLUMN event_key BIGINT;
ALTER TABLE audit_activity ADD COLUMN principal_key BIGINT;

CREATE INDEX audit_activity_by_event ON audit_activity (event_key, id) WHERE event_key IS NOT NULL;
CREATE INDEX audit_activity_by_principal ON audit_activity (principal_key, id) WHERE principal_key IS NOT NULL;
