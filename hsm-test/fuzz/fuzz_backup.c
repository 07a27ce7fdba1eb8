/* Backups that somebody hands to `backup verify`: the archive as a whole, its manifest, the names in
 * it. The first line says which. */
#include <sys/mman.h>
#include <unistd.h>

#include "agent/cli/backup.h"
#include "fuzz.h"

static void try_manifest(struct pfx_bytes bytes)
{
    PFX_CLEANUP(backup_manifest_done) struct backup_manifest manifest = {.made_ms = 0};
    PFX_CLEANUP(backup_manifest_done) struct backup_manifest same_one = {.made_ms = 0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(4 * bytes.len + 1024);
    struct pfx_error err = PFX_ERROR_NONE;
    enum backup_where where;
    if (pfx_failed(backup_manifest_parse(bytes, &manifest, &err))) {
        must(err.cls == PFX_CLASS_INTEGRITY && manifest.n == 0 && !manifest.folders[0].path);
        must_say(&err);
        return;
    }
    for (size_t i = 0; i < manifest.n; i++) {
        must(backup_name_parse(manifest.items[i].name, &where));
        must(!strstr(manifest.items[i].name, "..") || !strstr(manifest.items[i].name, "/.."));
        must(manifest.items[i].mode <= 0777);
        must(i == 0 || strcmp(manifest.items[i - 1].name, manifest.items[i].name) < 0);
    }
    for (size_t i = 0; i < BACKUP_FOLDERS; i++)
        must(manifest.folders[i].path[0] == '/' && !strstr(manifest.folders[i].path, "/../"));
    /* What is taken can be written, and says the same. */
    must(backup_manifest_write(&manifest, &again));
    must(pfx_ok(backup_manifest_parse(pfx_buf_bytes(&again), &same_one, &err)));
    must(same_one.n == manifest.n && same_one.log_size == manifest.log_size);
}

static void try_name(struct pfx_bytes bytes)
{
    PFX_AUTOFREE char *name = text_of(bytes);
    enum backup_where where;
    if (backup_name_parse(name, &where)) {
        must(where < BACKUP_FOLDERS && name[0] != '/' && strchr(name, '/'));
        must(!strstr(name, "/.") && !strstr(name, "//") && strlen(name) <= BACKUP_NAME);
    }
}

struct kept {
    const struct backup_item *item;
    uint64_t len;
};

static pfx_result kept_begin(void *ctx, const struct backup_item *item, struct pfx_error *err)
{
    struct kept *kept = ctx;
    (void)err;
    *kept = (struct kept){item, 0};
    return PFX_OK;
}

static pfx_result kept_data(void *ctx, const void *data, size_t len, struct pfx_error *err)
{
    struct kept *kept = ctx;
    (void)data, (void)err;
    kept->len += len;
    must(kept->len <= kept->item->size);
    return PFX_OK;
}

static pfx_result kept_end(void *ctx, const struct backup_item *item, struct pfx_error *err)
{
    const struct kept *kept = ctx;
    (void)err;
    must(kept->item == item && kept->len == item->size);
    return PFX_OK;
}

static void try_tar(struct pfx_bytes bytes)
{
    struct backup *backup = pfx_alloc(sizeof(*backup));
    struct pfx_error err = PFX_ERROR_NONE;
    int fd = memfd_create("backup", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, bytes.data, bytes.len) == (ssize_t)bytes.len);
    PFX_AUTOFREE char *path = pfx_asprintf("/proc/self/fd/%d", fd);
    if (pfx_failed(backup_read(path, backup, &err))) {
        must(err.cls == PFX_CLASS_INTEGRITY);
        must_say(&err);
    } else {
        struct kept kept = {NULL, 0};
        struct backup_visitor visitor = {kept_begin, kept_data, kept_end, &kept};
        must(backup->log.size <= backup->seq && backup->seq < backup->proof.size);
        must(pfx_failed(backup_signed(backup, NULL, 0, &err)));
        err = PFX_ERROR_NONE;
        (void)pfx_ok(backup_signed(backup, backup->keys, backup->n_keys, &err));
        must(pfx_ok(backup_extract(backup, &visitor, &err)));
    }
    backup_done(backup);
    free(backup);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        const char *name;
        void (*try)(struct pfx_bytes bytes);
    } kinds[] = {{"tar", try_tar}, {"manifest", try_manifest}, {"name", try_name}};
    struct pfx_bytes rest = {data, size};
    struct pfx_bytes word = take_until(&rest, '\n');
    size_t n = sizeof kinds / sizeof *kinds, kind = n;
    for (size_t i = 0; i < n; i++)
        if (is_word(word, kinds[i].name))
            kind = i;
    kinds[kind < n ? kind : any_of(word, n)].try(rest);
    return 0;
}
