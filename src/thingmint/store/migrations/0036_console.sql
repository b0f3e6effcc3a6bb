-- The web console: its sessions, and the links that sign a user in once.

CREATE TABLE console_sessions (
    id TEXT NOT NULL PRIMARY KEY,           -- the cookie has it with a signature
    principal TEXT NOT NULL,
    credential TEXT,                        -- the API token that signed in; the session ends with it
    name TEXT NOT NULL,                     -- of the session of a role; empty for users
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);
CREATE INDEX console_sessions_by_end ON console_sessions (ends_at);

CREATE TABLE sign_in_links (
    id TEXT NOT NULL PRIMARY KEY,           -- the SHA-256 of the link's secret, in hexadecimal digits
    principal TEXT NOT NULL,
    ends_at BIGINT NOT NULL
);
CREATE INDEX sign_in_links_by_end ON sign_in_links (ends_at);
