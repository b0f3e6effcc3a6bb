-- Host names that were given to one account and region each. Devices choose the account by them (SNI). The names in
-- ``hostnames`` are of all accounts.

CREATE TABLE account_hostnames (
    name TEXT PRIMARY KEY,
    account TEXT NOT NULL REFERENCES accounts (id),
    region TEXT NOT NULL,
    api TEXT NOT NULL,                  -- aws or yandex: whose rules hold under the name
    created_at BIGINT NOT NULL
);
