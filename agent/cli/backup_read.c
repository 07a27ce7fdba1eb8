/*
 * Reading an archive. Whoever made it may have wanted to harm: libarchive splits it into members,
 * and what isn't a regular file with a plain name, or is longer than the archive, ends it here.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/backup.h"
#include "agent/cli/backup_impl.h"
#include "crypto/encode.h"

#define BLOCK 65536

void backup_done(struct backup *backup)
{
    if (backup->fd >= 0)
        (void)close(backup->fd);
    for (size_t i = 0; i < backup->n_keys; i++)
        pfx_vkey_done(&backup->keys[i]);
    backup_manifest_done(&backup->manifest);
    pfx_buf_done(&backup->entry);
    pfx_buf_done(&backup->receipt);
    backup->fd = -1;
    backup->n_keys = 0;
}

pfx_result backup_bad(const struct backup *backup, const char *object, struct pfx_error *err,
                      const char *why)
{
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "read backup", object ? object : backup->path, "",
                    "%s", why);
}

/* --- members, one after the other --- */

/* Each may fail; name and digest are borrowed. */
struct loop {
    pfx_result (*begin)(void *ctx, const char *name, uint64_t size, struct pfx_error *err);
    pfx_result (*data)(void *ctx, const void *data, size_t len, struct pfx_error *err);
    pfx_result (*end)(void *ctx, const uint8_t sha256[32], struct pfx_error *err);
    void *ctx;
};

static void archive_freep(struct archive **archive)
{
    if (*archive)
        (void)archive_read_free(*archive);
}
static void md_freep(EVP_MD_CTX **md)
{
    EVP_MD_CTX_free(*md);
}

static pfx_result damaged(const struct backup *backup, const char *object, struct archive *archive,
                          struct pfx_error *err)
{
    const char *text = archive_error_string(archive);
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(200);
    for (size_t i = 0; text && text[i] && i < 199; i++)
        (void)pfx_buf_add(&clean, text[i] >= ' ' && text[i] < 0x7f ? &text[i] : "?", 1);
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "read backup", object ? object : backup->path, "",
                    "it is cut off or damaged, or no tar archive (%s). Take another copy of it",
                    pfx_buf_str(&clean));
}

static bool plain(struct archive_entry *entry, const char *name)
{
    enum backup_where where;
    bool known = strcmp(name, BACKUP_MANIFEST) == 0 || strcmp(name, BACKUP_ENTRY) == 0 ||
                 strcmp(name, BACKUP_RECEIPT) == 0 || backup_name_parse(name, &where);
    return known && archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry) &&
           !archive_entry_symlink(entry) && archive_entry_sparse_count(entry) == 0;
}

static pfx_result contents(const struct backup *backup, struct archive *archive, const char *name,
                           uint64_t size, const struct loop *loop, struct pfx_error *err)
{
    PFX_CLEANUP(md_freep) EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint64_t at = 0;
    uint8_t digest[32];
    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        pfx_die("no SHA-256");
    for (;;) {
        const void *block = NULL;
        size_t len = 0;
        la_int64_t offset = 0;
        int r = archive_read_data_block(archive, &block, &len, &offset);
        if (r == ARCHIVE_EOF)
            break;
        if (r != ARCHIVE_OK)
            return damaged(backup, name, archive, err);
        if (offset < 0 || (uint64_t)offset != at || len > size - at)
            return backup_bad(backup, name, err, "it has holes, or is longer than it says");
        at += len;
        if (len > 0 && EVP_DigestUpdate(md, block, len) != 1)
            pfx_die("no SHA-256");
        if (len > 0)
            PFX_TRY(loop->data(loop->ctx, block, len, err));
    }
    if (at != size)
        return backup_bad(backup, name, err, "it is shorter than it says");
    if (EVP_DigestFinal_ex(md, digest, NULL) != 1)
        pfx_die("no SHA-256");
    return loop->end(loop->ctx, digest, err);
}

static pfx_result walk(const struct backup *backup, const struct loop *loop, struct pfx_error *err)
{
    PFX_CLEANUP(archive_freep) struct archive *archive = archive_read_new();
    if (!archive || archive_read_support_format_tar(archive) != ARCHIVE_OK ||
        archive_read_support_filter_none(archive) != ARCHIVE_OK)
        pfx_die("libarchive reads no tar files");
    if (lseek(backup->fd, 0, SEEK_SET) < 0)
        return pfx_fail_errno(err, errno, "read backup", backup->path, "choose a file");
    if (archive_read_open_fd(archive, backup->fd, BLOCK) != ARCHIVE_OK)
        return damaged(backup, NULL, archive, err);
    for (size_t n = 0;; n++) {
        struct archive_entry *entry = NULL;
        int r = archive_read_next_header(archive, &entry);
        if (r == ARCHIVE_EOF)
            return PFX_OK;
        if (r != ARCHIVE_OK)
            return damaged(backup, NULL, archive, err);
        const char *raw = archive_entry_pathname(entry);
        if (n == BACKUP_MOST)
            return backup_bad(backup, NULL, err, "it has more files than a backup can have");
        if (!raw || !plain(entry, raw))
            return backup_bad(backup, NULL, err,
                              "it has a member that no backup has: a link, a folder, or a name "
                              "that leads elsewhere. It wasn't made by pfx-agent backup create");
        la_int64_t size = archive_entry_size(entry);
        if (!archive_entry_size_is_set(entry) || size < 0 || (uint64_t)size > backup->bytes)
            return backup_bad(backup, NULL, err, "it has a file that is longer than all of it");
        char *name PFX_AUTOFREE = pfx_strdup(raw);
        PFX_TRY(loop->begin(loop->ctx, name, (uint64_t)size, err));
        PFX_TRY(contents(backup, archive, name, (uint64_t)size, loop, err));
    }
}

/* --- all of it, to be compared --- */

struct reading {
    struct backup *backup;
    struct backup_manifest found; /* names, sizes and hashes, as they come */
    struct backup_item *item;     /* the current one; NULL: of the three */
    struct pfx_buf text;          /* of the manifest */
    struct pfx_buf slot, key;     /* of the log */
    struct pfx_buf *into;         /* where the current one is kept; NULL: it isn't */
    bool is_key;
    unsigned seen; /* of the three, a bit for each */
};

static void reading_done(struct reading *reading)
{
    backup_manifest_done(&reading->found);
    pfx_buf_done(&reading->text);
    pfx_buf_done(&reading->slot);
    pfx_buf_done(&reading->key);
}

static pfx_result reading_begin(void *ctx, const char *name, uint64_t size, struct pfx_error *err)
{
    struct reading *r = ctx;
    struct {
        const char *name;
        struct pfx_buf *into;
    } const own[] = {{BACKUP_MANIFEST, &r->text},
                     {BACKUP_ENTRY, &r->backup->entry},
                     {BACKUP_RECEIPT, &r->backup->receipt}};
    r->item = NULL;
    r->into = NULL;
    r->is_key = false;
    for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (strcmp(name, own[i].name) != 0)
            continue;
        if (r->seen & (1u << i))
            return backup_bad(r->backup, name, err, "it is there twice");
        if (size > own[i].into->max)
            return backup_bad(r->backup, name, err, "it is longer than such a file can be");
        r->seen |= 1u << i;
        r->into = own[i].into;
        return PFX_OK;
    }
    r->item = backup_manifest_add(&r->found, name);
    r->item->size = size;
    r->is_key = strncmp(name, "log/keys/", 9) == 0 && size < r->key.max;
    if (r->is_key)
        pfx_buf_reset(&r->key);
    if (r->is_key || (strcmp(name, BACKUP_SLOT) == 0 && size <= r->slot.max && r->slot.len == 0))
        r->into = r->is_key ? &r->key : &r->slot;
    return PFX_OK;
}

static pfx_result reading_data(void *ctx, const void *data, size_t len, struct pfx_error *err)
{
    struct reading *r = ctx;
    if (r->into && !pfx_buf_add(r->into, data, len))
        return backup_bad(r->backup, NULL, err, "a file is longer than it says");
    return PFX_OK;
}

static pfx_result reading_end(void *ctx, const uint8_t sha256[32], struct pfx_error *err)
{
    struct reading *r = ctx;
    (void)err;
    if (r->into == &r->text)
        memcpy(r->backup->manifest_sha256, sha256, 32);
    if (r->item)
        memcpy(r->item->sha256, sha256, 32);
    if (r->is_key)
        backup_take_key(r->backup, pfx_buf_bytes(&r->key));
    return PFX_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct backup_item *)a)->name, ((const struct backup_item *)b)->name);
}

/* Each file of the manifest is there as it says, once, and nothing else is. */
static pfx_result compare(const struct backup *backup, struct backup_manifest *found,
                          struct pfx_error *err)
{
    const struct backup_manifest *m = &backup->manifest;
    size_t at = 0;
    if (found->n > 0)
        qsort(found->items, found->n, sizeof(*found->items), by_name);
    for (size_t i = 0; i < m->n; i++) {
        const struct backup_item *want = &m->items[i];
        if (want->folder)
            continue;
        int order = at < found->n ? strcmp(found->items[at].name, want->name) : 1;
        if (order < 0)
            break;
        if (order > 0)
            return backup_bad(backup, want->name, err, "the manifest names it, and it isn't there");
        const struct backup_item *have = &found->items[at++];
        if (have->size != want->size || memcmp(have->sha256, want->sha256, 32) != 0)
            return backup_bad(backup, want->name, err,
                              "it isn't what the manifest says: it was changed, or damaged");
    }
    return at == found->n ? PFX_OK
                          : backup_bad(backup, found->items[at].name, err,
                                       "it is there and not in the manifest, or there twice");
}

static pfx_result open_archive(const char *path, struct backup *backup, struct pfx_error *err)
{
    struct stat st;
    backup->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (backup->fd < 0)
        return pfx_fail_errno(err, errno, "read backup", path, "name the archive");
    if (fstat(backup->fd, &st) != 0)
        return pfx_fail_errno(err, errno, "read backup", path, "");
    if (!S_ISREG(st.st_mode))
        return pfx_fail(err, PFX_CLASS_USAGE, "read backup", path, "", "it isn't a file");
    backup->bytes = (uint64_t)st.st_size;
    return PFX_OK;
}

pfx_result backup_read(const char *path, struct backup *ret, struct pfx_error *err)
{
    struct backup *b = ret;
    *b = (struct backup){.path = path,
                         .fd = -1,
                         .entry = pfx_buf_make(PFX_ENTRY_MAX),
                         .receipt = pfx_buf_make(BACKUP_RECEIPT_MAX)};
    PFX_TRY(open_archive(path, b, err));
    PFX_CLEANUP(reading_done)
    struct reading r = {.backup = b,
                        .text = pfx_buf_make(BACKUP_MANIFEST_MAX),
                        .slot = pfx_buf_make(BACKUP_SLOT_SIZE),
                        .key = pfx_buf_make(PFX_VKEY_LINE_SIZE)};
    struct loop loop = {reading_begin, reading_data, reading_end, &r};
    PFX_TRY(walk(b, &loop, err));
    if (r.seen != 7)
        return backup_bad(b, NULL, err,
                          "it has no manifest, or no proof of it: it is cut off, or wasn't made by "
                          "pfx-agent backup create");
    PFX_TRY(backup_manifest_parse(pfx_buf_bytes(&r.text), &b->manifest, err));
    PFX_TRY(compare(b, &r.found, err));
    /* An entry or a proof that can't be read isn't as it was made. */
    pfx_result result = backup_prove(b, pfx_buf_bytes(&r.slot), err);
    if (result.cls == PFX_CLASS_REFUSED)
        result.cls = err->cls = PFX_CLASS_INTEGRITY;
    return result;
}

/* --- once more, for who puts the files somewhere --- */

struct extracting {
    const struct backup *backup;
    const struct backup_visitor *visitor;
    const struct backup_item *item; /* NULL: of the three */
    size_t n;
};

static pfx_result extracting_begin(void *ctx, const char *name, uint64_t size,
                                   struct pfx_error *err)
{
    struct extracting *x = ctx;
    const struct backup_manifest *m = &x->backup->manifest;
    struct backup_item key = {.name = (char *)name};
    enum backup_where where;
    x->item = m->n ? bsearch(&key, m->items, m->n, sizeof(*m->items), by_name) : NULL;
    if (!backup_name_parse(name, &where))
        return PFX_OK; /* of the three */
    if (!x->item || x->item->folder || x->item->size != size)
        return backup_bad(x->backup, name, err, "the archive was changed while it was read");
    x->n++;
    return x->visitor->begin(x->visitor->ctx, x->item, err);
}

static pfx_result extracting_data(void *ctx, const void *data, size_t len, struct pfx_error *err)
{
    const struct extracting *x = ctx;
    return x->item ? x->visitor->data(x->visitor->ctx, data, len, err) : PFX_OK;
}

static pfx_result extracting_end(void *ctx, const uint8_t sha256[32], struct pfx_error *err)
{
    const struct extracting *x = ctx;
    if (!x->item)
        return PFX_OK;
    if (memcmp(sha256, x->item->sha256, 32) != 0)
        return backup_bad(x->backup, x->item->name, err,
                          "the archive was changed while it was read");
    return x->visitor->end(x->visitor->ctx, x->item, err);
}

pfx_result backup_extract(struct backup *backup, const struct backup_visitor *visitor,
                          struct pfx_error *err)
{
    struct extracting x = {backup, visitor, NULL, 0};
    struct loop loop = {extracting_begin, extracting_data, extracting_end, &x};
    size_t files = 0;
    for (size_t i = 0; i < backup->manifest.n; i++)
        files += !backup->manifest.items[i].folder;
    PFX_TRY(walk(backup, &loop, err));
    return x.n == files ? PFX_OK
                        : backup_bad(backup, NULL, err, "the archive was changed while it was read");
}
