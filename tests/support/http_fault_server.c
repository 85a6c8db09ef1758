#include "tests/support/http_fault_server.h"

#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/process.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { START_MS = 20000 };

/* ---- processes ------------------------------------------------------------------------------- */

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int cm_test_http_free_port(void)
{
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd == -1 || bind(fd, (struct sockaddr *)&address, len) == -1 ||
        getsockname(fd, (struct sockaddr *)&address, &len) == -1)
        cr_fatal("no free port");
    close(fd);
    return ntohs(address.sin_port);
}

static bool listens(int port)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return yes;
}

static void start(const char *const *argv, int stdout_fd, const char *log, pid_t *ret_pid)
{
    cm_error_t err = {0};
    cm_process_args_t args = {.argv = argv, .stdout_fd = stdout_fd, .output_path = log};
    if (cm_process_start(&args, ret_pid, &err) != CM_OK)
        cr_fatal("%s: %s", argv[0], err.message);
}

static void make_directory(cm_test_http_t *self)
{
    if (self->dir[0])
        return;
    snprintf(self->dir, sizeof self->dir, "/tmp/cm-http-XXXXXX");
    if (!mkdtemp(self->dir))
        cr_fatal("cannot make %s", self->dir);
}

void cm_test_http_start(cm_test_http_t *self)
{
    int ends[2];
    char port[16], said[16] = "", log[64];
    make_directory(self);
    if (pipe2(ends, O_CLOEXEC) == -1)
        cr_fatal("no pipe");
    snprintf(port, sizeof port, "%d", self->port);
    snprintf(log, sizeof log, "%s/server.log", self->dir);
    const char *argv[] = {"/usr/bin/python3", CM_TEST_SUPPORT "/http_fault_server.py", port,
                          self->keys ? self->dir : NULL, NULL};
    start(argv, ends[1], log, &self->pid);
    close(ends[1]);
    FILE *out = fdopen(ends[0], "r");
    if (!fgets(said, sizeof said, out)) /* its only line */
        cr_fatal("the HTTP server does not start: see %s", log);
    fclose(out);
    self->port = atoi(said);
    snprintf(self->url, sizeof self->url, "http://127.0.0.1:%d", self->port);
}

static void make_certificate(cm_test_http_t *self, const char *key)
{
    cm_error_t err = {0};
    char log[64];
    snprintf(self->ca_file, sizeof self->ca_file, "%s/tls.pem", self->dir);
    snprintf(log, sizeof log, "%s/openssl.log", self->dir);
    const char *argv[] = {
        "openssl", "req",  "-x509", "-newkey", "rsa:2048",      "-nodes",  "-days", "2", "-keyout",
        key,       "-out", NULL,    "-subj",   "/CN=localhost", "-addext", NULL,    NULL};
    argv[11] = self->ca_file;
    argv[15] = "subjectAltName=DNS:localhost";
    cm_process_args_t args = {.argv = argv, .stdout_fd = -1, .output_path = log};
    if (cm_process_run(&args, START_MS, &err) != CM_OK)
        cr_fatal("openssl: %s", err.message);
}

void cm_test_http_start_tls(cm_test_http_t *self, int streams)
{
    char key[64], front[64], back[64], max[64], access_log[96], log[64];
    snprintf(key, sizeof key, "%s/tls.key", self->dir);
    make_certificate(self, key);
    self->tls_port = cm_test_http_free_port();
    snprintf(self->tls_url, sizeof self->tls_url, "https://localhost:%d", self->tls_port);
    snprintf(front, sizeof front, "--frontend=127.0.0.1,%d", self->tls_port);
    snprintf(back, sizeof back, "--backend=127.0.0.1,%d", self->port);
    snprintf(max, sizeof max, "--frontend-http2-max-concurrent-streams=%d", streams);
    snprintf(access_log, sizeof access_log, "--accesslog-file=%s/access.log", self->dir);
    snprintf(log, sizeof log, "%s/nghttpx.log", self->dir);
    /* Where Debian has it, which is not in everybody's PATH. */
    static const char installed[] = "/usr/sbin/nghttpx";
    const char *argv[] = {access(installed, X_OK) == 0 ? installed : "nghttpx",
                          "--conf=/dev/null",
                          front,
                          back,
                          max,
                          access_log,
                          "--accesslog-format=$remote_port $alpn",
                          "--workers=1",
                          "--frontend-http2-read-timeout=60",
                          key,
                          self->ca_file,
                          NULL};
    start(argv, -1, log, &self->proxy_pid);
    int64_t deadline = cm_clock_mono_ms() + START_MS;
    while (!listens(self->tls_port)) {
        if (cm_clock_mono_ms() > deadline || !cm_process_alive(self->proxy_pid))
            cr_fatal("nghttpx does not start: see %s", log);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}

static void end(pid_t *pid)
{
    if (*pid > 0)
        cm_process_stop(*pid, SIGKILL, 5000);
    *pid = 0;
}

void cm_test_http_kill(cm_test_http_t *self)
{
    end(&self->pid);
}

void cm_test_http_stop(cm_test_http_t *self)
{
    char command[64];
    end(&self->proxy_pid);
    end(&self->pid);
    snprintf(command, sizeof command, "rm -rf '%s'", self->dir);
    if (self->dir[0] && system(command) != 0)
        cr_log_warn("cannot remove %s", self->dir);
    *self = (cm_test_http_t){0};
}

/* ---- asking ---------------------------------------------------------------------------------- */

char *cm_test_http_ask(const cm_test_http_t *self, const char *path, const char *body)
{
    char url[256], *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    CURL *easy = curl_easy_init();
    if (!out || !easy)
        abort();
    snprintf(url, sizeof url, "%s%s", self->url, path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, 10L);
    curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, out);
    if (body)
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    CURLcode code = curl_easy_perform(easy);
    curl_easy_cleanup(easy);
    fclose(out);
    if (code != CURLE_OK)
        cr_fatal("%s: %s", url, curl_easy_strerror(code));
    return text;
}

long cm_test_http_count(const cm_test_http_t *self, const char *path)
{
    char ask[256];
    snprintf(ask, sizeof ask, "/count?path=%s", path);
    CM_CLEANUP(cm_free) char *text = cm_test_http_ask(self, ask, NULL);
    return atol(text);
}

void cm_test_http_script(const cm_test_http_t *self, const char *path, const char *answers)
{
    char ask[256];
    snprintf(ask, sizeof ask, "/script?path=%s", path);
    free(cm_test_http_ask(self, ask, answers));
}

size_t cm_test_http_tls_connections(const cm_test_http_t *self, const char *protocol,
                                    size_t *ret_requests)
{
    char path[64], spoken[16];
    bool seen[65536] = {false};
    size_t connections = 0;
    int port;
    snprintf(path, sizeof path, "%s/access.log", self->dir);
    FILE *log = fopen(path, "r");
    *ret_requests = 0;
    while (log && fscanf(log, "%d %15s", &port, spoken) == 2) {
        if (strcmp(spoken, protocol) != 0)
            cr_fatal("a request came by %s instead of %s", spoken, protocol);
        *ret_requests += 1;
        connections += !seen[port & 65535];
        seen[port & 65535] = true;
    }
    if (log)
        fclose(log);
    return connections;
}

size_t cm_test_http_connections(int port)
{
    char line[256];
    unsigned to, state;
    size_t count = 0;
    FILE *table = fopen("/proc/net/tcp", "r");
    while (table && fgets(line, sizeof line, table))
        count += sscanf(line, " %*d: %*x:%*x %*x:%x %x", &to, &state) == 2 && (int)to == port &&
                 state == 1; /* established */
    if (table)
        fclose(table);
    return count;
}
