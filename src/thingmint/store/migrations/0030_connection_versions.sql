-- Versions of connections, for the events of AWS IoT: they grow with each connection of a client id. A row stays after
-- its connection has ended, with no process, until the version may begin at 0 again.

ALTER TABLE connections ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
-- What the event of the connection's end says, so that it can be published after its process has ended. Empty if no
-- event is published.
ALTER TABLE connections ADD COLUMN about TEXT NOT NULL DEFAULT '';
-- The same of the connection before, if it was open when this one took the client id.
ALTER TABLE connections ADD COLUMN about_before TEXT NOT NULL DEFAULT '';
ALTER TABLE connections ADD COLUMN forget_at BIGINT NOT NULL DEFAULT 0;

CREATE INDEX connections_by_forgetting ON connections (forget_at) WHERE process = '';
-- The open connections, in the order of lists.
CREATE INDEX connections_open ON connections (account, region, client_id) WHERE process <> '';
