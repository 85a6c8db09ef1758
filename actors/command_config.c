#include "actors/command.h"
#include "actors/table.h"
#include "runtime/cleanup.h"

#include <stdio.h>

int cm_command_config_check(const cm_invocation_t *invocation)
{
    const char *file = cm_command_file(invocation, CM_CONFIG_FILE);
    fprintf(stderr,
            "the configuration (%s) is right; \"client-manager doctor\" checks what it leads "
            "to\n",
            file ? file : "no file");
    if (invocation->options->postgres.roles)
        fputs("postgres.roles is on: \"client-manager doctor\" tells whether the database has its "
              "roles\n",
              stderr);
    return CM_EXIT_OK;
}

int cm_command_config_show(const cm_invocation_t *invocation)
{
    static const cm_column_t columns[] = {
        {"key", false}, {"value", false}, {"origin", false}, {"help", false}};
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    for (size_t i = 0; i < cm_options_table.count; i++) {
        const cm_config_key_t *key = &cm_options_table.keys[i];
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t value = {0};
        cm_config_value_text(invocation->config, key, &value);
        cm_table_cell(&table, key->path);
        cm_table_cell(&table, cm_buffer_text(&value));
        cm_table_cell(&table, cm_config_origin(invocation->config, key->path));
        cm_table_cell(&table, key->help);
    }
    cm_table_end(&table);
    return CM_EXIT_OK;
}
