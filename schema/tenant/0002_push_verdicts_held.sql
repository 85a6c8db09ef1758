-- compatible-with: 1
-- Verdicts that tokens are gone, one row for each device and provider at the most. held: a brake
-- (push_brakes in the admin schema) keeps it from the device until an operator releases or discards it.
-- Not held: it was applied lately, and is what a brake takes back when it goes on. Such rows name no
-- token and are pruned after a day. Dropped with the tenant.
CREATE TABLE @schema@.push_verdicts_held (
    application_code text COLLATE "C" NOT NULL,
    client_id        text COLLATE "C" NOT NULL,
    provider         text COLLATE "C" NOT NULL, -- '': the sender judged and named none
    push_token       text COLLATE "C",          -- held: the device must still have this one
    verdict_at       timestamptz NOT NULL,
    held             boolean NOT NULL DEFAULT true,
    kept_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_code, client_id, provider)
);
CREATE INDEX push_verdicts_held_lately ON @schema@.push_verdicts_held (kept_at) WHERE NOT held;
-- ANALYZE would copy tokens into the catalogue, where no erasure reaches them.
ALTER TABLE @schema@.push_verdicts_held ALTER COLUMN push_token SET STATISTICS 0;
