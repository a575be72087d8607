-- The four tables of the store. Keys are compared byte by byte (COLLATE "C"), so that a range over a
-- prefix uses the primary key and sorts the same way in Python and in every database.
CREATE TABLE quietpager.state (
    key     text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL CHECK (version > 0),
    body    jsonb  NOT NULL
);

CREATE TABLE quietpager.audit (
    chain    text COLLATE "C" NOT NULL,
    seq      bigint      NOT NULL CHECK (seq > 0),
    at       timestamptz NOT NULL,
    kind     text        NOT NULL,
    actor    text        NOT NULL,
    body     jsonb       NOT NULL,
    previous text        NOT NULL,
    hash     text        NOT NULL,
    PRIMARY KEY (chain, seq)
);

CREATE TABLE quietpager.due (
    id      text COLLATE "C" PRIMARY KEY,
    at      timestamptz NOT NULL,
    every   interval    NOT NULL,
    message jsonb       NOT NULL
);
CREATE INDEX due_at ON quietpager.due (at, id);

-- The local broker's outbox; empty in production, where Knative's Broker keeps deliveries.
CREATE TABLE quietpager.delivery (
    place   bigint GENERATED ALWAYS AS IDENTITY,
    id      text COLLATE "C" PRIMARY KEY,
    trigger text    NOT NULL,
    event   jsonb   NOT NULL,
    attempt integer NOT NULL
);
