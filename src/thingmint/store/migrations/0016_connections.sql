-- Which process has the connection of a client id, where several processes share the database. The newest one counts.

CREATE TABLE connections (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    client_id TEXT NOT NULL,
    process TEXT NOT NULL,              -- as in leases, where 'process:' comes before it
    epoch BIGINT NOT NULL,              -- higher with each connection: a late end of an earlier one deletes nothing
    taken_from TEXT NOT NULL,           -- the process that had it before; empty if none had
    connected_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, client_id)
);

CREATE INDEX connections_by_process ON connections (process);
