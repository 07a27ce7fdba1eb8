/*
 * What goes into a backup. Root reads here what other users own, so nothing is followed: each
 * folder and file is opened below the one before it, without links, and must be a plain file.
 *
 * The log comes last, cut at its newest checkpoint: it covers all that the rest tells of.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/backup.h"
#include "agent/cli/backup_impl.h"
#include "api/conf/process.h"
#include "api/logdir/segment.h"
#include "crypto/encode.h"

#define CONFIG_MAX (4 * 1024 * 1024)

struct collecting {
    struct backup_writer *writer;
    const struct backup_sources *sources;
    struct stat skip; /* the log's folder inside of the state folder: it is read by itself */
    bool skips;
    uint64_t size; /* of the log */
};

static pfx_result cant(const char *path, struct pfx_error *err)
{
    return pfx_fail_errno(err, errno, "read for backup", path, "run this as root");
}

/* A regular file with one name, opened below a folder. */
static pfx_result open_file(int dir, const char *name, const char *shown, int *ret_fd,
                            struct stat *ret_st, struct pfx_error *err)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return cant(shown, err);
    if (fstat(fd, ret_st) == 0 && S_ISREG(ret_st->st_mode) && ret_st->st_nlink == 1) {
        *ret_fd = fd;
        return PFX_OK;
    }
    (void)close(fd);
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "read for backup", shown, "",
                    "it isn't a plain file with one name; put it somewhere else");
}

static pfx_result open_dir(int parent, const char *name, const char *shown, int *ret_fd,
                           struct stat *ret_st, struct pfx_error *err)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return cant(shown, err);
    if (fstat(fd, ret_st) != 0) {
        (void)close(fd);
        return cant(shown, err);
    }
    *ret_fd = fd;
    return PFX_OK;
}

static pfx_result put_file(struct collecting *c, int dir, const char *name, const char *as,
                           struct pfx_error *err)
{
    struct stat st = {0};
    int fd = -1;
    PFX_TRY(open_file(dir, name, as, &fd, &st, err));
    pfx_result r = backup_put_fd(c->writer, as, &st, fd, (uint64_t)st.st_size, err);
    (void)close(fd);
    return r;
}

/* Sorted, without what begins with a dot. Free each, and the array. */
static pfx_result names_in(int dir, const char *shown, char ***ret, size_t *ret_n,
                           struct pfx_error *err)
{
    struct dirent **found = NULL;
    int n = scandirat(dir, ".", &found, NULL, alphasort);
    if (n < 0)
        return cant(shown, err);
    char **names = pfx_alloc_array((size_t)n + 1, sizeof(*names));
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        if (found[i]->d_name[0] != '.')
            names[used++] = pfx_strdup(found[i]->d_name);
        free(found[i]);
    }
    free(found);
    *ret = names;
    *ret_n = used;
    return PFX_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Files being written, what is left of refused PINs (hashes that could be guessed at), and the log
 * itself. */
static bool is_left_out(const struct collecting *c, const char *as, const struct stat *st)
{
    return ends_with(as, ".new") || strcmp(as, "hsm/pin-guard") == 0 ||
           (c->skips && st->st_dev == c->skip.st_dev && st->st_ino == c->skip.st_ino);
}

/* What pfx-hsm writes into its state folder, by the first part of the name. Whatever else lies
 * there is somebody's, who may have put a PIN or a token into it. */
static bool is_of_hsm(const struct collecting *c, const char *as)
{
    static const char *const names[] = {"approvals", "ceremonies", "in-force", "pins", "standing"};
    const char *log = strrchr(c->sources->log_dir, '/') + 1; /* "log.1.TIME": set aside */
    const char *name = strchr(as, '/') + 1;
    char *head PFX_AUTOFREE = pfx_strndup(name, strcspn(name, "/"));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(head, names[i]) == 0)
            return true;
    size_t n = strlen(log);
    return ends_with(head, ".crt") || ends_with(head, ".sealed") ||
           (strncmp(head, log, n) == 0 && head[n] == '.');
}

static pfx_result put_tree(struct collecting *c, int dir, const char *as, unsigned depth,
                           struct pfx_error *err);

static pfx_result put_one(struct collecting *c, int dir, const char *name, const char *as,
                          unsigned depth, struct pfx_error *err)
{
    enum backup_where where;
    struct stat st = {0};
    int fd = -1;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? PFX_OK : cant(as, err); /* was being written */
    if (is_left_out(c, as, &st))
        return PFX_OK;
    if (!backup_name_parse(as, &where) || !is_of_hsm(c, as) ||
        (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) {
        cli_say("note: %s isn't in the backup: pfx-hsm makes no file like this", as);
        return PFX_OK;
    }
    if (S_ISREG(st.st_mode))
        return put_file(c, dir, name, as, err);
    PFX_TRY(open_dir(dir, name, as, &fd, &st, err));
    pfx_result r = backup_put_dir(c->writer, as, &st, err);
    if (pfx_ok(r) && depth < BACKUP_DEPTH)
        r = put_tree(c, fd, as, depth + 1, err);
    (void)close(fd);
    return r;
}

static pfx_result put_tree(struct collecting *c, int dir, const char *as, unsigned depth,
                           struct pfx_error *err)
{
    char **names = NULL;
    size_t n = 0;
    PFX_TRY(names_in(dir, as, &names, &n, err));
    pfx_result r = PFX_OK;
    for (size_t i = 0; i < n; i++) {
        char *below PFX_AUTOFREE = pfx_asprintf("%s/%s", as, names[i]);
        if (pfx_ok(r))
            r = put_one(c, dir, names[i], below, depth, err);
        free(names[i]);
    }
    free(names);
    return r;
}

static pfx_result put_config(struct collecting *c, struct pfx_error *err)
{
    const struct backup_sources *s = c->sources;
    struct stat st;
    if (stat(s->config_dir, &st) != 0)
        return cant(s->config_dir, err);
    PFX_TRY(backup_put_dir(c->writer, backup_folder_names[BACKUP_CONFIG], &st, err));
    for (size_t i = 0; i < sizeof(s->config) / sizeof(s->config[0]); i++) {
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(CONFIG_MAX);
        size_t len = strlen(s->config_dir);
        enum backup_where where;
        if (!s->config[i])
            continue;
        bool inside = strncmp(s->config[i], s->config_dir, len) == 0 && s->config[i][len] == '/';
        char *as PFX_AUTOFREE =
            pfx_asprintf("config/%s", inside ? s->config[i] + len + 1 : ".outside");
        if (!backup_name_parse(as, &where)) {
            cli_say("note: %s isn't in the backup: it doesn't lie in %s", s->config[i],
                    s->config_dir);
            continue;
        }
        PFX_TRY(pfx_file_read(s->config[i], CONFIG_MAX, &text, err));
        if (stat(s->config[i], &st) != 0)
            return cant(s->config[i], err);
        PFX_TRY(backup_put(c->writer, as, &st, pfx_buf_bytes(&text), err));
    }
    return PFX_OK;
}

static pfx_result put_store(struct collecting *c, struct pfx_error *err)
{
    struct stat st = {0};
    int dir = -1;
    PFX_TRY(open_dir(AT_FDCWD, c->sources->agent_dir, c->sources->agent_dir, &dir, &st, err));
    pfx_result r = backup_put_dir(c->writer, backup_folder_names[BACKUP_AGENT], &st, err);
    if (pfx_ok(r))
        r = put_file(c, dir, c->sources->store, "agent/store.db", err);
    (void)unlinkat(dir, c->sources->store, 0); /* it was made for this */
    (void)close(dir);
    return r;
}

static pfx_result put_state(struct collecting *c, struct pfx_error *err)
{
    struct stat st = {0};
    int dir = -1;
    c->skips = stat(c->sources->log_dir, &c->skip) == 0;
    PFX_TRY(open_dir(AT_FDCWD, c->sources->hsm_dir, c->sources->hsm_dir, &dir, &st, err));
    const char *as = backup_folder_names[BACKUP_HSM];
    pfx_result r = backup_put_dir(c->writer, as, &st, err);
    if (pfx_ok(r))
        r = put_tree(c, dir, as, 1, err);
    (void)close(dir);
    return r;
}

/* --- the log --- */

/* Of a segment what the checkpoint covers: its file is longer, and may go on. */
static pfx_result put_segment(struct collecting *c, int dir, const char *name, uint64_t first,
                              struct pfx_error *err)
{
    struct stat st = {0};
    int fd = -1;
    char *as PFX_AUTOFREE = pfx_asprintf("log/entries/%s", name);
    PFX_TRY(open_file(dir, name, as, &fd, &st, err));
    PFX_CLEANUP(pfx_segment_reader_done)
    struct pfx_segment_reader reader = pfx_segment_reader_make(fd, 0);
    pfx_result r = PFX_OK;
    for (uint64_t seq = first; seq < c->size && pfx_ok(r); seq++) {
        enum pfx_record kind;
        struct pfx_bytes entry;
        r = pfx_segment_next(&reader, as, &kind, &entry, err);
        if (pfx_ok(r) && kind != PFX_RECORD_WHOLE)
            break; /* the next file goes on; whether all are there, the log itself tells */
    }
    if (pfx_ok(r))
        r = backup_put_fd(c->writer, as, &st, fd, reader.at, err);
    (void)close(fd);
    return r;
}

static bool tile_is_covered(const struct collecting *c, const char *path)
{
    int level;
    uint64_t number;
    unsigned width;
    return pfx_tile_parse(path, &level, &number, &width) && width == PFX_TILE_WIDTH && level >= 0 &&
           level < 7 && (number + 1) << (8 * (unsigned)(level + 1)) <= c->size;
}

/* Which files of the log's folder belong to it at the checkpoint. as: "log/tile/0/000". */
static bool is_of_log(const struct collecting *c, const char *as)
{
    const char *path = as + strlen("log/");
    uint64_t size;
    if (strncmp(path, "tile/", 5) == 0)
        return tile_is_covered(c, path);
    if (strncmp(path, "checkpoints/", 12) == 0)
        return pfx_segment_parse(path + 12, &size) && size <= c->size;
    return (strncmp(path, "keys/", 5) == 0 && ends_with(path, ".vkey")) ||
           (strncmp(path, "policy/", 7) == 0 && ends_with(path, ".yaml"));
}

static pfx_result put_log_tree(struct collecting *c, int dir, const char *as, unsigned depth,
                               struct pfx_error *err)
{
    char **names = NULL;
    size_t n = 0;
    PFX_TRY(names_in(dir, as, &names, &n, err));
    pfx_result r = PFX_OK;
    for (size_t i = 0; i < n; i++) {
        char *below PFX_AUTOFREE = pfx_asprintf("%s/%s", as, names[i]);
        struct stat st = {0};
        uint64_t first;
        int fd = -1;
        enum backup_where where;
        if (pfx_ok(r) && backup_name_parse(below, &where) &&
            fstatat(dir, names[i], &st, AT_SYMLINK_NOFOLLOW) == 0) {
            if (S_ISDIR(st.st_mode) && depth < BACKUP_DEPTH) {
                r = open_dir(dir, names[i], below, &fd, &st, err);
                if (pfx_ok(r))
                    r = backup_put_dir(c->writer, below, &st, err);
                if (pfx_ok(r))
                    r = put_log_tree(c, fd, below, depth + 1, err);
                if (fd >= 0)
                    (void)close(fd);
            } else if (strcmp(as, "log/entries") == 0) {
                if (pfx_segment_parse(names[i], &first) && first < c->size)
                    r = put_segment(c, dir, names[i], first, err);
            } else if (is_of_log(c, below)) {
                r = put_file(c, dir, names[i], below, err);
            }
        }
        free(names[i]);
    }
    free(names);
    return r;
}

static pfx_result put_log(struct collecting *c, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *log = NULL;
    struct backup_manifest *m = backup_writer_manifest(c->writer);
    const struct pfx_checkpoint *checkpoint = NULL;
    const char *path = c->sources->log_dir;
    struct stat st = {0}, slot_st = {0};
    uint8_t slot[PFX_SLOT_SIZE];
    int dir = -1;
    PFX_TRY(pfx_logdir_open(path, &log, err));
    struct pfx_bytes note = pfx_logdir_checkpoint(log, &checkpoint);
    if (note.len == 0)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "read for backup", path, "",
                        "the log has no signed checkpoint yet; pfx-agent log status says why");
    c->size = m->log_size = checkpoint->size;
    (void)snprintf(m->origin, sizeof(m->origin), "%s", checkpoint->origin);
    pfx_slot_write(note, slot);
    PFX_TRY(open_dir(AT_FDCWD, path, path, &dir, &st, err));
    const char *as = backup_folder_names[BACKUP_LOG];
    pfx_result r = backup_put_dir(c->writer, as, &st, err);
    if (pfx_ok(r) && fstatat(dir, "checkpoint.0", &slot_st, AT_SYMLINK_NOFOLLOW) != 0)
        r = cant(path, err);
    if (pfx_ok(r))
        r = backup_put(c->writer, BACKUP_SLOT, &slot_st,
                       (struct pfx_bytes){slot, sizeof(slot)}, err);
    char *mark PFX_AUTOFREE =
        pfx_asprintf("from a backup: %llu entries\n", (unsigned long long)c->size);
    if (pfx_ok(r))
        r = backup_put(c->writer, "log/" PFX_LOGDIR_COPY, &slot_st,
                       (struct pfx_bytes){(const uint8_t *)mark, strlen(mark)}, err);
    if (pfx_ok(r))
        r = put_log_tree(c, dir, as, 1, err);
    (void)close(dir);
    return r;
}

pfx_result backup_collect(struct backup_writer *writer, const struct backup_sources *sources,
                          struct pfx_error *err)
{
    struct collecting c = {.writer = writer, .sources = sources};
    const char *const paths[BACKUP_FOLDERS] = {sources->config_dir, sources->agent_dir,
                                               sources->hsm_dir, sources->log_dir};
    struct backup_manifest *m = backup_writer_manifest(writer);
    for (size_t i = 0; i < BACKUP_FOLDERS; i++)
        m->folders[i].path = pfx_strdup(paths[i]);
    PFX_TRY(put_store(&c, err)); /* first: its copy doesn't outlive this, whatever fails then */
    PFX_TRY(put_config(&c, err));
    PFX_TRY(put_state(&c, err));
    return put_log(&c, err);
}
