-- No topic alias may be the beginning of another one in its registry, which takes a look at its neighbours.

CREATE TABLE device_aliases (
    registry TEXT NOT NULL,
    alias TEXT NOT NULL,
    device TEXT NOT NULL,
    PRIMARY KEY (registry, alias)
);

-- Devices with aliases from before they were checked: the next start looks at them. ``flaw`` is what it found.

CREATE TABLE unchecked_aliases (
    device TEXT PRIMARY KEY,
    flaw TEXT NOT NULL
);

INSERT INTO unchecked_aliases (device, flaw) SELECT id, '' FROM devices WHERE topic_aliases <> '{}';
