-- The attributes of its things that a type adds to their messages. JSON, as in the API of AWS IoT; NULL for none.

ALTER TABLE thing_types ADD COLUMN propagating_attributes TEXT;
