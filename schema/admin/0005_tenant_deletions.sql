-- compatible-with: 1
-- A tenant under legal hold is not deleted: a deletion that comes waits for the release.
ALTER TABLE @schema@.tenants ADD COLUMN held_at timestamptz, ADD COLUMN hold_reason text NOT NULL DEFAULT '';

-- One row a deletion that was carried out or is under way; it survives the tenant, and what
-- is unfinished here is resumed. No personal data.
CREATE TABLE @schema@.tenant_deletions (
    tenant       text COLLATE "C" NOT NULL,
    generation   bigint NOT NULL,
    event_at     timestamptz NOT NULL,               -- the tombstone's time
    requested_by text NOT NULL,
    reason       text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    dropped_at   timestamptz,
    purged_at    timestamptz,
    verified_at  timestamptz,
    counts       json NOT NULL DEFAULT '{}',         -- rows by table at the drop, dead letters purged
    findings     json NOT NULL DEFAULT '[]',         -- what verification found left; [] when verified
    PRIMARY KEY (tenant, generation)
);
CREATE INDEX tenant_deletions_unfinished ON @schema@.tenant_deletions (requested_at) WHERE verified_at IS NULL;
