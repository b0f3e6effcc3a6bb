-- Which account a CA belongs to: the one that showed that it has the key (DEFAULT mode). A row outlives its CA
-- certificate for as long as something is registered under that. Whose the CAs are that were there before is settled
-- when the server starts, as it takes reading them; until then the ids of their keys are empty.

CREATE TABLE ca_owners (
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    fingerprint TEXT NOT NULL,          -- of the CA certificate
    key_id TEXT NOT NULL,               -- SHA-256 of its public key
    since BIGINT NOT NULL,
    PRIMARY KEY (account, region, fingerprint)
);

CREATE INDEX ca_owners_by_key ON ca_owners (key_id, since);

INSERT INTO ca_owners (account, region, fingerprint, key_id, since)
SELECT account, region, fingerprint, '', min(created_at)
FROM (
    SELECT account, region, fingerprint, created_at
    FROM ca_certificates
    UNION ALL
    SELECT account, region, ca, created_at
    FROM registrations
    WHERE ca IS NOT NULL AND mode = 'DEFAULT'
) AS known
GROUP BY account, region, fingerprint;

-- Whether any account but one has a CA that registers devices wherever they connect, which is asked at connections.
CREATE INDEX ca_certificates_registering ON ca_certificates (account)
    WHERE mode = 'DEFAULT' AND auto_registration = 1;
