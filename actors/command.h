/* command - the command line: one table, from which parsing, help, man page and completion follow.
 *
 * A command is a row in commands.c and a function int run(const cm_invocation_t *). Data goes to
 * stdout, talk and progress to stderr. Exit codes: see the enum; a signal gives 128 + n.
 * Rule: DESIGN section 10.
 */
#ifndef CM_ACTORS_COMMAND_H
#define CM_ACTORS_COMMAND_H
#include "actors/options.h"
#include "schema/audit_chain.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CM_CONFIG_FILE "/etc/client-manager/client-manager.yaml" /* read when no other is named */
#define CM_CODE_USAGE  "usage" /* code of an error that means CM_EXIT_USAGE */
enum {
    CM_SETTINGS_MAX = 64, /* --set on one command line */
    CM_REPEATS_MAX = 64   /* further values of flags that repeat */
};

typedef enum {
    CM_EXIT_OK = 0,
    CM_EXIT_FAILED = 1,
    CM_EXIT_USAGE = 2,
    CM_EXIT_PARTIAL = 3,      /* some tenants or messages failed */
    CM_EXIT_UNAVAILABLE = 69, /* a dependency is away */
    CM_EXIT_TRY_LATER = 75,   /* a lock is held */
    CM_EXIT_CONFIG = 78       /* the configuration is wrong */
} cm_exit_t;

typedef struct {
    const char *name;     /* long name without dashes: "dry-run" */
    char letter;          /* 0 = none */
    const char *argument; /* "N"; NULL: a switch; "N...": may be given again, cm_flag_nth() */
    const char *fallback; /* shown in help and used when absent; NULL = none */
    const char *help;
} cm_flag_t;

typedef struct cm_invocation cm_invocation_t;

typedef struct {
    size_t flag; /* index in the command's flags */
    const char *value;
} cm_repeat_t;

typedef struct {
    const char *name;       /* words: "tenant list" */
    const char *arguments;  /* "ID...", "" for none; for help only */
    int min_args, max_args; /* max -1: any number */
    const char *help;       /* one line, lower case, no full stop */
    const char *details;    /* paragraphs for --help and the man page; may be NULL */
    const cm_flag_t *flags;
    size_t flag_count;
    bool needs_config; /* load and check the configuration first */
    int (*run)(const cm_invocation_t *invocation);
} cm_command_t;

extern const cm_command_t cm_commands[];
extern const size_t cm_command_count;
extern const cm_flag_t cm_global_flags[]; /* config, set, output, no-color, yes, help, version */
extern const size_t cm_global_flag_count;

struct cm_invocation {
    const cm_command_t *command;
    const char *const *args; /* positional */
    size_t arg_count;
    const char *const *flag_values; /* parallel to command->flags; NULL = not given */
    const cm_repeat_t *repeats;     /* further values, in order, of flags that repeat */
    size_t repeat_count;
    const char *program;         /* path to start ourselves again */
    const char *config_file;     /* --config, or NULL; see cm_command_file() */
    const char *const *settings; /* --set path=value */
    size_t setting_count;
    const char *const *environment; /* NULL-terminated */
    const cm_config_t *config;      /* NULL unless needs_config */
    const cm_options_t *options;    /* NULL unless needs_config */
    bool json;                      /* --output json */
    bool yes;                       /* --yes */
    bool color, terminal;           /* of stderr; neither when TERM is dumb */
};

/* Parse argv, load the configuration and run the command; returns the exit code. environment: given
 * by main, the only place that reads it. */
int cm_command_main(int argc, char **argv, char **environment);

/* Value of a flag of the command (its fallback when not given; NULL when it has none). */
const char *cm_flag_text(const cm_invocation_t *invocation, const char *name);
/* The n-th value, from 0, of a flag that repeats; NULL behind the last. */
const char *cm_flag_nth(const cm_invocation_t *invocation, const char *name, size_t n);
bool cm_flag_given(const cm_invocation_t *invocation, const char *name);
/* As integer within min..max. False: told on stderr with flag, value and what would be right; exit
 * with CM_EXIT_USAGE. */
bool cm_flag_i64(const cm_invocation_t *invocation, const char *name, int64_t min, int64_t max,
                 int64_t *ret_value);
/* As epoch milliseconds, from RFC 3339 or so long ago (90s, 30m, 12h, 7d); when the flag is not
 * given, *ret_ms stays. False: told on stderr, exit with CM_EXIT_USAGE. */
bool cm_flag_time(const cm_invocation_t *invocation, const char *name, int64_t *ret_ms);
/* The configuration file: --config, else CM_CONFIG (empty: none), else `usual` when it exists, else
 * NULL. */
const char *cm_command_file(const cm_invocation_t *invocation, const char *usual);
/* Load file, environment, settings ("key=value", at most CM_SETTINGS_MAX) and --set, which wins,
 * and check all of it. CM_MISCONFIGURED: every fault is told on stderr. */
cm_status_t cm_command_load(const cm_invocation_t *invocation, const char *file,
                            const char *const *settings, size_t setting_count,
                            cm_config_t **ret_config);
/* Who gave the command, for the audit log: "operator:" and the user's number, which tells people of
 * one machine apart and names none. */
enum { CM_OPERATOR_MAX = 24 };
const char *cm_command_operator(char actor[CM_OPERATOR_MAX]);
/* Print "client-manager COMMAND: message" on stderr; returns the exit code that fits the status. */
int cm_command_fail(const cm_invocation_t *invocation, const cm_error_t *err);

/* Connections of commands (command_admin.c); application_name outlives them. *ret_pg is the
 * caller's even on failure. While postgres.roles is on they work as the role that command_admin.c
 * names for the command, else as ddl, and nothing but `database prepare` migrates. read: the admin
 * schema must be there as of version `needed` (schema/migration.h) and is not touched: an
 * operator's look must not migrate it under older instances. write: it is made or brought to the
 * newest version first, and no statement times out, as with cm_command_pg(). */
cm_pg_options_t cm_command_pg(const cm_invocation_t *invocation, const char *application_name);
cm_status_t cm_command_admin_read(const cm_invocation_t *invocation, const char *application_name,
                                  int needed, cm_pg_t **ret_pg, cm_error_t *err);
cm_status_t cm_command_admin_write(const cm_invocation_t *invocation, const char *application_name,
                                   cm_pg_t **ret_pg, cm_error_t *err);

/* The admin schema must be as a connection with a role finds it, since that does not migrate it:
 * there and of the newest version. CM_MISCONFIGURED naming `database prepare`. */
cm_status_t cm_command_admin_check_newest(cm_pg_t *pg, const char *admin_schema, cm_error_t *err);

/* Tell the end of the audit log on stderr: an anchor outside the database (schema/audit_log.h).
 * Nothing for a head at position 0. */
void cm_command_tell_head(const cm_audit_head_t *head);

/* Help texts from the table (command_help.c). */
void cm_help_all(FILE *out);
void cm_help_group(FILE *out, const char *prefix); /* "tenant": its verbs */
void cm_help_command(const cm_command_t *command);
void cm_help_man(void);        /* roff, client-manager(1) */
void cm_help_completion(void); /* bash */

/* ---- the commands, one file per noun -------------------------------------------------------- */

int cm_command_run(const cm_invocation_t *invocation);
int cm_command_tenant_list(const cm_invocation_t *invocation);
int cm_command_tenant_show(const cm_invocation_t *invocation);
int cm_command_tenant_activate(const cm_invocation_t *invocation);
int cm_command_tenant_migrate(const cm_invocation_t *invocation);
int cm_command_tenant_status(const cm_invocation_t *invocation);
int cm_command_tenant_suspend(const cm_invocation_t *invocation);
int cm_command_tenant_resume(const cm_invocation_t *invocation);
int cm_command_tenant_hold(const cm_invocation_t *invocation);
int cm_command_tenant_release(const cm_invocation_t *invocation);
int cm_command_tenant_delete(const cm_invocation_t *invocation);
int cm_command_tenant_certificate(const cm_invocation_t *invocation);
int cm_command_dead_letters_list(const cm_invocation_t *invocation);
int cm_command_dead_letters_show(const cm_invocation_t *invocation);
int cm_command_dead_letters_replay(const cm_invocation_t *invocation);
int cm_command_dead_letters_purge(const cm_invocation_t *invocation);
int cm_command_audit_list(const cm_invocation_t *invocation);
int cm_command_audit_verify(const cm_invocation_t *invocation);
int cm_command_audit_export(const cm_invocation_t *invocation);
int cm_command_erasure_status(const cm_invocation_t *invocation);
int cm_command_erasure_sweep(const cm_invocation_t *invocation);
int cm_command_job_list(const cm_invocation_t *invocation);
int cm_command_job_run(const cm_invocation_t *invocation);
int cm_command_job_named(const cm_invocation_t *invocation);
int cm_command_job_history(const cm_invocation_t *invocation);
int cm_command_job_show(const cm_invocation_t *invocation);
int cm_command_job_cancel(const cm_invocation_t *invocation);
int cm_command_job_pause(const cm_invocation_t *invocation);
int cm_command_job_resume(const cm_invocation_t *invocation);
int cm_command_push_token_brake(const cm_invocation_t *invocation);
int cm_command_publish(const cm_invocation_t *invocation);
int cm_command_config_check(const cm_invocation_t *invocation);
int cm_command_config_show(const cm_invocation_t *invocation);
int cm_command_broker_check(const cm_invocation_t *invocation);
int cm_command_broker_create(const cm_invocation_t *invocation);
int cm_command_database_prepare(const cm_invocation_t *invocation);
int cm_command_doctor(const cm_invocation_t *invocation);
int cm_command_dev(const cm_invocation_t *invocation);
int cm_command_help_man(const cm_invocation_t *invocation);
int cm_command_help_completion(const cm_invocation_t *invocation);
#endif
