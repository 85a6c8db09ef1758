/* contact_job_options - the section contact_job of the configuration: whether it is complete, and
 * the contact source that it describes.
 */
#ifndef CM_ACTORS_CONTACT_JOB_OPTIONS_H
#define CM_ACTORS_CONTACT_JOB_OPTIONS_H
#include "actors/contact_source.h"
#include "actors/options.h"

/* Has the chosen source what it needs? CM_MISCONFIGURED naming the key, and what would be right. */
cm_status_t cm_contact_job_check(const cm_config_t *config, cm_error_t *err);
/* The source; `stopped` and ctx are the caller's to set. There must be one (asserted). */
cm_contact_source_options_t cm_contact_job_source(const cm_options_t *options);
/* One query for all customers, rather than one for each. BigQuery bills by query, a file is read as
 * a whole each time; a database finds one customer's rows by an index. */
bool cm_contact_job_asks_once(const cm_options_t *options);
/* Of what decides which contacts there are: a position or a watermark of another source means
 * nothing. */
uint64_t cm_contact_job_digest(const cm_options_t *options);
#endif
