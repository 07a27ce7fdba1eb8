/* A message in memory: its slots, setters, getters and bounds. */
#include "api/wire/schema.h"

#include <cjson/cJSON.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/wire/messages.h"
#include "api/wire/msg.h"
#include "crypto/encode.h"

#define MAX_EXACT ((int64_t)1 << 53)

/* A wrong name is a typing error in our own code, and no peer can cause it: stop where it is. */
static _Noreturn void defect(const struct pfx_msg *msg, const char *name, const char *what)
{
    fprintf(stderr, "defect: message %s, member %s: %s\n", msg->schema->name, name, what);
    abort();
}

static const struct pfx_wire_field *field_any(const struct pfx_msg *msg, const char *name)
{
    for (size_t i = 0; i < msg->schema->n_fields; i++)
        if (strcmp(msg->schema->fields[i].name, name) == 0)
            return &msg->schema->fields[i];
    defect(msg, name, "no such member");
}

static const struct pfx_wire_field *field_of(const struct pfx_msg *msg, const char *name,
                                             enum pfx_wire_type type)
{
    const struct pfx_wire_field *field = field_any(msg, name);
    if (field->type != type)
        defect(msg, name, "used as another type than it is");
    return field;
}

static struct pfx_wire_slot *slot_of(struct pfx_msg *msg, const struct pfx_wire_field *field)
{
    return &msg->slots[field - msg->schema->fields];
}

static const struct pfx_wire_slot *get(const struct pfx_msg *msg, const char *name,
                                       enum pfx_wire_type type)
{
    const struct pfx_wire_field *field = field_of(msg, name, type);
    return &msg->slots[field - msg->schema->fields];
}

const struct pfx_wire_slot *pfx_wire_body_slot(const struct pfx_msg *msg, const char *name)
{
    return get(msg, name, PFX_W_BODY);
}

bool pfx_wire_has_secret(const struct pfx_wire_schema *schema)
{
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct pfx_wire_field *field = &schema->fields[i];
        if ((field->flags & PFX_W_SECRET) || (field->of && pfx_wire_has_secret(field->of)))
            return true;
    }
    return false;
}

struct pfx_msg *pfx_msg_new(const struct pfx_wire_schema *schema)
{
    struct pfx_msg *msg =
        pfx_alloc(sizeof(*msg) + schema->n_fields * sizeof(struct pfx_wire_slot));
    msg->schema = schema;
    return msg;
}

static void clear(struct pfx_wire_slot *slot, const struct pfx_wire_field *field)
{
    switch (field->type) {
    case PFX_W_STR:
    case PFX_W_BLOB:
    case PFX_W_STRS:
    case PFX_W_BLOBS:
        for (uint32_t i = 0; i < slot->n; i++) {
            if (slot->vals[i].secret)
                pfx_secret_free(slot->vals[i].secret);
            else
                free(slot->vals[i].data);
        }
        free(slot->vals);
        free(slot->strs);
        break;
    case PFX_W_OBJ:
    case PFX_W_OBJS:
        for (uint32_t i = 0; i < slot->n; i++)
            pfx_msg_free(slot->objs[i]);
        free(slot->objs);
        break;
    case PFX_W_BODY:
        /* Whether it holds a secret stands in a schema that isn't known here. */
        if (slot->text)
            OPENSSL_cleanse(slot->text, slot->text_len);
        free(slot->text);
        cJSON_Delete(slot->tree);
        break;
    case PFX_W_INT:
    case PFX_W_BOOL:
        break;
    }
    memset(slot, 0, sizeof(*slot));
}

void pfx_msg_free(struct pfx_msg *msg)
{
    if (!msg)
        return;
    for (size_t i = 0; i < msg->schema->n_fields; i++)
        clear(&msg->slots[i], &msg->schema->fields[i]);
    free(msg);
}

const struct pfx_wire_schema *pfx_msg_schema(const struct pfx_msg *msg)
{
    return msg->schema;
}

bool pfx_msg_is(const struct pfx_msg *msg, const struct pfx_wire_schema *schema)
{
    return msg->schema == schema;
}

/* Room for one more element. */
static void widen(void **array, struct pfx_wire_slot *slot, size_t size)
{
    if (slot->n < slot->cap)
        return;
    slot->cap = slot->cap ? slot->cap * 2 : 1;
    *array = pfx_grow(*array, slot->cap, size);
}

pfx_result pfx_wire_add_val(struct pfx_wire_slot *slot, const struct pfx_wire_field *field,
                            const void *data, size_t len, struct pfx_error *err)
{
    struct pfx_wire_val val = {NULL, len, NULL};
    if (field->flags & PFX_W_SECRET) {
        PFX_TRY(pfx_secret_new(len + 1, &val.secret, err));
        val.data = pfx_secret_data(val.secret);
    } else {
        val.data = pfx_alloc(len + 1);
    }
    if (len > 0)
        memcpy(val.data, data, len);
    val.data[len] = 0;
    uint32_t cap = slot->cap;
    void *vals = slot->vals;
    widen(&vals, slot, sizeof(*slot->vals));
    slot->vals = vals;
    if (field->type == PFX_W_STRS) {
        if (slot->cap != cap)
            slot->strs = pfx_grow(slot->strs, (size_t)slot->cap + 1, sizeof(*slot->strs));
        slot->strs[slot->n] = (const char *)val.data;
        slot->strs[slot->n + 1] = NULL;
    }
    slot->vals[slot->n++] = val;
    slot->set = true;
    return PFX_OK;
}

void pfx_wire_add_obj(struct pfx_wire_slot *slot, struct pfx_msg *obj)
{
    void *objs = slot->objs;
    widen(&objs, slot, sizeof(*slot->objs));
    slot->objs = objs;
    slot->objs[slot->n++] = obj;
    slot->set = true;
}

/* Setters. An array is "set" from its first element on; an empty one is written all the same
 * unless it is optional: see encode.c. */

static void set_val(struct pfx_msg *msg, const char *name, enum pfx_wire_type type,
                    const void *data, size_t len, bool add)
{
    const struct pfx_wire_field *field = field_of(msg, name, type);
    struct pfx_wire_slot *slot = slot_of(msg, field);
    if (!add)
        clear(slot, field);
    struct pfx_error err = PFX_ERROR_NONE;
    /* Like ordinary memory: a process that gets none for a secret ends at once. */
    if (pfx_failed(pfx_wire_add_val(slot, field, data, len, &err)))
        defect(msg, name, err.text);
}

void pfx_msg_set_str(struct pfx_msg *msg, const char *name, const char *value)
{
    set_val(msg, name, PFX_W_STR, value, strlen(value), false);
}

void pfx_msg_set_blob(struct pfx_msg *msg, const char *name, const void *data, size_t len)
{
    set_val(msg, name, PFX_W_BLOB, data, len, false);
}

void pfx_msg_add_str(struct pfx_msg *msg, const char *name, const char *value)
{
    set_val(msg, name, PFX_W_STRS, value, strlen(value), true);
}

void pfx_msg_add_blob(struct pfx_msg *msg, const char *name, const void *data, size_t len)
{
    set_val(msg, name, PFX_W_BLOBS, data, len, true);
}

static void set_num(struct pfx_msg *msg, const char *name, enum pfx_wire_type type, int64_t num)
{
    struct pfx_wire_slot *slot = slot_of(msg, field_of(msg, name, type));
    slot->num = num;
    slot->set = true;
}

void pfx_msg_set_int(struct pfx_msg *msg, const char *name, int64_t value)
{
    set_num(msg, name, PFX_W_INT, value);
}

void pfx_msg_set_bool(struct pfx_msg *msg, const char *name, bool value)
{
    set_num(msg, name, PFX_W_BOOL, value);
}

struct pfx_msg *pfx_msg_set_obj(struct pfx_msg *msg, const char *name)
{
    const struct pfx_wire_field *field = field_of(msg, name, PFX_W_OBJ);
    struct pfx_wire_slot *slot = slot_of(msg, field);
    struct pfx_msg *obj = pfx_msg_new(field->of);
    clear(slot, field);
    pfx_wire_add_obj(slot, obj);
    return obj;
}

struct pfx_msg *pfx_msg_add_obj(struct pfx_msg *msg, const char *name)
{
    const struct pfx_wire_field *field = field_of(msg, name, PFX_W_OBJS);
    struct pfx_msg *obj = pfx_msg_new(field->of);
    pfx_wire_add_obj(slot_of(msg, field), obj);
    return obj;
}

void pfx_msg_set_body_text(struct pfx_msg *msg, const char *name, const char *json, size_t len)
{
    const struct pfx_wire_field *field = field_of(msg, name, PFX_W_BODY);
    struct pfx_wire_slot *slot = slot_of(msg, field);
    clear(slot, field);
    slot->text = pfx_strndup(json, len);
    slot->text_len = len;
    slot->set = true;
}

void pfx_msg_set_body(struct pfx_msg *msg, const char *name, const struct pfx_msg *body)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(body->schema->ceiling);
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_msg_encode(body, false, &text, &err)))
        defect(body, name, err.text);
    pfx_msg_set_body_text(msg, name, pfx_buf_str(&text), text.len);
}

/* Getters. */

bool pfx_msg_has(const struct pfx_msg *msg, const char *name)
{
    return msg->slots[field_any(msg, name) - msg->schema->fields].set;
}

const char *pfx_msg_str(const struct pfx_msg *msg, const char *name)
{
    const struct pfx_wire_slot *slot = get(msg, name, PFX_W_STR);
    return slot->set ? (const char *)slot->vals[0].data : NULL;
}

int64_t pfx_msg_int(const struct pfx_msg *msg, const char *name)
{
    return get(msg, name, PFX_W_INT)->num;
}

bool pfx_msg_bool(const struct pfx_msg *msg, const char *name)
{
    return get(msg, name, PFX_W_BOOL)->num != 0;
}

struct pfx_bytes pfx_msg_blob(const struct pfx_msg *msg, const char *name)
{
    const struct pfx_wire_slot *slot = get(msg, name, PFX_W_BLOB);
    if (!slot->set)
        return (struct pfx_bytes){NULL, 0};
    return (struct pfx_bytes){slot->vals[0].data, slot->vals[0].len};
}

size_t pfx_msg_count(const struct pfx_msg *msg, const char *name)
{
    const struct pfx_wire_field *field = field_any(msg, name);
    if (field->type != PFX_W_STRS && field->type != PFX_W_BLOBS && field->type != PFX_W_OBJS)
        defect(msg, name, "isn't an array");
    return msg->slots[field - msg->schema->fields].n;
}

static const struct pfx_wire_slot *get_at(const struct pfx_msg *msg, const char *name,
                                          enum pfx_wire_type type, size_t i)
{
    const struct pfx_wire_slot *slot = get(msg, name, type);
    if (i >= slot->n)
        defect(msg, name, "read past its end");
    return slot;
}

const char *pfx_msg_str_at(const struct pfx_msg *msg, const char *name, size_t i)
{
    return get_at(msg, name, PFX_W_STRS, i)->strs[i];
}

const char *const *pfx_msg_strs(const struct pfx_msg *msg, const char *name)
{
    static const char *const none[] = {NULL};
    const struct pfx_wire_slot *slot = get(msg, name, PFX_W_STRS);
    return slot->n > 0 ? slot->strs : none;
}

struct pfx_bytes pfx_msg_blob_at(const struct pfx_msg *msg, const char *name, size_t i)
{
    const struct pfx_wire_val *val = &get_at(msg, name, PFX_W_BLOBS, i)->vals[i];
    return (struct pfx_bytes){val->data, val->len};
}

const struct pfx_msg *pfx_msg_obj(const struct pfx_msg *msg, const char *name)
{
    const struct pfx_wire_slot *slot = get(msg, name, PFX_W_OBJ);
    return slot->set ? slot->objs[0] : NULL;
}

const struct pfx_msg *pfx_msg_obj_at(const struct pfx_msg *msg, const char *name, size_t i)
{
    return get_at(msg, name, PFX_W_OBJS, i)->objs[i];
}

/* Bounds. */

pfx_result pfx_wire_bad(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                        const char *fmt, ...)
{
    char why[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    return pfx_fail(at->err, at->cls, at->op, at->schema->name, "", "member \"%s\" %s",
                    field->name, why);
}

pfx_result pfx_wire_check_str(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                              const char *text, size_t len)
{
    if ((int64_t)len < field->min || (int64_t)len > field->max)
        return pfx_wire_bad(at, field, "must have %lld to %lld bytes and has %zu",
                            (long long)field->min, (long long)field->max, len);
    if (!pfx_utf8_valid(text, len))
        return pfx_wire_bad(at, field, "isn't UTF-8");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F)
            return pfx_wire_bad(at, field, "holds a control character");
    }
    return PFX_OK;
}

pfx_result pfx_wire_check_int(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                              int64_t num)
{
    if (num < field->min || num > field->max || num <= -MAX_EXACT || num >= MAX_EXACT)
        return pfx_wire_bad(at, field, "must be from %lld to %lld", (long long)field->min,
                            (long long)field->max);
    return PFX_OK;
}

pfx_result pfx_wire_check_blob(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                               size_t len)
{
    if ((int64_t)len < field->min || (int64_t)len > field->max)
        return pfx_wire_bad(at, field, "must hold %lld to %lld bytes in base64",
                            (long long)field->min, (long long)field->max);
    return PFX_OK;
}

pfx_result pfx_wire_check_count(const struct pfx_wire_where *at,
                                const struct pfx_wire_field *field, size_t n)
{
    if (n > field->items)
        return pfx_wire_bad(at, field, "must have at most %u elements and has %zu", field->items,
                            n);
    return PFX_OK;
}

/* Errors. Their text comes from servers and tokens, and has to arrive whatever is in it. */

static void put_text(struct pfx_msg *obj, const char *name, const char *text)
{
    char *clean PFX_AUTOFREE = pfx_strdup(text);
    pfx_utf8_mend(clean);
    for (char *p = clean; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            *p = '?';
    pfx_msg_set_str(obj, name, clean);
}

void pfx_msg_put_error(struct pfx_msg *msg, const char *name, const struct pfx_error *err)
{
    enum pfx_class cls = err->cls == PFX_CLASS_OK ? PFX_CLASS_INTERNAL : err->cls;
    struct pfx_msg *obj = pfx_msg_set_obj(msg, name);
    if (obj->schema != &pfx_s_error)
        defect(msg, name, "isn't an error");
    pfx_msg_set_str(obj, "class", pfx_class_name(cls));
    put_text(obj, "op", err->op);
    put_text(obj, "object", err->object);
    put_text(obj, "code", err->code);
    put_text(obj, "text", err->text);
}

void pfx_msg_get_error(const struct pfx_msg *msg, const char *name, struct pfx_error *ret_err)
{
    *ret_err = PFX_ERROR_NONE;
    const struct pfx_msg *obj = pfx_msg_obj(msg, name);
    if (!obj)
        return;
    if (obj->schema != &pfx_s_error)
        defect(msg, name, "isn't an error");
    /* A failure stays one, whatever word the peer has for it. */
    if (!pfx_class_parse(pfx_msg_str(obj, "class"), &ret_err->cls) ||
        ret_err->cls == PFX_CLASS_OK)
        ret_err->cls = PFX_CLASS_INTERNAL;
    /* The bounds of the table are the sizes of the struct, less the NUL. */
    snprintf(ret_err->op, sizeof(ret_err->op), "%s", pfx_msg_str(obj, "op"));
    snprintf(ret_err->object, sizeof(ret_err->object), "%s", pfx_msg_str(obj, "object"));
    snprintf(ret_err->code, sizeof(ret_err->code), "%s", pfx_msg_str(obj, "code"));
    snprintf(ret_err->text, sizeof(ret_err->text), "%s", pfx_msg_str(obj, "text"));
}
