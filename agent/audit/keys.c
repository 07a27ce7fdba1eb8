/* The auditor's own files: public keys, and whatever else is named on the command line. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/audit/audit.h"
#include "crypto/encode.h"

#define KEY_FILE_MAX 65536

pfx_result pfx_audit_file(const char *path, size_t max, struct pfx_buf *ret, struct pfx_error *err)
{
    /* A pipe is fine (a shell's <(...)), but one in an export that nobody writes to mustn't hang.
     */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "read file", path, errno == ENOENT ? "ENOENT" : "",
                        "%s", strerror(errno));
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf buf = pfx_buf_make(max + 1);
    ssize_t n = 0;
    do {
        size_t had = buf.len, step = max + 1 - had < 8192 ? max + 1 - had : 8192;
        uint8_t *into = step ? pfx_buf_extend(&buf, step) : NULL;
        n = into ? read(fd, into, step) : 0;
        pfx_buf_cut(&buf, had + (n > 0 ? (size_t)n : 0));
        if (n < 0 && errno == EAGAIN && poll(&ready, 1, -1) >= 0)
            errno = EINTR;
    } while (n > 0 || (n < 0 && errno == EINTR));
    int why = errno;
    close(fd);
    if (n < 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "read file", path, "", "%s", strerror(why));
    if (buf.len > max)
        return pfx_fail(err, PFX_CLASS_USAGE, "read file", path, "",
                        "longer than the %zu bytes that such a file may have", max);
    pfx_buf_done(ret);
    *ret = buf;
    buf = pfx_buf_make(0);
    return PFX_OK;
}

void pfx_audit_keys_done(struct pfx_audit_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++)
        pfx_vkey_done(&keys->keys[i]);
    keys->n = 0;
}

static pfx_result keep_key(struct pfx_audit_keys *keys, struct pfx_vkey *key, const char *file,
                           struct pfx_error *err)
{
    for (size_t i = 0; i < keys->n; i++)
        if (pfx_vkey_equal(&keys->keys[i], key)) {
            pfx_vkey_done(key);
            return PFX_OK;
        }
    if (keys->n == PFX_AUDIT_KEYS) {
        pfx_vkey_done(key);
        return pfx_fail(err, PFX_CLASS_USAGE, "read key", file, "", "more than %d keys",
                        PFX_AUDIT_KEYS);
    }
    keys->keys[keys->n++] = *key;
    *key = (struct pfx_vkey){0};
    return PFX_OK;
}

static pfx_result load_pem(struct pfx_bytes text, const char *file, const char *origin,
                           struct pfx_audit_keys *ret, struct pfx_error *err)
{
    char label[PFX_PEM_LABEL_SIZE];
    size_t at = 0;
    for (;;) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(KEY_FILE_MAX);
        enum pfx_pem got = pfx_pem_next(text, &at, label, &der);
        if (got == PFX_PEM_NONE)
            return PFX_OK;
        if (got == PFX_PEM_BAD || strcmp(label, "PUBLIC KEY") != 0)
            return pfx_fail(err, PFX_CLASS_USAGE, "read key", file, "",
                            "the PEM block %s isn't a whole PUBLIC KEY",
                            pfx_ascii_printable(label, strlen(label)) ? label : "(unprintable)");
        if (!origin || !origin[0])
            return pfx_fail(err, PFX_CLASS_USAGE, "read key", file, "",
                            "a PEM key has no name, and there is no log that gives it one; take "
                            "the key's .vkey file");
        struct pfx_vkey key = {0};
        PFX_TRY(pfx_vkey_make(origin, pfx_buf_bytes(&der), &key, err));
        PFX_TRY(keep_key(ret, &key, file, err));
    }
}

static pfx_result load_lines(struct pfx_bytes text, const char *file, struct pfx_audit_keys *ret,
                             struct pfx_error *err)
{
    for (size_t at = 0; at < text.len;) {
        const uint8_t *from = text.data + at;
        const uint8_t *end = memchr(from, '\n', text.len - at);
        size_t len = end ? (size_t)(end - from) : text.len - at;
        at += len + 1;
        if (len > 0 && from[len - 1] == '\r')
            len--;
        if (len == 0 || from[0] == '#')
            continue;
        char line[PFX_VKEY_LINE_SIZE];
        if (len >= sizeof(line) || memchr(from, '\0', len))
            return pfx_fail(err, PFX_CLASS_USAGE, "read key", file, "",
                            "neither key lines (name+id+key) nor PEM public keys");
        memcpy(line, from, len);
        line[len] = '\0';
        struct pfx_vkey key = {0};
        struct pfx_error why = PFX_ERROR_NONE;
        if (pfx_failed(pfx_vkey_parse(line, &key, &why)))
            return pfx_fail(err, PFX_CLASS_USAGE, "read key", file, "", "%s", why.text);
        PFX_TRY(keep_key(ret, &key, file, err));
    }
    return PFX_OK;
}

pfx_result pfx_audit_keys_load(const char *const *files, size_t n, const char *origin,
                               struct pfx_audit_keys *ret, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_audit_keys_done) struct pfx_audit_keys keys = {0};
    for (size_t i = 0; i < n; i++) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(KEY_FILE_MAX);
        size_t had = keys.n;
        PFX_TRY(pfx_audit_file(files[i], KEY_FILE_MAX, &text, err));
        bool pem = text.len > 0 && memmem(text.data, text.len, "-----BEGIN ", 11);
        PFX_TRY(pem ? load_pem(pfx_buf_bytes(&text), files[i], origin, &keys, err)
                    : load_lines(pfx_buf_bytes(&text), files[i], &keys, err));
        if (keys.n == had && keys.n == 0)
            return pfx_fail(err, PFX_CLASS_USAGE, "read key", files[i], "", "no key in it");
    }
    *ret = keys;
    keys.n = 0;
    return PFX_OK;
}
