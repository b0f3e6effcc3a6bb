-- Data stream exports of Yandex IoT Core's registries, and the messages that wait to be sent.

CREATE TABLE data_stream_exports (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    folder TEXT NOT NULL REFERENCES folders (id),
    registry TEXT NOT NULL,
    name TEXT NOT NULL,
    topic_filter TEXT NOT NULL,         -- empty for all topics that can be exported
    database TEXT NOT NULL,
    stream TEXT NOT NULL,
    service_account TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX data_stream_exports_by_registry ON data_stream_exports (registry);

-- Names are unique where they are given at all.
CREATE UNIQUE INDEX data_stream_exports_by_name ON data_stream_exports (folder, name) WHERE name <> '';

-- The state of each export's queue. ``next`` is the number of its next message, so that numbers follow the order of
-- the transactions that queue messages, whichever process makes them.
CREATE TABLE export_queues (
    export TEXT PRIMARY KEY,
    messages BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    dropped BIGINT NOT NULL,
    next BIGINT NOT NULL
);

CREATE INDEX export_queues_to_send ON export_queues (export) WHERE messages > 0;

CREATE TABLE export_messages (
    export TEXT NOT NULL,
    number BIGINT NOT NULL,
    size BIGINT NOT NULL,               -- what it counts for in the queue's bound
    device TEXT NOT NULL,               -- the sender; empty for the registry
    topic TEXT NOT NULL,
    payload BYTEA NOT NULL,
    PRIMARY KEY (export, number)
);
