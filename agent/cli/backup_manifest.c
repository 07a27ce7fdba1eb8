#include <stdio.h>
#include <string.h>

#include "agent/cli/backup.h"
#include "crypto/encode.h"
#include "crypto/lines.h"

#define TITLE "# pfx-agent backup v1"
#define MODE_MAX 0777
#define PART_MAX 100
#define PATH_BYTES 1024
#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

const char *const backup_folder_names[BACKUP_FOLDERS] = {"config", "agent", "hsm", "log"};

void backup_manifest_done(struct backup_manifest *manifest)
{
    for (size_t i = 0; i < BACKUP_FOLDERS; i++)
        free(manifest->folders[i].path);
    for (size_t i = 0; i < manifest->n; i++)
        free(manifest->items[i].name);
    free(manifest->items);
    memset(manifest, 0, sizeof(*manifest));
}

struct backup_item *backup_manifest_add(struct backup_manifest *manifest, const char *name)
{
    if (manifest->n == manifest->room) {
        manifest->room = manifest->room ? 2 * manifest->room : 64;
        manifest->items = pfx_grow(manifest->items, manifest->room, sizeof(*manifest->items));
    }
    struct backup_item *item = &manifest->items[manifest->n++];
    *item = (struct backup_item){.name = pfx_strdup(name)};
    return item;
}

/* --- names --- */

bool backup_part_ok(const char *part, size_t len)
{
    return len > 0 && len <= PART_MAX && part[0] != '.' &&
           strspn(part, NAME_CHARS ":@+") >= len;
}

bool backup_name_parse(const char *name, enum backup_where *ret_where)
{
    size_t len = strlen(name), depth = 0;
    if (len > BACKUP_NAME)
        return false;
    for (const char *part = name;; depth++) {
        size_t n = strcspn(part, "/");
        if (depth == BACKUP_DEPTH || !backup_part_ok(part, n))
            return false;
        if (part[n] == '\0')
            break;
        part += n + 1;
    }
    size_t head = strcspn(name, "/");
    for (size_t i = 0; i < BACKUP_FOLDERS; i++) {
        if (depth > 0 && strlen(backup_folder_names[i]) == head &&
            strncmp(name, backup_folder_names[i], head) == 0) {
            *ret_where = (enum backup_where)i;
            return true;
        }
    }
    return false;
}

/* "user:group", each a name or a number. */
static bool owner_ok(const char *owner)
{
    size_t user = strspn(owner, NAME_CHARS);
    size_t group = owner[user] == ':' ? strspn(owner + user + 1, NAME_CHARS) : 0;
    return user > 0 && user <= 32 && group > 0 && group <= 32 && owner[user + 1 + group] == '\0';
}

/* Absolute, with no empty part, "." or "..", and nothing that couldn't stand in a line. */
static bool path_ok(const char *path)
{
    size_t len = strlen(path);
    if (len < 2 || len >= PATH_BYTES || path[0] != '/')
        return false;
    for (const char *at = path; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return false;
    for (const char *part = path + 1;; part += strcspn(part, "/") + 1) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (part[n] == '\0')
            return true;
    }
}

/* --- writing --- */

bool backup_manifest_write(const struct backup_manifest *manifest, struct pfx_buf *out)
{
    char when[PFX_TIME_SIZE], hex[65];
    enum backup_where where;
    bool ok = pfx_buf_addf(out, TITLE "\n# made %s\n# log %llu %s\n",
                           pfx_time_format(manifest->made_ms, true, when),
                           (unsigned long long)manifest->log_size, manifest->origin);
    for (size_t i = 0; i < BACKUP_FOLDERS; i++) {
        const struct backup_folder *folder = &manifest->folders[i];
        ok = ok && folder->path && path_ok(folder->path) && owner_ok(folder->owner) &&
             pfx_buf_addf(out, "# folder %s %04o %s %s\n", backup_folder_names[i], folder->mode,
                          folder->owner, folder->path);
    }
    for (size_t i = 0; ok && i < manifest->n; i++) {
        const struct backup_item *item = &manifest->items[i];
        ok = backup_name_parse(item->name, &where) && owner_ok(item->owner);
        if (item->folder)
            ok = ok &&
                 pfx_buf_addf(out, "# dir %04o %s %s\n", item->mode, item->owner, item->name);
        else
            ok = ok && pfx_buf_addf(out, "# file %04o %s %llu\n%s  %s\n", item->mode, item->owner,
                                    (unsigned long long)item->size,
                                    pfx_hex(item->sha256, sizeof(item->sha256), hex), item->name);
    }
    return ok;
}

/* --- reading --- */

struct reader {
    struct pfx_lines lines;
    struct pfx_error *err;
};

static pfx_result wrong(const struct reader *r, const char *why)
{
    char object[32];
    (void)snprintf(object, sizeof(object), "line %u", r->lines.n);
    return pfx_fail(r->err, PFX_CLASS_INTEGRITY, "read manifest", object, "", "%s", why);
}

/* The next word of the line, up to a space; false: there is none, or it is too long. */
static bool word(struct pfx_bytes *line, char *ret, size_t size)
{
    const uint8_t *space = line->len > 0 ? memchr(line->data, ' ', line->len) : NULL;
    size_t len = space ? (size_t)(space - line->data) : line->len;
    if (len == 0 || len >= size || memchr(line->data, '\0', len))
        return false;
    memcpy(ret, line->data, len);
    ret[len] = '\0';
    line->data += len + (space != NULL);
    line->len -= len + (space != NULL);
    return true;
}

/* The rest of the line; free it. NULL: it isn't text of so many bytes. */
static char *rest(struct pfx_bytes line, size_t max)
{
    if (line.len == 0 || line.len > max || memchr(line.data, '\0', line.len))
        return NULL;
    return pfx_strndup((const char *)line.data, line.len);
}

static bool mode_owner(struct pfx_bytes *line, unsigned *ret_mode, char owner[BACKUP_OWNER])
{
    char text[8];
    if (!word(line, text, sizeof(text)) || strlen(text) != 4 || strspn(text, "01234567") != 4 ||
        !word(line, owner, BACKUP_OWNER) || !owner_ok(owner))
        return false;
    *ret_mode = (unsigned)strtoul(text, NULL, 8);
    return *ret_mode <= MODE_MAX;
}

static pfx_result read_head(struct reader *r, struct backup_manifest *m)
{
    struct pfx_bytes line;
    char text[64];
    if (!pfx_lines_next(&r->lines, &line) || !pfx_bytes_equal(line, TITLE))
        return wrong(r, "this isn't the manifest of a backup that this pfx-agent knows");
    if (!pfx_lines_next(&r->lines, &line) || !pfx_bytes_skip(&line, "# made ") ||
        !word(&line, text, sizeof(text)) || line.len > 0 || !pfx_time_parse(text, &m->made_ms))
        return wrong(r, "it must say when the backup was made");
    char *origin PFX_AUTOFREE = NULL;
    if (!pfx_lines_next(&r->lines, &line) || !pfx_bytes_skip(&line, "# log ") ||
        !word(&line, text, sizeof(text)) ||
        !pfx_bytes_decimal((struct pfx_bytes){(const uint8_t *)text, strlen(text)},
                           &m->log_size) ||
        !(origin = rest(line, sizeof(m->origin) - 1)))
        return wrong(r, "it must say how long the log is, and its origin");
    memcpy(m->origin, origin, strlen(origin) + 1);
    for (size_t i = 0; i < BACKUP_FOLDERS; i++) {
        struct backup_folder *folder = &m->folders[i];
        if (!pfx_lines_next(&r->lines, &line) || !pfx_bytes_skip(&line, "# folder ") ||
            !word(&line, text, sizeof(text)) || strcmp(text, backup_folder_names[i]) != 0 ||
            !mode_owner(&line, &folder->mode, folder->owner) ||
            !(folder->path = rest(line, PATH_BYTES)) || !path_ok(folder->path))
            return wrong(r, "it must say where a folder was, with mode and owner");
    }
    return PFX_OK;
}

static bool read_sum(struct pfx_bytes line, struct backup_item *item)
{
    struct pfx_buf digest PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(sizeof(item->sha256));
    enum backup_where where;
    if (line.len <= 66 || line.data[64] != ' ' || line.data[65] != ' ' ||
        !pfx_unhex((const char *)line.data, 64, &digest) || digest.len != sizeof(item->sha256))
        return false;
    memcpy(item->sha256, digest.data, digest.len);
    item->name = rest((struct pfx_bytes){line.data + 66, line.len - 66}, BACKUP_NAME);
    return item->name && backup_name_parse(item->name, &where);
}

static pfx_result read_item(struct reader *r, struct pfx_bytes line, struct backup_manifest *m)
{
    struct backup_item item = {.name = NULL};
    enum backup_where where;
    char *name PFX_AUTOFREE = NULL;
    if (m->n == BACKUP_MOST)
        return wrong(r, "there are more files than a backup can have");
    if (pfx_bytes_skip(&line, "# dir ")) {
        item.folder = true;
        if (!mode_owner(&line, &item.mode, item.owner) || !(name = rest(line, BACKUP_NAME)) ||
            !backup_name_parse(name, &where))
            return wrong(r, "a folder must have a mode, an owner and a plain name");
    } else {
        if (!pfx_bytes_skip(&line, "# file ") || !mode_owner(&line, &item.mode, item.owner) ||
            !pfx_bytes_decimal(line, &item.size))
            return wrong(r, "a file must have a mode, an owner and a size");
        bool sum = pfx_lines_next(&r->lines, &line) && read_sum(line, &item);
        name = item.name;
        if (!sum)
            return wrong(r, "a file must have a SHA-256 and a plain name");
    }
    item.name = NULL;
    struct backup_item *added = backup_manifest_add(m, name);
    item.name = added->name;
    *added = item;
    return PFX_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct backup_item *)a)->name, ((const struct backup_item *)b)->name);
}

pfx_result backup_manifest_parse(struct pfx_bytes text, struct backup_manifest *ret,
                                 struct pfx_error *err)
{
    struct reader r = {.lines = {text, 0}, .err = err};
    PFX_CLEANUP(backup_manifest_done) struct backup_manifest m = {.made_ms = 0};
    struct pfx_bytes line;
    PFX_TRY(read_head(&r, &m));
    while (pfx_lines_next(&r.lines, &line))
        PFX_TRY(read_item(&r, line, &m));
    if (r.lines.rest.len > 0)
        return wrong(&r, "the last line has no end");
    if (m.n > 0)
        qsort(m.items, m.n, sizeof(*m.items), by_name);
    for (size_t i = 1; i < m.n; i++)
        if (strcmp(m.items[i - 1].name, m.items[i].name) == 0)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "read manifest", m.items[i].name, "",
                            "this name is there twice");
    *ret = m;
    memset(&m, 0, sizeof(m));
    return PFX_OK;
}
