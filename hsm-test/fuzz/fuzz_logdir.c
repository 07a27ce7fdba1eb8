/*
 * The folder of an operation log, as pfx-hsm and the command line find it: slots, segments, tiles,
 * the anchor's copy. The input is its files, see memfs.h; "@checkpoint.0!" is a slot with a right
 * hash around what is given.
 */
#include "api/logdir/logdir.h"
#include "memfs.h"

#define MOST 300

static void in_slot(struct pfx_buf *content)
{
    uint8_t slot[PFX_SLOT_SIZE];
    size_t room = PFX_SLOT_SIZE - PFX_SLOT_HEAD;
    struct pfx_bytes text = pfx_buf_bytes(content);
    pfx_slot_write((struct pfx_bytes){text.data, text.len < room ? text.len : room}, slot);
    pfx_buf_reset(content);
    pfx_buf_add(content, slot, sizeof slot);
}

static void try_slot(struct pfx_logdir *dir, const char *name)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(PFX_SLOT_SIZE + 1);
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_bytes note;
    if (pfx_failed(pfx_logdir_file(dir, name, PFX_SLOT_SIZE, &bytes, &err))) {
        must_say(&err);
        return;
    }
    if (bytes.len != PFX_SLOT_SIZE || !pfx_slot_read(bytes.data, &note))
        return;
    uint8_t again[PFX_SLOT_SIZE];
    pfx_slot_write(note, again);
    must(memcmp(again, bytes.data, sizeof again) == 0);
}

static void try_names(struct pfx_logdir *dir, const char *folder)
{
    char **names;
    size_t n;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_logdir_list(dir, folder, &names, &n, &err))) {
        must_say(&err); /* such as a file of that name */
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t first;
        char again[PFX_SEGMENT_NAME_SIZE];
        must(i == 0 || strcmp(names[i - 1], names[i]) <= 0);
        must(names[i][0] != '.');
        if (pfx_segment_parse(names[i], &first))
            must(strcmp(pfx_segment_name(first, again), names[i]) == 0);
    }
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

static void try_entries(struct pfx_logdir *dir, const struct pfx_checkpoint *checkpoint)
{
    struct pfx_error err = PFX_ERROR_NONE;
    uint64_t count = 0, first = pfx_logdir_first(dir);
    pfx_result r = pfx_logdir_count(dir, &count, &err);
    if (pfx_failed(r)) {
        must_say(&err);
        return;
    }
    uint64_t from = first;
    for (uint64_t seq = from; seq < from + MOST; seq++) {
        struct pfx_bytes json;
        struct pfx_entry entry;
        struct pfx_error why = PFX_ERROR_NONE;
        r = pfx_logdir_entry(dir, seq, &json, &why);
        if (pfx_ok(r)) {
            must(pfx_ok(pfx_entry_read(json, &entry, &why)));
            must(pfx_entry_int(&entry, PFX_F_SEQ) == (int64_t)seq);
            continue;
        }
        must_say(&why);
        must(r.cls != PFX_CLASS_TRANSIENT || seq >= checkpoint->size);
        break;
    }
    if (first > 0) {
        struct pfx_bytes json;
        must(pfx_failed(pfx_logdir_entry(dir, first - 1, &json, NULL)));
    }
}

/* A node is what is below it, wherever each of them came from, or the tiles contradict. */
static void try_nodes(struct pfx_logdir *dir, uint64_t size)
{
    for (unsigned level = 0; level < 12; level++) {
        for (uint64_t index = 0; index < 3; index++) {
            struct pfx_node node;
            struct pfx_error err = PFX_ERROR_NONE;
            if ((index + 1) << level > size && level < 10)
                continue;
            if (pfx_failed(pfx_logdir_node(dir, level, index, &node, &err)))
                must_say(&err);
        }
    }
}

static void try_anchor(struct pfx_logdir *dir)
{
    struct pfx_anchor_copy copy;
    if (pfx_logdir_anchor(dir, &copy))
        must(copy.origin[0] && strlen(copy.origin) < PFX_ORIGIN_SIZE && copy.at_ms >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_logdir *dir = NULL;
    memfs_form = in_slot;
    memfs_begin((struct pfx_bytes){data, size});
    pfx_result r = pfx_logdir_open("/log", &dir, &err);
    if (pfx_failed(r)) {
        must_say(&err);
        if (pfx_failed(pfx_logdir_open_bare("/log", &dir, NULL))) {
            memfs_end();
            return 0;
        }
    }
    const struct pfx_checkpoint *checkpoint;
    struct pfx_bytes text = pfx_logdir_checkpoint(dir, &checkpoint);
    must(text.len <= PFX_SLOT_SIZE && (text.len == 0) == (checkpoint->origin[0] == '\0'));
    try_slot(dir, "checkpoint.0");
    try_slot(dir, "checkpoint.1");
    try_names(dir, "entries");
    try_names(dir, "checkpoints");
    try_names(dir, "none");
    try_entries(dir, checkpoint);
    try_nodes(dir, checkpoint->size);
    try_anchor(dir);
    pfx_logdir_close(dir);
    memfs_end();
    return 0;
}
