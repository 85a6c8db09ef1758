-- compatible-with: 1
-- A tenant under legal hold is not deleted: a deletion that comes waits for the release.
ALTER TABLE @schema@.tenants ADD COLUMN held_at timestamptz, ADD COLUMN hold_reason text NOT NULL DEFAULT '';

-- One row a deletion, of the generation that it ends: how far it is, what it found. It survives the
-- tenant; what is unfinished here is resumed. requested_by and reason are as they were given and may
-- name people, so they stand here alone and not in the audit log.
CREATE TABLE @schema@.tenant_deletions (
    tenant       text COLLATE "C" NOT NULL,
    generation   bigint NOT NULL,
    event_at     timestamptz NOT NULL,               -- the tombstone's time
    requested_by text NOT NULL,
    reason       text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now(),
    blocked_at   timestamptz,                        -- met a legal hold first
    dropped_at   timestamptz,
    purged_at    timestamptz,
    verified_at  timestamptz,
    counts       jsonb NOT NULL DEFAULT '{}',        -- rows by table at the drop
    dead_letters bigint NOT NULL DEFAULT 0,          -- purged
    push_brakes  bigint NOT NULL DEFAULT 0,
    object_oids  oid[] NOT NULL DEFAULT '{}',        -- of the schema and what was in it, to look for after
    checks       jsonb NOT NULL DEFAULT '{}',        -- where verification looked, and how much was left there
    PRIMARY KEY (tenant, generation)
);
CREATE INDEX tenant_deletions_unfinished ON @schema@.tenant_deletions (tenant) WHERE verified_at IS NULL;
