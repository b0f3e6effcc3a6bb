-- What operators ask about a fleet: how many certificates there are, when each was last seen, which devices are refused
-- and why, and which sessions other processes have.

-- How many certificates there are by status, by status and day of expiry, and how many were added by day. A count is
-- the sum over lanes, so that transactions do not wait for one row. Days are counted from 1970, in UTC.
CREATE TABLE certificate_counts (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- status, expiry, added
    day BIGINT NOT NULL,                -- of the expiry or of the addition; 0 for the kind status
    status TEXT NOT NULL,               -- for the kind added the origin
    lane BIGINT NOT NULL,
    amount BIGINT NOT NULL,             -- of one lane below 0, if another one added what this one removed
    PRIMARY KEY (account, region, kind, day, status, lane)
) WITHOUT ROWID;

INSERT INTO certificate_counts (account, region, kind, day, status, lane, amount)
SELECT account, region, 'status', 0, status, 0, count(*) FROM registrations GROUP BY account, region, status;

INSERT INTO certificate_counts (account, region, kind, day, status, lane, amount)
SELECT account, region, 'expiry', day, status, 0, count(*)
FROM (
    SELECT account, region, status, CASE WHEN not_after < 0 THEN 0 ELSE not_after / 86400000000 END AS day
    FROM registrations
) AS expiring
GROUP BY account, region, day, status;

-- Certificates that were deleted before this migration are not counted.
INSERT INTO certificate_counts (account, region, kind, day, status, lane, amount)
SELECT account, region, 'added', day, origin, 0, count(*)
FROM (
    SELECT account, region, origin, CASE WHEN created_at < 0 THEN 0 ELSE created_at / 86400000000 END AS day
    FROM registrations
) AS added
GROUP BY account, region, day, origin;

-- Lists of the certificates with one status.
CREATE INDEX registrations_by_status ON registrations (account, region, status, created_at, certificate);

-- When a device with the certificate was connected last. A certificate that never connected has no row.
CREATE TABLE certificate_activity (
    certificate BIGINT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    client_id TEXT NOT NULL,
    address TEXT NOT NULL,              -- empty if not known
    connected_at BIGINT NOT NULL,
    disconnected_at BIGINT NOT NULL,    -- 0 if no connection has ended yet
    seen_at BIGINT NOT NULL,            -- the later of the two; later still while it stays connected
    PRIMARY KEY (certificate, account, region)
) WITHOUT ROWID;

CREATE INDEX certificate_activity_by_time ON certificate_activity (account, region, seen_at, certificate);

-- What devices were refused. Refusals of one certificate, or else of one client id, for one reason are one row.
CREATE TABLE refusals (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    key BIGINT NOT NULL,                -- made of what the refusals have in common
    certificate TEXT NOT NULL,          -- its fingerprint; empty if the device had none
    client_id TEXT NOT NULL,            -- the last one
    action TEXT NOT NULL,
    resource TEXT NOT NULL,             -- empty if the refusal is about none
    reason TEXT NOT NULL,
    address TEXT NOT NULL,              -- the last one; empty if not known
    closest TEXT NOT NULL,              -- JSON: the policy statements that came closest to allowing it
    amount BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, key)
) WITHOUT ROWID;

CREATE INDEX refusals_by_time ON refusals (account, region, last_at, key);
CREATE INDEX refusals_by_age ON refusals (last_at);

-- The number of refusals by reason in each period of five minutes, counted from 1970.
CREATE TABLE refusal_counts (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    period BIGINT NOT NULL,
    reason TEXT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (account, region, period, reason)
) WITHOUT ROWID;

CREATE INDEX refusal_counts_by_age ON refusal_counts (period);

-- Answers of the processes that share the database to a question about their sessions. The questions go through the
-- published changes. The process that asked deletes the answers.
CREATE TABLE session_answers (
    request TEXT NOT NULL,
    process TEXT NOT NULL,
    answer TEXT NOT NULL,               -- JSON
    created_at BIGINT NOT NULL,
    PRIMARY KEY (request, process)
);

CREATE INDEX session_answers_by_age ON session_answers (created_at);

-- Changes that name several resources, by the second and further ones. The first is in the record's own row.
CREATE TABLE audit_further_resources (
    resource_key BIGINT NOT NULL,
    id BYTEA NOT NULL,                  -- the record's
    PRIMARY KEY (resource_key, id)
) WITHOUT ROWID;
