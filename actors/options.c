#include "actors/options.h"
#include "actors/contact_job_options.h"
#include "proto/schedule.h"
#include "proto/tenant_id.h"
#include "runtime/cleanup.h"
#include "runtime/redis.h"

#include <libpq-fe.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECRET_KEY_MIN = 16 };

#define AT(member) offsetof(cm_options_t, member)

/* The keys of a job that say when it runs; section is its struct, too. */
/* clang-format off */
#define SCHEDULE_KEY(section, name, kind, member, usual, min, max, choices, help)                  \
    {#section "." name, kind, AT(section.schedule.member), usual, min, max, choices, false, help}
#define SCHEDULE_KEYS(section, usual, what)                                                        \
    SCHEDULE_KEY(section, "schedule", CM_CONFIG_TEXT, cron, usual, 0, 256, NULL,                   \
                 "when " what ": minute hour day month weekday, or @daily and the like; empty: "   \
                 "only when asked for"),                                                           \
    SCHEDULE_KEY(section, "time_zone", CM_CONFIG_TEXT, time_zone, "UTC", 1, 64, NULL,              \
                 "time zone of that schedule, as Europe/Berlin"),                                  \
    SCHEDULE_KEY(section, "missed", CM_CONFIG_CHOICE, missed, "once", 0, 0, "skip|once|all",       \
                 "which of the runs that no instance began in time are made up for: none, the "    \
                 "newest, all"),                                                                   \
    SCHEDULE_KEY(section, "missed_max", CM_CONFIG_INT, missed_max, "24", 1, CM_SCHEDULE_TICKS_MAX, \
                 NULL, "runs that are made up for at the most when all are"),                      \
    SCHEDULE_KEY(section, "grace_seconds", CM_CONFIG_INT, grace_seconds, "300", 1, 86400, NULL,    \
                 "seconds after which a run that was not begun counts as missed"),                 \
    SCHEDULE_KEY(section, "jitter_seconds", CM_CONFIG_INT, jitter_seconds, "0", 0, 86400, NULL,    \
                 "seconds a run may begin late, each time others, to spread the load"),            \
    SCHEDULE_KEY(section, "attempts", CM_CONFIG_INT, attempts, "20", 1, 1000, NULL,                \
                 "times a run is begun and resumed before it has failed")
/* clang-format on */

static const cm_config_key_t keys[] = {
    {"postgres.uri", CM_CONFIG_TEXT, AT(postgres.uri), "postgresql:///client_manager", 1, 2048,
     NULL, false, "libpq connection URI of the database that holds the tenants"},
    {"postgres.admin_schema", CM_CONFIG_TEXT, AT(postgres.admin_schema), "client_manager", 1, 63,
     NULL, false, "schema of the tenant registry, the dead letters and the audit log"},
    {"postgres.connect_timeout_ms", CM_CONFIG_INT, AT(postgres.connect_timeout_ms), "5000", 100,
     60000, NULL, false, "milliseconds one connection attempt may take"},
    {"postgres.statement_timeout_ms", CM_CONFIG_INT, AT(postgres.statement_timeout_ms), "15000",
     100, 600000, NULL, false, "milliseconds one statement may take before the server cancels it"},
    {"postgres.lock_timeout_ms", CM_CONFIG_INT, AT(postgres.lock_timeout_ms), "200", 10, 60000,
     NULL, false, "milliseconds a device write may wait for a lock before its tenant is parked"},
    {"postgres.tcp_user_timeout_ms", CM_CONFIG_INT, AT(postgres.tcp_user_timeout_ms), "10000", 1000,
     600000, NULL, false, "milliseconds without an answer after which a TCP link counts as lost"},
    {"postgres.prepared_max", CM_CONFIG_INT, AT(postgres.prepared_max), "512", 1, 100000, NULL,
     false, "prepared statements kept per connection (about 73 kB of server memory each)"},
    {"postgres.recycle_minutes", CM_CONFIG_INT, AT(postgres.recycle_minutes), "45", 1, 1440, NULL,
     false, "minutes after which a writing connection is made anew, with 25 % jitter"},
    {"postgres.recycle_tenants", CM_CONFIG_INT, AT(postgres.recycle_tenants), "2000", 1, 1000000,
     NULL, false,
     "tenants a connection may touch before it is made anew, after five minutes at the "
     "earliest (about 25 kB each)"},
    {"postgres.roles", CM_CONFIG_BOOL, AT(postgres.roles), "false", 0, 0, NULL, false,
     "each sub-worker under a database role of its own; see `database prepare`"},
    {"postgres.role_prefix", CM_CONFIG_TEXT, AT(postgres.role_prefix), "cm", 1, CM_ROLE_PREFIX_MAX,
     NULL, false, "what the names of these roles begin with: cm_writer, cm_ddl, ..."},
    {"redis.uri", CM_CONFIG_TEXT, AT(redis.uri), "redis://127.0.0.1:6379/0", 1, 1024, NULL, false,
     "Redis server: redis://[:password@]host:port/db or unix:///path/to/socket"},
    {"broker.kind", CM_CONFIG_CHOICE, AT(broker.kind), "redis", 0, 0, "redis|pubsub", false,
     "message broker that carries the topics"},
    {"broker.prefix", CM_CONFIG_TEXT, AT(broker.prefix), "client-manager", 1, 64, NULL, false,
     "prefix of every topic and subscription"},
    {"broker.lease_ms", CM_CONFIG_INT, AT(broker.lease_ms), "30000", 1000, 600000, NULL, false,
     "milliseconds without a sign of life after which another instance may take a delivery"},
    {"broker.poll_ms", CM_CONFIG_INT, AT(broker.poll_ms), "500", 10, 10000, NULL, false,
     "milliseconds an idle pull waits at the broker"},
    {"broker.hold_max_minutes", CM_CONFIG_INT, AT(broker.hold_max_minutes), "60", 1, 1440, NULL,
     false, "minutes for which a lease is extended; then another instance gets the delivery"},
    {"pubsub.project", CM_CONFIG_TEXT, AT(pubsub.project), NULL, 0, 63, NULL, false,
     "Google Cloud project that holds the topics"},
    {"pubsub.credentials_file", CM_CONFIG_TEXT, AT(pubsub.credentials_file), NULL, 0, 4096, NULL,
     false, "service-account key file; empty: ask the metadata server"},
    {"pubsub.emulator_host", CM_CONFIG_TEXT, AT(pubsub.emulator_host), NULL, 0, 256, NULL, false,
     "host:port of an emulator, reached without TLS and credentials"},
    {"pubsub.endpoint", CM_CONFIG_TEXT, AT(pubsub.endpoint), "https://pubsub.googleapis.com", 8,
     256, NULL, false, "base URL of the service, as a regional or private endpoint"},
    {"pubsub.metadata_host", CM_CONFIG_TEXT, AT(pubsub.metadata_host), NULL, 0, 256, NULL, false,
     "host[:port] of the metadata server; empty: metadata.google.internal"},
    {"pubsub.ca_file", CM_CONFIG_TEXT, AT(pubsub.ca_file), NULL, 0, 4096, NULL, false,
     "PEM file of the authorities to trust; empty: the system's"},
    {"pubsub.monitoring", CM_CONFIG_TEXT, AT(pubsub.monitoring),
     "https://monitoring.googleapis.com", 0, 256, NULL, false,
     "base URL of Cloud Monitoring, asked for backlogs; empty: do not ask"},
    {"pubsub.pulls_max", CM_CONFIG_INT, AT(pubsub.pulls_max), "32", 1, 400, NULL, false,
     "pulls waiting at the service at once, per subscription"},
    {"pubsub.connections_max", CM_CONFIG_INT, AT(pubsub.connections_max), "8", 1, 400, NULL, false,
     "connections for pulls; acknowledgements and publishes have four of their own"},
    {"pubsub.messages_max", CM_CONFIG_INT, AT(pubsub.messages_max), "4000", 1, 100000, NULL, false,
     "messages asked for or not yet started, per subscription"},
    {"pubsub.bytes_max", CM_CONFIG_INT, AT(pubsub.bytes_max), "67108864", 1048576, 1073741824, NULL,
     false, "bytes of messages not yet started, per subscription"},
    {"pubsub.watchdog_ms", CM_CONFIG_INT, AT(pubsub.watchdog_ms), "300000", 1000, 86400000, NULL,
     false, "milliseconds of backlog without a delivery after which pulls are begun anew"},
    {"gateway.pull_max", CM_CONFIG_INT, AT(gateway.pull_max), "250", 1, 10000, NULL, false,
     "messages asked of the broker at once"},
    {"gateway.batch_max", CM_CONFIG_INT, AT(gateway.batch_max), "5000", 1, 50000, NULL, false,
     "deliveries in one batch for a shard"},
    {"gateway.batch_bytes", CM_CONFIG_INT, AT(gateway.batch_bytes), "8388608", 1024, 268435456,
     NULL, false, "bytes in one batch for a shard"},
    {"gateway.batch_age_ms", CM_CONFIG_INT, AT(gateway.batch_age_ms), "250", 0, 10000, NULL, false,
     "milliseconds a batch may wait to fill while its shard has other work"},
    {"gateway.publish_max", CM_CONFIG_INT, AT(gateway.publish_max), "10000", 1, 1000000, NULL,
     false, "retries and dead letters waiting for the broker's confirmation before pulling pauses"},
    {"writer.shards", CM_CONFIG_INT, AT(writer.shards), "2", 1, 64, NULL, false,
     "writer threads, each with one connection and its share of the tenants"},
    {"republisher.shards", CM_CONFIG_INT, AT(republisher.shards), "1", 1, 64, NULL, false,
     "republisher threads, each with one connection and its share of the tenants"},
    {"push_token_status.type", CM_CONFIG_CHOICE, AT(push_token_status.type), "both", 0, 0,
     CM_PUSH_TYPES, false,
     "whose push verdicts are consumed: senders of push, of web push, or both"},
    {"push_token_status.batch_max", CM_CONFIG_INT, AT(push_token_status.batch_max), "100", 1, 50000,
     NULL, false, "push verdicts in one batch"},
    {"push_token_status.batch_age_ms", CM_CONFIG_INT, AT(push_token_status.batch_age_ms), "1000", 0,
     60000, NULL, false, "milliseconds a batch of push verdicts may wait to fill"},
    {"push_token_status.brake_share_percent", CM_CONFIG_INT,
     AT(push_token_status.brake_share_percent), "50", 1, 100, NULL, false,
     "percent of push verdicts that may say gone; what exceeds it puts the brake on; 100: no "
     "brake"},
    {"push_token_status.brake_window_ms", CM_CONFIG_INT, AT(push_token_status.brake_window_ms),
     "86400000", 60000, 86400000, NULL, false,
     "milliseconds in which push verdicts that say gone add up"},
    {"push_token_status.brake_min", CM_CONFIG_INT, AT(push_token_status.brake_min), "100", 1,
     1000000, NULL, false,
     "push verdicts that put the brake on when all say gone; the more valid ones, the more it "
     "takes"},
    {"retry.windows_ms", CM_CONFIG_INT_LIST, AT(retry.windows_ms), "5000,15000,45000,135000,405000",
     1, 86400000, NULL, false, "five windows in milliseconds; try n waits w/2 plus a part of w/2"},
    {"breaker.open_after", CM_CONFIG_INT, AT(breaker.open_after), "5", 1, 1000, NULL, false,
     "failures in a row after which a database is left alone"},
    {"breaker.probe_min_ms", CM_CONFIG_INT, AT(breaker.probe_min_ms), "250", 10, 60000, NULL, false,
     "milliseconds before the first probe of a database that is away"},
    {"breaker.probe_max_ms", CM_CONFIG_INT, AT(breaker.probe_max_ms), "2000", 10, 600000, NULL,
     false, "milliseconds between probes at the most"},
    {"breaker.hold_ms", CM_CONFIG_INT, AT(breaker.hold_ms), "60000", 0, 600000, NULL, false,
     "milliseconds deliveries in hand are kept while the database is away, then given back"},
    {"drain.deadline_ms", CM_CONFIG_INT, AT(drain.deadline_ms), "30000", 0, 600000, NULL, false,
     "milliseconds a stop may take to finish what is in hand"},
    {"audit.key", CM_CONFIG_TEXT, AT(audit.key), NULL, 0, 1024, NULL, true,
     "secret key of the audit log's hash chain, 16 bytes or more; empty: plain SHA-256"},
    {"erasure.key", CM_CONFIG_TEXT, AT(erasure.key), NULL, 0, 1024, NULL, true,
     "secret key of the hashes of deleted contacts, 16 bytes or more, for good; empty: anybody can "
     "try ids"},
    {"erasure.sweep_minutes", CM_CONFIG_INT, AT(erasure.sweep_minutes), "60", 1, 10080, NULL, false,
     "minutes after which the tables of erased contacts are rewritten, so that their bytes are "
     "gone"},
    {"contact_job.source", CM_CONFIG_CHOICE, AT(contact_job.source), "none", 0, 0,
     "none|bigquery|postgres|file", false, "where the job contact-deletion finds deleted contacts"},
    {"contact_job.queries", CM_CONFIG_CHOICE, AT(contact_job.queries), "auto", 0, 0,
     "auto|one|each", false,
     "one query for all customers, or one for each; auto: one, with postgres one for each"},
    {"contact_job.query", CM_CONFIG_TEXT, AT(contact_job.query), NULL, 0, 16384, NULL, false,
     "of customer_id, contact_id, deleted_at; BigQuery: with @customer (NULL: all) and @since; "
     "postgres: with $1 and $2"},
    {"contact_job.path", CM_CONFIG_TEXT, AT(contact_job.path), NULL, 0, 4096, NULL, false,
     "file of JSON lines or CSV"},
    {"contact_job.postgres_uri", CM_CONFIG_TEXT, AT(contact_job.postgres_uri), NULL, 0, 2048, NULL,
     true, "libpq connection URI of the database that the query is for"},
    {"contact_job.project", CM_CONFIG_TEXT, AT(contact_job.project), NULL, 0, 63, NULL, false,
     "Google Cloud project that pays for the query; empty: pubsub.project"},
    {"contact_job.location", CM_CONFIG_TEXT, AT(contact_job.location), NULL, 0, 63, NULL, false,
     "of the BigQuery data set, as EU or europe-west1; empty: US"},
    {"contact_job.endpoint", CM_CONFIG_TEXT, AT(contact_job.endpoint),
     "https://bigquery.googleapis.com", 8, 256, NULL, false,
     "base URL of BigQuery, as a private endpoint"},
    {"contact_job.maximum_bytes_billed", CM_CONFIG_INT, AT(contact_job.maximum_bytes_billed), "0",
     0, 4611686018427387904, NULL, false,
     "bytes beyond which BigQuery refuses the query, unpaid; 0: no limit"},
    {"contact_job.page_size", CM_CONFIG_INT, AT(contact_job.page_size), "1000000", 1, 10000000,
     NULL, false,
     "contacts after which the checkpoint is saved at the latest; a kill repeats no "
     "more"},
    {"contact_job.rate", CM_CONFIG_INT, AT(contact_job.rate), "0", 0, 10000000, NULL, false,
     "contacts published a second at the most; 0: as fast as the broker takes them"},
    {"contact_job.malformed_max", CM_CONFIG_INT, AT(contact_job.malformed_max), "100", 0,
     1000000000, NULL, false,
     "records of a query or the file that may be malformed and are passed "
     "over; with one more it has failed"},
    {"contact_job.overlap_minutes", CM_CONFIG_INT, AT(contact_job.overlap_minutes), "1440", 0,
     525600, NULL, false,
     "minutes before the newest contact from which on it is looked anew, for rows that come late"},
    {"contact_job.lag_hours", CM_CONFIG_INT, AT(contact_job.lag_hours), "168", 1, 87600, NULL,
     false, "hours by which one customer's contacts may come later than the newest of all"},
    {"contact_job.retries", CM_CONFIG_INT, AT(contact_job.retries), "3", 0, 100, NULL, false,
     "times that what failed is tried again, after the others"},
    {"contact_job.retry_ms", CM_CONFIG_INT, AT(contact_job.retry_ms), "1000", 1, 60000, NULL, false,
     "milliseconds before the first of them at the most; it doubles"},
    {"contact_job.timeout_ms", CM_CONFIG_INT, AT(contact_job.timeout_ms), "120000", 100, 3600000,
     NULL, false, "milliseconds without a byte of BigQuery's answer after which it is asked again"},
    {"contact_job.give_up_ms", CM_CONFIG_INT, AT(contact_job.give_up_ms), "600000", 100, 86400000,
     NULL, false, "milliseconds of nothing but failing calls after which BigQuery counts as away"},
    {"scheduler.enabled", CM_CONFIG_BOOL, AT(scheduler.enabled), "true", 0, 0, NULL, false,
     "whether `run` without names runs the batch jobs, too; `run scheduler` always does"},
    {"scheduler.poll_seconds", CM_CONFIG_INT, AT(scheduler.poll_seconds), "10", 1, 3600, NULL,
     false, "seconds between looks for runs that someone asked for, or that an instance left"},
    {"scheduler.lease_seconds", CM_CONFIG_INT, AT(scheduler.lease_seconds), "60", 1, 3600, NULL,
     false, "seconds without a sign of life after which another instance takes a job over"},
    {"scheduler.keep_runs_days", CM_CONFIG_INT, AT(scheduler.keep_runs_days), "90", 1, 3650, NULL,
     false, "days for which runs of jobs and their results are kept"},
    SCHEDULE_KEYS(contact_job, NULL, "deleted contacts are fetched"),
    SCHEDULE_KEYS(orphan_job, NULL, "devices without a contact are deleted"),
    {"orphan_job.exclude", CM_CONFIG_TEXT, AT(orphan_job.exclude), NULL, 0, 65536, NULL, false,
     "tenants whose devices without contact are kept, separated by commas; table orphan_rules "
     "excludes, too"},
    {"orphan_job.age_days", CM_CONFIG_INT, AT(orphan_job.age_days), "30", 1, 36500, NULL, false,
     "days without contact after which a device goes, unless orphan_rules says otherwise"},
    {"orphan_job.guard_percent", CM_CONFIG_INT, AT(orphan_job.guard_percent), "20", 1, 100, NULL,
     false, "percent of a tenant's devices that may go in a run, else none does; 100: no guard"},
    {"orphan_job.guard_above", CM_CONFIG_INT, AT(orphan_job.guard_above), "100", 1, 1000000000,
     NULL, false, "devices a tenant has at the most that is not guarded"},
    {"orphan_job.batch_max", CM_CONFIG_INT, AT(orphan_job.batch_max), "1000", 1, 10000, NULL, false,
     "devices deleted in one transaction, for which writers of the tenant wait"},
    {"orphan_job.pause_ms", CM_CONFIG_INT, AT(orphan_job.pause_ms), "20", 0, 60000, NULL, false,
     "milliseconds between two such transactions at the least; more after waits for a lock"},
    {"orphan_job.busy_percent", CM_CONFIG_INT, AT(orphan_job.busy_percent), "20", 1, 100, NULL,
     false, "percent of the time the deletion works, it rests for the others; 100: no rest"},
    {"orphan_job.retry_rounds", CM_CONFIG_INT, AT(orphan_job.retry_rounds), "5", 0, 100, NULL,
     false, "times tenants that failed are tried again after the pass"},
    {"orphan_job.retry_ms", CM_CONFIG_INT, AT(orphan_job.retry_ms), "5000", 0, 300000, NULL, false,
     "milliseconds before the first of these, twice as long before each next, up to 5 minutes"},
    SCHEDULE_KEYS(dashboard_job, "@hourly", "figures of each tenant are collected"),
    {"dashboard_job.tenant_timeout_ms", CM_CONFIG_INT, AT(dashboard_job.tenant_timeout_ms),
     "120000", 1000, 3600000, NULL, false,
     "milliseconds in which the devices of one tenant must be counted"},
    {"dashboard_job.top", CM_CONFIG_INT, AT(dashboard_job.top), "10", 1, 100, NULL, false,
     "platforms and versions told of each tenant, the most frequent; the rest is told as other"},
    {"dashboard_job.sample", CM_CONFIG_INT, AT(dashboard_job.sample), "0", 0, 256, NULL, false,
     "of 256 devices, those in the checksum of the sync validation; 0: no checksum"},
    {"dashboard_job.reference", CM_CONFIG_CHOICE, AT(dashboard_job.reference), "table", 0, 0,
     CM_REFERENCE_KINDS, false,
     "where the publisher's counts come from: he writes dashboard_sync_reference, a query, a file"},
    {"dashboard_job.reference_query", CM_CONFIG_TEXT, AT(dashboard_job.reference_query), NULL, 0,
     65536, NULL, false,
     "query for tenant, devices, checksum and counted_at; the last two may be NULL"},
    {"dashboard_job.reference_uri", CM_CONFIG_TEXT, AT(dashboard_job.reference_uri), NULL, 0, 2048,
     NULL, false, "libpq connection URI of the database it runs in; empty: postgres.uri"},
    {"dashboard_job.reference_path", CM_CONFIG_TEXT, AT(dashboard_job.reference_path), NULL, 0,
     4096, NULL, false,
     "file of lines tenant,devices[,checksum[,counted_at in epoch milliseconds]]"},
    {"dashboard_job.reference_max_age_hours", CM_CONFIG_INT,
     AT(dashboard_job.reference_max_age_hours), "24", 1, 8760, NULL, false,
     "hours after which the publisher's count is too old to hold devices against"},
    {"dashboard_job.keep_runs_days", CM_CONFIG_INT, AT(dashboard_job.keep_runs_days), "14", 1, 3650,
     NULL, false, "days for which the history keeps each run; of older days the last one"},
    {"dashboard_job.keep_days", CM_CONFIG_INT, AT(dashboard_job.keep_days), "400", 1, 36500, NULL,
     false, "days for which the history is kept at all"},
    {"monitor.listen", CM_CONFIG_TEXT, AT(monitor.listen), "127.0.0.1:8089", 0, 256, NULL, false,
     "address:port of health, metrics and ledger; empty for none"},
    {"monitor.beat_timeout_ms", CM_CONFIG_INT, AT(monitor.beat_timeout_ms), "60000", 1000, 3600000,
     NULL, false, "milliseconds without a sign of life after which /livez reports an actor"},
    {"log.level", CM_CONFIG_CHOICE, AT(log.level), "info", 0, 0, "debug|info|warn|error", false,
     "lowest level that is logged"},
    {"log.format", CM_CONFIG_CHOICE, AT(log.format), "auto", 0, 0, "auto|json|text", false,
     "auto is text on a terminal and JSON elsewhere"},
};

const cm_config_alias_t cm_options_aliases[] = {
    {"pubsub.project", "GOOGLE_CLOUD_PROJECT"},
    {"pubsub.credentials_file", "GOOGLE_APPLICATION_CREDENTIALS"},
    {"pubsub.emulator_host", "PUBSUB_EMULATOR_HOST"},
    {"pubsub.metadata_host", "GCE_METADATA_HOST"},
};
const size_t cm_options_alias_count = CM_LENGTH(cm_options_aliases);

const cm_config_table_t cm_options_table = {keys, CM_LENGTH(keys), sizeof(cm_options_t)};

/* ---- checks beyond one key ------------------------------------------------------------------ */

static cm_status_t check_postgres(const cm_config_t *config, const char *key, const char *uri,
                                  cm_error_t *err)
{
    PQconninfoOption *parsed = PQconninfoParse(uri, NULL); /* its words may quote the password */
    PQconninfoFree(parsed);
    if (parsed)
        return CM_OK;
    return cm_error_set(err, CM_MISCONFIGURED, "config",
                        "%s (%s) is no connection string; write "
                        "postgresql://user@host:5432/database, or host=... dbname=...",
                        key, cm_config_origin(config, key));
}

static cm_status_t check_role_prefix(const cm_config_t *config, const char *prefix, cm_error_t *err)
{
    if (cm_role_prefix_is_good(prefix))
        return CM_OK;
    return cm_error_set(err, CM_MISCONFIGURED, "config",
                        "postgres.role_prefix (%s) is \"%.40s\"; give lower-case letters, digits "
                        "and _, a letter first, not pg_",
                        cm_config_origin(config, "postgres.role_prefix"), prefix);
}

static cm_status_t check_redis(const cm_config_t *config, const char *uri, cm_error_t *err)
{
    cm_redis_address_t address;
    if (cm_redis_parse(uri, &address, err) == CM_OK)
        return CM_OK;
    return cm_error_prefix(err, "redis.uri (%s)", cm_config_origin(config, "redis.uri"));
}

static cm_status_t check_pubsub(const cm_config_t *config, const cm_options_t *options,
                                cm_error_t *err)
{
    if (options->broker.kind != CM_BROKER_PUBSUB)
        return CM_OK;
    if (!*options->pubsub.project)
        return cm_error_set(
            err, CM_MISCONFIGURED, "config",
            "pubsub.project is not set, and broker.kind (%s) is pubsub; give the id "
            "of the Google Cloud project",
            cm_config_origin(config, "broker.kind"));
    if (strncmp(options->pubsub.endpoint, "https://", 8) != 0)
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "pubsub.endpoint (%s) must begin with https://; for an emulator set "
                            "pubsub.emulator_host",
                            cm_config_origin(config, "pubsub.endpoint"));
    if (strchr(options->pubsub.emulator_host, '/'))
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "pubsub.emulator_host (%s) must be host:port, without http://",
                            cm_config_origin(config, "pubsub.emulator_host"));
    if (options->broker.lease_ms < 10000)
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "broker.lease_ms (%s) must be at least 10000 with broker.kind pubsub",
                            cm_config_origin(config, "broker.lease_ms"));
    return CM_OK;
}

static cm_status_t lacks(const cm_config_t *config, const char *key, const char *what,
                         cm_error_t *err)
{
    return cm_error_set(err, CM_MISCONFIGURED, "config",
                        "%s is not set, and dashboard_job.reference (%s) needs it; give %s", key,
                        cm_config_origin(config, "dashboard_job.reference"), what);
}

static cm_status_t check_dashboard_job(const cm_config_t *config, const cm_options_t *options,
                                       cm_error_t *err)
{
    int kind = options->dashboard_job.reference;
    if (kind == CM_REFERENCE_QUERY && !*options->dashboard_job.reference_query)
        return lacks(config, "dashboard_job.reference_query",
                     "a query for tenant, devices, checksum and counted_at", err);
    if (kind == CM_REFERENCE_FILE && !*options->dashboard_job.reference_path)
        return lacks(config, "dashboard_job.reference_path", "the path of a file of counts", err);
    if (options->dashboard_job.keep_days < options->dashboard_job.keep_runs_days)
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "dashboard_job.keep_days (%s) must not be below "
                            "dashboard_job.keep_runs_days",
                            cm_config_origin(config, "dashboard_job.keep_days"));
    const char *uri = options->dashboard_job.reference_uri;
    return *uri ? check_postgres(config, "dashboard_job.reference_uri", uri, err) : CM_OK;
}

/* The monitor looks closer; this is what can be known without asking for the host. */
static cm_status_t check_listen(const cm_config_t *config, const char *listen, cm_error_t *err)
{
    const char *colon = strrchr(listen, ':');
    int64_t port = 0;
    if (!*listen || (colon && colon > listen && cm_str_to_i64(cm_str(colon + 1), &port) &&
                     port >= 0 && port <= 65535))
        return CM_OK;
    return cm_error_set(
        err, CM_MISCONFIGURED, "config",
        "monitor.listen (%s) is \"%.80s\"; give address:port, as 127.0.0.1:8089, or "
        "nothing for none",
        cm_config_origin(config, "monitor.listen"), listen);
}

static cm_status_t check_secret(const cm_config_t *config, const char *name, const char *key,
                                cm_error_t *err)
{
    if (!*key || strlen(key) >= SECRET_KEY_MIN)
        return CM_OK;
    return cm_error_set(err, CM_MISCONFIGURED, "config",
                        "%s (%s) has %zu bytes; give %d or more, random ones: "
                        "openssl rand -hex 32",
                        name, cm_config_origin(config, name), strlen(key), SECRET_KEY_MIN);
}

static cm_status_t check_excluded(const cm_config_t *config, const char *excluded, cm_error_t *err)
{
    char(*ids)[CM_TENANT_ID_MAX] = NULL;
    size_t count = 0;
    cm_error_t failure = {0};
    cm_status_t status = cm_tenant_id_list(cm_str(excluded), &ids, &count, &failure);
    free(ids);
    if (status == CM_OK)
        return CM_OK;
    return cm_error_set(err, CM_MISCONFIGURED, "config",
                        "orphan_job.exclude (%s): %s; give ids of tenants with commas between them",
                        cm_config_origin(config, "orphan_job.exclude"), failure.message);
}

static cm_status_t check_schedule(const cm_config_t *config, const char *section,
                                  const cm_job_schedule_options_t *schedule, cm_error_t *err)
{
    char key[64];
    cm_cron_t cron;
    cm_zone_t *zone = NULL;
    snprintf(key, sizeof key, "%s.schedule", section);
    if (*schedule->cron && cm_cron_parse(&cron, cm_str(schedule->cron), err) != CM_OK)
        return cm_error_prefix(err, "%s (%s)", key, cm_config_origin(config, key));
    snprintf(key, sizeof key, "%s.time_zone", section);
    if (cm_zone_open(&zone, schedule->time_zone, err) != CM_OK)
        return cm_error_prefix(err, "%s (%s)", key, cm_config_origin(config, key));
    cm_zone_destroy(&zone);
    return CM_OK;
}

static cm_status_t check_schedules(const cm_config_t *config, const cm_options_t *options,
                                   cm_error_t *err)
{
    const struct {
        const char *section;
        const cm_job_schedule_options_t *schedule;
    } jobs[] = {{"contact_job", &options->contact_job.schedule},
                {"orphan_job", &options->orphan_job.schedule},
                {"dashboard_job", &options->dashboard_job.schedule}};
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < CM_LENGTH(jobs); i++)
        status = check_schedule(config, jobs[i].section, jobs[i].schedule, err);
    return status;
}

cm_status_t cm_options_check(const cm_config_t *config, cm_error_t *err)
{
    const cm_options_t *options = cm_config_values(config);
    if (options->retry.windows_ms.count != CM_RETRY_MAX)
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "retry.windows_ms (%s) has %zu values; give exactly %d",
                            cm_config_origin(config, "retry.windows_ms"),
                            options->retry.windows_ms.count, CM_RETRY_MAX);
    if (options->broker.lease_ms <= options->broker.poll_ms)
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "broker.lease_ms (%s) must be greater than broker.poll_ms",
                            cm_config_origin(config, "broker.lease_ms"));
    if (options->breaker.probe_max_ms < options->breaker.probe_min_ms)
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "breaker.probe_max_ms (%s) must not be below breaker.probe_min_ms",
                            cm_config_origin(config, "breaker.probe_max_ms"));
    cm_status_t status = check_postgres(config, "postgres.uri", options->postgres.uri, err);
    if (status == CM_OK)
        status = check_role_prefix(config, options->postgres.role_prefix, err);
    if (status == CM_OK)
        status = check_redis(config, options->redis.uri, err);
    if (status == CM_OK)
        status = check_pubsub(config, options, err);
    if (status == CM_OK)
        status = check_dashboard_job(config, options, err);
    if (status == CM_OK)
        status = check_secret(config, "audit.key", options->audit.key, err);
    if (status == CM_OK)
        status = check_secret(config, "erasure.key", options->erasure.key, err);
    if (status == CM_OK)
        status = cm_contact_job_check(config, err);
    if (status == CM_OK)
        status = check_excluded(config, options->orphan_job.exclude, err);
    if (status == CM_OK)
        status = check_schedules(config, options, err);
    return status == CM_OK ? check_listen(config, options->monitor.listen, err) : status;
}

void cm_options_retry_policy(const cm_options_t *options, cm_retry_policy_t *ret_policy)
{
    for (size_t i = 0; i < CM_RETRY_MAX; i++)
        ret_policy->window_ms[i] = options->retry.windows_ms.value[i];
}

cm_pg_options_t cm_options_pg(const cm_options_t *options, const char *application_name)
{
    return (cm_pg_options_t){
        .uri = options->postgres.uri,
        .application_name = application_name,
        .connect_timeout_ms = (int)options->postgres.connect_timeout_ms,
        .statement_timeout_ms = (int)options->postgres.statement_timeout_ms,
        .lock_timeout_ms = (int)options->postgres.lock_timeout_ms,
        .tcp_user_timeout_ms = (int)options->postgres.tcp_user_timeout_ms,
        .prepared_max = (size_t)options->postgres.prepared_max,
    };
}

cm_pg_options_t cm_options_pg_as(const cm_options_t *options, const char *application_name,
                                 cm_role_t role)
{
    cm_pg_options_t pg = cm_options_pg(options, application_name);
    _Static_assert((int)CM_PG_ROLE_MAX == (int)CM_ROLE_NAME_MAX, "a role's name fits");
    if (!options->postgres.roles || role == CM_ROLE_NONE)
        return pg;
    cm_role_name(options->postgres.role_prefix, role, pg.role);
    pg.role_mend = "client-manager database prepare --roles --login";
    return pg;
}
