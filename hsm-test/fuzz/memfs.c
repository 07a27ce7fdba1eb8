#include "memfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILES 64
#define MAX_FDS 32
#define FIRST_FD 100000

static struct {
    char *name;
    struct pfx_buf content;
    char bad; /* '?' or '-', else 0 */
} files[MAX_FILES];
static size_t n_files;

static struct {
    bool used;
    int file;     /* -1: a folder */
    char *folder; /* with a slash at its end; "" is the root */
    size_t at;    /* offset, or the next file of a listing */
} fds[MAX_FDS];
void (*memfs_form)(struct pfx_buf *content);
static bool active; /* else the fuzzer itself is reading */

/* --- the input --- */

static struct pfx_bytes sized(struct pfx_bytes *input, size_t len)
{
    struct pfx_bytes content = {input->data, len < input->len ? len : input->len};
    if (content.len == 0)
        return content;
    input->data += content.len;
    input->len -= content.len;
    if (input->len > 0 && input->data[0] == '\n')
        (void)take_until(input, '\n');
    return content;
}

static void read_file(struct pfx_bytes *input, struct pfx_buf *out)
{
    while (input->len > 0) {
        bool escaped = input->len > 1 && input->data[0] == '@' && input->data[1] == '@';
        if (input->data[0] == '@' && !escaped)
            return;
        struct pfx_bytes before = *input;
        struct pfx_bytes line = take_until(input, '\n');
        bool ended = line.len < before.len;
        pfx_buf_add(out, line.data + escaped, line.len - escaped);
        if (ended)
            pfx_buf_add(out, "\n", 1);
    }
}

void memfs_begin(struct pfx_bytes input)
{
    active = true;
    while (input.len > 0 && n_files < MAX_FILES) {
        struct pfx_bytes head = take_until(&input, '\n');
        if (head.len == 0 || head.data[0] != '@')
            continue;
        char mark = (char)head.data[head.len - 1];
        bool formed = mark == '!';
        bool bad = mark == '?' || mark == '-';
        struct pfx_bytes rest = {head.data + 1, head.len - 1 - (formed || (bad && head.len > 1))};
        files[n_files].bad = bad ? mark : '\0';
        files[n_files].name = text_of(take_until(&rest, ':'));
        files[n_files].content = pfx_buf_make((size_t)4 << 20);
        if (rest.len > 0) {
            PFX_AUTOFREE char *number = text_of(rest);
            struct pfx_bytes content = sized(&input, strtoul(number, NULL, 10));
            pfx_buf_add(&files[n_files].content, content.data, content.len);
        } else {
            read_file(&input, &files[n_files].content);
        }
        if (formed && memfs_form)
            memfs_form(&files[n_files].content);
        n_files++;
    }
}

void memfs_end(void)
{
    active = false;
    for (size_t i = 0; i < MAX_FDS; i++)
        must(!fds[i].used);
    for (size_t i = 0; i < n_files; i++) {
        free(files[i].name);
        pfx_buf_done(&files[i].content);
    }
    n_files = 0;
}

/* --- files and folders --- */

static int find_file(const char *path)
{
    for (size_t i = 0; i < n_files; i++)
        if (strcmp(files[i].name, path) == 0)
            return (int)i;
    return -1;
}

static bool is_folder(const char *prefix)
{
    for (size_t i = 0; i < n_files; i++)
        if (strncmp(files[i].name, prefix, strlen(prefix)) == 0)
            return true;
    return prefix[0] == '\0';
}

static int no(int error)
{
    errno = error;
    return -1;
}

/* "/log" and "." are the root. */
static int open_path(const char *base, const char *path, int flags)
{
    const char *rest = path[0] == '/' ? "" : strcmp(path, ".") == 0 ? "" : path;
    PFX_AUTOFREE char *whole = pfx_asprintf("%s%s", base, rest);
    PFX_AUTOFREE char *prefix = pfx_asprintf("%s%s", whole, whole[0] ? "/" : "");
    int file = find_file(whole);
    size_t slot = 0;
    while (slot < MAX_FDS && fds[slot].used)
        slot++;
    must(slot < MAX_FDS); /* descriptors that nobody closes */
    must((flags & (O_WRONLY | O_RDWR | O_CREAT)) == 0);
    if (file >= 0 && files[file].bad == '-')
        return no(EACCES);
    if (file >= 0 && (flags & O_DIRECTORY))
        return no(ENOTDIR);
    if (file < 0 && !is_folder(prefix))
        return no(ENOENT);
    fds[slot].used = true;
    fds[slot].file = file;
    fds[slot].folder = file < 0 ? PFX_TAKE(prefix) : NULL;
    fds[slot].at = 0;
    return FIRST_FD + (int)slot;
}

static bool is_ours(int fd)
{
    return fd >= FIRST_FD;
}

static int slot_of(int fd)
{
    int slot = fd - FIRST_FD;
    must(slot >= 0 && slot < MAX_FDS && fds[slot].used);
    return slot;
}

int __wrap_open(const char *path, int flags, ...);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(args, int) : 0;
    va_end(args);
    return active ? open_path("", path, flags) : __real_open(path, flags, mode);
}

int __wrap_openat(int fd, const char *path, int flags, ...);
int __wrap_openat(int fd, const char *path, int flags, ...)
{
    const char *folder = fds[slot_of(fd)].folder;
    return folder ? open_path(folder, path, flags) : no(ENOTDIR);
}

int __wrap_close(int fd);
int __real_close(int fd);
int __wrap_close(int fd)
{
    if (!is_ours(fd))
        return __real_close(fd);
    int slot = slot_of(fd);
    free(fds[slot].folder);
    fds[slot].folder = NULL;
    fds[slot].used = false;
    return 0;
}

int __wrap_fstat(int fd, struct stat *st);
int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st)
{
    if (!is_ours(fd))
        return __real_fstat(fd, st);
    int file = fds[slot_of(fd)].file;
    memset(st, 0, sizeof *st);
    st->st_mode = file < 0 ? S_IFDIR | 0755 : S_IFREG | 0644;
    st->st_size = file < 0 ? 0 : (off_t)files[file].content.len;
    return 0;
}

int __wrap_fstatat(int fd, const char *path, struct stat *st, int flags);
int __wrap_fstatat(int fd, const char *path, struct stat *st, int flags)
{
    (void)flags;
    int opened = __wrap_openat(fd, path, O_RDONLY);
    if (opened < 0)
        return -1;
    (void)__wrap_fstat(opened, st);
    return __wrap_close(opened);
}

ssize_t __wrap_pread(int fd, void *data, size_t len, off_t at);
ssize_t __wrap_pread(int fd, void *data, size_t len, off_t at)
{
    int file = fds[slot_of(fd)].file;
    if (file < 0)
        return no(EISDIR);
    static unsigned turn;
    if (files[file].bad == '?')
        return no(turn++ % 2 == 0 ? EINTR : EIO);
    size_t size = files[file].content.len;
    if (at < 0 || (size_t)at >= size)
        return 0;
    size_t n = size - (size_t)at < len ? size - (size_t)at : len;
    memcpy(data, files[file].content.data + at, n);
    return (ssize_t)n;
}

ssize_t __wrap_read(int fd, void *data, size_t len);
ssize_t __real_read(int fd, void *data, size_t len);
ssize_t __wrap_read(int fd, void *data, size_t len)
{
    if (!is_ours(fd))
        return __real_read(fd, data, len);
    int slot = slot_of(fd);
    ssize_t n = __wrap_pread(fd, data, len, (off_t)fds[slot].at);
    fds[slot].at += n > 0 ? (size_t)n : 0;
    return n;
}

off_t __wrap_lseek(int fd, off_t at, int whence);
off_t __real_lseek(int fd, off_t at, int whence);
off_t __wrap_lseek(int fd, off_t at, int whence)
{
    if (!is_ours(fd))
        return __real_lseek(fd, at, whence);
    must(whence == SEEK_SET && at >= 0);
    fds[slot_of(fd)].at = (size_t)at;
    return at;
}

/* --- listings: the names below a folder, each once as long as they stand together --- */

DIR *__wrap_fdopendir(int fd);
DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd)
{
    if (!is_ours(fd))
        return __real_fdopendir(fd);
    int slot = slot_of(fd);
    fds[slot].at = 0;
    if (!fds[slot].folder)
        errno = ENOTDIR;
    return fds[slot].folder ? (DIR *)(void *)&fds[slot] : NULL;
}

static bool is_our_dir(const DIR *dir)
{
    const char *at = (const char *)(const void *)dir;
    return at >= (const char *)fds && at < (const char *)(fds + MAX_FDS);
}

static size_t slot_of_dir(const DIR *dir)
{
    return (size_t)((const char *)(const void *)dir - (const char *)(const void *)fds) /
           sizeof fds[0];
}

struct dirent *__wrap_readdir(DIR *dir);
struct dirent *__real_readdir(DIR *dir);
struct dirent *__wrap_readdir(DIR *dir)
{
    if (!is_our_dir(dir))
        return __real_readdir(dir);
    static struct dirent entry;
    size_t slot = slot_of_dir(dir);
    size_t skip = strlen(fds[slot].folder);
    while (fds[slot].at < n_files) {
        const char *name = files[fds[slot].at++].name;
        if (strncmp(name, fds[slot].folder, skip) != 0)
            continue;
        size_t len = strcspn(name + skip, "/");
        len = len < sizeof entry.d_name ? len : sizeof entry.d_name - 1;
        memcpy(entry.d_name, name + skip, len);
        entry.d_name[len] = '\0';
        return &entry;
    }
    return NULL;
}

int __wrap_closedir(DIR *dir);
int __real_closedir(DIR *dir);
int __wrap_closedir(DIR *dir)
{
    if (!is_our_dir(dir))
        return __real_closedir(dir);
    return __wrap_close(FIRST_FD + (int)slot_of_dir(dir));
}
