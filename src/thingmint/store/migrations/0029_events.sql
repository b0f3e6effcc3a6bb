-- Which event types an account publishes in a region, and the events that wait to be published.

CREATE TABLE event_configurations (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    enabled TEXT NOT NULL,              -- the enabled types, as JSON; without a row, the defaults hold
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (account, region)
);

-- An event is inserted by the transaction of its change, and deleted after the broker has accepted the message.
CREATE TABLE queued_events (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    created_at BIGINT NOT NULL,         -- the events of one transaction follow each other
    id BYTEA NOT NULL,
    topic TEXT NOT NULL,
    payload TEXT NOT NULL,
    PRIMARY KEY (account, region, created_at, id)
);

-- For the deletion of events that the broker did not accept for too long.
CREATE INDEX queued_events_by_age ON queued_events (created_at);
