-- compatible-with: 1
-- Verdicts that tokens are gone, held by a brake (push_brakes in the admin schema) until an operator
-- releases or discards them. Dropped with the tenant, deleted with the device.
CREATE TABLE @schema@.push_verdicts_held (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application_code text COLLATE "C" NOT NULL,
    provider         text COLLATE "C" NOT NULL,
    client_id        text COLLATE "C",
    push_token       text COLLATE "C",
    verdict_at       timestamptz NOT NULL
);
