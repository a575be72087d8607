-- Since when the incident has been open that a due item belongs to; NULL: it belongs to none, and waits for
-- those that do. Items written by an older version are told apart by what their message is about.
ALTER TABLE quietpager.due ADD COLUMN since timestamptz;
UPDATE quietpager.due AS d SET since = (s.body->>'opened_at')::timestamptz FROM quietpager.state AS s
    WHERE s.key = ('INCIDENT#' || (d.message->>'subject')) COLLATE "C";
CREATE INDEX due_since ON quietpager.due (since, at, id) WHERE since IS NOT NULL;
