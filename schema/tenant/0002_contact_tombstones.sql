-- compatible-with: 1
-- Deleted contacts, by keyed hash: no clear id. A device event that sets this contact at or before
-- deleted_at is a removal of its device at deleted_at.
CREATE TABLE @schema@.contact_tombstones (
    contact_hash bytea PRIMARY KEY,
    deleted_at   timestamptz NOT NULL
);
