-- What one process of several may do at a time, and which process that is.

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,               -- a process; empty once it gave the lease back
    epoch BIGINT NOT NULL,              -- one more with each holder: writes made for an earlier one are refused
    expires_at BIGINT NOT NULL          -- by the holder's clock; others look only at whether it still changes
);
