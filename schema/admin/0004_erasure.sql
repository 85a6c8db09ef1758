-- compatible-with: 1
-- Which erasure key the tombstones of contacts were made with: another one would find none of them.
CREATE TABLE @schema@.erasure_key (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    key_id   text COLLATE "C" NOT NULL
);

-- Whose a dead letter is, as keyed hashes, NULL where the body does not tell: so that an erasure finds
-- it and the index holds no clear id.
ALTER TABLE @schema@.dead_letters ADD COLUMN device_hash bytea, ADD COLUMN contact_hash bytea;
CREATE INDEX dead_letters_device ON @schema@.dead_letters (tenant, device_hash) WHERE device_hash IS NOT NULL;
CREATE INDEX dead_letters_contact ON @schema@.dead_letters (tenant, contact_hash) WHERE contact_hash IS NOT NULL;
