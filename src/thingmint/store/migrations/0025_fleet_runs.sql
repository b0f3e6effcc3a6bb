-- Runs of `thingmint fleet create`. A device that is registered twice by the same run gets the same certificate again.
-- Only devices have a row here whose certificate the command may not have written to its directory yet.

CREATE TABLE fleet_runs (
    id BYTEA PRIMARY KEY,               -- a UUID that the command chose
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- template or registry
    target TEXT NOT NULL,               -- the template's name, or the registry's id
    version BIGINT NOT NULL,            -- of the template; 0 for a registry
    size BIGINT NOT NULL,               -- how many devices the run makes
    done BIGINT NOT NULL,               -- the certificates of that many devices are in the command's directory
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    finished_at BIGINT
);

CREATE INDEX fleet_runs_by_age ON fleet_runs (modified_at, id);

CREATE TABLE fleet_run_devices (
    run BYTEA NOT NULL,
    place BIGINT NOT NULL,              -- in the run, from 0
    request_sha256 BYTEA NOT NULL,      -- of the device's name, parameters and public key
    fingerprint BYTEA NOT NULL,         -- of its certificate
    name TEXT NOT NULL,                 -- of its thing, or its id in the registry; may be empty
    PRIMARY KEY (run, place)
);
