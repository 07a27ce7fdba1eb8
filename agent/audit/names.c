/*
 * The name map, one canonical JSON object a line: whose hash an entry carries. Each line proves
 * itself, since the hash is over its salt and id; UPN and addresses are what the host says.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/audit/sorter.h"
#include "agent/audit/source_list.h"
#include "crypto/encode.h"

#define LINE_MAX_BYTES 65536
#define SALT_SIZE 16
#define FEW 65536 /* names whose places stay in memory: 3 MiB */

struct place {
    uint8_t user[32];
    uint8_t at[8], len[8]; /* big-endian, so that records sort the same everywhere */
};
struct pfx_names {
    int fd;     /* the file */
    int sorted; /* struct place after struct place, where there are too many for `few` */
    struct place *few;
    uint64_t n;
    struct pfx_buf line;
};

struct line {
    struct pfx_canon_value addresses, id, salt, upn, user;
    unsigned n;
};

static bool take_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                        const struct pfx_canon_value *value)
{
    static const char *const names[] = {"addresses", "id", "salt", "upn", "user"};
    struct line *line = ctx;
    struct pfx_canon_value *members[] = {&line->addresses, &line->id, &line->salt, &line->upn,
                                         &line->user};
    if (group.len > 0)
        return false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (key.len == strlen(names[i]) && memcmp(key.data, names[i], key.len) == 0) {
            *members[i] = *value;
            line->n |= 1u << i;
            return value->kind == (i == 0 ? PFX_CANON_ARR : PFX_CANON_STR);
        }
    return false;
}

static bool value_text(const struct pfx_canon_value *value, char *ret, size_t size)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(size - 1);
    bool done = value->escaped ? pfx_canon_unescape(value, &text)
                               : pfx_buf_add(&text, value->text.data, value->text.len);
    if (!done || memchr(pfx_buf_str(&text), '\0', text.len))
        return false;
    memcpy(ret, pfx_buf_str(&text), text.len + 1);
    return true;
}

/* Checks that user = SHA-256(salt | id). */
static bool read_line(struct pfx_bytes text, struct line *line, struct pfx_name *ret,
                      uint8_t ret_user[32])
{
    memset(line, 0, sizeof(*line));
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (pfx_failed(pfx_canon_scan(text, take_member, line, &ignored)) || line->n != 31)
        return false;
    char salt[2 * SALT_SIZE + 1], hex[65];
    if (!value_text(&line->id, ret->id, sizeof(ret->id)) ||
        !value_text(&line->upn, ret->upn, sizeof(ret->upn)) ||
        !value_text(&line->salt, salt, sizeof(salt)) ||
        !value_text(&line->user, ret->user, sizeof(ret->user)))
        return false;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf hashed = pfx_buf_make(SALT_SIZE + sizeof(ret->id));
    return pfx_unhex(salt, strlen(salt), &hashed) && hashed.len == SALT_SIZE &&
           strspn(salt, "0123456789abcdef") == 2 * SALT_SIZE && pfx_buf_add_str(&hashed, ret->id) &&
           pfx_sha256(hashed.data, hashed.len, ret_user) &&
           strcmp(pfx_hex(ret_user, 32, hex), ret->user) == 0;
}

static void put_u64(uint8_t *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (56 - 8 * i));
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

/* Lines of the file one after another. */
struct lines {
    int fd;
    struct pfx_buf buf;
    size_t at;
    uint64_t offset; /* in the file, of the line that was given last */
    bool failed;
};

static bool next_line(struct lines *lines, struct pfx_bytes *ret)
{
    for (;;) {
        uint8_t *from = lines->buf.data ? lines->buf.data + lines->at : NULL;
        size_t left = lines->buf.len - lines->at;
        uint8_t *end = left ? memchr(from, '\n', left) : NULL;
        if (end) {
            *ret = (struct pfx_bytes){from, (size_t)(end - from)};
            lines->at += ret->len + 1;
            lines->offset += ret->len + 1;
            return true;
        }
        pfx_buf_drop(&lines->buf, lines->at);
        lines->at = 0;
        size_t had = lines->buf.len;
        uint8_t *more = pfx_buf_extend(&lines->buf, LINE_MAX_BYTES);
        ssize_t n = more ? read(lines->fd, more, LINE_MAX_BYTES) : -1;
        pfx_buf_cut(&lines->buf, had + (n > 0 ? (size_t)n : 0));
        if (n <= 0) {
            lines->failed = n < 0 || had > 0; /* a last line without its LF */
            return false;
        }
    }
}

static pfx_result index_lines(struct pfx_names *names, const char *object, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_sorter_freep)
    struct pfx_sorter *sorter = pfx_sorter_new(sizeof(struct place), (size_t)4 << 20);
    struct lines lines = {.fd = names->fd, .buf = pfx_buf_make((size_t)2 * LINE_MAX_BYTES)};
    pfx_result r = PFX_OK;
    struct pfx_bytes text;
    uint64_t n = 0;
    while (pfx_ok(r) && next_line(&lines, &text)) {
        struct line line;
        struct pfx_name name;
        struct place place;
        n++;
        if (!read_line(text, &line, &name, place.user)) {
            r = pfx_fail(err, PFX_CLASS_INTEGRITY, "read name map", object, "",
                         "line %llu isn't canonical JSON of a user, or its hash isn't that of its "
                         "salt and id",
                         (unsigned long long)n);
            break;
        }
        put_u64(place.at, lines.offset - text.len - 1);
        put_u64(place.len, text.len);
        r = pfx_sorter_add(sorter, &place, err);
    }
    if (pfx_ok(r) && lines.failed)
        r = pfx_fail(err, PFX_CLASS_INTEGRITY, "read name map", object, "",
                     "line %llu is longer than %d bytes, can't be read, or has no end",
                     (unsigned long long)n + 1, LINE_MAX_BYTES);
    pfx_buf_done(&lines.buf);
    PFX_TRY(r);
    PFX_TRY(pfx_sorter_finish(sorter, err));
    names->n = n;
    if (n <= FEW) {
        names->few = pfx_alloc_array((size_t)n + 1, sizeof(*names->few));
        for (size_t i = 0; i < n; i++) {
            const void *record;
            PFX_TRY(pfx_sorter_next(sorter, &record, err));
            memcpy(&names->few[i], record, sizeof(*names->few));
        }
        return PFX_OK;
    }
    PFX_TRY(pfx_spill_open(&names->sorted, err));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(LINE_MAX_BYTES);
    for (;;) {
        const void *record;
        PFX_TRY(pfx_sorter_next(sorter, &record, err));
        if (out.len > 0 && (!record || out.len + sizeof(struct place) > LINE_MAX_BYTES)) {
            if (write(names->sorted, out.data, out.len) != (ssize_t)out.len)
                return pfx_fail_errno(err, errno, "write a temporary file", "TMPDIR",
                                      "make room there, or set TMPDIR to another folder");
            pfx_buf_reset(&out);
        }
        if (!record)
            break;
        if (!pfx_buf_add(&out, record, sizeof(struct place)))
            pfx_die("a buffer of names is full");
    }
    return PFX_OK;
}

pfx_result pfx_names_open(struct pfx_source *source, const char *file, struct pfx_names **ret,
                          struct pfx_error *err)
{
    *ret = NULL;
    PFX_AUTOFREE char *object =
        file ? pfx_strdup(file) : pfx_asprintf("%s/names.jsonl", pfx_source_path(source));
    int fd = file ? open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
                  : pfx_source_at(source, "names.jsonl", O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT && !file)
        return PFX_OK;
    if (fd < 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "read name map", object, "", "%s", strerror(errno));
    struct pfx_names *names = pfx_alloc(sizeof(*names));
    names->fd = fd;
    names->sorted = -1;
    names->line = pfx_buf_make(LINE_MAX_BYTES);
    struct stat st;
    pfx_result r = PFX_OK;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        r = pfx_fail(err, PFX_CLASS_INTEGRITY, "read name map", object, "", "not a regular file");
    if (pfx_ok(r))
        r = index_lines(names, object, err);
    if (pfx_failed(r)) {
        pfx_names_close(names);
        return r;
    }
    *ret = names;
    return PFX_OK;
}

void pfx_names_close(struct pfx_names *names)
{
    if (!names)
        return;
    close(names->fd);
    if (names->sorted >= 0)
        close(names->sorted);
    pfx_buf_done(&names->line);
    free(names->few);
    free(names);
}

static bool read_place(struct pfx_names *names, const struct place *place, struct pfx_name *ret)
{
    uint64_t len = get_u64(place->len);
    pfx_buf_reset(&names->line);
    uint8_t *into = len < LINE_MAX_BYTES ? pfx_buf_extend(&names->line, (size_t)len) : NULL;
    struct line line;
    uint8_t user[32];
    /* The file may have changed since it was read. */
    return into && pread(names->fd, into, (size_t)len, (off_t)get_u64(place->at)) == (ssize_t)len &&
           read_line(pfx_buf_bytes(&names->line), &line, ret, user);
}

bool pfx_names_by_user(struct pfx_names *names, struct pfx_bytes user, struct pfx_name *ret)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf hash = pfx_buf_make(32);
    if (!names || user.len != 64 || !pfx_unhex((const char *)user.data, user.len, &hash))
        return false;
    uint64_t low = 0, high = names->n;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct place place;
        if (names->few)
            place = names->few[middle];
        else if (pread(names->sorted, &place, sizeof(place), (off_t)(middle * sizeof(place))) !=
                 (ssize_t)sizeof(place))
            return false;
        int order = memcmp(place.user, hash.data, sizeof(place.user));
        if (order == 0)
            return read_place(names, &place, ret);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

struct wanted {
    const char *text;
    bool found;
};

static bool address_is(void *ctx, const struct pfx_canon_value *value)
{
    struct wanted *wanted = ctx;
    char text[321];
    if (value->kind == PFX_CANON_STR && value_text(value, text, sizeof(text)) &&
        strcasecmp(text, wanted->text) == 0)
        wanted->found = true;
    return true;
}

size_t pfx_names_find(struct pfx_names *names, const char *text, struct pfx_name *ret, size_t most)
{
    size_t n = 0;
    if (!names || lseek(names->fd, 0, SEEK_SET) < 0)
        return 0;
    struct lines lines = {.fd = names->fd, .buf = pfx_buf_make((size_t)2 * LINE_MAX_BYTES)};
    struct pfx_bytes bytes;
    while (n < most && next_line(&lines, &bytes)) {
        struct line line;
        struct pfx_name name;
        uint8_t user[32];
        if (!read_line(bytes, &line, &name, user))
            continue;
        struct wanted wanted = {text, strcasecmp(name.id, text) == 0 ||
                                          strcasecmp(name.upn, text) == 0 ||
                                          strcasecmp(name.user, text) == 0};
        struct pfx_error ignored = PFX_ERROR_NONE;
        if (!wanted.found &&
            pfx_failed(pfx_canon_elements(line.addresses.raw, address_is, &wanted, &ignored)))
            continue;
        if (wanted.found)
            ret[n++] = name;
    }
    pfx_buf_done(&lines.buf);
    return n;
}
