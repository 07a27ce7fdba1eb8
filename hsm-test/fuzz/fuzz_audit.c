/*
 * An auditor's files: key lines and PEM keys, the name map, bundles of entries and tiles of an
 * export. The input is the files, see memfs.h: keys, names.jsonl, and the export itself.
 */
#include "agent/audit/audit.h"
#include "agent/audit/source_list.h"
#include "memfs.h"

static void try_keys(const char *origin)
{
    static const char *const file[] = {"keys"};
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_audit_keys keys = {0};
    if (pfx_failed(pfx_audit_keys_load(file, 1, origin, &keys, &err))) {
        must(err.cls == PFX_CLASS_USAGE || err.cls == PFX_CLASS_REFUSED);
        must_say(&err);
        return;
    }
    must(keys.n > 0 && keys.n <= PFX_AUDIT_KEYS);
    for (size_t i = 0; i < keys.n; i++) {
        char line[PFX_VKEY_LINE_SIZE];
        struct pfx_vkey again = {0};
        must(pfx_ok(pfx_vkey_parse(pfx_vkey_line(&keys.keys[i], line), &again, &err)));
        must(pfx_vkey_equal(&again, &keys.keys[i]));
        pfx_vkey_done(&again);
        for (size_t k = 0; k < i; k++)
            must(!pfx_vkey_equal(&keys.keys[i], &keys.keys[k]));
    }
    pfx_audit_keys_done(&keys);
}

/* Whom a line names is found again by each of its names. */
static void try_names(void)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_names *names = NULL;
    struct pfx_name found[4];
    if (pfx_failed(pfx_names_open(NULL, "names.jsonl", &names, &err))) {
        must_say(&err);
        return;
    }
    size_t n = pfx_names_find(names, "zoe@example.com", found, 4);
    must(n <= 4);
    for (size_t i = 0; i < n; i++) {
        struct pfx_name same_one, again[4];
        must(strlen(found[i].user) == 64);
        must(pfx_names_by_user(names, (struct pfx_bytes){(const uint8_t *)found[i].user, 64},
                               &same_one));
        must(strcmp(same_one.user, found[i].user) == 0);
        must(pfx_names_find(names, found[i].user, again, 4) > 0);
    }
    for (unsigned i = 0; i < 16; i++) { /* of others: none */
        char user[65];
        struct pfx_name none;
        memset(user, "0123456789abcdef"[i], 64);
        must(!pfx_names_by_user(names, (struct pfx_bytes){(const uint8_t *)user, 64}, &none) ||
             memcmp(none.user, user, 64) == 0);
    }
    must(!pfx_names_by_user(names, (struct pfx_bytes){(const uint8_t *)"x", 1}, found));
    pfx_names_close(names);
}

static void try_entries(struct pfx_source *source, uint64_t size)
{
    PFX_CLEANUP(pfx_source_cursor_done)
    struct pfx_source_cursor cursor = pfx_source_cursor_make(0, size);
    uint64_t seen = 0;
    for (unsigned i = 0; i < 2000; i++) {
        struct pfx_bytes entry = {0};
        uint64_t upto = 0;
        enum pfx_source_got got = pfx_source_next(source, &cursor, &entry, &upto);
        must(cursor.seq >= seen && cursor.seq <= size);
        must(got != PFX_SOURCE_END || cursor.seq == size);
        must(got != PFX_SOURCE_ENTRY || entry.data);
        must((got != PFX_SOURCE_ABSENT && got != PFX_SOURCE_DAMAGED) || upto > seen);
        seen = cursor.seq;
        if (got == PFX_SOURCE_END)
            return;
    }
}

static void try_nodes(struct pfx_source *source, uint64_t size)
{
    static struct pfx_source_nodes nodes;
    nodes = (struct pfx_source_nodes){.source = source, .hasher = pfx_hasher_new(), .size = size};
    for (unsigned level = 0; level < 18; level++) {
        for (uint64_t index = 0; index < 2; index++) {
            struct pfx_node node;
            struct pfx_error err = PFX_ERROR_NONE;
            if ((index + 1) << level <= size &&
                pfx_failed(pfx_source_node(&nodes, level, index, &node, &err)))
                must_say(&err);
        }
    }
    pfx_hasher_free(nodes.hasher);
}

/* The kept checkpoints, as names and as sizes. */
static void try_folder(struct pfx_source *source)
{
    struct pfx_error err = PFX_ERROR_NONE;
    char **names = NULL;
    uint64_t *sizes = NULL;
    size_t n = 0, n_sizes = 0, odd = 0;
    bool listed = pfx_ok(pfx_source_list(source, "checkpoints", &names, &n, &err));
    must(listed == pfx_ok(pfx_source_checkpoints(source, &sizes, &n_sizes, &odd, &err)));
    if (!listed)
        must_say(&err);
    must(n_sizes + odd == n);
    for (size_t i = 1; i < n_sizes; i++)
        must(sizes[i - 1] <= sizes[i]);
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    free(sizes);
}

static void try_export(void)
{
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_source_closep) struct pfx_source *source = NULL;
    if (pfx_failed(pfx_source_open("/export", &source, &err))) {
        must_say(&err);
        return;
    }
    struct pfx_checkpoint checkpoint = {.size = 0};
    (void)!pfx_ok(pfx_checkpoint_parse(pfx_source_checkpoint(source), &checkpoint, NULL));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf file = pfx_buf_make(4096);
    if (pfx_failed(pfx_source_file(source, "export.json", 4096, &file, &err)))
        must_say(&err);
    try_folder(source);
    /* Of a size that the rest doesn't bear out, the first entries will do. */
    uint64_t size = checkpoint.size < 1000 ? checkpoint.size : 1000;
    try_entries(source, size);
    try_nodes(source, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memfs_begin((struct pfx_bytes){data, size});
    try_keys("log.example/1");
    try_keys(NULL);
    try_names();
    try_export();
    memfs_end();
    return 0;
}
