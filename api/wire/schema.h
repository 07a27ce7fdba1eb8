/*
 * Messages of the socket protocol as tables: one row for each member. The tables (messages.c) drive
 * encoding, decoding, checking, wiping and the man page; nothing else knows the format.
 *
 * On the wire a message is one JSON object. A member that is unknown, doubled, missing, of another
 * type, or outside its bounds refuses the whole message.
 */
#ifndef PFX_WIRE_SCHEMA_H
#define PFX_WIRE_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/mem.h"
#include "crypto/result.h"

enum pfx_wire_type {
    PFX_W_STR,   /* min..max bytes of UTF-8, no control characters but \n and \t */
    PFX_W_INT,   /* min..max, |x| < 2^53 */
    PFX_W_BOOL,
    PFX_W_BLOB,  /* base64 of min..max bytes */
    PFX_W_STRS,  /* array of strings, each min..max bytes, at most items */
    PFX_W_BLOBS, /* array of blobs */
    PFX_W_OBJ,   /* nested object of schema `of` */
    PFX_W_OBJS,  /* array of nested objects, at most items */
    PFX_W_BODY,  /* any object; its schema follows from another member: pfx_msg_body */
};
#define PFX_W_OPT 1u    /* may be left out */
#define PFX_W_SECRET 2u /* in locked memory, wiped with the message; never in an error text */

struct pfx_wire_schema;
struct pfx_wire_field {
    const char *name;
    enum pfx_wire_type type;
    int64_t min, max;
    uint32_t items; /* most elements of an array */
    unsigned flags;
    const struct pfx_wire_schema *of;
    const char *help; /* one phrase for the man page */
};
struct pfx_wire_schema {
    const char *name;    /* the value of "t" in an envelope, or the job kind */
    uint32_t ceiling;    /* most bytes of the encoded object */
    const struct pfx_wire_field *fields; /* NULL where there are none */
    size_t n_fields;
};

/*
 * A message of one schema. Getters and setters name a member of that schema: naming another one, or
 * one of another type, is a defect of the program and ends it. Setters copy.
 */
struct pfx_msg;
struct pfx_msg *pfx_msg_new(const struct pfx_wire_schema *schema);
void pfx_msg_free(struct pfx_msg *msg); /* wipes members marked secret; NULL is fine */
static inline void pfx_msg_freep(struct pfx_msg **pp)
{
    pfx_msg_free(*pp);
}
#define PFX_AUTOMSG __attribute__((cleanup(pfx_msg_freep)))
const struct pfx_wire_schema *pfx_msg_schema(const struct pfx_msg *msg);
bool pfx_msg_is(const struct pfx_msg *msg, const struct pfx_wire_schema *schema);

void pfx_msg_set_str(struct pfx_msg *msg, const char *name, const char *value);
void pfx_msg_set_int(struct pfx_msg *msg, const char *name, int64_t value);
void pfx_msg_set_bool(struct pfx_msg *msg, const char *name, bool value);
void pfx_msg_set_blob(struct pfx_msg *msg, const char *name, const void *data, size_t len);
void pfx_msg_add_str(struct pfx_msg *msg, const char *name, const char *value);
void pfx_msg_add_blob(struct pfx_msg *msg, const char *name, const void *data, size_t len);
struct pfx_msg *pfx_msg_set_obj(struct pfx_msg *msg, const char *name); /* owned by msg */
struct pfx_msg *pfx_msg_add_obj(struct pfx_msg *msg, const char *name); /* owned by msg */
/* The text of an object that was encoded before (a stored payload): goes out as it stands. */
void pfx_msg_set_body_text(struct pfx_msg *msg, const char *name, const char *json, size_t len);
/* Encodes body and sets it; the body must be valid (a program's defect otherwise). */
void pfx_msg_set_body(struct pfx_msg *msg, const char *name, const struct pfx_msg *body);
/* The same with an answer for people, which is never worth ending a daemon for. Its texts are
 * mended first, but for those marked secret: pfx_utf8_mend, and a space for a control character.
 * INTERNAL names the member that breaks another bound; msg is as it was then. */
PFX_MUST_USE pfx_result pfx_msg_set_shown(struct pfx_msg *msg, const char *name,
                                          struct pfx_msg *body, struct pfx_error *err);

bool pfx_msg_has(const struct pfx_msg *msg, const char *name);
/* An optional member that is absent reads as NULL, 0, false, {NULL, 0}. Strings and bytes are
 * borrowed until the message is freed. */
const char *pfx_msg_str(const struct pfx_msg *msg, const char *name);
int64_t pfx_msg_int(const struct pfx_msg *msg, const char *name);
bool pfx_msg_bool(const struct pfx_msg *msg, const char *name);
struct pfx_bytes pfx_msg_blob(const struct pfx_msg *msg, const char *name);
size_t pfx_msg_count(const struct pfx_msg *msg, const char *name); /* of an array; 0 if absent */
const char *pfx_msg_str_at(const struct pfx_msg *msg, const char *name, size_t i);
/* All strings of an array as a borrowed NULL-terminated vector. */
const char *const *pfx_msg_strs(const struct pfx_msg *msg, const char *name);
struct pfx_bytes pfx_msg_blob_at(const struct pfx_msg *msg, const char *name, size_t i);
const struct pfx_msg *pfx_msg_obj(const struct pfx_msg *msg, const char *name);
const struct pfx_msg *pfx_msg_obj_at(const struct pfx_msg *msg, const char *name, size_t i);
/* Reads a PFX_W_BODY member under the schema that its kind asks for. One that was left out reads
 * as an empty object: fine where every member of the schema is optional. A message that was
 * received can't be sent on as it is; decode its body and build a new one. */
PFX_MUST_USE pfx_result pfx_msg_body(const struct pfx_msg *msg, const char *name,
                                     const struct pfx_wire_schema *schema, struct pfx_msg **ret_body,
                                     struct pfx_error *err);

/* Appends the JSON text; checks every bound of the table (USAGE names the member). An envelope
 * (schema of a socket message) gets "v":1 and "t":name in front; a body doesn't. */
PFX_MUST_USE pfx_result pfx_msg_encode(const struct pfx_msg *msg, bool envelope, struct pfx_buf *out,
                                       struct pfx_error *err);
/* Reads a body of this schema. REFUSED names member and reason, never a value. */
PFX_MUST_USE pfx_result pfx_msg_decode(const struct pfx_wire_schema *schema, const char *json,
                                       size_t len, struct pfx_msg **ret_msg, struct pfx_error *err);
/* Reads an envelope: "v" must be 1, "t" one of accepts[]. */
PFX_MUST_USE pfx_result pfx_msg_decode_any(const struct pfx_wire_schema *const *accepts,
                                           size_t n_accepts, const char *json, size_t len,
                                           struct pfx_msg **ret_msg, struct pfx_error *err);

/* A failure as an object of schema pfx_s_error, and back. */
void pfx_msg_put_error(struct pfx_msg *msg, const char *name, const struct pfx_error *err);
void pfx_msg_get_error(const struct pfx_msg *msg, const char *name, struct pfx_error *ret_err);

#endif
