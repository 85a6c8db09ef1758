/* options - the configuration of the service: every key, its default and its bounds.
 *
 * The table in options.c is the single truth for the file, the environment, `config show`, the man
 * page and the README. Immutable once loaded; actors borrow it.
 */
#ifndef CM_ACTORS_OPTIONS_H
#define CM_ACTORS_OPTIONS_H
#include "proto/retry.h"
#include "runtime/config.h"
#include "runtime/pg.h"
#include "schema/role.h"

typedef enum { CM_BROKER_REDIS, CM_BROKER_PUBSUB } cm_broker_kind_t;
/* Whose verdicts are consumed, and the choices of push_token_status.type in that order. */
typedef enum { CM_PUSH_TYPE_PUSH, CM_PUSH_TYPE_WEB, CM_PUSH_TYPE_BOTH } cm_push_type_t;
#define CM_PUSH_TYPES "push|web|both"
/* Where the publisher's counts of devices come from, and the choices of dashboard_job.reference. */
typedef enum {
    CM_REFERENCE_TABLE, /* the publisher writes dashboard_sync_reference himself */
    CM_REFERENCE_QUERY,
    CM_REFERENCE_FILE
} cm_reference_kind_t;
#define CM_REFERENCE_KINDS "table|query|file"
/* The choices of contact_job.source and contact_job.queries, in that order. */
typedef enum {
    CM_CONTACT_JOB_NONE,
    CM_CONTACT_JOB_BIGQUERY,
    CM_CONTACT_JOB_POSTGRES,
    CM_CONTACT_JOB_FILE
} cm_contact_job_source_t;
typedef enum {
    CM_CONTACT_JOB_AUTO,
    CM_CONTACT_JOB_ONE,
    CM_CONTACT_JOB_EACH
} cm_contact_job_queries_t;

typedef struct {      /* when a job runs; proto/schedule.h tells what these mean */
    const char *cron; /* "": only when asked for */
    const char *time_zone;
    int missed; /* cm_missed_policy_t, and its choices in that order */
    int64_t missed_max, grace_seconds, jitter_seconds, attempts;
} cm_job_schedule_options_t;

typedef struct {
    struct {
        const char *uri, *admin_schema;
        int64_t connect_timeout_ms, statement_timeout_ms, lock_timeout_ms, tcp_user_timeout_ms;
        int64_t prepared_max, recycle_minutes, recycle_tenants;
        bool roles;
        const char *role_prefix;
    } postgres;
    struct {
        const char *uri;
    } redis;
    struct {
        int kind; /* cm_broker_kind_t */
        const char *prefix;
        int64_t lease_ms, poll_ms, hold_max_minutes;
    } broker;
    struct {
        const char *project, *endpoint, *emulator_host, *credentials_file, *metadata_host, *ca_file;
        const char *monitoring;
        int64_t pulls_max, connections_max, messages_max, bytes_max, watchdog_ms;
    } pubsub;
    struct {
        int64_t pull_max, batch_max, batch_bytes, batch_age_ms, publish_max;
    } gateway;
    struct {
        int64_t shards;
    } writer, republisher;
    struct {
        int type; /* cm_push_type_t */
        int64_t batch_max, batch_age_ms, brake_share_percent, brake_window_ms, brake_min;
    } push_token_status;
    struct {
        cm_config_list_t windows_ms;
    } retry;
    struct {
        int64_t open_after, probe_min_ms, probe_max_ms, hold_ms;
    } breaker;
    struct {
        int64_t deadline_ms;
    } drain;
    struct {
        const char *key; /* "": none */
    } audit;
    struct {
        const char *key; /* "": none */
        int64_t sweep_minutes;
    } erasure;
    struct {
        bool enabled;
        int64_t poll_seconds, lease_seconds, keep_runs_days;
    } scheduler;
    struct {
        cm_job_schedule_options_t schedule;
        int source, queries; /* cm_contact_job_source_t, cm_contact_job_queries_t */
        const char *query, *path, *postgres_uri;
        const char *project, *location, *endpoint; /* of BigQuery */
        int64_t maximum_bytes_billed, page_size, rate, malformed_max;
        int64_t overlap_minutes, lag_hours;
        int64_t retries, retry_ms, timeout_ms, give_up_ms;
    } contact_job;
    struct {
        cm_job_schedule_options_t schedule;
        const char *exclude; /* as cm_tenant_id_list() wants it */
        int64_t age_days, guard_percent, guard_above;
        int64_t batch_max, pause_ms, busy_percent, retry_rounds, retry_ms;
    } orphan_job;
    struct {
        cm_job_schedule_options_t schedule;
        int64_t tenant_timeout_ms, top, sample, keep_runs_days, keep_days;
        int reference; /* cm_reference_kind_t */
        const char *reference_query, *reference_uri, *reference_path;
        int64_t reference_max_age_hours;
    } dashboard_job;
    struct {
        const char *listen;
        int64_t beat_timeout_ms;
    } monitor;
    struct {
        int level, format; /* cm_log_level_t, cm_log_format_t */
    } log;
} cm_options_t;

extern const cm_config_table_t cm_options_table;
extern const cm_config_alias_t cm_options_aliases[]; /* what Google's own tools read */
extern const size_t cm_options_alias_count;

/* Checks that go beyond one key: retry.windows_ms has five entries, broker.lease_ms is longer than
 * broker.poll_ms, the URIs and the address can be read, audit.key and erasure.key are empty or long
 * enough, schedules and time zones of jobs are good ones, orphan_job.exclude is a list of tenants,
 * and what the choices made in contact_job and dashboard_job need is given. CM_MISCONFIGURED naming
 * the key and its origin. Time zones are opened: before other threads start. */
cm_status_t cm_options_check(const cm_config_t *config, cm_error_t *err);
void cm_options_retry_policy(const cm_options_t *options, cm_retry_policy_t *ret_policy);
/* Connection options for an actor; application_name is borrowed. */
cm_pg_options_t cm_options_pg(const cm_options_t *options, const char *application_name);
/* The same, with the session's role: none while postgres.roles is off. */
cm_pg_options_t cm_options_pg_as(const cm_options_t *options, const char *application_name,
                                 cm_role_t role);
#endif
