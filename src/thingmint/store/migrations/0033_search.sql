-- Search of things and groups without differences of case. Names, and names and values of attributes, are ASCII, for
-- which lower() is the same on both engines. The indexes of things have only what has capital letters: the rest is found
-- in the indexes that there are.

CREATE INDEX things_with_capitals ON things (account, region, lower(name), name) WHERE name <> lower(name);
CREATE INDEX thing_attributes_with_capitals ON thing_attributes (account, region, name, lower(value), thing, value)
    WHERE value <> lower(value);
CREATE INDEX thing_types_in_lower_case ON thing_types (account, region, lower(name), name);
CREATE INDEX thing_groups_in_lower_case ON thing_groups (account, region, lower(name), name);
CREATE INDEX billing_groups_in_lower_case ON billing_groups (account, region, lower(name), name);

-- What UpdateIndexingConfiguration was given, in AWS's form. Each half is JSON; none if it was never given.
CREATE TABLE indexing_configurations (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    things TEXT,
    thing_groups TEXT,
    PRIMARY KEY (account, region)
);
