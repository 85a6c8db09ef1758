/* Access tokens from a token endpoint that checks signatures and from a metadata server. Time runs
 * as it does: tokens of a few seconds are due after half their life. */
#include "runtime/google_credentials.h"
#include "tests/integration/http_case.h"

#include <sys/stat.h>

#define SCOPE    "https://www.googleapis.com/auth/pubsub"
#define METADATA "/computeMetadata/v1/instance/service-accounts/default/token"

static cm_google_credentials_t *credentials;

typedef struct {
    int tokens, failures;
    cm_error_t error;
    bool token_at_failure; /* was one in force */
    bool closes;
} seen_t;

static seen_t seen;

static void begin_with_keys(void)
{
    server.keys = true;
    begin();
}

static void end(void)
{
    cm_google_credentials_close(&credentials);
    finish();
}

TestSuite(google_credentials, .init = begin_with_keys, .fini = end, .timeout = 60);
TestSuite(google_key_file, .init = begin_with_keys, .fini = end, .timeout = 60);

static void on_token(void *ctx)
{
    (void)ctx;
    seen.tokens++;
    if (seen.closes)
        cm_google_credentials_close(&credentials);
}

static void on_failed(void *ctx, const cm_error_t *error)
{
    (void)ctx;
    seen.failures++;
    seen.error = *error;
    seen.token_at_failure = cm_google_credentials_token(credentials) != NULL;
    if (seen.closes)
        cm_google_credentials_close(&credentials);
}

static cm_status_t open_with(const char *file, const char *metadata_host, cm_error_t *err)
{
    cm_google_credentials_options_t options = {.file = file,
                                               .metadata_host = metadata_host,
                                               .scope = SCOPE,
                                               .on_token = on_token,
                                               .on_failed = on_failed};
    return cm_google_credentials_open(&credentials, loop, http, &options, err);
}

static void open_file(const char *name)
{
    static char path[128]; /* borrowed for life */
    cm_error_t err = {0};
    snprintf(path, sizeof path, "%s/%s.json", server.dir, name);
    cr_assert(eq(int, open_with(path, NULL, &err), CM_OK), "%s", err.message);
}

static void open_metadata(void)
{
    static char host[64];
    cm_error_t err = {0};
    snprintf(host, sizeof host, "127.0.0.1:%d", server.port);
    cr_assert(eq(int, open_with(NULL, host, &err), CM_OK), "%s", err.message);
}

static void await_events(const int *counter, int count)
{
    int64_t deadline = cm_clock_mono_ms() + DEADLINE_MS;
    while (*counter < count) {
        if (cm_clock_mono_ms() > deadline)
            cr_fatal("%d tokens, %d failures: %s", seen.tokens, seen.failures, seen.error.message);
        turn();
    }
}

static void expires_in(int seconds)
{
    char path[64];
    snprintf(path, sizeof path, "/set?expires_in=%d", seconds);
    free(cm_test_http_ask(&server, path, NULL));
}

/* ---- where tokens come from ------------------------------------------------------------------ */

Test(google_credentials, a_service_account_signs_for_its_token)
{
    open_file("service_account");
    cr_expect(eq(ptr, (void *)cm_google_credentials_token(credentials), NULL));
    await_events(&seen.tokens, 1);
    cr_expect(eq(str, cm_google_credentials_token(credentials), "ya29.token-1"));
    cr_expect(
        eq(str, cm_google_credentials_name(credentials), "writer@project.iam.gserviceaccount.com"));
    cr_expect(eq(int, seen.failures, 0));
}

Test(google_credentials, an_authorized_user_trades_its_refresh_token)
{
    open_file("authorized_user");
    await_events(&seen.tokens, 1);
    cr_expect(eq(str, cm_google_credentials_token(credentials), "ya29.token-1"));
    cr_expect(eq(str, cm_google_credentials_name(credentials), "authorized user"));
}

Test(google_credentials, without_a_file_the_metadata_server_is_asked)
{
    open_metadata();
    await_events(&seen.tokens, 1);
    cr_expect(eq(str, cm_google_credentials_token(credentials), "ya29.token-1"));
    cr_expect(eq(str, cm_google_credentials_name(credentials), "metadata server"));
    cr_expect(eq(int, cm_test_http_count(&server, METADATA), 1));
}

Test(google_credentials, a_metadata_server_that_is_not_up_yet_is_waited_for)
{
    cm_test_http_kill(&server);
    open_metadata();
    await_events(&seen.failures, 1);
    cr_expect(eq(int, seen.error.status, CM_UNAVAILABLE));
    cm_test_http_start(&server);
    await_events(&seen.tokens, 1);
    cr_expect(ne(ptr, (void *)cm_google_credentials_token(credentials), NULL));
}

Test(google_credentials, a_metadata_server_that_refuses_in_its_first_seconds_is_waited_for)
{
    cm_test_http_script(&server, METADATA, "[{\"status\": 403}, {\"status\": 404}]");
    open_metadata();
    await_events(&seen.failures, 2);
    cr_expect(eq(int, seen.error.status, CM_UNAVAILABLE));
    await_events(&seen.tokens, 1);
}

Test(google_credentials, a_metadata_host_is_a_host_with_or_without_a_port)
{
    cm_error_t err = {0};
    cr_expect(eq(int, open_with(NULL, "http://host", &err), CM_MISCONFIGURED));
    cr_expect(eq(str, err.code, "metadata-host"));
    cr_expect(eq(int, open_with("", "a@b", &err), CM_MISCONFIGURED));
}

/* ---- refreshing ------------------------------------------------------------------------------ */

Test(google_credentials, a_token_is_replaced_before_it_expires)
{
    expires_in(4);
    open_file("service_account");
    await_events(&seen.tokens, 1);
    while (seen.tokens < 2) {
        cr_assert(ne(ptr, (void *)cm_google_credentials_token(credentials), NULL));
        turn();
    }
    cr_expect(eq(str, cm_google_credentials_token(credentials), "ya29.token-2"));
}

Test(google_credentials, a_token_stays_in_use_while_its_refresh_fails)
{
    expires_in(6);
    open_file("service_account");
    await_events(&seen.tokens, 1);
    cm_test_http_script(&server, "/token", "[{\"status\": 503, \"body\": \"busy\"}]");
    await_events(&seen.failures, 1);
    cr_expect(eq(int, seen.error.status, CM_UNAVAILABLE));
    cr_expect(seen.token_at_failure);
    await_events(&seen.tokens, 2);
    cr_expect(eq(str, cm_google_credentials_token(credentials), "ya29.token-2"));
}

Test(google_credentials, a_token_that_has_expired_is_not_given)
{
    expires_in(2);
    open_file("service_account");
    await_events(&seen.tokens, 1);
    cm_test_http_kill(&server);
    int64_t deadline = cm_clock_mono_ms() + DEADLINE_MS;
    while (cm_google_credentials_token(credentials) && cm_clock_mono_ms() < deadline)
        turn();
    cr_expect(eq(ptr, (void *)cm_google_credentials_token(credentials), NULL));
    cm_test_http_start(&server);
}

/* ---- refusals -------------------------------------------------------------------------------- */

Test(google_credentials, invalid_grant_is_for_a_person_who_is_told_to_look_at_the_clock)
{
    cm_test_http_script(&server, "/token",
                        "[{\"status\": 400, \"body\": \"{\\\"error\\\": \\\"invalid_grant\\\", "
                        "\\\"error_description\\\": \\\"Invalid JWT\\\"}\"}]");
    open_file("service_account");
    await_events(&seen.failures, 1);
    cr_expect(eq(int, seen.error.status, CM_MISCONFIGURED));
    cr_expect(eq(str, seen.error.code, "invalid_grant"));
    cr_expect(ne(ptr, strstr(seen.error.message, "clock"), NULL), "%s", seen.error.message);
    cr_expect(ne(ptr, strstr(seen.error.message, "writer@project"), NULL));
    cr_expect(ne(ptr, strstr(seen.error.message, "Invalid JWT"), NULL));
}

Test(google_credentials, a_refused_login_is_told_to_be_repeated)
{
    cm_test_http_script(
        &server, "/token",
        "[{\"status\": 400, \"body\": \"{\\\"error\\\": \\\"invalid_grant\\\"}\"}]");
    open_file("authorized_user");
    await_events(&seen.failures, 1);
    cr_expect(eq(int, seen.error.status, CM_MISCONFIGURED));
    cr_expect(ne(ptr, strstr(seen.error.message, "log in again"), NULL));
}

Test(google_credentials, a_refusal_without_an_explanation_is_told_by_its_number)
{
    cm_test_http_script(&server, "/token", "[{\"status\": 403, \"body\": \"<html>\"}]");
    open_file("service_account");
    await_events(&seen.failures, 1);
    cr_expect(eq(int, seen.error.status, CM_MISCONFIGURED));
    cr_expect(eq(str, seen.error.code, "http-403"));
}

Test(google_credentials, an_endpoint_in_trouble_is_asked_again)
{
    cm_test_http_script(&server, "/token", "[{\"status\": 500}, {\"status\": 429}]");
    open_file("service_account");
    await_events(&seen.failures, 2);
    cr_expect(eq(int, seen.error.status, CM_UNAVAILABLE));
    await_events(&seen.tokens, 1);
}

Test(google_credentials, an_answer_that_is_no_token_is_no_token)
{
    cm_test_http_script(&server, "/token",
                        "[{\"status\": 200, \"body\": \"<html>log in to this network</html>\"},"
                        " {\"status\": 200, \"body\": \"{\\\"access_token\\\": \\\"a\\\\nb\\\", "
                        "\\\"expires_in\\\": 60}\"}]");
    open_file("service_account");
    await_events(&seen.failures, 2);
    cr_expect(eq(int, seen.error.status, CM_UNAVAILABLE));
    cr_expect(eq(str, seen.error.code, "token-answer"));
    await_events(&seen.tokens, 1);
}

/* ---- 401 ------------------------------------------------------------------------------------- */

Test(google_credentials, a_refused_token_is_replaced_at_once_and_only_once)
{
    open_file("service_account");
    await_events(&seen.tokens, 1);
    CM_CLEANUP(cm_free) char *first = strdup(cm_google_credentials_token(credentials));
    for (int i = 0; i < 50; i++) /* as many requests were under way with it */
        cr_expect(cm_google_credentials_refused(credentials, first));
    cr_expect(eq(ptr, (void *)cm_google_credentials_token(credentials), NULL));
    await_events(&seen.tokens, 2);
    cr_expect(eq(str, cm_google_credentials_token(credentials), "ya29.token-2"));
    cr_expect(cm_google_credentials_refused(credentials, first)); /* one more, late */
    cr_expect(eq(str, cm_google_credentials_token(credentials), "ya29.token-2"));
    cr_expect(eq(int, cm_test_http_count(&server, "/token"), 2));
}

Test(google_credentials, a_token_refused_after_it_was_forced_is_not_replaced)
{
    open_file("service_account");
    await_events(&seen.tokens, 1);
    cr_expect(cm_google_credentials_refused(credentials, "ya29.token-1"));
    await_events(&seen.tokens, 2);
    cr_expect(not(cm_google_credentials_refused(credentials, "ya29.token-2")));
    cr_expect(eq(str, cm_google_credentials_token(credentials), "ya29.token-2"));
}

Test(google_credentials, a_forced_refresh_that_fails_is_repeated)
{
    open_file("service_account");
    await_events(&seen.tokens, 1);
    cm_test_http_script(&server, "/token", "[{\"status\": 503}]");
    cr_expect(cm_google_credentials_refused(credentials, "ya29.token-1"));
    await_events(&seen.failures, 1);
    cr_expect(not(seen.token_at_failure));
    cr_expect(cm_google_credentials_refused(credentials, "ya29.token-1"));
    await_events(&seen.tokens, 2);
}

Test(google_credentials, a_key_that_was_refused_is_read_again)
{
    char command[256];
    expires_in(6);
    open_file("service_account");
    await_events(&seen.tokens, 1);
    cm_test_http_script(&server, "/token", "[{\"status\": 401}]");
    await_events(&seen.failures, 1);
    snprintf(command, sizeof command, "cp %s/authorized_user.json %s/service_account.json",
             server.dir, server.dir);
    cr_assert(eq(int, system(command), 0));
    cm_google_credentials_refused(credentials, "ya29.token-1"); /* or it waits a minute */
    await_events(&seen.tokens, 2);
    cr_expect(eq(str, cm_google_credentials_name(credentials), "authorized user"));
}

/* ---- closing --------------------------------------------------------------------------------- */

Test(google_credentials, can_be_closed_at_once)
{
    open_file("service_account");
    cm_google_credentials_close(&credentials);
    cr_expect(eq(ptr, credentials, NULL));
    cm_google_credentials_close(&credentials);
}

Test(google_credentials, can_be_closed_with_a_request_under_way)
{
    open_file("service_account");
    while (cm_http_under_way(http) == 0)
        turn();
    cm_google_credentials_close(&credentials);
    for (int i = 0; i < 20; i++)
        turn();
    cr_expect(eq(int, seen.tokens + seen.failures, 0));
    cr_expect(eq(sz, cm_http_under_way(http), 0));
}

Test(google_credentials, can_be_closed_from_their_own_events)
{
    seen.closes = true;
    open_file("service_account");
    await_events(&seen.tokens, 1);
    cr_expect(eq(ptr, credentials, NULL));
}

/* ---- key files ------------------------------------------------------------------------------- */

/* The file is refused, by name, for what the message must hold. */
static void refused_for(const char *path, const char *part)
{
    cm_error_t err = {0};
    cr_expect(eq(int, open_with(path, NULL, &err), CM_MISCONFIGURED), "%s", part);
    cr_expect(eq(str, err.code, "credentials-file"), "%s", part);
    cr_expect(ne(ptr, strstr(err.message, part), NULL), "%s", err.message);
    cr_expect(ne(ptr, strstr(err.message, path), NULL), "%s", err.message);
    cr_expect(eq(ptr, credentials, NULL));
}

static void content_refused_for(const char *content, const char *part)
{
    char path[64];
    snprintf(path, sizeof path, "%s/bad.json", server.dir);
    FILE *file = fopen(path, "w");
    fputs(content, file);
    fclose(file);
    refused_for(path, part);
}

Test(google_key_file, that_cannot_be_read_is_named)
{
    refused_for("/nonexistent.json", "No such file");
    refused_for(server.dir, "Is a directory");
}

Test(google_key_file, that_is_no_json_is_named_without_being_quoted)
{
    cm_error_t err = {0};
    char path[64];
    content_refused_for("", "is no JSON");
    content_refused_for("{\n\"private_key\": \"hush hush\" hush\n}", "is no JSON: line 2");
    snprintf(path, sizeof path, "%s/bad.json", server.dir);
    open_with(path, NULL, &err);
    cr_expect(eq(ptr, strstr(err.message, "hush"), NULL));
    content_refused_for("{\"type\": \"a\", \"type\": \"b\"}", "is no JSON");
    content_refused_for("[]", "is no JSON object");
}

Test(google_key_file, that_is_too_large_is_named)
{
    char *content = calloc(1, 70000);
    memset(content, ' ', 69999);
    content_refused_for(content, "64 KiB");
    free(content);
}

Test(google_key_file, of_an_unknown_type_is_named)
{
    content_refused_for("{\"type\": \"gdch_service_account\"}", "unknown type");
    content_refused_for("{\"type\": \"external_account\"}",
                        "external_account, which is not supported");
}

Test(google_key_file, that_lacks_a_field_is_named_with_the_field)
{
    content_refused_for("{}", "lacks the field type");
    content_refused_for("{\"type\": 3}", "lacks the field type");
    content_refused_for("{\"type\": \"service_account\"}", "lacks the field client_email");
    content_refused_for("{\"type\": \"service_account\", \"client_email\": \"\"}",
                        "lacks the field client_email");
    content_refused_for("{\"type\": \"service_account\", \"client_email\": \"a\"}",
                        "lacks the field token_uri");
    content_refused_for("{\"type\": \"service_account\", \"client_email\": \"a\","
                        " \"token_uri\": \"https://t\"}",
                        "lacks the field private_key");
    content_refused_for("{\"type\": \"authorized_user\"}", "lacks the field client_id");
    content_refused_for("{\"type\": \"authorized_user\", \"client_id\": \"a\"}",
                        "lacks the field client_secret");
    content_refused_for("{\"type\": \"authorized_user\", \"client_id\": \"a\","
                        " \"client_secret\": \"b\"}",
                        "lacks the field refresh_token");
}

Test(google_key_file, that_would_send_a_secret_in_clear_is_named)
{
    static const char *const uris[] = {"http://oauth2.googleapis.com/token",
                                       "ftp://x",
                                       "token",
                                       "http://127.0.0.1.example.com/",
                                       "http://localhost:1@x/",
                                       "https://a b"};
    for (size_t i = 0; i < CM_LENGTH(uris); i++) {
        char content[256];
        snprintf(content, sizeof content,
                 "{\"type\": \"authorized_user\", \"client_id\": \"a\", \"client_secret\": \"b\","
                 " \"refresh_token\": \"c\", \"token_uri\": \"%s\"}",
                 uris[i]);
        content_refused_for(content, "token_uri");
    }
}

static void key_refused(const char *openssl)
{
    char command[512], path[64];
    snprintf(command, sizeof command,
             "cd %s && openssl %s >other.pem 2>/dev/null && python3 -c \"import json; f = "
             "json.load(open('service_account.json')); f['private_key'] = "
             "open('other.pem').read(); json.dump(f, open('other.json', 'w'))\"",
             server.dir, openssl);
    cr_assert(eq(int, system(command), 0));
    snprintf(path, sizeof path, "%s/other.json", server.dir);
    refused_for(path, "no RSA private key");
}

Test(google_key_file, whose_key_is_no_private_rsa_key_is_named)
{
    content_refused_for("{\"type\": \"service_account\", \"client_email\": \"a\","
                        " \"token_uri\": \"https://t\", \"private_key\": \"abc\"}",
                        "no RSA private key");
    key_refused("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    key_refused("pkey -in private.pem -pubout");
    key_refused("pkey -in private.pem -aes256 -passout pass:x"); /* and asks nobody for it */
}
