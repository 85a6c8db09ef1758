#include "actors/command.h"
#include "actors/wiring.h"
#include "runtime/cleanup.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 78 };

static void wrap(const char *text, int indent)
{
    int column = 0;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column && column + 1 + (int)word > WIDTH - indent) {
            putchar('\n');
            column = 0;
        }
        printf("%*s%.*s", column ? 1 : indent, "", (int)word, text);
        column += (column ? 1 : 0) + (int)word;
        text += word + strspn(text + word, " ");
    }
    putchar('\n');
}

static void print_flag(FILE *out, const cm_flag_t *flag)
{
    char left[64], letter[8] = "    ";
    if (flag->letter)
        snprintf(letter, sizeof letter, "-%c, ", flag->letter);
    snprintf(left, sizeof left, "%s--%s%s%s", letter, flag->name, flag->argument ? " " : "",
             flag->argument ? flag->argument : "");
    fprintf(out, "  %-26s %s", left, flag->help);
    if (flag->fallback)
        fprintf(out, " [%s]", flag->fallback);
    fputc('\n', out);
}

static void print_flags(FILE *out, const char *title, const cm_flag_t *flags, size_t count)
{
    if (count)
        fprintf(out, "\n%s:\n", title);
    for (size_t i = 0; i < count; i++)
        print_flag(out, &flags[i]);
}

static bool in_group(const cm_command_t *command, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(command->name, prefix, len) == 0 && command->name[len] == ' ';
}

void cm_help_all(FILE *out)
{
    fputs("client-manager - device data of many tenants, from a message broker into PostgreSQL\n\n"
          "usage: client-manager COMMAND [FLAG...] [ARGUMENT...]\n\n",
          out);
    for (size_t i = 0; i < cm_command_count; i++)
        fprintf(out, "  %-20s %s\n", cm_commands[i].name, cm_commands[i].help);
    print_flags(out, "Flags of every command", cm_global_flags, cm_global_flag_count);
    fputs("\nEvery configuration key is also an environment variable: postgres.uri is "
          "CM_POSTGRES_URI.\n\"client-manager COMMAND --help\" tells more of a command. "
          "Try: client-manager dev\n",
          out);
}

void cm_help_group(FILE *out, const char *prefix)
{
    fprintf(out, "usage: client-manager %s COMMAND [FLAG...] [ARGUMENT...]\n\n", prefix);
    for (size_t i = 0; i < cm_command_count; i++)
        if (in_group(&cm_commands[i], prefix))
            fprintf(out, "  %-20s %s\n", cm_commands[i].name, cm_commands[i].help);
    fprintf(out, "\n\"client-manager %s COMMAND --help\" tells more.\n", prefix);
}

void cm_help_command(const cm_command_t *command)
{
    printf("usage: client-manager %s [FLAG...]%s%s\n\n", command->name,
           *command->arguments ? " " : "", command->arguments);
    printf("%c%s.\n", toupper((unsigned char)command->help[0]), command->help + 1);
    if (command->details) {
        putchar('\n');
        wrap(command->details, 0);
    }
    print_flags(stdout, "Flags", command->flags, command->flag_count);
    print_flags(stdout, "Flags of every command", cm_global_flags, cm_global_flag_count);
}

/* ---- the manual page ------------------------------------------------------------------------ */

/* Text for roff: a leading dot or quote would be a request, a hyphen would be set as one. */
static void roff_text(const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", stdout);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
    }
}

static void roff_sentence(const char *text)
{
    char first[2] = {(char)toupper((unsigned char)*text), '\0'};
    roff_text(first);
    roff_text(text + 1);
    puts(".");
}

/* One sentence a line, as roff sets the space behind it. */
static void roff_paragraph(const char *text)
{
    while (*text) {
        const char *stop = strstr(text, ". ");
        char line[512];
        size_t len = stop ? (size_t)(stop - text) + 1 : strlen(text);
        snprintf(line, sizeof line, "%.*s", (int)len, text);
        roff_text(line);
        putchar('\n');
        text += len + (stop != NULL);
    }
}

static void roff_default(const char *value)
{
    fputs("Default: ", stdout);
    roff_text(value);
    puts(".");
}

static void roff_flags(const cm_flag_t *flags, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fputs(".TP\n", stdout);
        if (flags[i].letter)
            printf("\\fB\\-%c\\fR, ", flags[i].letter);
        fputs("\\fB\\-\\-", stdout);
        roff_text(flags[i].name);
        fputs("\\fR", stdout);
        if (flags[i].argument)
            printf(" \\fI%s\\fR", flags[i].argument);
        putchar('\n');
        roff_sentence(flags[i].help);
        if (flags[i].fallback)
            roff_default(flags[i].fallback);
    }
}

static void roff_keys(void)
{
    puts(".SH CONFIGURATION\nA flag wins over the environment, the environment over the file, the "
         "file over the default.\nThe environment variable of a key is CM_ and its path in "
         "capitals, "
         "joined by _;\nwith _FILE appended the value is read from the file it names.");
    for (size_t i = 0; i < cm_options_table.count; i++) {
        const cm_config_key_t *key = &cm_options_table.keys[i];
        printf(".TP\n\\fB%s\\fR\n", key->path);
        roff_sentence(key->help);
        roff_default(key->fallback && *key->fallback ? key->fallback : "none");
    }
}

static void roff_exit_codes(void)
{
    static const char *const codes[][2] = {{"0", "done"},
                                           {"1", "failed"},
                                           {"2", "wrong usage"},
                                           {"3", "partly done: some tenants or messages failed, "
                                                 "and are listed"},
                                           {"69", "a service it needs cannot be reached"},
                                           {"75", "try later: somebody else holds the lock"},
                                           {"78", "the configuration is wrong"},
                                           {"128+n", "ended by signal n"}};
    puts(".SH EXIT STATUS");
    for (size_t i = 0; i < CM_LENGTH(codes); i++) {
        printf(".TP\n.B %s\n", codes[i][0]);
        roff_sentence(codes[i][1]);
    }
}

void cm_help_man(void)
{
    printf(".TH CLIENT\\-MANAGER 1 \"\" \"client\\-manager %s\" \"User Commands\"\n", CM_VERSION);
    puts(".SH NAME\nclient\\-manager \\- device data of many tenants, from a message broker into "
         "PostgreSQL\n.SH SYNOPSIS\n\\fBclient\\-manager\\fR \\fICOMMAND\\fR [\\fIFLAG\\fR...] "
         "[\\fIARGUMENT\\fR...]\n.SH DESCRIPTION\nTakes device registrations, updates and removals "
         "off a message broker and keeps each\ntenant's devices in a PostgreSQL schema of its own."
         "\nData goes to standard output, talk and progress to standard error.\n.SH COMMANDS");
    for (size_t i = 0; i < cm_command_count; i++) {
        const cm_command_t *command = &cm_commands[i];
        printf(".SS \"");
        roff_text(command->name);
        printf("%s%s\"\n", *command->arguments ? " " : "", command->arguments);
        roff_sentence(command->help);
        if (command->details)
            roff_paragraph(command->details);
        roff_flags(command->flags, command->flag_count);
    }
    puts(".SH FLAGS OF EVERY COMMAND");
    roff_flags(cm_global_flags, cm_global_flag_count);
    roff_keys();
    roff_exit_codes();
    puts(".SH ENVIRONMENT\n.TP\n.B CM_CONFIG\nThe configuration file when there is no "
         "\\fB\\-\\-config\\fR; empty for none.\n.TP\n.B NO_COLOR\nNo colours when it is set and "
         "not empty.\n.SH FILES\n.TP\n.I " CM_CONFIG_FILE "\nThe configuration, when it exists and "
         "no other is named.");
}

/* ---- completion ----------------------------------------------------------------------------- */

static void completion_flags(const cm_flag_t *flags, size_t count, bool with_value)
{
    for (size_t i = 0; i < count; i++) {
        if (with_value && !flags[i].argument)
            continue;
        printf("--%s ", flags[i].name);
        if (with_value && flags[i].letter)
            printf("-%c ", flags[i].letter);
    }
}

/* What may follow a command: its flags, those of every command, and names known here. */
static void completion_case(const cm_command_t *command)
{
    printf("    \"%s\")\n      words=\"", command->name);
    completion_flags(command->flags, command->flag_count, false);
    completion_flags(cm_global_flags, cm_global_flag_count, false);
    if (strcmp(command->name, "run") == 0)
        for (size_t i = 0; i < cm_wiring_count; i++)
            printf("%s ", cm_wiring[i].subworker);
    printf("\"\n      valued=\" ");
    completion_flags(command->flags, command->flag_count, true);
    completion_flags(cm_global_flags, cm_global_flag_count, true);
    puts("\" ;;");
}

/* "tenant" for "tenant list", each group once; 0 when this row brings none. */
static int new_group(size_t i)
{
    const char *name = cm_commands[i].name, *space = strchr(name, ' ');
    int len = space ? (int)(space - name) : 0;
    bool told = i > 0 && strncmp(cm_commands[i - 1].name, name, (size_t)len + 1) == 0;
    return told ? 0 : len;
}

/* Words behind "tenant", or, when group is "", the first words. */
static void completion_words(const char *group, int len)
{
    printf("    \"%.*s\") words=\"", len, group);
    for (size_t i = 0; i < cm_command_count; i++) {
        const char *name = cm_commands[i].name;
        int first = new_group(i);
        if (len && strncmp(name, group, (size_t)len) == 0 && name[len] == ' ')
            printf("%s ", name + len + 1);
        else if (!len && (first || !strchr(name, ' ')))
            printf("%.*s ", first ? first : (int)strlen(name), name);
    }
    puts("--help --version\" ;;");
}

void cm_help_completion(void)
{
    puts("# bash completion of client-manager\n"
         "_client_manager() {\n"
         "  local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
         "  local words=\"\" valued=\"\" command=\"\"\n"
         "  [ \"$COMP_CWORD\" -gt 1 ] && command=\"${COMP_WORDS[1]}\"\n"
         "  case \"$command\" in");
    for (size_t i = 0; i < cm_command_count; i++) {
        int len = new_group(i);
        if (len)
            printf("    %.*s) [ \"$COMP_CWORD\" -gt 2 ] && command=\"$command ${COMP_WORDS[2]}\" "
                   ";;\n",
                   len, cm_commands[i].name);
    }
    puts("  esac\n  case \"$command\" in");
    completion_words("", 0);
    for (size_t i = 0; i < cm_command_count; i++)
        if (new_group(i))
            completion_words(cm_commands[i].name, new_group(i));
    for (size_t i = 0; i < cm_command_count; i++)
        completion_case(&cm_commands[i]);
    puts("  esac\n"
         "  case \"$prev\" in\n"
         "    --output|-o) words=\"table json\" valued=\"\" ;;\n"
         "    --state) words=\"activating active suspended deleting deleted\" valued=\"\" ;;\n"
         "  esac\n"
         "  COMPREPLY=()\n"
         "  [[ \"$valued\" == *\" $prev \"* ]] && return # a value: let bash offer files\n"
         "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
         "}\n"
         "complete -o default -F _client_manager client-manager");
}

int cm_command_help_man(const cm_invocation_t *invocation)
{
    (void)invocation;
    cm_help_man();
    return CM_EXIT_OK;
}

int cm_command_help_completion(const cm_invocation_t *invocation)
{
    (void)invocation;
    cm_help_completion();
    return CM_EXIT_OK;
}
