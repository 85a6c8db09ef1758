-- compatible-with: 1
-- Which erasure key the tombstones of contacts were made with: another one would find none of them.
CREATE TABLE @schema@.erasure_key (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    key_id   text COLLATE "C" NOT NULL
);

-- Whose a dead letter is, as keyed hashes, NULL where the body does not tell: so that an erasure finds
-- it and the index holds no clear id. device_hash is that of a device's key, or of application and
-- token of a verdict that names no device. event_at is the time that the body tells, else that of the
-- failure. unread: the body was not read to its end, so ids may stand in it that have no hash here; an
-- erasure searches its bytes. Letters from before this are so.
ALTER TABLE @schema@.dead_letters ADD COLUMN device_hash bytea, ADD COLUMN contact_hash bytea,
    ADD COLUMN event_at timestamptz, ADD COLUMN unread boolean NOT NULL DEFAULT true;
-- ANALYZE would copy samples of them into the catalogue, out of reach of an erasure.
ALTER TABLE @schema@.dead_letters ALTER COLUMN body SET STATISTICS 0,
    ALTER COLUMN attributes SET STATISTICS 0;
CREATE INDEX dead_letters_device ON @schema@.dead_letters (tenant, device_hash) WHERE device_hash IS NOT NULL;
CREATE INDEX dead_letters_unread ON @schema@.dead_letters (tenant, id) WHERE unread;
CREATE INDEX dead_letters_contact ON @schema@.dead_letters (tenant, contact_hash) WHERE contact_hash IS NOT NULL;

-- Tables in which bytes of erased rows may still stand, though no query finds them: those of a tenant,
-- or with tenant '' the dead letters. Written with the erasure, removed with the rewrite of the tables.
CREATE TABLE @schema@.erasures_pending (
    tenant       text COLLATE "C" PRIMARY KEY,
    requested_at timestamptz NOT NULL DEFAULT now(), -- the oldest erasure since the last rewrite
    put_off      integer NOT NULL DEFAULT 0,         -- how often a rewrite took longer than it may
    retry_at     timestamptz NOT NULL DEFAULT now()
);
