/* contact_source_private - what the drivers of contact_source share. */
#ifndef CM_ACTORS_CONTACT_SOURCE_PRIVATE_H
#define CM_ACTORS_CONTACT_SOURCE_PRIVATE_H
#include "actors/contact_source.h"

typedef struct { /* each with the contract of its function in contact_source.h */
    const char *name;
    cm_status_t (*open)(cm_contact_source_t *self, cm_error_t *err); /* sets self->driver */
    void (*close)(cm_contact_source_t *self); /* also of what open did not finish */
    cm_status_t (*begin)(cm_contact_source_t *self, const char *checkpoint, cm_error_t *err);
    /* Fill self->batch with up to max; none: the end. What came before a failure counts, and is
     * given first. Set self->checkpoint to stand behind exactly that. */
    cm_status_t (*next)(cm_contact_source_t *self, size_t max, cm_error_t *err);
} cm_contact_driver_t;

struct cm_contact_source {
    cm_contact_source_options_t options;
    const cm_contact_driver_t *kind;
    void *driver;
    char customer_id[CM_TENANT_ID_MAX]; /* "" = every one */
    int64_t since_ms;
    bool begun, resumed;
    cm_error_t failure; /* behind the batch that was given */
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX];
    cm_contact_t *batch;
    size_t count, cap;
    int64_t malformed, billed;
    char first_malformed[CM_ERROR_MESSAGE_MAX];
};

extern const cm_contact_driver_t cm_contact_bigquery, cm_contact_postgres, cm_contact_file;

void cm_contact_batch_add(cm_contact_source_t *self, const cm_contact_t *contact);
/* NULL when every customer is asked for. */
const char *cm_contact_customer(const cm_contact_source_t *self);
/* Whether a row of a query is of the customer asked for. CM_MISCONFIGURED otherwise. */
cm_status_t cm_contact_check_customer(const cm_contact_source_t *self, const cm_contact_t *contact,
                                      cm_error_t *err);
/* The record with that number of the kind ("line", "row") is none, for that reason. CM_PERMANENT
 * when it is one too many. */
cm_status_t cm_contact_pass_over(cm_contact_source_t *self, const char *kind, int64_t number,
                                 const cm_error_t *why, cm_error_t *err);
cm_status_t cm_contact_check_stop(const cm_contact_source_t *self, cm_error_t *err);
#endif
