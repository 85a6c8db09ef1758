"""observer.py - a trigger in every tenant's table records each effective change, in order; and what may
never be in that record: a register that goes back, a change made twice, one that nobody published,
one in the wrong tenant.
"""
import hashlib

import model

SETUP = r"""
CREATE SCHEMA observer;
CREATE TABLE observer.changes (
    seq bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), tenant text, op text,
    app text, client text, device_ms bigint, device_md5 text, push_ms bigint, push_md5 text,
    contact_ms bigint, contact_md5 text);
CREATE FUNCTION observer.ms(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN (extract(epoch FROM at) * 1000)::bigint;
CREATE FUNCTION observer.md5(VARIADIC columns text[]) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN md5(array_to_string(columns, E'\x1f', E'\x1e'));
CREATE FUNCTION observer.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO observer.changes (tenant, op, app, client)
        VALUES (substr(TG_TABLE_SCHEMA, 8), 'D', OLD.application_code, OLD.client_id);
    ELSE
        INSERT INTO observer.changes (tenant, op, app, client, device_ms, device_md5, push_ms, push_md5,
            contact_ms, contact_md5)
        VALUES (substr(TG_TABLE_SCHEMA, 8), left(TG_OP, 1), NEW.application_code, NEW.client_id,
            observer.ms(NEW.device_at),
            observer.md5(NEW.platform, NEW.application_version, NEW.device_model, NEW.os_version,
                NEW.sdk_version, NEW.language, NEW.timezone, NEW.push_settings::text),
            observer.ms(NEW.push_at), observer.md5(NEW.push_token, NEW.push_address_type),
            observer.ms(NEW.contact_at),
            observer.md5(NEW.contact_id::text, NEW.contact_field_id::text));
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION observer.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record;
BEGIN
    FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP
        IF made.object_type = 'table' AND made.object_identity ~ '^"?tenant_.*\.devices$' THEN
            EXECUTE format('CREATE TRIGGER observer AFTER INSERT OR UPDATE OR DELETE ON %s'
                ' FOR EACH ROW EXECUTE FUNCTION observer.note()', made.object_identity);
        END IF;
    END LOOP;
END $$;
CREATE EVENT TRIGGER observer ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
    EXECUTE FUNCTION observer.watch();
"""
COLUMNS = "seq, tenant, op, app, client, device_ms, device_md5, push_ms, push_md5, contact_ms, contact_md5"


def install(servers):
    """Before the first tenant is made: those made later are watched from their first row on."""
    servers.sql(SETUP)


def digest(columns):
    text = "\x1f".join("\x1e" if c is None else str(c) for c in columns)
    return hashlib.md5(text.encode()).hexdigest()


class Published:
    """What events of one device could set: {group: {(ms, md5): rank}}; its newest removal."""

    def __init__(self, events):
        self.removed = max((e.time for e in events if e.removed), default=-1)
        self.values = {g: {(e.time, digest(e.groups[g])): (e.time, model.rank(e.groups[g]))
                           for e in events if g in e.groups} for g in model.GROUPS}


class Device:
    def __init__(self):
        self.row = None   # {group: (ms, md5)} of the row as it is now
        self.newest = {}  # group: highest (ms, rank) ever
        self.set = set()  # (group, ms, md5) ever set


class Record:
    def __init__(self):
        self.order, self.double, self.phantom, self.leak = [], [], [], []
        self.changes = 0

    def replay(self, servers, truth):
        published = {key: Published(events) for key, events in truth.events.items()}
        tenants_of = {}
        for tenant, app, client in published:
            tenants_of.setdefault((app, client), set()).add(tenant)
        devices = {}
        for row in servers.copy(f"SELECT {COLUMNS} FROM observer.changes ORDER BY seq"):
            self.changes += 1
            seq, tenant, op, app, client = row[:5]
            key, told = (tenant, app, client), f"change {row[0]} {op} {tenant} {app} {client}"
            if key not in published:
                (self.leak if (app, client) in tenants_of else self.phantom).append(told)
                continue
            new = {g: (int(row[5 + 2 * i]), row[6 + 2 * i]) for i, g in enumerate(model.GROUPS)
                   if row[5 + 2 * i] is not None}
            self.step(devices.setdefault(key, Device()), published[key], op, new, told)

    def step(self, device, published, op, new, told):
        before = device.row or {}
        if op == "D":
            new = {}
        if (op == "I") == bool(device.row):
            self.order.append(f"{told}: the row was {'there' if device.row else 'not there'}")
        if op == "U" and new == before:
            self.double.append(f"{told}: changes nothing")
        for group in model.GROUPS:
            have, value = before.get(group), new.get(group)
            if value == have:
                continue
            if value is None:
                if published.removed < have[0]:
                    self.order.append(f"{told}: {group} of {have[0]} is gone without a removal")
                continue
            wanted = published.values[group].get(value)
            if wanted is None:
                self.phantom.append(f"{told}: {group} {value} was never published")
                continue
            if (group, value) in device.set:
                self.double.append(f"{told}: {group} {value} is set again")
            elif wanted < device.newest.get(group, (-1, ())):
                self.order.append(f"{told}: {group} goes back to {value[0]} from {device.newest[group][0]}")
            device.set.add((group, value))
            device.newest[group] = max(wanted, device.newest.get(group, (-1, ())))
        device.row = new or None

    def check(self, run):
        run.figure("effective changes recorded", self.changes)
        run.none("out of order", self.order)
        run.none("double effects", self.double)
        run.none("phantoms", self.phantom)
        run.none("leaks into another tenant", self.leak)


def check(run, truth):
    record = Record()
    record.replay(run.servers, truth)
    record.check(run)


def installed(run):
    """Every table of devices is watched."""
    tables = int(run.servers.value("SELECT count(*) FROM pg_class WHERE relname = 'devices' AND relkind = 'r';"))
    watched = int(run.servers.value("SELECT count(*) FROM pg_trigger WHERE tgname = 'observer';"))
    run.equal("tables watched", watched, tables)
