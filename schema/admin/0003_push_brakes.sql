-- compatible-with: 1
-- Brakes of push verdicts that are on: while one is, verdicts that a token is gone are held in the
-- tenant's push_verdicts_held and change no token. No personal data, so that all can be listed here.
CREATE TABLE @schema@.push_brakes (
    tenant           text COLLATE "C" NOT NULL,
    application_code text COLLATE "C" NOT NULL,
    provider         text COLLATE "C" NOT NULL, -- '': the sender judged and named none
    tripped_at       timestamptz NOT NULL DEFAULT now(),
    judged           bigint NOT NULL, -- verdicts of the window that tripped it
    gone             bigint NOT NULL, -- of these, how many said gone
    PRIMARY KEY (tenant, application_code, provider)
);
