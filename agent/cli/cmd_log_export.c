/*
 * log export: the log as a folder in tlog-tiles layout (agent/audit/source.h), from the files of
 * the host alone. The anchor is read first, then the checkpoint, then everything below its size: so
 * it fits together while pfx-hsm goes on writing.
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"
#include "api/conf/process.h"
#include "crypto/canon.h"
#include "crypto/encode.h"

#define JSON_MAX 4096
#define ANCHOR_HEX 25
#define COVER_TRIES 15
#define COVER_PAUSE_NS 100000000

static void export_done(struct cli_export *export)
{
    cli_progress_clear(&export->progress);
    cli_folder_done(&export->folder);
    pfx_logdir_close(export->dir);
    pfx_hasher_free(export->hasher);
    pfx_buf_done(&export->note);
    pfx_buf_done(&export->had_note);
}

/* --- what there is --- */

static pfx_result take_head(struct cli_export *export, struct pfx_error *err)
{
    const struct pfx_checkpoint *checkpoint = NULL;
    PFX_TRY(pfx_logdir_open(export->log_path, &export->dir, err));
    /* A writer that lives covers what is there within a second: then there is no tail. */
    struct pfx_bytes note;
    for (int tries = 0;; tries++) {
        /* Before the checkpoint: an anchor behind the exported size would look like a log cut off.
         */
        export->has_anchor = pfx_logdir_anchor(export->dir, &export->anchor);
        PFX_TRY(pfx_logdir_refresh(export->dir, err));
        note = pfx_logdir_checkpoint(export->dir, &checkpoint);
        PFX_TRY(pfx_logdir_count(export->dir, &export->count, err));
        if (tries == COVER_TRIES || (checkpoint && export->count <= checkpoint->size))
            break;
        const struct timespec pause = {0, COVER_PAUSE_NS};
        (void)nanosleep(&pause, NULL);
    }
    if (note.len == 0)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "export", export->log_path, "",
                        "the log has no signed checkpoint yet: pfx-hsm has to reach the log role's "
                        "token first; pfx-agent log status says why it can't");
    export->checkpoint = *checkpoint;
    return pfx_buf_add(&export->note, note.data, note.len)
               ? PFX_OK
               : pfx_fail(err, PFX_CLASS_INTEGRITY, "export", export->log_path, "",
                          "its checkpoint is too long");
}

static bool find_origin(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                        const struct pfx_canon_value *value)
{
    char *origin = ctx;
    if (group.len == 0 && key.len == 6 && memcmp(key.data, "origin", 6) == 0 &&
        value->kind == PFX_CANON_STR && value->text.len < PFX_ORIGIN_SIZE) {
        memcpy(origin, value->text.data, value->text.len);
        origin[value->text.len] = '\0';
    }
    return true;
}

static pfx_result other_log(const struct cli_export *export, const char *origin,
                            struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, "export", export->folder.path, "",
                    "it holds the export of another log, %s; this one is %s. Choose another folder",
                    origin, export->checkpoint.origin);
}

/* An export that was whole: the log must still begin with what it holds. */
static pfx_result check_had(struct cli_export *export, struct pfx_error *err)
{
    const struct pfx_checkpoint *had = &export->had, *now = &export->checkpoint;
    struct pfx_tree tree = {export->hasher, pfx_logdir_node, export->dir};
    struct pfx_frontier frontier;
    struct pfx_node root;
    if (strcmp(had->origin, now->origin) != 0)
        return other_log(export, had->origin, err);
    if (had->size > now->size)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "export", export->folder.path, "",
                        "it has %llu entries of this log, which here has %llu: the log was cut or "
                        "put back. Keep that export, it may be the only proof, and export to "
                        "another folder",
                        (unsigned long long)had->size, (unsigned long long)now->size);
    PFX_TRY(pfx_tree_frontier(&tree, had->size, &frontier, err));
    pfx_frontier_root(export->hasher, &frontier, &root);
    if (!pfx_hash_equal(&root, &had->root))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "export", export->folder.path, "",
                        "the first %llu entries of the log aren't those that were exported before: "
                        "it was rewritten. Keep that export, and export to another folder",
                        (unsigned long long)had->size);
    export->earlier = true;
    return PFX_OK;
}

/* A new or empty folder, an earlier export of this log, or one that broke off; nothing else. */
static pfx_result check_folder(struct cli_export *export, struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(JSON_MAX);
    bool there = false;
    PFX_TRY(cli_folder_read(&export->folder, "checkpoint", PFX_CHECKPOINT_MAX, &export->had_note,
                            &there, err));
    struct pfx_error why = PFX_ERROR_NONE;
    if (there &&
        pfx_failed(pfx_checkpoint_parse(pfx_buf_bytes(&export->had_note), &export->had, &why)))
        return pfx_fail(err, PFX_CLASS_REFUSED, "export", export->folder.path, "",
                        "its checkpoint can't be read (%s). Choose another folder", why.text);
    if (there)
        return check_had(export, err);
    PFX_TRY(cli_folder_read(&export->folder, "export.json", JSON_MAX, &text, &there, err));
    if (!there && export->fresh)
        return PFX_OK;
    char origin[PFX_ORIGIN_SIZE] = "";
    if (!there || pfx_failed(pfx_canon_scan(pfx_buf_bytes(&text), find_origin, origin, &why)) ||
        !origin[0])
        return pfx_fail(err, PFX_CLASS_REFUSED, "export", export->folder.path, "ENOTEMPTY",
                        "it isn't empty, and isn't an earlier export. Choose another folder");
    return strcmp(origin, export->checkpoint.origin) == 0 ? PFX_OK : other_log(export, origin, err);
}

/* --- small files --- */

static pfx_result put_if_other(struct cli_export *export, const char *name,
                               struct pfx_bytes content, struct pfx_error *err)
{
    struct pfx_buf now PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(content.len + 1);
    struct pfx_error why = PFX_ERROR_NONE;
    bool there = false;
    if (pfx_ok(cli_folder_read(&export->folder, name, content.len, &now, &there, &why)) && there &&
        now.len == content.len && (now.len == 0 || memcmp(now.data, content.data, now.len) == 0))
        return PFX_OK;
    return cli_folder_put(&export->folder, name, content, err);
}

static pfx_result put_pem(struct cli_export *export, const char *name, struct pfx_bytes line,
                          struct pfx_error *err)
{
    struct pfx_vkey key PFX_CLEANUP(pfx_vkey_done) = {0};
    struct pfx_buf spki PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1024);
    struct pfx_buf pem PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    struct pfx_error why = PFX_ERROR_NONE;
    char *text PFX_AUTOFREE = pfx_strndup((const char *)line.data, line.len);
    text[strcspn(text, "\n")] = '\0';
    if (pfx_failed(pfx_vkey_parse(text, &key, &why)) ||
        pfx_failed(pfx_vkey_spki(&key, &spki, &why)) ||
        !pfx_pem_encode("PUBLIC KEY", pfx_buf_bytes(&spki), &pem)) {
        cli_progress_clear(&export->progress);
        cli_say("note: %s/%s is no key line: %s", export->log_path, name, why.text);
        return PFX_OK;
    }
    char *target PFX_AUTOFREE =
        pfx_asprintf("%.*s.pem", (int)(strlen(name) - strlen(".vkey")), name);
    return put_if_other(export, target, pfx_buf_bytes(&pem), err);
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

/* Milestones beyond the exported size belong to the next export. */
static bool is_due(const struct cli_export *export, const char *folder, const char *name)
{
    uint64_t size = 0;
    if (strcmp(folder, "checkpoints") == 0)
        return pfx_segment_parse(name, &size) && size <= export->checkpoint.size;
    return name[0] != '.' && ends_with(name, strcmp(folder, "keys") == 0 ? ".vkey" : ".yaml");
}

static pfx_result copy_one(struct cli_export *export, const char *folder, const char *file,
                           struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1024 * 1024 + 1);
    char *name PFX_AUTOFREE = pfx_asprintf("%s/%s", folder, file);
    bool milestone = strcmp(folder, "checkpoints") == 0;
    if (milestone && cli_folder_has(&export->folder, name))
        return PFX_OK; /* what an auditor may have seen stays */
    PFX_TRY(pfx_logdir_file(export->dir, name, 1024 * 1024, &text, err));
    struct pfx_checkpoint parsed;
    struct pfx_error why = PFX_ERROR_NONE;
    if (milestone && pfx_failed(pfx_checkpoint_parse(pfx_buf_bytes(&text), &parsed, &why))) {
        cli_progress_clear(&export->progress);
        cli_say("note: %s/%s is left out: %s", export->log_path, name, why.text);
        return PFX_OK;
    }
    PFX_TRY(put_if_other(export, name, pfx_buf_bytes(&text), err));
    return strcmp(folder, "keys") == 0 ? put_pem(export, name, pfx_buf_bytes(&text), err) : PFX_OK;
}

static pfx_result copy_folder(struct cli_export *export, const char *folder, struct pfx_error *err)
{
    char **names = NULL;
    size_t n = 0;
    PFX_TRY(pfx_logdir_list(export->dir, folder, &names, &n, err));
    pfx_result r = PFX_OK;
    for (size_t i = 0; i < n; i++) {
        if (pfx_ok(r) && is_due(export, folder, names[i]))
            r = copy_one(export, folder, names[i], err);
        free(names[i]);
    }
    free(names);
    return r;
}

static pfx_result stage_text(struct cli_export *export, const char *name, struct pfx_bytes content,
                             struct pfx_error *err)
{
    int fd = -1;
    PFX_TRY(cli_folder_stage(&export->folder, name, 0644, &fd, err));
    pfx_result r = cli_folder_write(&export->folder, fd, name, content, err);
    if (pfx_ok(r))
        return cli_folder_staged(&export->folder, fd, name, err);
    (void)close(fd);
    return r;
}

static void canon_text(struct pfx_canon *canon, const char *key, const char *text)
{
    pfx_canon_str(canon, key, (struct pfx_bytes){(const uint8_t *)text, strlen(text)});
}

static void export_json(const struct cli_export *export, struct pfx_buf *out)
{
    struct pfx_canon canon = pfx_canon_make(out);
    char when[PFX_TIME_SIZE];
    pfx_canon_open(&canon, NULL, '{');
    pfx_canon_int(&canon, "first", (int64_t) export->first);
    canon_text(&canon, "made", pfx_time_format(pfx_now_ms(), true, when));
    canon_text(&canon, "origin", export->checkpoint.origin);
    pfx_canon_int(&canon, "size", (int64_t) export->checkpoint.size);
    canon_text(&canon, "software", "pfx-agent " PFX_VERSION);
    pfx_canon_int(&canon, "v", 1);
    pfx_canon_close(&canon, '}');
}

static void anchor_json(const struct cli_export *export, struct pfx_buf *out)
{
    struct pfx_canon canon = pfx_canon_make(out);
    char hex[ANCHOR_HEX], when[PFX_TIME_SIZE];
    pfx_canon_open(&canon, NULL, '{');
    canon_text(&canon, "hash", pfx_hex(export->anchor.hash, sizeof(export->anchor.hash), hex));
    canon_text(&canon, "origin", export->anchor.origin);
    pfx_canon_int(&canon, "size", (int64_t) export->anchor.size);
    canon_text(&canon, "time", pfx_time_format(export->anchor.at_ms, true, when));
    pfx_canon_close(&canon, '}');
}

/* Entries that no checkpoint covered when the head was taken, as records; as far as they can be
 * read. */
static pfx_result stage_tail(struct cli_export *export, struct pfx_error *err)
{
    uint64_t count = export->count, size = export->checkpoint.size;
    int fd = -1;
    if (count <= size)
        return PFX_OK;
    PFX_TRY(cli_folder_stage(&export->folder, "tail", 0644, &fd, err));
    pfx_result r = PFX_OK;
    for (uint64_t seq = size; seq < count && pfx_ok(r); seq++) {
        struct pfx_bytes entry;
        struct pfx_error why = PFX_ERROR_NONE;
        if (pfx_failed(pfx_logdir_entry(export->dir, seq, &entry, &why)))
            break;
        uint8_t head[PFX_RECORD_HEAD] = {(uint8_t)(entry.len >> 8), (uint8_t)entry.len};
        r = cli_folder_write(&export->folder, fd, "tail", (struct pfx_bytes){head, sizeof(head)},
                             err);
        if (pfx_ok(r))
            r = cli_folder_write(&export->folder, fd, "tail", entry, err);
        export->uncovered++;
    }
    if (pfx_ok(r))
        return cli_folder_staged(&export->folder, fd, "tail", err);
    (void)close(fd);
    return r;
}

/* The first entry whose bundle is in the folder. */
static uint64_t first_presented(struct cli_export *export)
{
    uint64_t full = 0;
    char name[PFX_TILE_PATH_SIZE];
    unsigned width = pfx_tile_partial(PFX_TILE_ENTRIES, export->checkpoint.size, &full);
    for (uint64_t i = 0; i < full; i++)
        if (cli_folder_has(&export->folder,
                           pfx_tile_path(PFX_TILE_ENTRIES, i, PFX_TILE_WIDTH, name)))
            return i * PFX_TILE_WIDTH;
    if (width > 0 &&
        cli_folder_has(&export->folder, pfx_tile_path(PFX_TILE_ENTRIES, full, width, name)))
        return full * PFX_TILE_WIDTH;
    return export->checkpoint.size;
}

/* --- putting it together --- */

static const char *const staged[] = {"names.jsonl", "anchor.json", "tail", "export.json",
                                     "checkpoint"};
#define N_STAGED (sizeof(staged) / sizeof(staged[0]))

static pfx_result stage_all(struct cli_export *export, struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(JSON_MAX);
    if (!export->cli->given[CLI_NO_NAMES])
        PFX_TRY(cli_export_names(export, err));
    if (export->has_anchor) {
        anchor_json(export, &text);
        PFX_TRY(stage_text(export, "anchor.json", pfx_buf_bytes(&text), err));
    }
    PFX_TRY(stage_tail(export, err));
    export->first = first_presented(export);
    pfx_buf_reset(&text);
    export_json(export, &text);
    PFX_TRY(stage_text(export, "export.json", pfx_buf_bytes(&text), err));
    return stage_text(export, "checkpoint", pfx_buf_bytes(&export->note), err);
}

/* Only renames are left. In a new folder the checkpoint comes last, and without it nothing looks
 * whole. In an earlier export it comes first: that one stays whole until then, and the rest may
 * be older than the checkpoint (an anchor, a missing tail), but not newer. */
static pfx_result commit_all(struct cli_export *export, struct pfx_error *err)
{
    struct cli_folder *folder = &export->folder;
    if (export->earlier) {
        (void)cli_folder_remove(folder, "tail");
        PFX_TRY(cli_folder_commit(folder, "checkpoint", err));
    }
    if (export->names >= 0)
        PFX_TRY(cli_folder_commit(folder, "names.jsonl", err));
    if (export->has_anchor)
        PFX_TRY(cli_folder_commit(folder, "anchor.json", err));
    if (export->uncovered > 0)
        PFX_TRY(cli_folder_commit(folder, "tail", err));
    else
        (void)cli_folder_remove(folder, "tail");
    PFX_TRY(cli_folder_commit(folder, "export.json", err));
    if (!export->earlier)
        PFX_TRY(cli_folder_commit(folder, "checkpoint", err));
    return cli_folder_sync(folder, err);
}

static pfx_result fill(struct cli_export *export, struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(JSON_MAX);
    if (!export->earlier) { /* says whose folder it is, should this break off */
        export->first = pfx_logdir_first(export->dir);
        export_json(export, &text);
        PFX_TRY(cli_folder_put(&export->folder, "export.json", pfx_buf_bytes(&text), err));
    }
    PFX_TRY(cli_export_tiles(export, err));
    cli_progress_show(&export->progress, "keys, policies and checkpoints", 0, 0);
    PFX_TRY(copy_folder(export, "checkpoints", err));
    PFX_TRY(copy_folder(export, "keys", err));
    PFX_TRY(copy_folder(export, "policy", err));
    if (export->earlier && export->had.size < export->checkpoint.size) {
        char number[PFX_SEGMENT_NAME_SIZE];
        char *name PFX_AUTOFREE =
            pfx_asprintf("checkpoints/%s", pfx_segment_name(export->had.size, number));
        if (!cli_folder_has(&export->folder, name))
            PFX_TRY(cli_folder_put(&export->folder, name, pfx_buf_bytes(&export->had_note), err));
    }
    PFX_TRY(stage_all(export, err));
    PFX_TRY(cli_folder_sync(&export->folder, err));
    PFX_TRY(commit_all(export, err));
    cli_export_prune(export);
    return PFX_OK;
}

static pfx_result run(struct cli_export *export, const char *target, struct pfx_error *err)
{
    export->hasher = pfx_hasher_new();
    PFX_TRY(take_head(export, err));
    PFX_TRY(cli_folder_open(target, &export->folder, &export->fresh, err));
    PFX_TRY(check_folder(export, err));
    cli_progress_start(&export->progress, "entries");
    pfx_result r = fill(export, err);
    for (size_t i = 0; i < N_STAGED && pfx_failed(r); i++)
        cli_folder_unstage(&export->folder, staged[i]);
    cli_progress_clear(&export->progress);
    return r;
}

int cli_do_log_export(struct cli *cli)
{
    char *path PFX_AUTOFREE = cli_log_path(cli);
    struct cli_export export PFX_CLEANUP(export_done) = {
        .cli = cli,
        .log_path = path,
        .folder = {.fd = -1},
        .progress = {.quiet = cli->given[CLI_JSON] || !cli_is_terminal(stderr)},
        .note = pfx_buf_make(PFX_CHECKPOINT_MAX),
        .had_note = pfx_buf_make(PFX_CHECKPOINT_MAX),
        .names = -1,
    };
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(run(&export, cli->operands[0], &err)))
        return cli_fail(&err);
    cli_export_report(&export);
    return export.damaged > 0 ? pfx_class_exit(PFX_CLASS_INTEGRITY) : CLI_EXIT_OK;
}
