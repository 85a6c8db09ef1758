/* google_pubsub_admin - topics and subscriptions of Google Pub/Sub: read, create, change.
 *
 * For tools: each call blocks until the service has answered (at most 30 s), in a loop of its own.
 * JSON is jansson's. Rule: pubsub-bigquery, "Calls".
 */
#ifndef CM_RUNTIME_BROKER_GOOGLE_PUBSUB_ADMIN_H
#define CM_RUNTIME_BROKER_GOOGLE_PUBSUB_ADMIN_H
#include "runtime/broker/broker.h"
#include "runtime/http.h"

#include <jansson.h>

typedef struct cm_pubsub_admin cm_pubsub_admin_t;

/* options: uri and driver as for the driver. Waits for a token where one is needed.
 * CM_MISCONFIGURED: a bad address or credentials; CM_UNAVAILABLE: no token within 30 s. */
cm_status_t cm_pubsub_admin_open(cm_pubsub_admin_t **ret_self, const cm_broker_options_t *options,
                                 cm_error_t *err);
void cm_pubsub_admin_close(cm_pubsub_admin_t **self_p);

/* method on "topics/NAME" or "subscriptions/NAME" of the project, with body (may be NULL,
 * borrowed). CM_OK: *ret_answer (may be NULL) is the resource, yours: json_decref(). CM_MISSING:
 * there is none (404). CM_MISCONFIGURED, CM_UNAVAILABLE, CM_PERMANENT as cm_http_classify() says,
 * with the text of the service; code is its status ("PERMISSION_DENIED") where it told one. */
cm_status_t cm_pubsub_admin_call(cm_pubsub_admin_t *self, cm_http_method_t method, const char *path,
                                 const json_t *body, json_t **ret_answer, cm_error_t *err);
/* "projects/my-project" */
const char *cm_pubsub_admin_project(const cm_pubsub_admin_t *self);
#endif
