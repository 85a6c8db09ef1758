-- compatible-with: 1
-- The orphan deletion: whom it leaves alone, and ages of tenants that differ from the configured one.
CREATE TABLE @schema@.orphan_rules (
    tenant     text COLLATE "C" PRIMARY KEY,
    excluded   boolean NOT NULL DEFAULT false,
    age_days   integer CHECK (age_days >= 1), -- NULL: as configured
    reason     text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The latest figures, one row a tenant that has or should have a schema. Counts and versions of
-- software, no personal data; a row goes with its tenant.
CREATE TABLE @schema@.dashboard_tenant_metrics (
    tenant               text COLLATE "C" PRIMARY KEY,
    -- of the registry and the catalog, for all tenants at once
    name                 text NOT NULL DEFAULT '',
    state                text COLLATE "C" NOT NULL,
    generation           bigint NOT NULL,
    schema_version       integer NOT NULL,
    problem              text COLLATE "C" NOT NULL DEFAULT '', -- 'schema-missing', 'tables-missing'
    bytes                bigint NOT NULL DEFAULT 0,            -- tables and indexes, as of their last vacuum
    tombstones           bigint NOT NULL DEFAULT 0,            -- of devices, likewise
    dead_letters         bigint NOT NULL DEFAULT 0,
    dead_letters_1d      bigint NOT NULL DEFAULT 0,            -- failed last within a day
    dead_letters_retries bigint NOT NULL DEFAULT 0,            -- tries that these dead letters took
    dead_letters_replays bigint NOT NULL DEFAULT 0,
    listed_at            timestamptz NOT NULL DEFAULT now(),
    -- counted in the tenant's schema at collected_at; NULL: not yet
    collected_at         timestamptz,
    devices              bigint NOT NULL DEFAULT 0,
    token_valid          bigint NOT NULL DEFAULT 0,
    token_invalid        bigint NOT NULL DEFAULT 0,
    token_unknown        bigint NOT NULL DEFAULT 0,            -- a token of which no verdict is known
    token_none           bigint NOT NULL DEFAULT 0,
    with_contact         bigint NOT NULL DEFAULT 0,
    orphaned             bigint NOT NULL DEFAULT 0,            -- without contact for long
    registered_1d        bigint NOT NULL DEFAULT 0,
    registered_7d        bigint NOT NULL DEFAULT 0,
    registered_30d       bigint NOT NULL DEFAULT 0,
    seen_1d              bigint NOT NULL DEFAULT 0,            -- by the time of the newest event
    seen_7d              bigint NOT NULL DEFAULT 0,
    seen_30d             bigint NOT NULL DEFAULT 0,
    platforms            jsonb NOT NULL DEFAULT '{}',          -- devices by value, the most frequent and 'other'
    sdk_versions         jsonb NOT NULL DEFAULT '{}',
    application_versions jsonb NOT NULL DEFAULT '{}',
    checksum             bigint,                               -- of a sample of the keys; NULL: not asked for
    -- held against dashboard_sync_reference at collected_at
    sync_state           text COLLATE "C" NOT NULL DEFAULT 'none'
                         CHECK (sync_state IN ('none', 'stale', 'match', 'drift')),
    sync_drift           bigint,                               -- devices here minus devices there
    sync_reference_at    timestamptz,
    sync_matched_at      timestamptz                           -- the newest match
);

-- What each run found ('run'), and the last of each day ('day', at: the beginning of the day, UTC),
-- which is kept longer.
CREATE TABLE @schema@.dashboard_tenant_metrics_history (
    tenant         text COLLATE "C" NOT NULL,
    resolution     text COLLATE "C" NOT NULL CHECK (resolution IN ('run', 'day')),
    at             timestamptz NOT NULL,
    devices        bigint NOT NULL,
    token_valid    bigint NOT NULL,
    token_invalid  bigint NOT NULL,
    token_unknown  bigint NOT NULL,
    token_none     bigint NOT NULL,
    with_contact   bigint NOT NULL,
    orphaned       bigint NOT NULL,
    registered_1d  bigint NOT NULL,
    seen_1d        bigint NOT NULL,
    seen_7d        bigint NOT NULL,
    seen_30d       bigint NOT NULL,
    dead_letters   bigint NOT NULL,
    bytes          bigint NOT NULL,
    schema_version integer NOT NULL,
    platforms      jsonb NOT NULL,
    sync_state     text COLLATE "C" NOT NULL,
    sync_drift     bigint,
    PRIMARY KEY (tenant, resolution, at)
);
CREATE INDEX dashboard_tenant_metrics_history_at
    ON @schema@.dashboard_tenant_metrics_history (resolution, at);

-- How many devices the publisher of the events says a tenant has: written by the publisher, or taken
-- over from a query or a file before each run. checksum: see schema/dashboard_store.h.
CREATE TABLE @schema@.dashboard_sync_reference (
    tenant     text COLLATE "C" PRIMARY KEY,
    devices    bigint NOT NULL CHECK (devices >= 0),
    checksum   bigint,
    counted_at timestamptz NOT NULL DEFAULT now()
);

-- For people and Grafana (deploy/grafana/). The first three are one row each.
CREATE VIEW @schema@.dashboard_fleet AS
SELECT count(*) AS tenants,
       count(*) FILTER (WHERE state = 'active') AS tenants_active,
       count(*) FILTER (WHERE problem <> '') AS tenants_with_problem,
       count(*) FILTER (WHERE collected_at IS NULL) AS tenants_not_collected,
       coalesce(sum(devices), 0)::bigint AS devices,
       coalesce(sum(with_contact), 0)::bigint AS with_contact,
       coalesce(sum(orphaned), 0)::bigint AS orphaned,
       coalesce(sum(registered_1d), 0)::bigint AS registered_1d,
       coalesce(sum(registered_7d), 0)::bigint AS registered_7d,
       coalesce(sum(registered_30d), 0)::bigint AS registered_30d,
       coalesce(sum(seen_1d), 0)::bigint AS seen_1d,
       coalesce(sum(seen_7d), 0)::bigint AS seen_7d,
       coalesce(sum(seen_30d), 0)::bigint AS seen_30d,
       coalesce(sum(bytes), 0)::bigint AS bytes,
       (SELECT count(*) FROM @schema@.dead_letters) AS dead_letters,
       min(collected_at) AS oldest_collected_at,
       max(collected_at) AS newest_collected_at
FROM @schema@.dashboard_tenant_metrics;

CREATE VIEW @schema@.dashboard_token_validity AS
SELECT coalesce(sum(token_valid), 0)::bigint AS valid,
       coalesce(sum(token_invalid), 0)::bigint AS invalid,
       coalesce(sum(token_unknown), 0)::bigint AS unknown,
       coalesce(sum(token_none), 0)::bigint AS none,
       round(100.0 * sum(token_invalid) / nullif(sum(token_valid + token_invalid + token_unknown), 0), 2)
           AS invalid_percent
FROM @schema@.dashboard_tenant_metrics;

CREATE VIEW @schema@.dashboard_sync_totals AS
SELECT count(*) FILTER (WHERE sync_state = 'match') AS matching,
       count(*) FILTER (WHERE sync_state = 'drift') AS drifting,
       count(*) FILTER (WHERE sync_state = 'stale') AS stale,
       count(*) FILTER (WHERE sync_state = 'none') AS without_reference,
       coalesce(sum(abs(sync_drift)) FILTER (WHERE sync_state = 'drift'), 0)::bigint AS drift
FROM @schema@.dashboard_tenant_metrics;

CREATE VIEW @schema@.dashboard_sync AS
SELECT m.tenant, m.name, m.sync_state, m.devices, r.devices AS reference_devices, m.sync_drift,
       round(100.0 * m.sync_drift / nullif(r.devices, 0), 2) AS drift_percent,
       m.sync_reference_at, m.sync_matched_at,
       extract(epoch FROM now() - m.sync_matched_at)::bigint AS seconds_since_match
FROM @schema@.dashboard_tenant_metrics AS m
LEFT JOIN @schema@.dashboard_sync_reference AS r ON r.tenant = m.tenant
WHERE m.sync_state <> 'none';

CREATE VIEW @schema@.dashboard_platform_mix AS
SELECT p.key AS platform, sum(p.value::bigint)::bigint AS devices
FROM @schema@.dashboard_tenant_metrics AS m, jsonb_each_text(m.platforms) AS p
GROUP BY p.key;

CREATE VIEW @schema@.dashboard_sdk_mix AS
SELECT p.key AS sdk_version, sum(p.value::bigint)::bigint AS devices, count(*) AS tenants
FROM @schema@.dashboard_tenant_metrics AS m, jsonb_each_text(m.sdk_versions) AS p
GROUP BY p.key;

CREATE VIEW @schema@.dashboard_schema_versions AS
SELECT schema_version, state, count(*) AS tenants, sum(devices)::bigint AS devices
FROM @schema@.dashboard_tenant_metrics
GROUP BY schema_version, state;

-- A day's figures of a tenant are the last of the day; a day has the tenants that were counted in it.
CREATE VIEW @schema@.dashboard_trend AS
SELECT at AS day, count(*) AS tenants, sum(devices)::bigint AS devices,
       sum(token_valid)::bigint AS token_valid, sum(token_invalid)::bigint AS token_invalid,
       sum(token_unknown)::bigint AS token_unknown, sum(token_none)::bigint AS token_none,
       sum(with_contact)::bigint AS with_contact, sum(orphaned)::bigint AS orphaned,
       sum(registered_1d)::bigint AS registered, sum(seen_1d)::bigint AS seen,
       sum(dead_letters)::bigint AS dead_letters, sum(bytes)::bigint AS bytes,
       count(*) FILTER (WHERE sync_state = 'drift') AS drifting
FROM @schema@.dashboard_tenant_metrics_history
WHERE resolution = 'day'
GROUP BY at;

-- One row for each thing that is wrong with a tenant; rank orders those of one kind, worst first.
CREATE VIEW @schema@.dashboard_worst_tenants AS
SELECT w.tenant, w.name, w.reason, w.figure, w.detail,
       rank() OVER (PARTITION BY w.reason ORDER BY w.figure DESC) AS rank
FROM (
    SELECT tenant, name, 'problem' AS reason, 1::numeric AS figure, problem AS detail
    FROM @schema@.dashboard_tenant_metrics WHERE problem <> ''
    UNION ALL
    SELECT tenant, name, 'dead letters', dead_letters, dead_letters_1d || ' within a day'
    FROM @schema@.dashboard_tenant_metrics WHERE dead_letters > 0
    UNION ALL
    SELECT tenant, name, 'sync drift', abs(sync_drift), sync_drift || ' devices'
    FROM @schema@.dashboard_tenant_metrics WHERE sync_state = 'drift'
    UNION ALL
    SELECT tenant, name, 'invalid tokens',
           round(100.0 * token_invalid / (token_valid + token_invalid + token_unknown), 2),
           token_invalid || ' tokens'
    FROM @schema@.dashboard_tenant_metrics WHERE token_invalid > 0
    UNION ALL
    SELECT tenant, name, 'orphans', round(100.0 * orphaned / devices, 2), orphaned || ' devices'
    FROM @schema@.dashboard_tenant_metrics WHERE orphaned > 0 AND devices > 0
    UNION ALL
    SELECT tenant, name, 'not collected', round(extract(epoch FROM now() - coalesce(collected_at, 'epoch'))),
           coalesce('since ' || collected_at, 'never')
    FROM @schema@.dashboard_tenant_metrics
    WHERE coalesce(collected_at, '-infinity') < now() - interval '1 day' AND problem = ''
) AS w;
