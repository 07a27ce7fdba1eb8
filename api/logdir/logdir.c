/* The folder: its checkpoint, its lists, its small files. */
#include "api/logdir/logdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/logdir/impl.h"
#include "crypto/encode.h"

#define MAX_NAMES 10000000
#define MAX_ANCHOR 512

static pfx_result open_failed(int error, const char *what, struct pfx_error *err)
{
    return pfx_fail_errno(err, error, "read log", what,
                          error == EACCES ? "Be root or in the group of the log's readers "
                                            "(access.auditors of the policy)."
                                          : "");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

pfx_result pfx_logdir_list(struct pfx_logdir *dir, const char *folder, char ***ret_names,
                           size_t *ret_n, struct pfx_error *err)
{
    *ret_names = NULL;
    *ret_n = 0;
    int fd = openat(dir->fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return PFX_OK;
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) {
        int error = errno;
        if (fd >= 0)
            close(fd);
        return open_failed(error, folder, err);
    }
    char **names = NULL;
    size_t n = 0, room = 0;
    struct dirent *entry;
    while (errno = 0, (entry = readdir(list)) != NULL && n < MAX_NAMES) {
        if (entry->d_name[0] == '.')
            continue;
        if (n == room)
            names = pfx_grow(names, room = room ? room * 2 : 64, sizeof *names);
        names[n++] = pfx_strdup(entry->d_name);
    }
    int error = errno;
    closedir(list);
    if (error != 0) {
        for (size_t i = 0; i < n; i++)
            free(names[i]);
        free(names);
        return open_failed(error, folder, err);
    }
    if (n > 1)
        qsort(names, n, sizeof *names, by_name);
    *ret_names = names;
    *ret_n = n;
    return PFX_OK;
}

pfx_result pfx_logdir_file(struct pfx_logdir *dir, const char *name, size_t max,
                           struct pfx_buf *ret, struct pfx_error *err)
{
    int fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return pfx_fail(err, PFX_CLASS_USAGE, "read log", name, "ENOENT", "There is no such file.");
    if (fd < 0)
        return open_failed(errno, name, err);
    struct stat facts;
    if (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode) || (uint64_t)facts.st_size > max) {
        close(fd);
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read log", name, "",
                        "Not a file of at most %zu bytes.", max);
    }
    /* It may grow while it is read: one byte more than allowed tells. */
    struct pfx_buf buf PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(max + 1);
    for (;;) {
        uint8_t piece[8192];
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            close(fd);
            return open_failed(error, name, err);
        }
        if (n == 0)
            break;
        if (!pfx_buf_add(&buf, piece, (size_t)n) || buf.len > max) {
            close(fd);
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "read log", name, "",
                            "Longer than %zu bytes.", max);
        }
    }
    close(fd);
    if (!pfx_buf_add(ret, buf.data, buf.len))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "read log", name, "", "No room for its content.");
    return PFX_OK;
}

pfx_result pfx_logdir_list_segments(struct pfx_logdir *dir, struct pfx_error *err)
{
    char **names;
    size_t n;
    PFX_TRY(pfx_logdir_list(dir, "entries", &names, &n, err));
    uint64_t *firsts = pfx_alloc_array(n + 1, sizeof *firsts);
    size_t n_firsts = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t first;
        if (pfx_segment_parse(names[i], &first)) /* others aren't ours */
            firsts[n_firsts++] = first;
        free(names[i]);
    }
    free(names);
    free(dir->firsts);
    dir->firsts = firsts;
    dir->n_firsts = n_firsts;
    return PFX_OK;
}

enum slot { SLOT_NONE, SLOT_BLANK, SLOT_BAD, SLOT_GOOD };

static pfx_result read_slot(struct pfx_logdir *dir, const char *name, struct pfx_buf *ret_note,
                            struct pfx_checkpoint *ret_checkpoint, enum slot *ret,
                            struct pfx_error *err)
{
    struct pfx_buf bytes PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_SLOT_SIZE);
    struct pfx_error inner = PFX_ERROR_NONE;
    pfx_result r = pfx_logdir_file(dir, name, PFX_SLOT_SIZE, &bytes, &inner);
    if (pfx_failed(r)) {
        *ret = r.cls == PFX_CLASS_USAGE ? SLOT_NONE : SLOT_BAD;
        if (r.cls == PFX_CLASS_USAGE || r.cls == PFX_CLASS_INTEGRITY)
            return PFX_OK;
        *err = inner;
        return r;
    }
    struct pfx_bytes note;
    static const uint8_t zeros[PFX_SLOT_SIZE];
    if (bytes.len <= PFX_SLOT_SIZE && (bytes.len == 0 || memcmp(bytes.data, zeros, bytes.len) == 0))
        *ret = SLOT_BLANK;
    else if (bytes.len != PFX_SLOT_SIZE || !pfx_slot_read(bytes.data, &note) ||
             pfx_failed(pfx_checkpoint_parse(note, ret_checkpoint, &inner)))
        *ret = SLOT_BAD;
    else {
        *ret = SLOT_GOOD;
        pfx_buf_add(ret_note, note.data, note.len);
    }
    return PFX_OK;
}

pfx_result pfx_logdir_refresh(struct pfx_logdir *dir, struct pfx_error *err)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    err = err ? err : &ignored;
    /* The slots before the list: what a checkpoint covers was on disk before it. */
    static const char *const names[2] = {"checkpoint.0", "checkpoint.1"};
    struct pfx_checkpoint *parsed PFX_AUTOFREE = pfx_alloc_array(2, sizeof *parsed);
    struct pfx_buf notes[2] = {pfx_buf_make(PFX_SLOT_SIZE), pfx_buf_make(PFX_SLOT_SIZE)};
    enum slot slots[2] = {SLOT_NONE, SLOT_NONE};
    pfx_result r = PFX_OK;
    for (int i = 0; i < 2 && pfx_ok(r); i++)
        r = read_slot(dir, names[i], &notes[i], &parsed[i], &slots[i], err);
    int best = -1;
    for (int i = 0; i < 2; i++)
        if (slots[i] == SLOT_GOOD && (best < 0 || parsed[i].size > parsed[best].size))
            best = i;
    char **kept = NULL;
    size_t n_kept = 0;
    if (pfx_ok(r) && best < 0)
        r = pfx_logdir_list(dir, "checkpoints", &kept, &n_kept, err);
    for (size_t i = 0; i < n_kept; i++)
        free(kept[i]);
    free(kept);
    /* A log that kept an older checkpoint had a newest one. */
    if (pfx_ok(r) && best < 0 && (slots[0] == SLOT_BAD || slots[1] == SLOT_BAD || n_kept > 0))
        r = pfx_fail(err, PFX_CLASS_INTEGRITY, "read log", dir->path, "checkpoint",
                     "Neither checkpoint.0 nor checkpoint.1 is whole. Verify what is there against "
                     "your own copy with pfx-audit before going on.");
    if (pfx_ok(r))
        r = pfx_logdir_list_segments(dir, err);
    if (pfx_ok(r)) {
        pfx_buf_reset(&dir->text);
        dir->checkpoint = (struct pfx_checkpoint){.size = 0};
        if (best >= 0) {
            pfx_buf_add(&dir->text, notes[best].data, notes[best].len);
            dir->checkpoint = parsed[best];
        }
    }
    pfx_buf_done(&notes[0]);
    pfx_buf_done(&notes[1]);
    return r;
}

pfx_result pfx_logdir_open_bare(const char *path, struct pfx_logdir **ret, struct pfx_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return pfx_fail(
            err, PFX_CLASS_USAGE, "read log", path, strerrorname_np(errno),
            "There is no folder of an operation log. pfx-agent init starts one; log.dir "
            "of the policy says where.");
    if (fd < 0)
        return open_failed(errno, path, err);
    struct pfx_logdir *dir = pfx_alloc(sizeof *dir);
    dir->path = pfx_strdup(path);
    dir->fd = fd;
    dir->seg_fd = -1;
    dir->text = pfx_buf_make(PFX_SLOT_SIZE);
    dir->hasher = pfx_hasher_new();
    pfx_result r = pfx_logdir_list_segments(dir, err);
    if (pfx_failed(r)) {
        pfx_logdir_close(dir);
        return r;
    }
    *ret = dir;
    return PFX_OK;
}

pfx_result pfx_logdir_open(const char *path, struct pfx_logdir **ret, struct pfx_error *err)
{
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    PFX_TRY(pfx_logdir_open_bare(path, &dir, err));
    PFX_TRY(pfx_logdir_refresh(dir, err));
    if (dir->n_firsts == 0 && dir->text.len == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "read log", path, "",
                        "There is no operation log in this folder. pfx-agent init starts one.");
    *ret = PFX_TAKE(dir);
    return PFX_OK;
}

void pfx_logdir_close(struct pfx_logdir *dir)
{
    if (!dir)
        return;
    pfx_logdir_close_segment(dir);
    close(dir->fd);
    pfx_hasher_free(dir->hasher);
    pfx_buf_done(&dir->text);
    free(dir->firsts);
    free(dir->path);
    free(dir);
}

struct pfx_bytes pfx_logdir_checkpoint(const struct pfx_logdir *dir,
                                       const struct pfx_checkpoint **ret_parsed)
{
    if (ret_parsed)
        *ret_parsed = &dir->checkpoint;
    return pfx_buf_bytes(&dir->text);
}

uint64_t pfx_logdir_first(const struct pfx_logdir *dir)
{
    return dir->n_firsts > 0 ? dir->firsts[0] : 0;
}

static bool take_line(const char **text, char *buf, size_t size)
{
    const char *lf = strchr(*text, '\n');
    size_t len = lf ? (size_t)(lf - *text) : 0;
    if (!lf || len == 0 || len >= size)
        return false;
    memcpy(buf, *text, len);
    buf[len] = '\0';
    *text = lf + 1;
    return true;
}

bool pfx_logdir_anchor(struct pfx_logdir *dir, struct pfx_anchor_copy *ret)
{
    struct pfx_buf bytes PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(MAX_ANCHOR + 1);
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (pfx_failed(pfx_logdir_file(dir, "anchor", MAX_ANCHOR, &bytes, &ignored)))
        return false;
    const char *text = pfx_buf_str(&bytes);
    struct pfx_anchor_copy copy;
    char size[24], hash[32], at[PFX_TIME_SIZE];
    if (strlen(text) != bytes.len || !take_line(&text, copy.origin, sizeof copy.origin) ||
        !take_line(&text, size, sizeof size) || !take_line(&text, hash, sizeof hash) ||
        !take_line(&text, at, sizeof at) || *text != '\0' || !pfx_time_parse(at, &copy.at_ms) ||
        strlen(hash) != 2 * sizeof copy.hash || strspn(size, "0123456789") != strlen(size))
        return false;
    struct pfx_buf raw PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(sizeof copy.hash);
    if (!pfx_unhex(hash, strlen(hash), &raw))
        return false;
    memcpy(copy.hash, raw.data, sizeof copy.hash);
    copy.size = strtoull(size, NULL, 10);
    *ret = copy;
    return true;
}
