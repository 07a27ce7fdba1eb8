/* Inside of struct pfx_msg: for schema.c, encode.c and decode.c only. */
#ifndef PFX_WIRE_MSG_H
#define PFX_WIRE_MSG_H

#include "api/wire/schema.h"
#include "crypto/secret.h"

struct cJSON;

/* A string (with a NUL behind it) or bytes; those of a secret member lie in locked memory. */
struct pfx_wire_val {
    uint8_t *data;
    size_t len;
    struct pfx_secret *secret; /* owns data where it isn't NULL */
};
struct pfx_wire_slot {
    bool set;
    uint32_t n, cap; /* of vals or objs */
    union {
        int64_t num;
        struct {
            struct pfx_wire_val *vals;
            const char **strs; /* of PFX_W_STRS: the same, as a NULL-terminated vector */
        };
        struct pfx_msg **objs;
        struct {
            struct cJSON *tree; /* body as it was read */
            char *text;         /* or as it goes out */
            size_t text_len;
        };
    };
};
struct pfx_msg {
    const struct pfx_wire_schema *schema;
    struct pfx_wire_slot slots[]; /* one for each field */
};

/* Of a PFX_W_BODY member. */
const struct pfx_wire_slot *pfx_wire_body_slot(const struct pfx_msg *msg, const char *name);
bool pfx_wire_has_secret(const struct pfx_wire_schema *schema);
/* Takes a copy; fails only where locked memory for a secret can't be had. */
PFX_MUST_USE pfx_result pfx_wire_add_val(struct pfx_wire_slot *slot,
                                         const struct pfx_wire_field *field, const void *data,
                                         size_t len, struct pfx_error *err);
void pfx_wire_add_obj(struct pfx_wire_slot *slot, struct pfx_msg *obj); /* takes over obj */

/* The bounds of the table, the same for what is written (USAGE) and what is read (REFUSED). */
struct pfx_wire_where {
    enum pfx_class cls;
    const char *op;
    const struct pfx_wire_schema *schema;
    struct pfx_error *err;
};
PFX_MUST_USE PFX_PRINTF(3, 4) pfx_result
    pfx_wire_bad(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                 const char *fmt, ...);
PFX_MUST_USE pfx_result pfx_wire_check_str(const struct pfx_wire_where *at,
                                           const struct pfx_wire_field *field, const char *text,
                                           size_t len);
PFX_MUST_USE pfx_result pfx_wire_check_int(const struct pfx_wire_where *at,
                                           const struct pfx_wire_field *field, int64_t num);
PFX_MUST_USE pfx_result pfx_wire_check_blob(const struct pfx_wire_where *at,
                                            const struct pfx_wire_field *field, size_t len);
PFX_MUST_USE pfx_result pfx_wire_check_count(const struct pfx_wire_where *at,
                                             const struct pfx_wire_field *field, size_t n);

#endif
