-- Devices of one tenant. device, push and contact are last-writer-wins registers, each with its own
-- time; one that is not set is NULL whole, its time included. Texts compare bytewise, as the order rule
-- does. Nothing that every event changes is indexed and pages keep room, so that updates stay
-- heap-only (half the WAL, 1.5 times the rate).
CREATE TABLE @schema@.devices (
    application_code    text COLLATE "C" NOT NULL,
    client_id           text COLLATE "C" NOT NULL,
    device_at           timestamptz,
    platform            text COLLATE "C",
    application_version text COLLATE "C",
    device_model        text COLLATE "C",
    os_version          text COLLATE "C",
    sdk_version         text COLLATE "C",
    language            text COLLATE "C",
    timezone            text COLLATE "C",
    push_settings       json,
    push_at             timestamptz,
    push_token          text COLLATE "C",
    push_address_type   text COLLATE "C",
    push_status         text COLLATE "C", -- NULL: unknown
    push_status_at      timestamptz,
    contact_at          timestamptz,
    contact_id          bigint,
    contact_field_id    bigint,
    created_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_code, client_id)
) WITH (fillfactor = 70);

CREATE INDEX devices_contact ON @schema@.devices (contact_id) WHERE contact_id IS NOT NULL;
-- A token can be longer than an index entry, so its hash is indexed: look for
--     hashtextextended(push_token, 0) = hashtextextended($1, 0) AND push_token = $1
-- As fast as a hash index, and 24 kB smaller in each tenant that has no devices yet.
CREATE INDEX devices_push_token ON @schema@.devices (hashtextextended(push_token, 0))
    WHERE push_token IS NOT NULL;

-- What must not come back: whatever of it is at or before removed_at. Three kinds of key:
--     application code, client id   a device that was removed
--     '', keyed hash in hex         a contact that was deleted: no clear id. An event that sets it is
--                                   a removal of its device at removed_at
--     '', ''                        all of an earlier generation of the tenant, which was deleted
CREATE TABLE @schema@.tombstones (
    application_code text COLLATE "C" NOT NULL,
    client_id        text COLLATE "C" NOT NULL,
    removed_at       timestamptz NOT NULL,
    PRIMARY KEY (application_code, client_id)
);

-- ANALYZE would copy samples of them into the catalogue, out of reach of an erasure.
ALTER TABLE @schema@.devices ALTER COLUMN push_token SET STATISTICS 0,
    ALTER COLUMN contact_id SET STATISTICS 0;
