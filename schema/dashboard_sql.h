/* dashboard_sql - the statements of the dashboard store. "@schema@" is the admin schema, in
 * `measure` and `checksum` the tenant's. Rows travel between databases as JSON texts. */
#ifndef CM_SCHEMA_DASHBOARD_SQL_H
#define CM_SCHEMA_DASHBOARD_SQL_H

/* Of a database: one value, what the catalog tells of every schema of a tenant. No locks. */
extern const char cm_dashboard_sql_catalog[];
/* $1: the values above, as one array. Rows of the tenants: made, renewed, taken away. */
extern const char cm_dashboard_sql_list[], cm_dashboard_sql_forget[];
/* $1: behind this tenant, $2: how many, $3: only this one, or NULL. id, state, whether its tables
 * are there. */
extern const char cm_dashboard_sql_tenants[];
/* $1: a tenant, $2: only this one, or NULL. Numbers: tenants, those up to $1, drifting, stale. */
extern const char cm_dashboard_sql_census[];

/* In a tenant's schema, one scan. $1: tenant, $2: age of an orphan in seconds, $3: names to tell,
 * and, with the checksum, $4: the sample. Two values: a row of the metrics, the devices. */
extern const char cm_dashboard_sql_measure[], cm_dashboard_sql_measure_checksum[];

/* $1: array of rows of the metrics, $2: seconds after which a reference is stale. */
extern const char cm_dashboard_sql_keep[];
/* $1: array of tenants whose tables are not there. */
extern const char cm_dashboard_sql_keep_problems[];

/* Adds the latest figures to the history, as a run and as those of the day. */
extern const char cm_dashboard_sql_remember[];
/* $1, $2: days for which runs and rows of days are kept, $3: most rows of each to take. How many
 * went.
 */
extern const char cm_dashboard_sql_prune[];

/* $1: array of references. */
extern const char cm_dashboard_sql_put[];
/* Around a query for references. */
extern const char cm_dashboard_sql_query_head[], cm_dashboard_sql_query_tail[];
#endif
