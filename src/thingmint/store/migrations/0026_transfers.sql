-- Transfers of certificates between accounts. What was said about the last transfer stays with the registration: in
-- the source account until it is transferred again, in the target account after it was accepted.

ALTER TABLE registrations ADD COLUMN previous_owner TEXT;   -- the account that transferred it to this one
ALTER TABLE registrations ADD COLUMN transfer TEXT;         -- JSON

-- The transfers that wait for an answer. account is the target. created_at is the registration's time, by which lists
-- are sorted. Several accounts can have registered the same certificate, and transfer it to the same target.
CREATE TABLE pending_transfers (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    certificate BIGINT NOT NULL,
    source TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, certificate, source)
);

CREATE INDEX pending_transfers_by_age ON pending_transfers (account, region, created_at, certificate);
CREATE INDEX pending_transfers_of_source ON pending_transfers (source, region, created_at, certificate);
