-- The words of closed incidents, for `similar`. Records `PAST#…` alone are indexed: they are written once
-- or twice each, so no transition of an open incident pays for the index.
CREATE INDEX past_words ON quietpager.state USING gin (to_tsvector('simple', body->>'words'))
    WHERE key >= 'PAST#' AND key < 'PAST$';
