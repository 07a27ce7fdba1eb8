/* Reads a YAML file into a struct by its option table, and collects every mistake. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "api/conf/table.h"
#include "api/conf/yaml.h"
#include "crypto/encode.h"

/* Where something was given: an option, a section ("schedule"), or a list element ("rules[]"). */
struct note {
    const void *base;
    char *path;
    unsigned line;
};
struct pfx_conf_reader {
    const char *file;
    struct pfx_buf *report;
    struct pfx_error *err;
    size_t mistakes;
    struct note *notes;
    size_t n_notes;
    const struct pfx_option_table *table;
    yaml_document_t doc;
};

struct pfx_conf_reader *pfx_reader_new(const char *path, struct pfx_buf *report,
                                       struct pfx_error *err)
{
    struct pfx_conf_reader *reader = pfx_alloc(sizeof(*reader));
    reader->file = path;
    reader->report = report;
    reader->err = err;
    return reader;
}

void pfx_reader_free(struct pfx_conf_reader *reader)
{
    for (size_t i = 0; i < reader->n_notes; i++)
        free(reader->notes[i].path);
    free(reader->notes);
    free(reader);
}

size_t pfx_reader_mistakes(const struct pfx_conf_reader *reader)
{
    return reader->mistakes;
}

void pfx_reader_mistake(struct pfx_conf_reader *reader, unsigned line, const char *option,
                        const char *fmt, ...)
{
    char *text = NULL, where[160];
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&text, fmt, args) < 0)
        abort();
    va_end(args);
    reader->mistakes++;
    if (reader->report)
        pfx_buf_addf(reader->report, "%s:%u: %s%s%s\n", reader->file, line, option,
                     *option ? ": " : "", text);
    /* Of a long path its end says more than its start. */
    size_t len = strlen(reader->file), most = sizeof(where) - 16;
    const char *file = len > most ? reader->file + len - most : reader->file;
    while (len > most && ((unsigned char)*file & 0xC0) == 0x80)
        file++; /* not from the middle of a character */
    snprintf(where, sizeof(where), "%s%s:%u", len > most ? "..." : "", file, line);
    pfx_result r = pfx_fail(reader->err, PFX_CLASS_USAGE, "config", where, option, "%s", text);
    (void)r; /* counted above */
    free(text);
}

void pfx_reader_note(struct pfx_conf_reader *reader, const void *base, const char *path,
                     unsigned line)
{
    reader->notes = pfx_grow(reader->notes, reader->n_notes + 1, sizeof(*reader->notes));
    reader->notes[reader->n_notes++] = (struct note){base, pfx_strdup(path), line};
}

unsigned pfx_reader_line(const struct pfx_conf_reader *reader, const void *base, const char *path)
{
    for (size_t i = 0; i < reader->n_notes; i++)
        if (reader->notes[i].base == base && strcmp(reader->notes[i].path, path) == 0)
            return reader->notes[i].line;
    return 0;
}

/* Line of the innermost section around an option that wasn't given. */
static unsigned section_line(const struct pfx_conf_reader *reader, const void *base,
                             const char *path)
{
    size_t longest = 0;
    unsigned line = 1;
    for (size_t i = 0; i < reader->n_notes; i++) {
        const struct note *note = &reader->notes[i];
        size_t len = strlen(note->path);
        if (note->base == base && len > longest && strncmp(path, note->path, len) == 0 &&
            path[len] == '.') {
            longest = len;
            line = note->line;
        }
    }
    return line;
}

/* Is the row's field in the struct whose paths begin with prefix ("" or "rules[].")? */
static bool in_scope(const struct pfx_option *row, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(row->path, prefix, len) == 0 && !strstr(row->path + len, "[].");
}

static void *field_of(const struct pfx_option *row, void *base)
{
    return (char *)base + row->offset;
}

/* Levenshtein's distance; names are short. */
static size_t distance(const char *a, const char *b)
{
    size_t row[64], len = strlen(b);
    if (len >= 64 || strlen(a) >= 64)
        return 64;
    for (size_t j = 0; j <= len; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[len];
}

/* A key may be of any length: the message is cut. */
static char *shown_path(const char *prefix, const char *key)
{
    return pfx_asprintf("%s%.*s", prefix, (int)pfx_utf8_cut(key, 64), key);
}

/* What was probably meant: a name like it in the same section, or the same name in another. */
static void unknown_key(struct pfx_conf_reader *reader, const char *prefix, const char *key,
                        unsigned line)
{
    char *path PFX_AUTOFREE = shown_path(prefix, key);
    char *meant PFX_AUTOFREE = NULL;
    size_t len = strlen(prefix), nearest = strlen(key) / 3 + 2;
    for (size_t i = 0; i < reader->table->n_rows; i++) {
        const char *known = reader->table->rows[i].path;
        const char *leaf = strrchr(known, '.');
        size_t d = 64;
        size_t part = 0;
        if (strncmp(known, prefix, len) == 0) {
            part = strcspn(known + len, ".[");
            char *name PFX_AUTOFREE = pfx_strndup(known + len, part);
            d = distance(key, name);
        }
        if (strcmp(leaf ? leaf + 1 : known, key) == 0 && d > 1) {
            d = 1;
            part = strlen(known) - len;
            free(meant);
            meant = pfx_strdup(known);
            nearest = d;
        } else if (d < nearest) {
            nearest = d;
            free(meant);
            meant = pfx_strndup(known, len + part);
        }
    }
    if (strcmp(key, "<<") == 0)
        pfx_reader_mistake(reader, line, path,
                           "merge keys aren't taken; expected each option written out");
    else if (strpbrk(key, ".[]"))
        pfx_reader_mistake(reader, line, path,
                           "no such option; expected sections written as nested maps");
    else if (meant)
        pfx_reader_mistake(reader, line, path, "no such option; did you mean %s?", meant);
    else
        pfx_reader_mistake(reader, line, path,
                           "no such option; \"pfx-agent config example\" shows all");
}

static void wrong_value(struct pfx_conf_reader *reader, const struct pfx_option *row,
                        unsigned line, const char *text, const char *why)
{
    struct pfx_buf expects PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(2048);
    pfx_option_expects(row, &expects);
    /* A URI or URL may hold what should never have been written there; so may what was meant to be
     * the name of a file with a PIN. */
    bool show = text && row->type != PFX_O_TOKEN && row->type != PFX_O_PROXY &&
                row->type != PFX_O_URL && row->type != PFX_O_PIN_FILE && strlen(text) <= 64 &&
                pfx_utf8_valid(text, strlen(text));
    pfx_reader_mistake(reader, line, row->path, "%s%s%s%s%s; expected %s", show ? "\"" : "",
                       show ? text : "", show ? "\" isn't right" : why ? "" : "it isn't right",
                       show && why ? ": " : "", why ? why : "", pfx_buf_str(&expects));
}

static void read_map(struct pfx_conf_reader *reader, const yaml_node_t *map, const char *prefix,
                     void *base);

static void read_set(struct pfx_conf_reader *reader, const struct pfx_option *row,
                     const yaml_node_t *node, bool *field)
{
    if (node->type != YAML_SEQUENCE_NODE ||
        node->data.sequence.items.start == node->data.sequence.items.top) {
        wrong_value(reader, row, pfx_yaml_line(node), NULL, "it isn't a list with entries");
        return;
    }
    for (yaml_node_item_t *i = node->data.sequence.items.start;
         i < node->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(&reader->doc, *i);
        const char *text = pfx_yaml_text(item, NULL);
        if (!text || !pfx_option_parse_member(row, text, field))
            wrong_value(reader, row, pfx_yaml_line(item), text, text ? NULL : "it isn't a word");
    }
}

static void finish_scope(struct pfx_conf_reader *reader, const char *prefix, void *base);

static void read_list(struct pfx_conf_reader *reader, const struct pfx_option *row,
                      const yaml_node_t *node, void *base)
{
    size_t n = 0;
    if (node->type == YAML_SEQUENCE_NODE)
        n = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    if (node->type != YAML_SEQUENCE_NODE || (int64_t)n < row->min || (int64_t)n > row->max) {
        wrong_value(reader, row, pfx_yaml_line(node), NULL,
                    node->type == YAML_SEQUENCE_NODE ? "it has too few or too many entries"
                                                     : "it isn't a list");
        return;
    }
    char *elements = pfx_alloc_array(n, row->size);
    *(char **)field_of(row, base) = elements;
    *(size_t *)(void *)((char *)base + row->count_offset) = n;
    char *whole PFX_AUTOFREE = pfx_asprintf("%s[]", row->path);
    char *prefix PFX_AUTOFREE = pfx_asprintf("%s[].", row->path);
    for (size_t i = 0; i < n; i++) {
        const yaml_node_t *item =
            yaml_document_get_node(&reader->doc, node->data.sequence.items.start[i]);
        void *element = elements + i * row->size;
        pfx_reader_note(reader, element, whole, pfx_yaml_line(item));
        if (item->type != YAML_MAPPING_NODE) {
            pfx_reader_mistake(reader, pfx_yaml_line(item), whole,
                               "an entry that isn't a map; expected options as \"name: value\"");
            continue;
        }
        read_map(reader, item, prefix, element);
        finish_scope(reader, prefix, element);
    }
}

static void read_option(struct pfx_conf_reader *reader, const struct pfx_option *row,
                        const yaml_node_t *node, void *base)
{
    unsigned line = pfx_yaml_line(node);
    bool plain = false;
    const char *why = NULL, *text;
    if (row->type == PFX_O_NEVER) {
        pfx_reader_mistake(reader, line, row->path, "it isn't taken: %s", row->help);
    } else if (pfx_yaml_is_null(node)) {
        wrong_value(reader, row, line, NULL,
                    row->required ? "it has no value"
                                  : "it has no value (leave the line out for the default)");
    } else if (row->type == PFX_O_LIST) {
        read_list(reader, row, node, base);
    } else if (row->type == PFX_O_SET) {
        read_set(reader, row, node, field_of(row, base));
    } else if (node->type != YAML_SCALAR_NODE) {
        wrong_value(reader, row, line, NULL, "it isn't a single value");
    } else if ((text = pfx_yaml_text(node, &plain)) == NULL) {
        wrong_value(reader, row, line, NULL, "it holds a control character or line feed");
    } else if (!pfx_option_parse(row, text, plain, field_of(row, base), &why)) {
        wrong_value(reader, row, line, text, why);
    }
}

static bool is_section(const struct pfx_conf_reader *reader, const char *path)
{
    size_t len = strlen(path);
    for (size_t i = 0; i < reader->table->n_rows; i++)
        if (strncmp(reader->table->rows[i].path, path, len) == 0 &&
            reader->table->rows[i].path[len] == '.')
            return true;
    return false;
}

static void read_pair(struct pfx_conf_reader *reader, const char *prefix, const char *key,
                      const yaml_node_t *key_node, const yaml_node_t *node, void *base)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s%s", prefix, key);
    bool nested = !strpbrk(key, ".[]");
    for (size_t i = 0; nested && i < reader->table->n_rows; i++) {
        const struct pfx_option *row = &reader->table->rows[i];
        if (strcmp(row->path, path) == 0) {
            /* The line of the key: a list or a folded value may begin below it. */
            pfx_reader_note(reader, base, path, pfx_yaml_line(key_node));
            read_option(reader, row, node, base);
            return;
        }
    }
    if (!nested || !is_section(reader, path)) {
        unknown_key(reader, prefix, key, pfx_yaml_line(key_node));
        return;
    }
    pfx_reader_note(reader, base, path, pfx_yaml_line(key_node));
    if (node->type == YAML_MAPPING_NODE) {
        char *inner PFX_AUTOFREE = pfx_asprintf("%s.", path);
        read_map(reader, node, inner, base);
    } else if (!pfx_yaml_is_null(node)) { /* all its options commented out is fine */
        pfx_reader_mistake(reader, pfx_yaml_line(node), path,
                           "it is a section; expected options below it, indented");
    }
}

static void read_map(struct pfx_conf_reader *reader, const yaml_node_t *map, const char *prefix,
                     void *base)
{
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start;
         pair < map->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key_node = yaml_document_get_node(&reader->doc, pair->key);
        const yaml_node_t *node = yaml_document_get_node(&reader->doc, pair->value);
        const char *key = pfx_yaml_text(key_node, NULL);
        unsigned first = 0;
        if (!key || !*key || !pfx_utf8_valid(key, strlen(key))) {
            pfx_reader_mistake(reader, pfx_yaml_line(key_node), "",
                               "a key that isn't a plain name; expected \"option: value\"");
            continue;
        }
        for (yaml_node_pair_t *earlier = map->data.mapping.pairs.start; !first && earlier < pair;
             earlier++) {
            const yaml_node_t *other = yaml_document_get_node(&reader->doc, earlier->key);
            const char *text = pfx_yaml_text(other, NULL);
            if (text && strcmp(text, key) == 0)
                first = pfx_yaml_line(other);
        }
        if (first > 0) {
            char *path PFX_AUTOFREE = shown_path(prefix, key);
            pfx_reader_mistake(reader, pfx_yaml_line(key_node), path,
                               "given twice: the first one is on line %u; expected one of them",
                               first);
            continue;
        }
        read_pair(reader, prefix, key, key_node, node, base);
    }
}

/* Defaults, and what is missing. */
static void finish_scope(struct pfx_conf_reader *reader, const char *prefix, void *base)
{
    for (size_t i = 0; i < reader->table->n_rows; i++) {
        const struct pfx_option *row = &reader->table->rows[i];
        const char *why = NULL;
        if (!in_scope(row, prefix) || pfx_reader_line(reader, base, row->path) > 0)
            continue;
        if (row->required)
            wrong_value(reader, row, section_line(reader, base, row->path), NULL, "it is missing");
        else if (row->def && !pfx_option_parse(row, row->def, true, field_of(row, base), &why))
            abort(); /* a defect of the table; the tests read every default */
    }
}

void *pfx_reader_fill(struct pfx_conf_reader *reader, const struct pfx_option_table *table,
                      struct pfx_bytes text)
{
    void *conf = pfx_alloc(table->size);
    yaml_node_t *root = NULL;
    reader->table = table;
    if (!pfx_yaml_load(reader, text, &reader->doc, &root))
        return conf;
    if (root && root->type == YAML_MAPPING_NODE)
        read_map(reader, root, "", conf);
    else if (root && !pfx_yaml_is_null(root))
        pfx_reader_mistake(reader, pfx_yaml_line(root), "",
                           "the file isn't a map; expected options as \"name: value\"");
    finish_scope(reader, "", conf);
    yaml_document_delete(&reader->doc);
    table->finish(reader, conf);
    return conf;
}

pfx_result pfx_table_load(const struct pfx_option_table *table, const char *path,
                          struct pfx_buf *text, void **ret_conf, struct pfx_error *err)
{
    if (table->trusted)
        PFX_TRY(pfx_file_read_trusted(path, PFX_CONF_FILE_MAX, text, err));
    else
        PFX_TRY(pfx_file_read(path, PFX_CONF_FILE_MAX, text, err));
    struct pfx_conf_reader *reader = pfx_reader_new(path, NULL, err);
    void *conf = pfx_reader_fill(reader, table, pfx_buf_bytes(text));
    bool fine = pfx_reader_mistakes(reader) == 0;
    pfx_reader_free(reader);
    if (!fine) {
        pfx_table_free(table, conf);
        return (pfx_result){PFX_CLASS_USAGE};
    }
    *ret_conf = conf;
    return PFX_OK;
}

static void free_scope(const struct pfx_option_table *table, const char *prefix, void *base)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct pfx_option *row = &table->rows[i];
        if (!in_scope(row, prefix))
            continue;
        if (pfx_option_is_text(row->type)) {
            free(*(char **)field_of(row, base));
        } else if (row->type == PFX_O_LIST) {
            char *elements = *(char **)field_of(row, base);
            size_t n = *(size_t *)(void *)((char *)base + row->count_offset);
            char *inner PFX_AUTOFREE = pfx_asprintf("%s[].", row->path);
            for (size_t j = 0; j < n; j++)
                free_scope(table, inner, elements + j * row->size);
            free(elements);
        }
    }
}

void pfx_table_free(const struct pfx_option_table *table, void *conf)
{
    if (!conf)
        return;
    free_scope(table, "", conf);
    free(conf);
}
