/* google_key - a key file of Google's, what it says to a token endpoint, and what that answers.
 *
 * Private to google_credentials.c, its tests and its fuzzer. No message quotes a file or an answer
 * but for the words of a refusal. Rule: pubsub-bigquery, "Credentials".
 */
#ifndef CM_RUNTIME_GOOGLE_KEY_H
#define CM_RUNTIME_GOOGLE_KEY_H
#include "runtime/buffer.h"
#include "runtime/http.h"
#include "runtime/status.h"
#include "runtime/str.h"

typedef struct cm_google_key cm_google_key_t;

/* CM_MISCONFIGURED, as cm_google_credentials_open() has it. */
cm_status_t cm_google_key_read(cm_google_key_t **ret_self, const char *path, cm_error_t *err);
/* The same for the content of a file; path is for messages. */
cm_status_t cm_google_key_parse(cm_google_key_t **ret_self, const char *path, cm_str_t json,
                                cm_error_t *err);
void cm_google_key_destroy(cm_google_key_t **self_p); /* wiped */

const char *cm_google_key_name(const cm_google_key_t *self); /* of the account */
const char *cm_google_key_token_uri(const cm_google_key_t *self);
/* Append the form that asks for a token, without leaving copies of it. CM_MISCONFIGURED when the
 * key cannot sign. */
cm_status_t cm_google_key_form(const cm_google_key_t *self, const char *scope, int64_t now_s,
                               cm_buffer_t *form, cm_error_t *err);

/* {access_token, expires_in, token_type}. ret_token goes to the caller, who wipes it; written only
 * on CM_OK, as ret_life_ms. CM_UNAVAILABLE when it is no such thing: something else answered. */
cm_status_t cm_google_token_parse(cm_str_t json, char **ret_token, int64_t *ret_life_ms,
                                  cm_error_t *err);
/* What an answer that is no 2xx means; self is NULL for the metadata server. CM_MISCONFIGURED with
 * the word of the refusal as code and a hint for a person; else the answer's own error. */
cm_status_t cm_google_token_refusal(const cm_google_key_t *self, const cm_http_answer_t *answer,
                                    cm_error_t *err);
void cm_google_wipe(char **text); /* and free; NULL is fine */
#endif
