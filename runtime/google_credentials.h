/* google_credentials - access tokens for Google's APIs: fetched, refreshed early, never logged.
 *
 * From a service-account key file (RS256 JWT exchanged at its token_uri), an authorized_user file
 * (refresh token), or, without a file, the metadata server. One refresher: due at expiry minus 4
 * minutes less jitter (at most half the life of the token); while a refresh fails and the token
 * still lives it stays in use. Failures are repeated with full jitter, 1 s to 60 s; a refusal that
 * a person must mend (invalid_grant, 4xx) every 60 s, and told as CM_MISCONFIGURED; before such a
 * try the file is read again. Key and tokens are wiped from memory on replacement and close. Rule:
 * pubsub-bigquery, "Credentials".
 */
#ifndef CM_RUNTIME_GOOGLE_CREDENTIALS_H
#define CM_RUNTIME_GOOGLE_CREDENTIALS_H
#include "runtime/http.h"
#include "runtime/status.h"

#include <czmq.h>

typedef struct {               /* copied; texts borrowed for life */
    const char *file;          /* path of a key file; NULL or "" = metadata server */
    const char *metadata_host; /* host[:port]; NULL or "" = metadata.google.internal */
    const char *scope;         /* "https://www.googleapis.com/auth/pubsub"; several by blanks */
    void *ctx;
    void (*on_token)(void *ctx);                           /* the first, and each later one */
    void (*on_failed)(void *ctx, const cm_error_t *error); /* a fetch failed; it is repeated */
} cm_google_credentials_options_t;

typedef struct cm_google_credentials cm_google_credentials_t;

/* Read the file and begin to fetch. CM_MISCONFIGURED naming the file and what is wrong: unreadable,
 * no JSON, unknown type (external_account is named as not supported), a field missing, a key that
 * is no RSA private key. */
cm_status_t cm_google_credentials_open(cm_google_credentials_t **ret_self, zloop_t *loop,
                                       cm_http_t *http,
                                       const cm_google_credentials_options_t *options,
                                       cm_error_t *err);
/* From where cm_http_destroy() may be called, and before it; also from on_token and on_failed. */
void cm_google_credentials_close(cm_google_credentials_t **self_p);

/* The token in force, or NULL when there is none: not yet, expired, or refused and its successor on
 * its way. Borrowed until the loop runs again. */
const char *cm_google_credentials_token(const cm_google_credentials_t *self);
/* token got a 401: fetch another at once, unless this one is already replaced or one forced refresh
 * was answered 401 as well within the last minute. True when a new token is on its way or there. */
bool cm_google_credentials_refused(cm_google_credentials_t *self, const char *token);
/* "me@project.iam.gserviceaccount.com" or "metadata server": for messages. */
const char *cm_google_credentials_name(const cm_google_credentials_t *self);
#endif
