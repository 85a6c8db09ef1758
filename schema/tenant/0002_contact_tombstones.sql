-- compatible-with: 1
-- Deleted contacts, by keyed hash: no clear id. A device event that sets this contact at or before
-- deleted_at is a removal of its device at deleted_at.
CREATE TABLE @schema@.contact_tombstones (
    contact_hash bytea PRIMARY KEY,
    deleted_at   timestamptz NOT NULL
);

-- ANALYZE would copy samples of them into the catalogue, out of reach of an erasure.
ALTER TABLE @schema@.devices ALTER COLUMN push_token SET STATISTICS 0,
    ALTER COLUMN contact_id SET STATISTICS 0;
