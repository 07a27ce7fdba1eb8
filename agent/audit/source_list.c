/* Names in the folders of an exported log. */
#include "agent/audit/source_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMES_MOST 1000000
#define DIGITS 20

/* NULL with errno 0: the folder isn't there. */
static DIR *open_folder(const struct pfx_source *source, const char *folder)
{
    int fd = pfx_source_at(source, folder, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        if (errno == ENOENT)
            errno = 0;
        return NULL;
    }
    DIR *dir = fdopendir(fd);
    if (!dir)
        close(fd);
    return dir;
}

static void close_folder(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static pfx_result folder_failed(const struct pfx_source *source, const char *folder,
                                struct pfx_error *err)
{
    PFX_AUTOFREE char *path = pfx_asprintf("%s/%s", pfx_source_path(source), folder);
    return pfx_fail_errno(err, errno, "list folder", path, "make it readable");
}

static pfx_result too_many(const struct pfx_source *source, const char *folder,
                           struct pfx_error *err)
{
    PFX_AUTOFREE char *path = pfx_asprintf("%s/%s", pfx_source_path(source), folder);
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "list folder", path, "",
                    "more than %d names: no export has so many", NAMES_MOST);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

pfx_result pfx_source_list(struct pfx_source *source, const char *folder, char ***ret_names,
                           size_t *ret_n, struct pfx_error *err)
{
    *ret_names = NULL;
    *ret_n = 0;
    PFX_CLEANUP(close_folder) DIR *dir = open_folder(source, folder);
    if (!dir)
        return errno ? folder_failed(source, folder, err) : PFX_OK;
    char **names = NULL;
    size_t n = 0, room = 0;
    pfx_result r = PFX_OK;
    for (struct dirent *item; (item = readdir(dir));) {
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        if (n == NAMES_MOST) {
            r = too_many(source, folder, err);
            break;
        }
        if (n == room) {
            room = room ? room * 2 : 64;
            names = pfx_grow(names, room, sizeof(*names));
        }
        names[n++] = pfx_strdup(item->d_name);
    }
    if (pfx_failed(r)) {
        for (size_t i = 0; i < n; i++)
            free(names[i]);
        free(names);
        return r;
    }
    if (n > 1)
        qsort(names, n, sizeof(*names), by_name);
    *ret_names = names;
    *ret_n = n;
    return PFX_OK;
}

static int by_size(const void *a, const void *b)
{
    uint64_t left, right;
    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return (left > right) - (left < right);
}

pfx_result pfx_source_checkpoints(struct pfx_source *source, uint64_t **ret_sizes, size_t *ret_n,
                                  size_t *ret_odd, struct pfx_error *err)
{
    *ret_sizes = NULL;
    *ret_n = 0;
    *ret_odd = 0;
    PFX_CLEANUP(close_folder) DIR *dir = open_folder(source, "checkpoints");
    if (!dir)
        return errno ? folder_failed(source, "checkpoints", err) : PFX_OK;
    PFX_AUTOFREE uint64_t *sizes = NULL;
    size_t n = 0, room = 0;
    for (struct dirent *item; (item = readdir(dir));) {
        const char *name = item->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        uint64_t size = strtoull(name, NULL, 10);
        if (strlen(name) != DIGITS || strspn(name, "0123456789") != DIGITS ||
            size > PFX_TREE_SIZE_MAX) {
            ++*ret_odd;
            continue;
        }
        if (n == NAMES_MOST)
            return too_many(source, "checkpoints", err);
        if (n == room) {
            room = room ? room * 2 : 64;
            sizes = pfx_grow(sizes, room, sizeof(*sizes));
        }
        sizes[n++] = size;
    }
    if (n > 1)
        qsort(sizes, n, sizeof(*sizes), by_size);
    *ret_sizes = PFX_TAKE(sizes);
    *ret_n = n;
    return PFX_OK;
}
