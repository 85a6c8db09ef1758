-- compatible-with: 1
-- The audit log: what was done to tenants and by whom, chained by hashes (schema/audit_chain.h). No
-- personal data, no reference to a tenant's tables: it survives what it tells of.
--
-- Rows are added and nothing else. The triggers hold for every role, superusers too, and in replica
-- mode; they end where the owner of the table or a superuser disables or drops them on purpose:
--     ALTER TABLE audit_log DISABLE TRIGGER ALL
-- so let a role own the table that nobody logs in as, and grant the service SELECT and INSERT. What is
-- done behind the triggers is found by `client-manager audit verify`.
CREATE TABLE @schema@.audit_log (
    position      bigint PRIMARY KEY CHECK (position > 0), -- from 1, without gaps
    at            timestamptz NOT NULL,
    actor         text COLLATE "C" NOT NULL CHECK (actor <> ''),
    action        text COLLATE "C" NOT NULL CHECK (action <> ''),
    tenant        text COLLATE "C" NOT NULL, -- '': of no tenant
    generation    bigint NOT NULL,           -- of the tenant, 0: none
    -- json keeps the text as it came, which is what is hashed; jsonb would not
    detail        json NOT NULL CHECK (json_typeof(detail) = 'object' AND octet_length(detail::text) <= 65536),
    key_id        text COLLATE "C" NOT NULL, -- '': no key, the hash is plain SHA-256
    previous_hash bytea NOT NULL CHECK (octet_length(previous_hash) = 32),
    hash          bytea NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE INDEX audit_log_tenant ON @schema@.audit_log (tenant, position) WHERE tenant <> '';

CREATE FUNCTION @schema@.audit_log_refuse() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is never changed: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;

-- Whoever adds a row by hand adds it at the end of the chain or not at all.
CREATE FUNCTION @schema@.audit_log_extend() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head record;
BEGIN
    SELECT a.position, a.hash INTO head FROM @schema@.audit_log AS a ORDER BY a.position DESC LIMIT 1;
    IF NEW.position <> coalesce(head.position, 0) + 1
       OR NEW.previous_hash <> coalesce(head.hash, decode(repeat('00', 32), 'hex')) THEN
        RAISE EXCEPTION 'the audit log is only added to at its end' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_log_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON @schema@.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION @schema@.audit_log_refuse();
CREATE TRIGGER audit_log_extend BEFORE INSERT ON @schema@.audit_log
    FOR EACH ROW EXECUTE FUNCTION @schema@.audit_log_extend();
ALTER TABLE @schema@.audit_log ENABLE ALWAYS TRIGGER audit_log_refuse;
ALTER TABLE @schema@.audit_log ENABLE ALWAYS TRIGGER audit_log_extend;
