-- Tasks of bulk registration run in the order in which they were created, so that no account waits for later ones.

CREATE INDEX registration_tasks_in_order ON registration_tasks (created_at, id) WHERE runs_for IS NOT NULL;
