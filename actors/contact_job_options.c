#include "actors/contact_job_options.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"

#include <assert.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

static const char *project_of(const cm_options_t *options)
{
    return *options->contact_job.project ? options->contact_job.project : options->pubsub.project;
}

/* ---- is it complete? ------------------------------------------------------------------------- */

static cm_status_t lacks(const cm_config_t *config, const char *key, const char *kind,
                         const char *right, cm_error_t *err)
{
    return cm_error_set(err, CM_MISCONFIGURED, "config",
                        "%s is not set, and contact_job.source (%s) is %s; give %s", key,
                        cm_config_origin(config, "contact_job.source"), kind, right);
}

/* A query that does not look at the customer, or at nothing when all are asked for, cannot do. */
static cm_status_t check_query(const cm_config_t *config, const cm_options_t *options,
                               const char *kind, const char *customer, const char *since,
                               cm_error_t *err)
{
    const char *query = options->contact_job.query;
    if (!*query)
        return lacks(config, "contact_job.query", kind,
                     "one that gives customer_id, contact_id and deleted_at", err);
    if (!strstr(query, customer) || (since && !strstr(query, since)))
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "contact_job.query (%s) does not use %s, as a query of %s must; see "
                            "README, \"Contact deletion job\"",
                            cm_config_origin(config, "contact_job.query"),
                            strstr(query, customer) ? since : customer, kind);
    if (!cm_contact_job_asks_once(options) || strcasestr(query, "NULL") ||
        strcasestr(query, "COALESCE"))
        return CM_OK;
    return cm_error_set(err, CM_MISCONFIGURED, "config",
                        "contact_job.query (%s) finds nothing where %s is NULL, all customers; "
                        "give (%s IS NULL OR customer_id = %s), or contact_job.queries: each",
                        cm_config_origin(config, "contact_job.query"), customer, customer,
                        customer);
}

static cm_status_t check_bigquery(const cm_config_t *config, const cm_options_t *options,
                                  cm_error_t *err)
{
    const char *endpoint = options->contact_job.endpoint;
    if (!*project_of(options))
        return lacks(config, "contact_job.project", "bigquery",
                     "the id of the Google Cloud project that pays, here or in pubsub.project",
                     err);
    if (strncmp(endpoint, "https://", 8) != 0 && strncmp(endpoint, "http://", 7) != 0)
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "contact_job.endpoint (%s) is \"%.80s\"; give https://host",
                            cm_config_origin(config, "contact_job.endpoint"), endpoint);
    return check_query(config, options, "bigquery", "@customer", "@since", err);
}

static cm_status_t check_postgres(const cm_config_t *config, const cm_options_t *options,
                                  cm_error_t *err)
{
    const char *uri = options->contact_job.postgres_uri;
    if (!*uri)
        return lacks(config, "contact_job.postgres_uri", "postgres",
                     "postgresql://user@host:5432/database", err);
    PQconninfoOption *parsed = PQconninfoParse(uri, NULL); /* its words may quote the password */
    PQconninfoFree(parsed);
    if (!parsed)
        return cm_error_set(err, CM_MISCONFIGURED, "config",
                            "contact_job.postgres_uri (%s) is no connection string; give "
                            "postgresql://user@host:5432/database",
                            cm_config_origin(config, "contact_job.postgres_uri"));
    return check_query(config, options, "postgres", "$1", NULL, err);
}

cm_status_t cm_contact_job_check(const cm_config_t *config, cm_error_t *err)
{
    const cm_options_t *options = cm_config_values(config);
    switch ((cm_contact_job_source_t)options->contact_job.source) {
    case CM_CONTACT_JOB_BIGQUERY:
        return check_bigquery(config, options, err);
    case CM_CONTACT_JOB_POSTGRES:
        return check_postgres(config, options, err);
    case CM_CONTACT_JOB_FILE:
        return *options->contact_job.path
                   ? CM_OK
                   : lacks(config, "contact_job.path", "file", "a file of JSON lines or CSV", err);
    case CM_CONTACT_JOB_NONE:
        break;
    }
    return CM_OK;
}

/* ---- what it describes ----------------------------------------------------------------------- */

cm_contact_source_options_t cm_contact_job_source(const cm_options_t *options)
{
    assert(options->contact_job.source != CM_CONTACT_JOB_NONE);
    bool is_cleartext = strncmp(options->contact_job.endpoint, "http://", 7) == 0;
    return (cm_contact_source_options_t){
        .kind = (cm_contact_source_kind_t)(options->contact_job.source - CM_CONTACT_JOB_BIGQUERY),
        .malformed_max = options->contact_job.malformed_max,
        .query = options->contact_job.query,
        .bigquery = {.endpoint = options->contact_job.endpoint,
                     .project = project_of(options),
                     /* A stand-in or an emulator: no key of the cloud goes there. */
                     .credentials_file = is_cleartext ? NULL : options->pubsub.credentials_file,
                     .metadata_host = options->pubsub.metadata_host,
                     .ca_file = options->pubsub.ca_file,
                     .timeout_ms = (int)options->contact_job.timeout_ms,
                     .give_up_ms = (int)options->contact_job.give_up_ms,
                     .retry_base_ms = (int)options->contact_job.retry_ms,
                     .page_rows = options->contact_job.page_size},
        .location = options->contact_job.location,
        .maximum_bytes_billed = options->contact_job.maximum_bytes_billed,
        .postgres_uri = options->contact_job.postgres_uri,
        .path = options->contact_job.path,
    };
}

bool cm_contact_job_asks_once(const cm_options_t *options)
{
    if (options->contact_job.queries == CM_CONTACT_JOB_AUTO)
        return options->contact_job.source != CM_CONTACT_JOB_POSTGRES;
    return options->contact_job.queries == CM_CONTACT_JOB_ONE;
}

/* The password and the host of a database may change without another source being meant. */
uint64_t cm_contact_job_digest(const cm_options_t *options)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    switch ((cm_contact_job_source_t)options->contact_job.source) {
    case CM_CONTACT_JOB_BIGQUERY:
        cm_buffer_printf(&text, "bigquery\n%s\n%s\n%s", project_of(options),
                         options->contact_job.location, options->contact_job.query);
        break;
    case CM_CONTACT_JOB_POSTGRES:
        cm_buffer_printf(&text, "postgres\n%s", options->contact_job.query);
        break;
    case CM_CONTACT_JOB_FILE:
        cm_buffer_printf(&text, "file\n%s", options->contact_job.path);
        break;
    case CM_CONTACT_JOB_NONE:
        break;
    }
    return XXH3_64bits(text.data ? text.data : "", text.len);
}
