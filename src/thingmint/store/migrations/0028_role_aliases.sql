-- Role aliases: the names by which devices ask the credential provider for the credentials of a role.

CREATE TABLE role_aliases (
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    role_arn TEXT NOT NULL,
    credential_duration BIGINT NOT NULL,    -- seconds
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, name)
);

-- The longest session that callers may have of a role, in seconds; it says nothing of users and service accounts.
-- Roles that were made before this limit keep IAM's highest.
ALTER TABLE principals ADD COLUMN max_session_duration BIGINT NOT NULL DEFAULT 43200;
