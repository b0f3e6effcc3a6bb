-- How many things there are of what a quota counts. A row is made when a quota is first asked about; who has none has no
-- row, and pays for none.

CREATE TABLE usage (
    kind TEXT NOT NULL,                 -- certificates, devices
    owner TEXT NOT NULL,                -- the account, or the registry
    used BIGINT NOT NULL,
    PRIMARY KEY (kind, owner)
);
