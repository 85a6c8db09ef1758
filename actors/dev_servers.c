#include "actors/dev_servers.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/pg.h"
#include "runtime/process.h"
#include "runtime/redis.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MARK         ".client-manager-dev" /* in a directory that dev made */
#define POSTGRES_BIN "/usr/lib/postgresql/15/bin"
#define MISSING      "not-installed"
enum { START_MS = 30000, POLL_MS = 20, STOP_MS = 20000, DIRECTORY_MAX = 60 };

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
    (void)stat;
    (void)type;
    (void)walk;
    return remove(path);
}

static cm_status_t refuse(cm_error_t *err, const char *path, const char *why)
{
    return cm_error_set(err, CM_MISCONFIGURED, "usage",
                        "--keep %s: %s; give a directory that does not exist yet, or one that dev "
                        "made before",
                        path, why);
}

static bool is_empty(int directory)
{
    int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = copy >= 0 ? fdopendir(copy) : NULL;
    bool empty = listing != NULL;
    for (struct dirent *entry; empty && (entry = readdir(listing));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    if (listing)
        closedir(listing);
    return empty;
}

/* A directory that was there before is ours only with our mark in it, or when it is empty and
 * private. Everything else belongs to somebody: we neither write into it nor change its owner. */
static cm_status_t check_ours(int directory, const char *path, bool made, bool *ret_fresh,
                              cm_error_t *err)
{
    struct stat stat;
    *ret_fresh = faccessat(directory, MARK, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
    if (made || !*ret_fresh)
        return CM_OK;
    if (!is_empty(directory))
        return refuse(err, path, "it holds other things");
    if (fstat(directory, &stat) != 0 || stat.st_uid != geteuid() || (stat.st_mode & 077))
        return refuse(err, path, "it is open to others");
    return CM_OK;
}

/* The user that the servers run as when we are root, and the directory's owner from now on. */
static cm_status_t choose_user(cm_dev_servers_t *self, int directory, bool fresh, cm_error_t *err)
{
    if (geteuid() != 0)
        return CM_OK;
    struct passwd *user = getpwnam("postgres");
    user = user ? user : getpwnam("nobody");
    if (!user || (fresh && fchown(directory, user->pw_uid, user->pw_gid) != 0))
        return cm_error_set(err, CM_MISCONFIGURED, NULL,
                            "PostgreSQL refuses root, and there is no user postgres or nobody");
    self->user = strcmp(user->pw_name, "nobody") == 0 ? "nobody" : "postgres";
    return CM_OK;
}

/* The mark is the lock too: two sets of servers in one directory would destroy each other's. */
static cm_status_t claim(cm_dev_servers_t *self, const char *path, bool made, cm_error_t *err)
{
    bool fresh = false;
    int directory = open(self->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return refuse(err, path, strerror(errno));
    cm_status_t status = check_ours(directory, path, made, &fresh, err);
    if (status == CM_OK) {
        self->lock_fd =
            openat(directory, MARK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, (mode_t)0600);
        if (self->lock_fd < 0)
            status = refuse(err, path, strerror(errno));
        else if (flock(self->lock_fd, LOCK_EX | LOCK_NB) != 0)
            status = cm_error_set(err, CM_TRANSIENT, NULL, "%s is in use by another dev", path);
    }
    if (status == CM_OK)
        status = choose_user(self, directory, fresh, err);
    close(directory);
    return status;
}

static cm_status_t make_directory(cm_dev_servers_t *self, const char *keep_directory,
                                  cm_error_t *err)
{
    if (!keep_directory) {
        snprintf(self->directory, sizeof self->directory, "/tmp/cm-dev-XXXXXX");
        if (!mkdtemp(self->directory))
            return cm_error_set(err, CM_UNAVAILABLE, NULL, "/tmp: %s", strerror(errno));
        return claim(self, self->directory, true, err);
    }
    self->keep = true;
    bool made = mkdir(keep_directory, 0700) == 0;
    if (!made && errno != EEXIST)
        return refuse(err, keep_directory, strerror(errno));
    CM_CLEANUP(cm_free) char *real = realpath(keep_directory, NULL);
    if (!real || strlen(real) > DIRECTORY_MAX) {
        if (made)
            rmdir(keep_directory);
        return cm_error_set(err, CM_MISCONFIGURED, "usage",
                            "--keep %s: give a path of at most %d bytes, sockets live in it",
                            keep_directory, DIRECTORY_MAX);
    }
    snprintf(self->directory, sizeof self->directory, "%s", real);
    return claim(self, keep_directory, made, err);
}

static const char *in(const cm_dev_servers_t *self, const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", self->directory, name);
    return path;
}

/* Ask again and again until ready() says yes; the child must stay alive meanwhile. */
static cm_status_t await(pid_t pid, bool (*ready)(const char *uri), const char *uri,
                         const char *what, const char *log, cm_error_t *err)
{
    int64_t deadline_ms = cm_clock_mono_ms() + START_MS;
    while (!ready(uri)) {
        if (!cm_process_alive(pid) || cm_clock_mono_ms() > deadline_ms)
            return cm_error_set(err, CM_UNAVAILABLE, NULL, "%s did not start; see %s", what, log);
        nanosleep(&(struct timespec){0, POLL_MS * 1000000L}, NULL);
    }
    return CM_OK;
}

static bool postgres_ready(const char *uri)
{
    cm_pg_options_t options = {.uri = uri,
                               .application_name = "client-manager dev",
                               .connect_timeout_ms = 1000,
                               .statement_timeout_ms = 1000,
                               .lock_timeout_ms = 1000,
                               .tcp_user_timeout_ms = 1000,
                               .prepared_max = 1};
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_pg_new(&options);
    return cm_pg_connect(pg, NULL, NULL) == CM_OK;
}

static bool redis_ready(const char *uri)
{
    cm_redis_address_t address;
    CM_CLEANUP(cm_redis_free) redisContext *context = NULL;
    if (cm_redis_parse(uri, &address, NULL) != CM_OK ||
        cm_redis_connect(&address, 1000, &context, NULL) != CM_OK)
        return false;
    CM_CLEANUP(cm_redis_free_reply) redisReply *reply = redisCommand(context, "PING");
    return reply && reply->type == REDIS_REPLY_STATUS;
}

static cm_status_t initialise_postgres(const cm_dev_servers_t *self, const char *data,
                                       cm_error_t *err)
{
    char version[160], log[128];
    snprintf(version, sizeof version, "%s/PG_VERSION", data);
    if (access(version, F_OK) == 0)
        return CM_OK;
    const char *argv[] = {
        POSTGRES_BIN "/initdb", "-D",        data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
        "--locale=C.UTF-8",     "--no-sync", NULL};
    cm_process_args_t args = {.argv = argv,
                              .user = self->user,
                              .directory = "/",
                              .output_path = in(self, "initdb.log", log),
                              .stdout_fd = -1};
    cm_status_t status = cm_process_run(&args, START_MS, err);
    if (status == CM_MISCONFIGURED)
        return cm_error_set(err, CM_UNAVAILABLE, MISSING,
                            "PostgreSQL 15 is missing; run: apt-get install postgresql-15");
    return status == CM_OK ? status : cm_error_prefix(err, "initdb, see %s", log);
}

static cm_status_t start_postgres(cm_dev_servers_t *self, cm_error_t *err)
{
    char data[128], log[128], sockets[160];
    int64_t started_ms = cm_clock_mono_ms();
    in(self, "pg", data);
    cm_status_t status = initialise_postgres(self, data, err);
    if (status != CM_OK)
        return status;
    snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", self->directory);
    const char *argv[] = {POSTGRES_BIN "/postgres",
                          "-D",
                          data,
                          "-c",
                          "listen_addresses=",
                          "-c",
                          sockets,
                          "-c",
                          "recovery_init_sync_method=syncfs",
                          "-c",
                          "shared_buffers=256MB",
                          "-c",
                          "max_wal_size=2GB",
                          "-c",
                          "log_min_error_statement=panic",
                          "-c",
                          "log_error_verbosity=terse",
                          "-c",
                          "max_locks_per_transaction=256",
                          NULL};
    cm_process_args_t args = {.argv = argv,
                              .user = self->user,
                              .directory = "/",
                              .output_path = in(self, "postgres.log", log),
                              .stdout_fd = -1};
    status = cm_process_start(&args, &self->postgres, err);
    if (status != CM_OK)
        return cm_error_prefix(err, "postgres");
    snprintf(self->postgres_uri, sizeof self->postgres_uri,
             "postgresql:///postgres?host=%s&user=postgres", self->directory);
    status = await(self->postgres, postgres_ready, self->postgres_uri, "postgres", log, err);
    self->postgres_ms = cm_clock_mono_ms() - started_ms;
    return status;
}

static cm_status_t start_redis(cm_dev_servers_t *self, cm_error_t *err)
{
    char socket[128], log[128];
    int64_t started_ms = cm_clock_mono_ms();
    in(self, "redis.sock", socket);
    const char *argv[] = {"redis-server",
                          "--port",
                          "0",
                          "--unixsocket",
                          socket,
                          "--dir",
                          self->directory,
                          "--appendonly",
                          "yes",
                          "--appendfsync",
                          "everysec",
                          "--save",
                          "",
                          "--maxmemory-policy",
                          "noeviction",
                          NULL};
    cm_process_args_t args = {.argv = argv,
                              .user = self->user,
                              .directory = self->directory,
                              .output_path = in(self, "redis.log", log),
                              .stdout_fd = -1};
    cm_status_t status = cm_process_start(&args, &self->redis, err);
    if (status == CM_MISCONFIGURED)
        return cm_error_set(err, CM_UNAVAILABLE, MISSING,
                            "Redis is missing; run: apt-get install redis-server");
    if (status != CM_OK)
        return cm_error_prefix(err, "redis-server");
    snprintf(self->redis_uri, sizeof self->redis_uri, "unix://%s", socket);
    status = await(self->redis, redis_ready, self->redis_uri, "redis-server", log, err);
    self->redis_ms = cm_clock_mono_ms() - started_ms;
    return status;
}

cm_status_t cm_dev_servers_start(cm_dev_servers_t *self, const char *keep_directory,
                                 const char *external_postgres, const char *external_redis,
                                 cm_error_t *err)
{
    *self = (cm_dev_servers_t){.lock_fd = -1};
    cm_status_t status = make_directory(self, keep_directory, err);
    if (status != CM_OK) { /* not ours: nothing is to be removed or told of it */
        self->directory[0] = '\0';
        return status;
    }
    if (external_postgres)
        snprintf(self->postgres_uri, sizeof self->postgres_uri, "%s", external_postgres);
    else
        status = start_postgres(self, err);
    if (external_redis)
        snprintf(self->redis_uri, sizeof self->redis_uri, "%s", external_redis);
    else if (status == CM_OK)
        status = start_redis(self, err);
    if (status != CM_OK) {
        self->keep |= strcmp(err->code, MISSING) != 0; /* else the logs tell why */
        cm_dev_servers_stop(self);
    }
    return status;
}

void cm_dev_servers_stop(cm_dev_servers_t *self)
{
    if (self->redis)
        cm_process_stop(self->redis, SIGTERM, STOP_MS);
    if (self->postgres)
        cm_process_stop(self->postgres, SIGINT, STOP_MS); /* fast shutdown */
    self->redis = self->postgres = 0;
    if (!self->keep && self->directory[0])
        nftw(self->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (self->lock_fd >= 0)
        close(self->lock_fd);
    self->lock_fd = -1;
}
