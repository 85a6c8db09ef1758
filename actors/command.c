#include "actors/command.h"
#include "proto/json_reader.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/crash.h"
#include "runtime/log.h"

#include <assert.h>
#include <czmq.h>
#include <errno.h>
#include <getopt.h>
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FLAGS_MAX = 32, FIRST_LONG = 256 /* above every letter */ };

typedef struct {
    cm_invocation_t invocation;
    const char *settings[CM_SETTINGS_MAX];
    const char *values[FLAGS_MAX];
    cm_repeat_t repeats[CM_REPEATS_MAX];
    bool help, version;
    cm_config_t *config;
} parse_t;

/* ---- flags ---------------------------------------------------------------------------------- */

static const cm_flag_t *find_flag(const cm_command_t *command, const char *name, size_t *ret_index)
{
    for (size_t i = 0; i < command->flag_count; i++) {
        if (strcmp(command->flags[i].name, name) == 0) {
            *ret_index = i;
            return &command->flags[i];
        }
    }
    return NULL;
}

bool cm_flag_given(const cm_invocation_t *invocation, const char *name)
{
    size_t at = 0;
    return find_flag(invocation->command, name, &at) && invocation->flag_values[at];
}

const char *cm_flag_text(const cm_invocation_t *invocation, const char *name)
{
    size_t at = 0;
    const cm_flag_t *flag = find_flag(invocation->command, name, &at);
    if (!flag)
        return NULL;
    return invocation->flag_values[at] ? invocation->flag_values[at] : flag->fallback;
}

const char *cm_flag_nth(const cm_invocation_t *invocation, const char *name, size_t n)
{
    size_t at = 0;
    if (n == 0)
        return cm_flag_text(invocation, name);
    if (!find_flag(invocation->command, name, &at))
        return NULL;
    for (size_t i = 0; i < invocation->repeat_count; i++) {
        if (invocation->repeats[i].flag == at && --n == 0)
            return invocation->repeats[i].value;
    }
    return NULL;
}

bool cm_flag_i64(const cm_invocation_t *invocation, const char *name, int64_t min, int64_t max,
                 int64_t *ret_value)
{
    const char *text = cm_flag_text(invocation, name);
    if (text && cm_str_to_i64(cm_str(text), ret_value) && *ret_value >= min && *ret_value <= max)
        return true;
    fprintf(stderr, "client-manager %s: --%s is \"%s\"; give a whole number from %lld",
            invocation->command->name, name, text ? text : "", (long long)min);
    if (max < INT64_MAX)
        fprintf(stderr, " to %lld\n", (long long)max);
    else
        fputs(" up\n", stderr);
    return false;
}

/* RFC 3339, or so long ago: 90s, 30m, 12h, 7d. */
static bool parse_time(const char *text, int64_t *ret_ms)
{
    char *end = NULL;
    long long amount = strtoll(text, &end, 10);
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    for (size_t i = 0; end && end != text && *end && !end[1] && i < CM_LENGTH(units); i++) {
        if (*end == units[i].unit && amount >= 0 && amount < 100000) {
            *ret_ms = cm_clock_epoch_ms() - amount * units[i].ms;
            return true;
        }
    }
    cm_json_value_t value = {.type = CM_JSON_STRING, .text = cm_str(text)};
    return cm_json_time(&value, INT64_MAX / 2, ret_ms, NULL) == CM_OK;
}

bool cm_flag_time(const cm_invocation_t *invocation, const char *name, int64_t *ret_ms)
{
    const char *text = cm_flag_text(invocation, name);
    if (!text || parse_time(text, ret_ms))
        return true;
    fprintf(stderr,
            "client-manager %s: --%s is \"%s\"; give 2026-11-20T16:00:00Z, or 30m, 12h, "
            "7d\n",
            invocation->command->name, name, text);
    return false;
}

const char *cm_command_operator(char actor[CM_OPERATOR_MAX])
{
    snprintf(actor, CM_OPERATOR_MAX, "operator:%lu", (unsigned long)getuid());
    return actor;
}

int cm_command_fail(const cm_invocation_t *invocation, const cm_error_t *err)
{
    bool timed_out = strcmp(err->code, "57014") == 0;
    const char *more = strcmp(err->code, "55P03") == 0
                           ? "; somebody else holds a lock, try again later"
                       : timed_out ? "; it took longer than postgres.statement_timeout_ms, or "
                                     "somebody cancelled it"
                                   : "";
    bool usage = strcmp(err->code, CM_CODE_USAGE) == 0, coded = err->code[0] && !usage;
    fprintf(stderr, "client-manager %s: %s%s%s%s%s\n", invocation->command->name, err->message,
            coded ? " (" : "", coded ? err->code : "", coded ? ")" : "", more);
    if (usage)
        return CM_EXIT_USAGE;
    switch (err->status) {
    case CM_MISCONFIGURED:
        return CM_EXIT_CONFIG;
    case CM_UNAVAILABLE:
        return CM_EXIT_UNAVAILABLE;
    case CM_TRANSIENT:
        return timed_out ? CM_EXIT_FAILED : CM_EXIT_TRY_LATER;
    default:
        return CM_EXIT_FAILED;
    }
}

/* ---- parsing -------------------------------------------------------------------------------- */

/* The command whose words argv begins with; the longest wins. *ret_words: how many. */
static const cm_command_t *find_command(int argc, char **argv, int *ret_words)
{
    for (int words = argc < 2 ? argc : 2; words > 0; words--) {
        char name[128];
        snprintf(name, sizeof name, "%s%s%s", argv[0], words > 1 ? " " : "",
                 words > 1 ? argv[1] : "");
        for (size_t i = 0; i < cm_command_count; i++) {
            if (strcmp(cm_commands[i].name, name) == 0) {
                *ret_words = words;
                return &cm_commands[i];
            }
        }
    }
    return NULL;
}

static bool is_group(const char *word)
{
    size_t len = strlen(word);
    for (size_t i = 0; i < cm_command_count; i++)
        if (strncmp(cm_commands[i].name, word, len) == 0 && cm_commands[i].name[len] == ' ')
            return true;
    return false;
}

static void print_version(bool json)
{
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    printf(json ? "{\"version\": \"%s\", \"build\": \"%s\", \"libzmq\": \"%d.%d.%d\", "
                  "\"czmq\": \"%d.%d.%d\", \"libpq\": \"%d.%d\", \"hiredis\": \"%d.%d.%d\"}\n"
                : "client-manager %s (%s)\nlibzmq %d.%d.%d, czmq %d.%d.%d, libpq %d.%d, hiredis "
                  "%d.%d.%d\n",
           CM_VERSION, CM_BUILD, major, minor, patch, CZMQ_VERSION_MAJOR, CZMQ_VERSION_MINOR,
           CZMQ_VERSION_PATCH, PQlibVersion() / 10000, PQlibVersion() % 10000, HIREDIS_MAJOR,
           HIREDIS_MINOR, HIREDIS_PATCH);
}

static bool take_global(parse_t *self, const char *name, const char *value)
{
    cm_invocation_t *invocation = &self->invocation;
    if (strcmp(name, "config") == 0)
        invocation->config_file = value;
    else if (strcmp(name, "yes") == 0)
        invocation->yes = true;
    else if (strcmp(name, "no-color") == 0)
        invocation->color = false;
    else if (strcmp(name, "help") == 0)
        self->help = true;
    else if (strcmp(name, "version") == 0)
        self->version = true;
    else if (strcmp(name, "output") == 0) {
        invocation->json = strcmp(value, "json") == 0;
        if (!invocation->json && strcmp(value, "table") != 0) {
            fprintf(stderr, "client-manager: --output is \"%s\"; give table or json\n", value);
            return false;
        }
    } else if (invocation->setting_count < CM_SETTINGS_MAX) {
        self->settings[invocation->setting_count++] = value;
    } else {
        fprintf(stderr, "client-manager: --set is given more than %d times; use a file\n",
                CM_SETTINGS_MAX);
        return false;
    }
    return true;
}

/* Long and short options of the global flags and the command's, in that order. */
static size_t make_options(const cm_command_t *command, struct option *options, char *letters)
{
    size_t count = 0;
    for (size_t i = 0; i < cm_global_flag_count + command->flag_count; i++) {
        const cm_flag_t *flag = i < cm_global_flag_count
                                    ? &cm_global_flags[i]
                                    : &command->flags[i - cm_global_flag_count];
        options[count++] =
            (struct option){flag->name, flag->argument ? required_argument : no_argument, NULL,
                            FIRST_LONG + (int)i};
        if (!flag->letter)
            continue;
        *letters++ = flag->letter;
        if (flag->argument)
            *letters++ = ':';
    }
    options[count] = (struct option){0};
    *letters = '\0';
    return count;
}

static size_t flag_of_letter(const cm_command_t *command, int letter)
{
    for (size_t i = 0; i < command->flag_count; i++) /* the command's own letters win */
        if (command->flags[i].letter == letter)
            return cm_global_flag_count + i;
    for (size_t i = 0; i < cm_global_flag_count; i++)
        if (cm_global_flags[i].letter == letter)
            return i;
    return SIZE_MAX;
}

/* "client-manager tenant list: "; only the program when there is no command yet. */
static void begin_complaint(const cm_command_t *command)
{
    fprintf(stderr, "client-manager%s%s: ", *command->name ? " " : "", command->name);
}

/* What getopt_long stumbled over; optopt is an option's value, a letter, or 0. */
static void complain(const cm_command_t *command, int found, const char *word)
{
    const char *long_name = NULL;
    if (optopt >= FIRST_LONG) {
        size_t at = (size_t)(optopt - FIRST_LONG);
        long_name = at < cm_global_flag_count ? cm_global_flags[at].name
                                              : command->flags[at - cm_global_flag_count].name;
    }
    begin_complaint(command);
    if (found == ':' && long_name)
        fprintf(stderr, "--%s needs a value; see --help\n", long_name);
    else if (found == ':')
        fprintf(stderr, "-%c needs a value; see --help\n", optopt);
    else if (long_name)
        fprintf(stderr, "--%s takes no value; see --help\n", long_name);
    else if (optopt)
        fprintf(stderr, "there is no flag -%c; see --help\n", optopt);
    else
        fprintf(stderr, "there is no flag %s, or more than one begins so; see --help\n", word);
}

static bool take_own(parse_t *self, const cm_command_t *command, size_t at, const char *value)
{
    const cm_flag_t *flag = &command->flags[at];
    bool repeats = flag->argument && strstr(flag->argument, "...");
    if (!self->values[at]) {
        self->values[at] = value;
        return true;
    }
    if (repeats && self->invocation.repeat_count < CM_REPEATS_MAX) {
        self->repeats[self->invocation.repeat_count++] = (cm_repeat_t){at, value};
        return true;
    }
    begin_complaint(command);
    if (repeats)
        fprintf(stderr, "--%s is given too often; at most %d times\n", flag->name, CM_REPEATS_MAX);
    else
        fprintf(stderr, "--%s is given twice; give it once\n", flag->name);
    return false;
}

/* argv[0] is skipped. in_order: stop at the first word that is no flag. */
static bool parse_flags(parse_t *self, const cm_command_t *command, bool in_order, int argc,
                        char **argv)
{
    struct option options[FLAGS_MAX + 1];
    char letters[2 * FLAGS_MAX + 3] = "+";
    char *first = letters + in_order;
    *first = ':';
    make_options(command, options, first + 1);
    int found;
    optind = 0; /* glibc: start afresh */
    opterr = 0;
    while ((found = getopt_long(argc, argv, letters, options, NULL)) != -1) {
        size_t at =
            found >= FIRST_LONG ? (size_t)(found - FIRST_LONG) : flag_of_letter(command, found);
        if (found == '?' || found == ':' || at == SIZE_MAX) {
            complain(command, found, argv[optind - 1]);
            return false;
        }
        const char *value = optarg ? optarg : "";
        bool taken = at >= cm_global_flag_count
                         ? take_own(self, command, at - cm_global_flag_count, value)
                         : take_global(self, cm_global_flags[at].name, value);
        if (!taken)
            return false;
    }
    self->invocation.args = (const char *const *)argv + optind;
    self->invocation.arg_count = (size_t)(argc - optind);
    return true;
}

static bool check_arguments(const cm_invocation_t *invocation)
{
    const cm_command_t *command = invocation->command;
    int count = (int)invocation->arg_count;
    if (count >= command->min_args && (command->max_args < 0 || count <= command->max_args))
        return true;
    begin_complaint(command);
    if (count < command->min_args)
        fprintf(stderr, "%s is missing", command->arguments);
    else
        fprintf(stderr, "\"%s\" is one argument too many", invocation->args[command->max_args]);
    fprintf(stderr, "; usage: client-manager %s [FLAG...]%s%s\n", command->name,
            *command->arguments ? " " : "", command->arguments);
    return false;
}

/* ---- running -------------------------------------------------------------------------------- */

static const char *environment_value(const char *const *environment, const char *name)
{
    size_t len = strlen(name);
    for (; *environment; environment++)
        if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
            return *environment + len + 1;
    return NULL;
}

const char *cm_command_file(const cm_invocation_t *invocation, const char *usual)
{
    const char *variable = environment_value(invocation->environment, "CM_CONFIG");
    if (invocation->config_file)
        return invocation->config_file;
    if (variable)
        return *variable ? variable : NULL;
    return usual && access(usual, F_OK) == 0 ? usual : NULL;
}

cm_status_t cm_command_load(const cm_invocation_t *invocation, const char *file,
                            const char *const *settings, size_t setting_count,
                            cm_config_t **ret_config)
{
    const char *all[2 * CM_SETTINGS_MAX];
    size_t count = 0;
    assert(setting_count <= CM_SETTINGS_MAX);
    for (size_t i = 0; i < setting_count; i++)
        all[count++] = settings[i];
    for (size_t i = 0; i < invocation->setting_count; i++)
        all[count++] = invocation->settings[i];
    cm_config_sources_t sources = {.file = file,
                                   .environ_ = invocation->environment,
                                   .flags = all,
                                   .flag_count = count,
                                   .aliases = cm_options_aliases,
                                   .alias_count = cm_options_alias_count};
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t faults = {0};
    cm_error_t err = {0};
    cm_status_t status = cm_config_load(ret_config, &cm_options_table, &sources, &faults, &err);
    if (status == CM_OK && (status = cm_options_check(*ret_config, &err)) != CM_OK) {
        cm_config_destroy(ret_config);
        cm_buffer_printf(&faults, "%s\n", err.message);
    }
    fputs(cm_buffer_text(&faults), stderr);
    return status;
}

static int load_config(parse_t *self)
{
    cm_invocation_t *invocation = &self->invocation;
    const char *file = cm_command_file(invocation, CM_CONFIG_FILE);
    if (cm_command_load(invocation, file, NULL, 0, &self->config) != CM_OK)
        return CM_EXIT_CONFIG;
    invocation->config = self->config;
    invocation->options = cm_config_values(self->config);
    cm_log_setup((cm_log_level_t)invocation->options->log.level,
                 (cm_log_format_t)invocation->options->log.format, !invocation->color);
    return CM_EXIT_OK;
}

/* What was written and did not arrive (a full disk) must not look like success. */
static int finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CM_EXIT_OK;
    fprintf(stderr, "client-manager: standard output: %s\n", strerror(errno));
    return CM_EXIT_FAILED;
}

static int arm_crash_point(const cm_invocation_t *invocation)
{
    const char *spec = environment_value(invocation->environment, "CM_CRASH");
    if (!spec)
        return CM_EXIT_OK;
    cm_error_t err = {0};
#ifdef CM_CRASH_POINTS
    if (cm_crash_arm(spec, &err) == CM_OK)
        return CM_EXIT_OK;
#else
    cm_error_set(&err, CM_MISCONFIGURED, NULL,
                 "CM_CRASH is set, but this build has no crash points");
#endif
    fprintf(stderr, "client-manager: %s\n", err.message);
    return CM_EXIT_CONFIG;
}

static int run_command(parse_t *self, const cm_command_t *command, int argc, char **argv)
{
    self->invocation.command = command;
    self->invocation.flag_values = self->values;
    self->invocation.repeats = self->repeats;
    if (!parse_flags(self, command, false, argc, argv))
        return CM_EXIT_USAGE;
    if (self->help) {
        cm_help_command(command);
        return CM_EXIT_OK;
    }
    if (self->version) {
        print_version(self->invocation.json);
        return CM_EXIT_OK;
    }
    if (!check_arguments(&self->invocation))
        return CM_EXIT_USAGE;
    int code = arm_crash_point(&self->invocation);
    if (code == CM_EXIT_OK && command->needs_config)
        code = load_config(self);
    if (code == CM_EXIT_OK)
        code = command->run(&self->invocation);
    cm_config_destroy(&self->config);
    return code == CM_EXIT_OK ? finish_output() : code;
}

static int no_command(int argc, char **argv, int words)
{
    fprintf(stderr, "client-manager: there is no command \"%s%s%s\"; see client-manager --help\n",
            argv[0], words > 1 && argc > 1 ? " " : "", words > 1 && argc > 1 ? argv[1] : "");
    return CM_EXIT_USAGE;
}

/* "help", "help tenant", "help tenant list": what --help behind the words would show. */
static int run_help(int argc, char **argv)
{
    int words = 0;
    const cm_command_t *command = find_command(argc, argv, &words);
    if (argc == 0)
        cm_help_all(stdout);
    else if (command && words == argc)
        cm_help_command(command);
    else if (argc == 1 && is_group(argv[0]))
        cm_help_group(stdout, argv[0]);
    else
        return no_command(argc, argv, 2);
    return CM_EXIT_OK;
}

/* A group without one of its verbs: "tenant", "tenant --help", "tenant lst". */
static int run_group(parse_t *self, int argc, char **argv)
{
    const cm_command_t group = {.name = argv[0]};
    if (!parse_flags(self, &group, true, argc, argv))
        return CM_EXIT_USAGE;
    if (self->version) {
        print_version(self->invocation.json);
        return CM_EXIT_OK;
    }
    if (!self->help && self->invocation.arg_count)
        fprintf(stderr, "client-manager: there is no command \"%s %s\"\n", argv[0],
                self->invocation.args[0]);
    cm_help_group(self->help ? stdout : stderr, argv[0]);
    return self->help ? CM_EXIT_OK : CM_EXIT_USAGE;
}

/* argv: what follows the flags that stand before a command. */
static int run_words(parse_t *self, int argc, char **argv)
{
    int words = 0;
    if (self->version) {
        print_version(self->invocation.json);
        return CM_EXIT_OK;
    }
    if (self->help)
        return run_help(argc, argv);
    if (argc == 0) {
        cm_help_all(stderr);
        return CM_EXIT_USAGE;
    }
    const cm_command_t *command = find_command(argc, argv, &words);
    if (command)
        return run_command(self, command, argc - words + 1, argv + words - 1);
    if (strcmp(argv[0], "help") == 0)
        return run_help(argc - 1, argv + 1);
    return is_group(argv[0]) ? run_group(self, argc, argv) : no_command(argc, argv, 1);
}

int cm_command_main(int argc, char **argv, char **environment)
{
    static const cm_command_t none = {.name = ""};
    char program[4096] = "";
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    const char *const *env = (const char *const *)environment;
    const char *term = environment_value(env, "TERM"), *plain = environment_value(env, "NO_COLOR");
    parse_t self = {0};
    cm_invocation_t *invocation = &self.invocation;
    invocation->program = length > 0 ? program : argv[0];
    invocation->environment = env;
    invocation->settings = self.settings;
    bool dumb = term && strcmp(term, "dumb") == 0;
    invocation->terminal = isatty(STDERR_FILENO) == 1 && !dumb;
    invocation->color = invocation->terminal && !(plain && *plain);
    if (!parse_flags(&self, &none, true, argc, argv))
        return CM_EXIT_USAGE;
    return run_words(&self, (int)invocation->arg_count, argv + optind);
}
