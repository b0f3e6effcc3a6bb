-- Bulk registration: tasks that register a device for each line of a file, and their reports.

CREATE TABLE registration_tasks (
    id BYTEA PRIMARY KEY,               -- a UUID
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    status TEXT NOT NULL,               -- InProgress, Completed, Failed, Cancelling or Cancelled
    template TEXT NOT NULL,
    bucket TEXT NOT NULL,
    key TEXT NOT NULL,
    role_arn TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    modified_at BIGINT NOT NULL,
    runs_for TEXT,                      -- the account until the task ends, so that an account has one such task
    message TEXT,                       -- why it failed
    size BIGINT NOT NULL,               -- of the file, in bytes
    file_version TEXT NOT NULL,         -- changes whenever the file changes
    position BIGINT NOT NULL,           -- the bytes that are done; written in the transaction that does them
    line BIGINT NOT NULL,               -- the number of the line at that position, from 0
    within_line BIGINT NOT NULL,        -- 1 if the position is inside of a line that is too long
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    reports TEXT NOT NULL,              -- JSON: how far the files of each kind of report are
    report_bytes BIGINT NOT NULL        -- the space of the reports in this database
);

CREATE UNIQUE INDEX registration_tasks_that_run ON registration_tasks (runs_for);
CREATE INDEX registration_tasks_by_age ON registration_tasks (account, region, created_at, id);
CREATE INDEX registration_tasks_by_account ON registration_tasks (account, created_at, id);
CREATE INDEX registration_tasks_by_status ON registration_tasks (account, region, status, created_at, id);
CREATE INDEX registration_tasks_by_end ON registration_tasks (modified_at) WHERE runs_for IS NULL;
CREATE INDEX registration_tasks_with_reports ON registration_tasks (account, created_at) WHERE report_bytes > 0;

-- A file of a report is one row after another: JSON lines, compressed by zlib.
CREATE TABLE registration_reports (
    task BYTEA NOT NULL,
    kind TEXT NOT NULL,                 -- ERRORS or RESULTS
    file BIGINT NOT NULL,               -- from 0
    number BIGINT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (task, kind, file, number)
);
