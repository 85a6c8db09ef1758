/* The command table. A row here is a command; everything a user reads about it is in its row. */
#include "actors/command.h"
#include "runtime/cleanup.h"

const cm_flag_t cm_global_flags[] = {
    {"config", 'c', "FILE", NULL, "YAML file; else the one in CM_CONFIG, else " CM_CONFIG_FILE},
    {"set", 's', "KEY=VALUE", NULL, "set one configuration key; may be repeated"},
    {"output", 'o', "FORMAT", "table", "table or json"},
    {"no-color", 0, NULL, NULL, "no colours on a terminal"},
    {"yes", 'y', NULL, NULL, "do not ask before something that cannot be undone"},
    {"help", 'h', NULL, NULL, "show this help"},
    {"version", 'V', NULL, NULL, "show version and libraries"},
};
const size_t cm_global_flag_count = CM_LENGTH(cm_global_flags);

static const cm_flag_t run_flags[] = {
    {"print-ledger", 0, NULL, NULL, "print the final ledger as one JSON line on stdout"},
    {"type", 't', CM_PUSH_TYPES, NULL, "whose verdicts push-token-status takes [both]"},
};

static const cm_flag_t list_flags[] = {
    {"state", 0, "STATE", NULL, "only tenants in this state"},
    {"limit", 'n', "N", "1000", "at most so many"},
};

static const cm_flag_t activate_flags[] = {
    {"name", 0, "NAME", NULL, "display name of the tenant"},
};

static const cm_flag_t reason_flags[] = {
    {"reason", 0, "TEXT", NULL, "why; kept with the tenant, not in the audit log"},
};

static const cm_flag_t certificate_flags[] = {
    {"generation", 'g', "N", NULL, "of this generation of the tenant; else the latest deletion"},
};

static const cm_flag_t migrate_flags[] = {
    {"all", 'a', NULL, NULL, "every active or suspended tenant below the newest version"},
    {"connections", 'j', "N", "4", "tenants migrated at the same time"},
    {"dry-run", 0, NULL, NULL, "tell what would be migrated, change nothing"},
};

#define DEAD_LETTER_FILTERS                                                                        \
    {"tenant", 't', "ID", NULL, "only of this tenant"},                                            \
        {"class", 0, "CLASS", NULL, "only of this error class (permanent, exhausted)"},            \
        {"code", 0, "CODE", NULL, "only of this error code or SQLSTATE"},                          \
        {"since", 0, "TIME", NULL, "failed at or after: RFC 3339, or 30m, 12h, 7d ago"},           \
    {                                                                                              \
        "until", 0, "TIME", NULL, "failed before: as --since"                                      \
    }

static const cm_flag_t dead_list_flags[] = {
    DEAD_LETTER_FILTERS,
    {"limit", 'n', "N", "100", "at most so many"},
};

static const cm_flag_t dead_replay_flags[] = {
    DEAD_LETTER_FILTERS,
    {"all", 'a', NULL, NULL, "every dead letter, when no filter is given"},
    {"rate", 'r', "N", "500", "at most so many a second"},
    {"dry-run", 0, NULL, NULL, "tell what would be replayed, publish nothing"},
};

static const cm_flag_t dead_purge_flags[] = {
    DEAD_LETTER_FILTERS,
    {"all", 'a', NULL, NULL, "every dead letter, when no filter is given"},
    {"dry-run", 0, NULL, NULL, "tell how many would go, remove nothing"},
};

#define AUDIT_FILTERS                                                                              \
    {"tenant", 't', "ID", NULL, "only of this tenant"},                                            \
        {"action", 0, "ACTION", NULL, "only this action"},                                         \
        {"since", 0, "TIME", NULL, "done at or after: RFC 3339, or 30m, 12h, 7d ago"},             \
    {                                                                                              \
        "until", 0, "TIME", NULL, "done before: as --since"                                        \
    }

static const cm_flag_t audit_list_flags[] = {
    AUDIT_FILTERS,
    {"limit", 'n', "N", "100", "at most so many, the newest"},
};

static const cm_flag_t audit_verify_flags[] = {
    {"head", 0, "P:HASH", NULL, "the log must hold this row: position and hash noted elsewhere"},
    {"unkeyed-until", 0, "P", "0", "rows up to this position may be from before there was a key"},
};

static const cm_flag_t erasure_sweep_flags[] = {
    {"all", 'a', NULL, NULL, "every tenant that waits for it"},
};

static const cm_flag_t job_run_flags[] = {
    {"tenant", 't', "ID", NULL, "only this one; not part of the history"},
    {"dry-run", 0, NULL, NULL, "tell what would be done, change nothing"},
    {"wait", 0, NULL, NULL, "while the job is at work elsewhere, wait for its end"},
    {"detach", 0, NULL, NULL, "let the service run it; do not wait for it"},
};

static const cm_flag_t job_history_flags[] = {
    {"limit", 'n', "N", "50", "at most so many, the newest"},
};

static const cm_flag_t job_show_flags[] = {
    {"failed", 0, NULL, NULL, "only the tenants that failed"},
};

static const cm_flag_t brake_flags[] = {
    {"all", 'a', NULL, NULL, "every brake of the tenant that is on"},
};

static const cm_flag_t publish_flags[] = {
    {"topic", 't', "TOPIC", "writer", "topic without its prefix"},
    {"rate", 'r', "N", "0", "at most so many a second; 0: as fast as the broker takes them"},
    {"attribute", 'a', "KEY=VALUE...", NULL, "attribute of every message; one each time"},
    {"no-check", 0, NULL, NULL, "publish lines that are no valid events as they are"},
};

static const cm_flag_t prepare_flags[] = {
    {"roles", 0, NULL, NULL, "make the database roles, too; as postgres.roles does"},
    {"login", 0, "ROLE...", NULL, "login that shall work as the roles; one each time"},
    {"revoke-public", 0, NULL, NULL, "nobody but its owner may create in schema public any more"},
    {"dry-run", 0, NULL, NULL, "tell what would be done, change nothing"},
};

static const cm_flag_t dev_flags[] = {
    {"tenants", 0, "N", "24", "demo tenants"},
    {"events", 0, "N", "0", "messages to publish; 0: until stopped"},
    {"rate", 'r', "N", "5000", "messages a second; 0: as fast as they are taken"},
    {"seed", 0, "S", "1", "seed of the traffic; the same seed gives the same events"},
    {"poison", 0, "P", "0.001", "share of events that are malformed"},
    {"exit-when-done", 0, NULL, NULL, "stop after --events, print the ledger, 0 if it balances"},
    {"keep", 0, "DIR", NULL, "keep the data of the private servers in DIR"},
    {"pg", 0, "URI", NULL, "use this PostgreSQL instead of a private one"},
    {"redis", 0, "URI", NULL, "use this Redis instead of a private one"},
    {"listen", 0, "ADDR", "127.0.0.1:8089",
     "address of health and metrics; the next free port is taken"},
};

#define FLAGS(array) array, CM_LENGTH(array)
#define NO_FLAGS     NULL, 0

const cm_command_t cm_commands[] = {
    {"run", "[SUB-WORKER...]", 0, -1, "run the service, or only some of its sub-workers",
     "Sub-workers: writer, republisher, push-token-status, tenant-activator, account-deletion, "
     "contact-deletion, dead-letter; all when none is named. The name scheduler runs the batch "
     "jobs "
     "at their times; without names it is among all, unless scheduler.enabled is off. "
     "SIGTERM or SIGINT drains: nothing is pulled any more, what is in hand is finished, then the "
     "process ends; a second signal ends it at once. Start database and broker first or later: the "
     "start waits for them, but a refused password, key, database or right stops it with exit code "
     "78. A missing subscription stops its sub-worker alone.",
     FLAGS(run_flags), true, cm_command_run},
    {"tenant list", "", 0, 0, "list the tenants with state and schema version", NULL,
     FLAGS(list_flags), true, cm_command_tenant_list},
    {"tenant show", "ID", 1, 1, "show one tenant and its legal hold", NULL, NO_FLAGS, true,
     cm_command_tenant_show},
    {"tenant activate", "ID...", 1, -1, "create the schemas of tenants, or bring them up to date",
     "Does what an activation event does, at once and without the broker.", FLAGS(activate_flags),
     true, cm_command_tenant_activate},
    {"tenant migrate", "[ID...]", 0, -1, "bring tenant schemas to the newest version",
     "Goes on past failures and lists them; started again it does only what is left. Exit code 3 "
     "when some tenants failed.",
     FLAGS(migrate_flags), true, cm_command_tenant_migrate},
    {"tenant status", "", 0, 0, "count tenants by state and schema version", NULL, NO_FLAGS, true,
     cm_command_tenant_status},
    {"tenant suspend", "ID...", 1, -1, "let the messages of tenants wait at the broker",
     "Until they are resumed, or activated by an activation newer than the suspension.", NO_FLAGS,
     true, cm_command_tenant_suspend},
    {"tenant resume", "ID...", 1, -1, "take the messages of suspended tenants again", NULL,
     NO_FLAGS, true, cm_command_tenant_resume},
    {"tenant hold", "ID...", 1, -1, "put tenants under legal hold: they are not deleted",
     "A deletion that comes is recorded and waits for the release. One that is under way and has "
     "not dropped the schema yet waits, too.",
     FLAGS(reason_flags), true, cm_command_tenant_hold},
    {"tenant release", "ID...", 1, -1, "release tenants from legal hold",
     "A deletion that waited is carried out by the service within seconds, or by `tenant delete` "
     "at once.",
     NO_FLAGS, true, cm_command_tenant_release},
    {"tenant delete", "ID...", 1, -1, "delete tenants for good: schema, dead letters, all",
     "Does what a deletion event does, at once and without the broker, to its end: counted, "
     "dropped, purged, verified. Prints the rows that were counted. A deletion that was begun "
     "before is gone on with. Exit code 75 for a tenant under legal hold: recorded, carried out "
     "after the release.",
     FLAGS(reason_flags), true, cm_command_tenant_delete},
    {"tenant certificate", "ID", 1, 1, "print the certificate of a deletion, as JSON",
     "What was deleted, who asked for it, when and why, where was searched for what might be "
     "left, and the entries of the audit log that tell of it. Exit code 3 while the deletion is "
     "not verified.",
     FLAGS(certificate_flags), true, cm_command_tenant_certificate},
    {"dead-letters list", "", 0, 0, "list dead letters", NULL, FLAGS(dead_list_flags), true,
     cm_command_dead_letters_list},
    {"dead-letters show", "ID", 1, 1, "show one dead letter with its attributes and body",
     "The body can hold personal data; it is shown here and nowhere else.", NO_FLAGS, true,
     cm_command_dead_letters_show},
    {"dead-letters replay", "[ID...]", 0, -1, "publish dead letters again",
     "Device events go to the republisher, others to the topic they came from, with a fresh retry "
     "count. One that was replayed three times is refused; exit code 3 when some were refused.",
     FLAGS(dead_replay_flags), true, cm_command_dead_letters_replay},
    {"dead-letters purge", "[ID...]", 0, -1, "remove dead letters for good",
     "Ten thousand at a time, each time with an entry in the audit log; the head of the log is "
     "told "
     "on stderr.",
     FLAGS(dead_purge_flags), true, cm_command_dead_letters_purge},
    {"audit list", "", 0, 0, "list what was done to tenants, the newest first", NULL,
     FLAGS(audit_list_flags), true, cm_command_audit_list},
    {"audit verify", "", 0, 0, "recompute the hash chain of the audit log, tell where it is broken",
     "Exit code 1 when it is, with the first position and what is wrong there: gap, order, "
     "previous-hash, hash, key, unkeyed, head, truncated. A cut-off end shows only against a head "
     "from elsewhere: the service logs one with each entry, and this command prints the last. "
     "Without audit.key the chain is plain SHA-256, which shows mistakes but not a forger who can "
     "write to the table. The table refuses changes from everybody, until its owner or a superuser "
     "disables the triggers on purpose.",
     FLAGS(audit_verify_flags), true, cm_command_audit_verify},
    {"audit export", "", 0, 0, "print the audit log, one JSON object a line, for others to verify",
     "A row's bytes are ten fields in this order, each after its length as four bytes, high byte "
     "first: the text \"client-manager audit 1\", position, at_us, actor, action, tenant, "
     "generation, detail, key_id, previous_hash. Numbers are decimal text; detail is the text "
     "inside the JSON string; previous_hash is 32 bytes, zero in the first row. hash is SHA-256 of "
     "these bytes when key_id is empty, else HMAC-SHA-256 with the text of audit.key as key. "
     "key_id is the first 16 hex digits of HMAC-SHA-256 of \"client-manager audit key\". Positions "
     "have no gaps, and previous_hash is the hash of the line before.",
     NO_FLAGS, true, cm_command_audit_export},
    {"erasure status", "", 0, 0, "tell how many tenants wait for their tables to be rewritten",
     "A deleted row's bytes stay in the files of its table until that is rewritten. The service "
     "does it once in erasure.sweep_minutes.",
     NO_FLAGS, true, cm_command_erasure_status},
    {"erasure sweep", "[ID...]", 0, -1, "rewrite the tables from which contacts were erased, now",
     "Those of the tenants named, or with --all of every tenant that waits for it, and the dead "
     "letters when some were erased. Each table is locked for as long as its rewrite takes; its "
     "writers wait or are parked. Exit code 3 when some tenants failed: their tables were busy. "
     "WAL "
     "and backups keep the bytes until they age out.",
     FLAGS(erasure_sweep_flags), true, cm_command_erasure_sweep},
    {"job list", "", 0, 0, "list the batch jobs: schedule, state, next and last run", NULL,
     NO_FLAGS, true, cm_command_job_list},
    {"job run", "JOB", 1, 1, "run a batch job now, in this process",
     "Shares history, lease and code with the service: a job works at one place at a time. A run "
     "that was left unfinished is gone on with, else a new one is begun, paused or not. SIGTERM or "
     "SIGINT stops it at the next step; the run is then left for whoever comes next. Exit code 0: "
     "every tenant is done, 3: some failed, 1: the run failed or was cancelled, 69: it was left, "
     "as a server is away, 75: it is at work elsewhere, 128+n: stopped.",
     FLAGS(job_run_flags), true, cm_command_job_run},
    {"job contact-deletion", "", 0, 0, "the same as `job run contact-deletion`", NULL,
     FLAGS(job_run_flags), true, cm_command_job_named},
    {"job orphan-deletion", "", 0, 0, "the same as `job run orphan-deletion`", NULL,
     FLAGS(job_run_flags), true, cm_command_job_named},
    {"job dashboard", "", 0, 0, "the same as `job run dashboard`", NULL, FLAGS(job_run_flags), true,
     cm_command_job_named},
    {"job history", "[JOB]", 0, 1, "list the runs of a job or of all, the newest first", NULL,
     FLAGS(job_history_flags), true, cm_command_job_history},
    {"job show", "RUN", 1, 1, "show a run with the result of each tenant", NULL,
     FLAGS(job_show_flags), true, cm_command_job_show},
    {"job cancel", "RUN", 1, 1, "end a run at its next step, wherever it works",
     "One that nobody works at is ended by the next scheduler that looks.", NO_FLAGS, true,
     cm_command_job_cancel},
    {"job pause", "JOB", 1, 1, "begin no run by schedule until `job resume`",
     "A run under way goes on; `job run` runs it still.", NO_FLAGS, true, cm_command_job_pause},
    {"job resume", "JOB", 1, 1, "let the schedule of a paused job count again, from now on", NULL,
     NO_FLAGS, true, cm_command_job_resume},
    {"push-token brake", "list|release|discard [TENANT [APPLICATION [PROVIDER]]]", 1, 4,
     "list the brakes of push verdicts that are on, or decide on what they hold",
     "A brake goes on when so many verdicts say that tokens of an application are gone that a "
     "wrong "
     "credential must be suspected. While it is on such verdicts are held, and change no token. "
     "release applies what is held by the rule of every day, so that what is stale by now is "
     "dropped; discard forgets it. Both take the brake off and are audited; ended in the middle, "
     "they are begun again. The provider may be left out when one brake of the application is on; "
     "it is none where the sender judged and named none.",
     FLAGS(brake_flags), true, cm_command_push_token_brake},
    {"publish", "[FILE...]", 0, -1, "publish events, one JSON object a line, from files or stdin",
     "Lines are checked first; a bad one is told with file, line and path and not published. Exit "
     "code 3 when some lines were bad.",
     FLAGS(publish_flags), true, cm_command_publish},
    {"config check", "", 0, 0, "check the configuration and tell every fault", NULL, NO_FLAGS, true,
     cm_command_config_check},
    {"config show", "", 0, 0, "show every key with its value and where it came from", NULL,
     NO_FLAGS, true, cm_command_config_show},
    {"broker check", "", 0, 0, "check that topics and subscriptions are there, as they should be",
     "Changes nothing. Each fault is told with the command that mends it; exit code 1 when a topic "
     "or subscription is missing or would lose messages. On Redis a missing group is only a "
     "warning: the service makes it when it starts.",
     NO_FLAGS, true, cm_command_broker_check},
    {"broker create", "", 0, 0, "create the topics and subscriptions that are missing",
     "What exists is checked and left as it is.", NO_FLAGS, true, cm_command_broker_create},
    {"database prepare", "", 0, 0, "bring the admin schema to the newest version, make the roles",
     "With --roles or postgres.roles: creates <prefix>_owner, _ddl, _writer, _purger, _dash, "
     "_audit_w and _audit_owner, hands the admin schema and every tenant's to their owners, and "
     "grants each role what it needs. Each --login becomes a member of those that the service "
     "works as, inherits nothing, and gets settings that keep push tokens out of the server's log. "
     "It takes a superuser, or a login with CREATEROLE that owns the database and what is in it; "
     "exit code 78 tells what is missing. Three of the settings take a superuser; without one they "
     "are left and told. Tenants are brought under the roles one transaction each; started again "
     "it does what is left, exit code 3 when some failed. A dry run does everything and takes it "
     "back, so it waits for locks as the real one does.",
     FLAGS(prepare_flags), true, cm_command_database_prepare},
    {"doctor", "", 0, 0, "check database, broker and the rights this service needs",
     "Changes nothing. Each check is told with what mends it.", NO_FLAGS, true, cm_command_doctor},
    {"dev", "", 0, 0, "private servers, demo tenants, traffic: the whole service on this machine",
     "Starts a private PostgreSQL 15 and Redis 7 on sockets in a directory of its own, creates "
     "demo tenants, runs the service and publishes deterministic traffic: new devices, updates, "
     "token moves, duplicates, late and out-of-order events, removals and a few malformed ones, "
     "push "
     "verdicts, contact deletions, and near the end the deletion of one tenant, with late events "
     "that "
     "are dropped. The activations, that deletion and the late events come on top of --events.",
     FLAGS(dev_flags), false, cm_command_dev},
    {"help man", "", 0, 0, "print the manual page", NULL, NO_FLAGS, false, cm_command_help_man},
    {"help completion", "", 0, 0, "print the completion for bash", NULL, NO_FLAGS, false,
     cm_command_help_completion},
};
const size_t cm_command_count = CM_LENGTH(cm_commands);
