/*
 * The one result type and the caller-owned error that goes with it.
 *
 * A result can't be mixed up with an int or a bool, and has to be looked at. Its class says what
 * the caller can do about a failure; the details stand in a struct pfx_error that the caller owns.
 */
#ifndef PFX_CRYPTO_RESULT_H
#define PFX_CRYPTO_RESULT_H

#include <stdbool.h>
#include <stddef.h>

#define PFX_MUST_USE __attribute__((warn_unused_result))
#define PFX_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* What can be done about a failure. */
enum pfx_class {
    PFX_CLASS_OK = 0,
    PFX_CLASS_USAGE,     /* the caller or the operator asked for something that can't be */
    PFX_CLASS_REFUSED,   /* the other side, or a policy, says no: asking again is useless */
    PFX_CLASS_TRANSIENT, /* try again later */
    PFX_CLASS_DEVICE,    /* the token or module is gone: open it anew, then try again */
    PFX_CLASS_INTEGRITY, /* something isn't what it must be: stop */
    PFX_CLASS_INTERNAL,  /* a defect of ours, or of the machine */
    PFX_CLASS_LOST,      /* sent, and the answer never came: look before anything is sent again */
};

typedef struct {
    enum pfx_class cls;
} pfx_result;

#define PFX_OK ((pfx_result){PFX_CLASS_OK})

static inline bool pfx_ok(pfx_result r)
{
    return r.cls == PFX_CLASS_OK;
}
static inline bool pfx_failed(pfx_result r)
{
    return r.cls != PFX_CLASS_OK;
}

/* Hands a failure on to the caller. */
#define PFX_TRY(expr)                                                                              \
    do {                                                                                           \
        pfx_result pfx_try_ = (expr);                                                              \
        if (pfx_failed(pfx_try_))                                                                  \
            return pfx_try_;                                                                       \
    } while (0)

/*
 * What failed, for people and for the other process. Zero-initialise it (PFX_ERROR_NONE); the
 * first failure that is written stays. Never holds a secret. Text is UTF-8 and is cut at its size.
 */
struct pfx_error {
    enum pfx_class cls;
    char op[64];      /* what was being done: "order", "C_WrapKey", "read policy" */
    char object[160]; /* to what: a token label, a file and line, an order id, a URL (no query) */
    char code[64];    /* CKR name, errno name, HTTP status, AADSTS code; "" if none */
    char text[640];   /* what is wrong and what to do next, one or two sentences */
};
#define PFX_ERROR_NONE ((struct pfx_error){PFX_CLASS_OK, "", "", "", ""})

/* Writes *err (unless it holds an earlier failure, or err is NULL) and returns class cls. */
PFX_MUST_USE PFX_PRINTF(6, 7) pfx_result
    pfx_fail(struct pfx_error *err, enum pfx_class cls, const char *op, const char *object,
             const char *code, const char *fmt, ...);

/* The same for a failed system call: the class follows from errno (ENOSPC, EAGAIN, ... are
 * transient), the code is its name, and strerror's text stands in front of the next step. */
PFX_MUST_USE pfx_result pfx_fail_errno(struct pfx_error *err, int errnum, const char *op,
                                       const char *object, const char *next_step);

/* "usage", "refused", "transient", ...: the words of the socket protocol and of --json. */
const char *pfx_class_name(enum pfx_class cls);
/* The reverse; false leaves *ret_cls alone. */
PFX_MUST_USE bool pfx_class_parse(const char *name, enum pfx_class *ret_cls);

/* Exit code of a command that ended with this class (style: 0, 2, 4, 5, 6, 70). */
int pfx_class_exit(enum pfx_class cls);

/* "op object: text (code)" on one line into buf, always NUL-terminated; returns buf. */
char *pfx_error_line(const struct pfx_error *err, char *buf, size_t size);

#endif
