-- The last message of each permanent topic of Yandex IoT Core. ``topic`` is the canonical one, and ``owner`` the device or
-- registry that it names. ``size`` is what the message takes of its registry's quota (kind last_messages).

CREATE TABLE last_messages (
    owner TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- state or config
    topic TEXT NOT NULL,
    registry TEXT NOT NULL,
    size BIGINT NOT NULL,
    payload BYTEA NOT NULL,
    PRIMARY KEY (owner, kind, topic)
);

CREATE INDEX last_messages_by_registry ON last_messages (registry, kind, topic);

-- What a device of Yandex IoT Core did last over MQTT, in microseconds since 1970; 0 if it never did.

CREATE TABLE device_activity (
    device TEXT PRIMARY KEY,
    auth_address TEXT NOT NULL,
    auth_at BIGINT NOT NULL,
    pub_at BIGINT NOT NULL,
    sub_at BIGINT NOT NULL,
    online_at BIGINT NOT NULL,
    disconnected_at BIGINT NOT NULL
);
