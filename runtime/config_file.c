#include "runtime/cleanup.h"
#include "runtime/config_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { PLACE_MAX = 512 };

/* One document being walked. */
typedef struct {
    cm_config_loader_t *loader;
    const char *name;
    yaml_document_t *document;
    size_t *key_lines,
        *section_lines; /* where set first, by (first) key of the table; 0 = not yet */
} walk_t;

static size_t line_of(const yaml_node_t *node)
{
    return node->start_mark.line + 1;
}

static const char *place(const walk_t *walk, const yaml_node_t *node, char text[PLACE_MAX])
{
    snprintf(text, PLACE_MAX, "%s:%zu", walk->name, line_of(node));
    return text;
}

static cm_str_t scalar(const yaml_node_t *node)
{
    return (cm_str_t){(const char *)node->data.scalar.value, node->data.scalar.length};
}

static const char *kind_name(const yaml_node_t *node)
{
    return node->type == YAML_MAPPING_NODE    ? "a mapping"
           : node->type == YAML_SEQUENCE_NODE ? "a sequence"
                                              : "a single value";
}

/* Nothing, or a plain null. "" in quotes is an empty text. */
static bool is_null(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    cm_str_t text = scalar(node);
    return text.len == 0 || cm_str_is(text, "~") || cm_str_is(text, "null");
}

/* False, and a fault, when the line was taken before. */
static bool take_once(const walk_t *walk, size_t *line, const yaml_node_t *node, cm_str_t what)
{
    char where[PLACE_MAX];
    if (*line == 0) {
        *line = line_of(node);
        return true;
    }
    cm_config_fault(walk->loader, place(walk, node, where),
                    "%.*s is given twice, first in line %zu", CM_STR_ARG(what), *line);
    return false;
}

/* "5,15,45" from a sequence; false when an element is no value. */
static bool join_sequence(const walk_t *walk, const yaml_node_t *node, cm_buffer_t *out)
{
    const yaml_node_item_t *item = node->data.sequence.items.start;
    for (; item < node->data.sequence.items.top; item++) {
        const yaml_node_t *element = yaml_document_get_node(walk->document, *item);
        if (element->type != YAML_SCALAR_NODE || scalar(element).len == 0)
            return false;
        cm_buffer_append(out, ",", item == node->data.sequence.items.start ? 0 : 1);
        cm_buffer_append(out, scalar(element).ptr, scalar(element).len);
    }
    return true;
}

static void apply_value(const walk_t *walk, const cm_config_key_t *key, const yaml_node_t *name,
                        const yaml_node_t *value)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    char where[PLACE_MAX], origin[32];
    place(walk, name, where);
    snprintf(origin, sizeof origin, "file:%zu", line_of(name));
    if (is_null(value)) {
        cm_config_fault(walk->loader, where, "%s has no value; leave the line out for the default",
                        key->path);
    } else if (value->type == YAML_SCALAR_NODE) {
        cm_config_set(walk->loader, key, scalar(value), where, origin);
    } else if (value->type == YAML_SEQUENCE_NODE && key->type == CM_CONFIG_INT_LIST &&
               join_sequence(walk, value, &text)) {
        cm_config_set(walk->loader, key, (cm_str_t){cm_buffer_text(&text), text.len}, where,
                      origin);
    } else {
        cm_buffer_clear(&text); /* a sequence may have left a beginning */
        cm_config_expectation(key, &text);
        cm_config_fault(walk->loader, where, "%s is %s; it must be %s", key->path, kind_name(value),
                        cm_buffer_text(&text));
    }
}

static void apply_key(const walk_t *walk, cm_str_t section, const yaml_node_t *name,
                      const yaml_node_t *value)
{
    const cm_config_table_t *table = &walk->loader->config->table;
    char where[PLACE_MAX];
    place(walk, name, where);
    if (name->type != YAML_SCALAR_NODE) {
        cm_config_fault(walk->loader, where, "%.*s has %s for a key", CM_STR_ARG(section),
                        kind_name(name));
        return;
    }
    cm_str_t path = cm_arena_printf(walk->loader->config->arena, "%.*s.%.*s", CM_STR_ARG(section),
                                    CM_STR_ARG(scalar(name)));
    const cm_config_key_t *key = cm_config_find(table, path);
    if (!key) {
        cm_config_guess_t guess = {.word = path};
        for (size_t i = 0; i < table->count; i++)
            cm_config_guess_offer(&guess, cm_str(table->keys[i].path));
        cm_config_unknown(walk->loader, where, "key", &guess);
    } else if (take_once(walk, &walk->key_lines[key - table->keys], name, path)) {
        apply_value(walk, key, name, value);
    }
}

/* The first key of a section of the table, or NULL. */
static const cm_config_key_t *find_section(const cm_config_table_t *table, cm_str_t section)
{
    for (size_t i = 0; i < table->count; i++)
        if (cm_str_eq(cm_config_section(&table->keys[i]), section))
            return &table->keys[i];
    return NULL;
}

static void apply_section(const walk_t *walk, const yaml_node_t *name, const yaml_node_t *value)
{
    const cm_config_table_t *table = &walk->loader->config->table;
    char where[PLACE_MAX];
    place(walk, name, where);
    if (name->type != YAML_SCALAR_NODE) {
        cm_config_fault(walk->loader, where, "%s stands for the name of a section",
                        kind_name(name));
        return;
    }
    const cm_config_key_t *first = find_section(table, scalar(name));
    if (!first) {
        cm_config_guess_t guess = {.word = scalar(name)};
        for (size_t i = 0; i < table->count; i++)
            cm_config_guess_offer(&guess, cm_config_section(&table->keys[i]));
        cm_config_unknown(walk->loader, where, "section", &guess);
        return;
    }
    if (!take_once(walk, &walk->section_lines[first - table->keys], name, scalar(name)))
        return;
    if (is_null(value)) /* every key of it is commented out */
        return;
    if (value->type != YAML_MAPPING_NODE) {
        cm_config_fault(walk->loader, where, "%.*s is %s; it must be a mapping, a section of keys",
                        CM_STR_ARG(scalar(name)), kind_name(value));
        return;
    }
    const yaml_node_pair_t *pair = value->data.mapping.pairs.start;
    for (; pair < value->data.mapping.pairs.top; pair++)
        apply_key(walk, scalar(name), yaml_document_get_node(walk->document, pair->key),
                  yaml_document_get_node(walk->document, pair->value));
}

static void apply_document(cm_config_loader_t *loader, const char *name, yaml_document_t *document)
{
    const yaml_node_t *root = yaml_document_get_root_node(document);
    if (!root || is_null(root))
        return;
    size_t count = loader->config->table.count;
    CM_CLEANUP(cm_free) size_t *lines = calloc(2 * count + 1, sizeof *lines);
    if (!lines)
        abort();
    walk_t walk = {loader, name, document, lines, lines + count};
    char where[PLACE_MAX];
    if (root->type != YAML_MAPPING_NODE) {
        cm_config_fault(loader, place(&walk, root, where),
                        "the file is %s; it must be a mapping of sections", kind_name(root));
        return;
    }
    const yaml_node_pair_t *pair = root->data.mapping.pairs.start;
    for (; pair < root->data.mapping.pairs.top; pair++)
        apply_section(&walk, yaml_document_get_node(document, pair->key),
                      yaml_document_get_node(document, pair->value));
}

static void syntax_fault(cm_config_loader_t *loader, const char *name, const yaml_parser_t *parser,
                         const char *bytes, size_t len)
{
    if (parser->error == YAML_MEMORY_ERROR)
        abort();
    size_t line = parser->problem_mark.line + 1;
    if (parser->error == YAML_READER_ERROR) { /* knows the byte, not the line */
        line = 1;
        for (size_t i = 0; i < parser->problem_offset && i < len; i++)
            line += bytes[i] == '\n';
    }
    char where[PLACE_MAX];
    snprintf(where, sizeof where, "%s:%zu", name, line);
    cm_config_fault(loader, where, "not YAML: %s%s%s",
                    parser->problem ? parser->problem : "cannot be read",
                    parser->context ? ", " : "", parser->context ? parser->context : "");
}

void cm_config_apply_yaml(cm_config_loader_t *self, const char *name, const char *bytes, size_t len)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        abort();
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, len);
    bool more = true;
    for (int documents = 0; more; documents++) {
        yaml_document_t document;
        if (!yaml_parser_load(&parser, &document)) {
            syntax_fault(self, name, &parser, bytes, len);
            break;
        }
        more = yaml_document_get_root_node(&document) != NULL;
        if (documents == 0)
            apply_document(self, name, &document);
        else if (more) {
            char where[PLACE_MAX];
            snprintf(where, sizeof where, "%s:%zu", name, document.start_mark.line + 1);
            cm_config_fault(self, where, "a second document; one file holds one");
            more = false;
        }
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
}
