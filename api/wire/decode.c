/* JSON text to a message. cJSON only makes the tree: see json.h for what it is kept away from. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "api/wire/json.h"
#include "api/wire/messages.h"
#include "api/wire/msg.h"
#include "crypto/encode.h"

#define AUTOTREE __attribute__((cleanup(delete_tree)))
static void delete_tree(cJSON **tree)
{
    cJSON_Delete(*tree);
}

#define REFUSE(schema_name, ...)                                                                   \
    pfx_fail(err, PFX_CLASS_REFUSED, "decode", schema_name, "", __VA_ARGS__)

static pfx_result read_object(const struct pfx_wire_schema *schema, cJSON *tree, bool envelope,
                              bool own, struct pfx_msg **ret_msg, struct pfx_error *err);

static pfx_result read_str(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                           const cJSON *item, struct pfx_wire_slot *slot)
{
    if (!cJSON_IsString(item))
        return pfx_wire_bad(at, field, "must be a string");
    size_t len = strlen(item->valuestring);
    PFX_TRY(pfx_wire_check_str(at, field, item->valuestring, len));
    return pfx_wire_add_val(slot, field, item->valuestring, len, at->err);
}

static pfx_result read_blob(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                            const cJSON *item, struct pfx_wire_slot *slot)
{
    if (!cJSON_IsString(item))
        return pfx_wire_bad(at, field, "must be a string in base64");
    size_t len = strlen(item->valuestring);
    /* Before anything is decoded: four characters for each three bytes. */
    if ((int64_t)(len / 4 * 3) > field->max + 2)
        return pfx_wire_check_blob(at, field, len / 4 * 3);
    struct pfx_buf bytes PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(len + 3);
    bytes.wipe = (field->flags & PFX_W_SECRET) != 0;
    if (!pfx_base64_decode(item->valuestring, len, &bytes))
        return pfx_wire_bad(at, field, "isn't base64");
    PFX_TRY(pfx_wire_check_blob(at, field, bytes.len));
    return pfx_wire_add_val(slot, field, bytes.data, bytes.len, at->err);
}

static pfx_result read_obj(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                           cJSON *item, bool own, struct pfx_wire_slot *slot)
{
    if (!cJSON_IsObject(item))
        return pfx_wire_bad(at, field, "must be an object");
    struct pfx_msg *obj;
    PFX_TRY(read_object(field->of, item, false, own, &obj, at->err));
    pfx_wire_add_obj(slot, obj);
    return PFX_OK;
}

static pfx_result read_array(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                             cJSON *item, bool own, struct pfx_wire_slot *slot)
{
    if (!cJSON_IsArray(item))
        return pfx_wire_bad(at, field, "must be an array");
    size_t n = 0;
    for (const cJSON *at_item = item->child; at_item; at_item = at_item->next)
        n++;
    PFX_TRY(pfx_wire_check_count(at, field, n));
    for (cJSON *element = item->child; element; element = element->next) {
        if (field->type == PFX_W_STRS)
            PFX_TRY(read_str(at, field, element, slot));
        else if (field->type == PFX_W_BLOBS)
            PFX_TRY(read_blob(at, field, element, slot));
        else
            PFX_TRY(read_obj(at, field, element, own, slot));
    }
    return PFX_OK;
}

/* own: tree may be taken apart (a body is cut out of its envelope). */
static pfx_result read_value(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                             cJSON *parent, cJSON *item, bool own, struct pfx_wire_slot *slot)
{
    switch (field->type) {
    case PFX_W_STR:
        return read_str(at, field, item, slot);
    case PFX_W_BLOB:
        return read_blob(at, field, item, slot);
    case PFX_W_INT:
        /* Exact: pfx_json_scan let integers of at most 16 digits pass, and what a double rounds
         * among these is 2^53 or more, which no bounds allow. */
        if (!cJSON_IsNumber(item))
            return pfx_wire_bad(at, field, "must be an integer");
        PFX_TRY(pfx_wire_check_int(at, field, (int64_t)item->valuedouble));
        slot->num = (int64_t)item->valuedouble;
        break;
    case PFX_W_BOOL:
        if (!cJSON_IsBool(item))
            return pfx_wire_bad(at, field, "must be true or false");
        slot->num = cJSON_IsTrue(item) ? 1 : 0;
        break;
    case PFX_W_STRS:
    case PFX_W_BLOBS:
    case PFX_W_OBJS:
        PFX_TRY(read_array(at, field, item, own, slot));
        break;
    case PFX_W_OBJ:
        return read_obj(at, field, item, own, slot);
    case PFX_W_BODY:
        if (!cJSON_IsObject(item))
            return pfx_wire_bad(at, field, "must be an object");
        slot->tree = own ? cJSON_DetachItemViaPointer(parent, item) : cJSON_Duplicate(item, 1);
        if (!slot->tree)
            return pfx_fail(at->err, PFX_CLASS_INTERNAL, "decode", at->schema->name, "",
                            "out of memory");
        break;
    }
    slot->set = true;
    return PFX_OK;
}

/* Names of ours are plain; anything else isn't worth showing and may be there to deceive. */
static bool plain_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return name[len] == 0 && len > 0 && len <= 32;
}

static pfx_result read_object(const struct pfx_wire_schema *schema, cJSON *tree, bool envelope,
                              bool own, struct pfx_msg **ret_msg, struct pfx_error *err)
{
    struct pfx_msg *msg PFX_AUTOMSG = pfx_msg_new(schema);
    const struct pfx_wire_where at = {PFX_CLASS_REFUSED, "decode", schema, err};
    cJSON *next;
    for (cJSON *item = tree->child; item; item = next) {
        next = item->next;
        const char *name = item->string;
        if (envelope && (strcmp(name, "v") == 0 || strcmp(name, "t") == 0))
            continue;
        size_t i = 0;
        while (i < schema->n_fields && strcmp(schema->fields[i].name, name) != 0)
            i++;
        if (i == schema->n_fields)
            return REFUSE(schema->name, "member \"%s\" is unknown",
                          plain_name(name) ? name : "(unprintable)");
        if (msg->slots[i].set)
            return pfx_wire_bad(&at, &schema->fields[i], "is there twice");
        PFX_TRY(read_value(&at, &schema->fields[i], tree, item, own, &msg->slots[i]));
    }
    for (size_t i = 0; i < schema->n_fields; i++)
        if (!msg->slots[i].set && !(schema->fields[i].flags & PFX_W_OPT))
            return pfx_wire_bad(&at, &schema->fields[i], "is missing");
    *ret_msg = PFX_TAKE(msg);
    return PFX_OK;
}

static pfx_result parse(const char *what, const char *json, size_t len, cJSON **ret_tree,
                        struct pfx_error *err)
{
    const char *why = NULL;
    if (!pfx_json_scan(json, len, NULL, &why))
        return REFUSE(what, "it isn't JSON as this protocol has it: %s", why);
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(json, len, &end, 0);
    if (!tree)
        return REFUSE(what, "it isn't JSON");
    /* The scan has seen that nothing but white space follows the object; cJSON must agree. */
    while (end < json + len && (*end == ' ' || *end == '\t' || *end == '\n' || *end == '\r'))
        end++;
    if (!cJSON_IsObject(tree) || end != json + len) {
        cJSON_Delete(tree);
        return REFUSE(what, "it isn't one JSON object");
    }
    *ret_tree = tree;
    return PFX_OK;
}

pfx_result pfx_msg_decode(const struct pfx_wire_schema *schema, const char *json, size_t len,
                          struct pfx_msg **ret_msg, struct pfx_error *err)
{
    if (len > schema->ceiling)
        return REFUSE(schema->name, "it has %zu bytes, more than %u", len, schema->ceiling);
    cJSON *tree AUTOTREE = NULL;
    PFX_TRY(parse(schema->name, json, len, &tree, err));
    return read_object(schema, tree, false, true, ret_msg, err);
}

pfx_result pfx_msg_decode_any(const struct pfx_wire_schema *const *accepts, size_t n_accepts,
                              const char *json, size_t len, struct pfx_msg **ret_msg,
                              struct pfx_error *err)
{
    size_t most = 0;
    for (size_t i = 0; i < n_accepts; i++)
        if (accepts[i]->ceiling > most)
            most = accepts[i]->ceiling;
    if (len > most)
        return REFUSE("message", "it has %zu bytes, more than %zu", len, most);
    cJSON *tree AUTOTREE = NULL;
    PFX_TRY(parse("message", json, len, &tree, err));

    const cJSON *v = NULL, *t = NULL;
    for (const cJSON *item = tree->child; item; item = item->next) {
        const cJSON **known = strcmp(item->string, "v") == 0   ? &v
                              : strcmp(item->string, "t") == 0 ? &t
                                                               : NULL;
        if (!known)
            continue;
        if (*known)
            return REFUSE("message", "member \"%s\" is there twice", item->string);
        *known = item;
    }
    if (!v || !cJSON_IsNumber(v) || (int64_t)v->valuedouble != PFX_WIRE_VERSION)
        return REFUSE("message",
                      "it isn't of protocol version %d: both programs must be of one release",
                      PFX_WIRE_VERSION);
    if (!t || !cJSON_IsString(t))
        return REFUSE("message", "member \"t\" must be a string");
    for (size_t i = 0; i < n_accepts; i++) {
        if (strcmp(accepts[i]->name, t->valuestring) != 0)
            continue;
        if (len > accepts[i]->ceiling)
            return REFUSE(accepts[i]->name, "it has %zu bytes, more than %u", len,
                          accepts[i]->ceiling);
        return read_object(accepts[i], tree, true, true, ret_msg, err);
    }
    return REFUSE("message", "type \"%s\" isn't accepted here",
                  plain_name(t->valuestring) ? t->valuestring : "(unprintable)");
}

static size_t string_size(const char *text)
{
    size_t size = 2;
    for (; *text; text++)
        size += strchr("\"\\\n\t", *text) ? 2 : 1;
    return size;
}

/* Bytes of the text that encode.c would write for this tree: a body obeys its own ceiling, not only
 * that of the envelope that it came in. */
static size_t text_size(const cJSON *tree)
{
    if (cJSON_IsString(tree))
        return string_size(tree->valuestring);
    if (cJSON_IsNumber(tree)) {
        char digits[32];
        return (size_t)snprintf(digits, sizeof digits, "%.0f", tree->valuedouble);
    }
    if (!cJSON_IsObject(tree) && !cJSON_IsArray(tree))
        return cJSON_IsFalse(tree) ? 5 : 4;
    size_t size = 2;
    for (const cJSON *item = tree->child; item; item = item->next)
        size += (cJSON_IsObject(tree) ? string_size(item->string) + 1 : 0) + text_size(item) +
                (item->next ? 1 : 0);
    return size;
}

pfx_result pfx_msg_body(const struct pfx_msg *msg, const char *name,
                        const struct pfx_wire_schema *schema, struct pfx_msg **ret_body,
                        struct pfx_error *err)
{
    const struct pfx_wire_slot *slot = pfx_wire_body_slot(msg, name);
    if (!slot->set) /* an optional body that was left out: an empty object */
        return pfx_msg_decode(schema, "{}", 2, ret_body, err);
    if (slot->text)
        return pfx_msg_decode(schema, slot->text, slot->text_len, ret_body, err);
    size_t size = text_size(slot->tree);
    if (size > schema->ceiling)
        return REFUSE(schema->name, "it has %zu bytes, more than %u", size, schema->ceiling);
    return read_object(schema, slot->tree, false, false, ret_body, err);
}
