#include "tests/support/pubsub_server.h"

#include "proto/subscription.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPTIONS_MAX = 16, CALL_TIMEOUT_S = 20 };

/* ---- the process ----------------------------------------------------------------------------- */

/* Run a program that ends with its stdin; what it says comes from the stream, yours to close. */
static FILE *spawn(const char *const *argv, int dies_by, pid_t *ret_pid, int *ret_stdin_fd)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        cr_fatal("no pipe");
    *ret_pid = fork();
    if (*ret_pid == 0) {
        prctl(PR_SET_PDEATHSIG, dies_by);
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    *ret_stdin_fd = in[1];
    return fdopen(out[0], "r");
}

void cm_test_pubsub_start_other(cm_test_pubsub_t *self, const char *program,
                                const char *const *options)
{
    char number[16], path[512];
    const char *argv[OPTIONS_MAX + 4] = {path, "--port", number};
    snprintf(path, sizeof path, "%s/%s", CM_TEST_SUPPORT, program);
    snprintf(number, sizeof number, "%d", self->port);
    for (size_t i = 0; options && options[i] && i < OPTIONS_MAX; i++)
        argv[3 + i] = options[i];
    FILE *said = spawn(argv, SIGKILL, &self->pid, &self->stdin_fd);
    if (!said || fscanf(said, "port %d", &self->port) != 1)
        cr_fatal("%s does not start", path);
    fclose(said);
    snprintf(self->uri, sizeof self->uri, "http://127.0.0.1:%d/projects/test", self->port);
}

void cm_test_pubsub_start(cm_test_pubsub_t *self, const char *const *options)
{
    cm_test_pubsub_start_other(self, "pubsub_server", options);
}

void cm_test_pubsub_start_emulator(cm_test_pubsub_t *self, const char *option)
{
    char number[16];
    const char *argv[] = {CM_TEST_SUPPORT "/pubsub_emulator", "--port", number, option, NULL};
    snprintf(number, sizeof number, "%d", self->port);
    /* SIGKILL takes the emulator itself along. */
    FILE *said = spawn(argv, SIGKILL, &self->pid, &self->stdin_fd);
    int own = 0; /* read to the end of the line: it must not meet a closed pipe */
    if (!said || fscanf(said, "port %d emulator %d", &self->port, &own) != 2)
        cr_fatal("%s/pubsub_emulator does not start", CM_TEST_SUPPORT);
    fclose(said);
    snprintf(self->uri, sizeof self->uri, "http://127.0.0.1:%d/projects/test", self->port);
}

void cm_test_pubsub_find_emulator(char why[256])
{
    const char *argv[] = {CM_TEST_SUPPORT "/pubsub_emulator", "--find", NULL};
    pid_t pid = 0;
    int stdin_fd = -1, code = 0;
    FILE *said = spawn(argv, SIGKILL, &pid, &stdin_fd);
    if (!said || !fgets(why, 256, said))
        snprintf(why, 256, "%s/pubsub_emulator says nothing", CM_TEST_SUPPORT);
    why[strcspn(why, "\n")] = '\0';
    fclose(said);
    close(stdin_fd);
    waitpid(pid, &code, 0);
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0)
        why[0] = '\0';
}

void cm_test_pubsub_start_tls(cm_test_pubsub_t *self)
{
    char number[16];
    int port = 0;
    const char *argv[] = {CM_TEST_SUPPORT "/pubsub_tls", number, NULL};
    snprintf(number, sizeof number, "%d", self->port);
    self->tls_said = spawn(argv, SIGTERM, &self->tls_pid, &self->tls_stdin_fd);
    if (!self->tls_said || fscanf(self->tls_said, "port %d ca %63s", &port, self->ca_file) != 2)
        cr_fatal("%s/pubsub_tls does not start", CM_TEST_SUPPORT);
    snprintf(self->tls_uri, sizeof self->tls_uri, "https://127.0.0.1:%d/projects/test", port);
}

void cm_test_pubsub_use_certificate(cm_test_pubsub_t *self, const char *first_or_other)
{
    char said[8] = "";
    dprintf(self->tls_stdin_fd, "%s\n", first_or_other);
    if (fscanf(self->tls_said, "%7s", said) != 1 || strcmp(said, first_or_other) != 0)
        cr_fatal("%s/pubsub_tls does not start anew", CM_TEST_SUPPORT);
}

static void stop_tls(cm_test_pubsub_t *self)
{
    if (self->tls_pid <= 0)
        return;
    close(self->tls_stdin_fd); /* it removes what it made */
    waitpid(self->tls_pid, NULL, 0);
    fclose(self->tls_said);
    self->tls_pid = 0;
}

void cm_test_pubsub_stop(cm_test_pubsub_t *self)
{
    stop_tls(self);
    if (self->pid <= 0)
        return;
    close(self->stdin_fd);
    kill(self->pid, SIGKILL); /* it has nothing to save */
    waitpid(self->pid, NULL, 0);
    self->pid = 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

static size_t collect(char *data, size_t size, size_t count, void *ctx)
{
    fwrite(data, size, count, ctx);
    return size * count;
}

static void fill(CURL *curl, const char *method, const char *body, struct curl_slist *headers,
                 FILE *answer)
{
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)CALL_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (body)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
}

char *cm_test_pubsub_call(const cm_test_pubsub_t *self, const char *method, const char *path,
                          const char *body, long *ret_code)
{
    char url[512], *answer = NULL;
    size_t size = 0;
    long code = 0;
    FILE *stream = open_memstream(&answer, &size);
    CURL *curl = curl_easy_init();
    char bearer[320];
    snprintf(bearer, sizeof bearer, "Authorization: Bearer %s", self->token);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Metadata-Flavor: Google");
    if (self->token[0])
        headers = curl_slist_append(headers, bearer);
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", self->port, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    fill(curl, method, body, headers, stream);
    CURLcode done = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    fclose(stream);
    if (done != CURLE_OK)
        cr_fatal("%s %s: %s", method, path, curl_easy_strerror(done));
    if (!ret_code && code != 200)
        cr_fatal("%s %s: %ld: %s", method, path, code, answer);
    if (ret_code)
        *ret_code = code;
    return answer;
}

void cm_test_pubsub_take_token(cm_test_pubsub_t *self)
{
    char *answer = cm_test_pubsub_call(
        self, "GET", "/computeMetadata/v1/instance/service-accounts/default/token", NULL, NULL);
    json_t *root = json_loads(answer, 0, NULL);
    snprintf(self->token, sizeof self->token, "%s",
             json_string_value(json_object_get(root, "access_token")));
    json_decref(root);
    free(answer);
}

void cm_test_pubsub_create(const cm_test_pubsub_t *self, const char *name, const char *settings)
{
    char path[256], body[1024];
    snprintf(path, sizeof path, "/v1/projects/test/topics/%s", name);
    free(cm_test_pubsub_call(self, "PUT", path, "{}", NULL));
    snprintf(body, sizeof body, "{\"topic\":\"projects/test/topics/%s\",%s}", name,
             settings ? settings : "\"ackDeadlineSeconds\":10");
    snprintf(path, sizeof path, "/v1/projects/test/subscriptions/%s", name);
    free(cm_test_pubsub_call(self, "PUT", path, body, NULL));
}

void cm_test_pubsub_create_all(const cm_test_pubsub_t *self, const char *settings)
{
    char name[CM_TOPIC_NAME_MAX];
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++)
        cm_test_pubsub_create(
            self, cm_subscription_topic((cm_subscription_id_t)id, "client-manager", name),
            settings);
}

void cm_test_pubsub_fault(const cm_test_pubsub_t *self, const char *fault)
{
    free(cm_test_pubsub_call(self, "POST", "/control/fault", fault, NULL));
}

void cm_test_pubsub_cut(const cm_test_pubsub_t *self)
{
    free(cm_test_pubsub_call(self, "POST", "/control/cut", "", NULL));
}

/* ---- statistics ------------------------------------------------------------------------------ */

/* The next step of a path: up to a dot, or what stands in brackets. Returns what follows. */
static const char *next_step(const char *path, char step[256])
{
    size_t skip = path[0] == '[';
    size_t length = strcspn(path + skip, skip ? "]" : ".[");
    if (skip) /* subscriptions are listed under their full names */
        snprintf(step, 256, "projects/test/subscriptions/%.*s", (int)length, path + 1);
    else
        snprintf(step, 256, "%.*s", (int)length, path);
    path += length + 2 * skip;
    return path + (path[0] == '.');
}

long long cm_test_pubsub_stat(const cm_test_pubsub_t *self, const char *path)
{
    char *answer = cm_test_pubsub_call(self, "GET", "/control/stats", NULL, NULL);
    json_t *root = json_loads(answer, 0, NULL);
    const json_t *value = root;
    char step[256];
    while (path[0]) {
        path = next_step(path, step);
        value = json_object_get(value, step);
    }
    long long number = json_integer_value(value);
    json_decref(root);
    free(answer);
    return number;
}
