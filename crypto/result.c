/* The result type's words, exit codes, and the writing of a struct pfx_error. */
#include "crypto/result.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"

static const struct {
    const char *name;
    int exit_code;
} classes[] = {
    [PFX_CLASS_OK] = {"ok", 0},
    [PFX_CLASS_USAGE] = {"usage", 2},
    [PFX_CLASS_REFUSED] = {"refused", 4},
    [PFX_CLASS_TRANSIENT] = {"transient", 5},
    [PFX_CLASS_DEVICE] = {"device", 5},
    [PFX_CLASS_INTEGRITY] = {"integrity", 6},
    [PFX_CLASS_INTERNAL] = {"internal", 70},
    /* Nothing is broken; the next run looks and goes on. */
    [PFX_CLASS_LOST] = {"lost", 5},
};
#define N_CLASSES (sizeof classes / sizeof classes[0])

static void set_text(char *dest, size_t size, const char *src)
{
    size_t len = src ? strnlen(src, size) : 0;
    if (len >= size)
        len = size - 1;
    if (len > 0)
        memcpy(dest, src, len);
    dest[len] = '\0';
    pfx_utf8_mend(dest); /* other processes refuse messages that aren't UTF-8 */
}

pfx_result pfx_fail(struct pfx_error *err, enum pfx_class cls, const char *op, const char *object,
                    const char *code, const char *fmt, ...)
{
    /* A failure that says "ok" would be taken for a success by every caller. */
    if (cls == PFX_CLASS_OK)
        cls = PFX_CLASS_INTERNAL;
    if (!err || err->cls != PFX_CLASS_OK)
        return (pfx_result){cls};
    err->cls = cls;
    set_text(err->op, sizeof err->op, op);
    set_text(err->object, sizeof err->object, object);
    set_text(err->code, sizeof err->code, code);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n < 0)
        err->text[0] = '\0';
    pfx_utf8_mend(err->text);
    return (pfx_result){cls};
}

static enum pfx_class class_of_errno(int errnum)
{
    switch (errnum) {
    case EAGAIN:
    case EBUSY:
    case EDQUOT:
    case EINTR:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ENOSPC:
    case ECONNABORTED:
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETRESET:
    case ENETUNREACH:
    case ENOTCONN:
    case EPIPE:
    case ETIMEDOUT:
        return PFX_CLASS_TRANSIENT;
    case EACCES:
    case EEXIST:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENOENT:
    case ENOTDIR:
    case EPERM:
    case EROFS:
        return PFX_CLASS_USAGE;
    default:
        return PFX_CLASS_INTERNAL;
    }
}

pfx_result pfx_fail_errno(struct pfx_error *err, int errnum, const char *op, const char *object,
                          const char *next_step)
{
    const char *name = strerrorname_np(errnum);
    const char *text = strerrordesc_np(errnum);
    char number[16];
    snprintf(number, sizeof number, "errno %d", errnum);
    bool has_step = next_step && *next_step;
    return pfx_fail(err, class_of_errno(errnum), op, object, name ? name : number, "%s%s%s",
                    text ? text : "Unknown error", has_step ? ". " : "",
                    has_step ? next_step : "");
}

const char *pfx_class_name(enum pfx_class cls)
{
    return (size_t)cls < N_CLASSES ? classes[cls].name : "internal";
}

bool pfx_class_parse(const char *name, enum pfx_class *ret_cls)
{
    for (size_t i = 0; name && i < N_CLASSES; i++) {
        if (strcmp(name, classes[i].name) == 0) {
            *ret_cls = (enum pfx_class)i;
            return true;
        }
    }
    return false;
}

int pfx_class_exit(enum pfx_class cls)
{
    return (size_t)cls < N_CLASSES ? classes[cls].exit_code : 70;
}

char *pfx_error_line(const struct pfx_error *err, char *buf, size_t size)
{
    if (size == 0)
        return buf;
    const char *text = err->text[0] ? err->text : pfx_class_name(err->cls);
    int n = snprintf(buf, size, "%s%s%s%s%s%s%s%s", err->op,
                     err->op[0] && err->object[0] ? " " : "", err->object,
                     err->op[0] || err->object[0] ? ": " : "", text, err->code[0] ? " (" : "",
                     err->code, err->code[0] ? ")" : "");
    if (n < 0)
        buf[0] = '\0';
    pfx_utf8_mend(buf);
    /* Parts of it come from the network: no line breaks and no terminal escapes. */
    for (char *p = buf; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            *p = ' ';
    }
    return buf;
}
