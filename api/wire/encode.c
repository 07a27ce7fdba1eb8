/* A message as JSON text. cJSON isn't used for writing: it would leave copies of secrets behind. */
#include <openssl/crypto.h>
#include <string.h>

#include "api/wire/json.h"
#include "api/wire/messages.h"
#include "api/wire/msg.h"
#include "crypto/encode.h"

static void put_string(struct pfx_buf *out, const char *text, size_t len)
{
    pfx_buf_add(out, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        const char *escape = NULL;
        switch (text[i]) {
        case '"':
            escape = "\\\"";
            break;
        case '\\':
            escape = "\\\\";
            break;
        case '\n':
            escape = "\\n";
            break;
        case '\t':
            escape = "\\t";
            break;
        default: /* other control characters don't get here: see pfx_wire_check_str */
            break;
        }
        if (escape) {
            pfx_buf_add(out, text + from, i - from);
            pfx_buf_add(out, escape, 2);
            from = i + 1;
        }
    }
    pfx_buf_add(out, text + from, len - from);
    pfx_buf_add(out, "\"", 1);
}

static void put_blob(struct pfx_buf *out, const struct pfx_wire_val *val)
{
    pfx_buf_add(out, "\"", 1);
    pfx_base64_encode(val->data, val->len, out);
    pfx_buf_add(out, "\"", 1);
}

static pfx_result put_object(const struct pfx_msg *msg, bool envelope, struct pfx_buf *out,
                             size_t *values, struct pfx_error *err);

static pfx_result put_array(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                            const struct pfx_wire_slot *slot, struct pfx_buf *out, size_t *values)
{
    PFX_TRY(pfx_wire_check_count(at, field, slot->n));
    pfx_buf_add(out, "[", 1);
    for (uint32_t i = 0; i < slot->n; i++) {
        if (i > 0)
            pfx_buf_add(out, ",", 1);
        if (field->type == PFX_W_OBJS) {
            PFX_TRY(put_object(slot->objs[i], false, out, values, at->err));
            continue;
        }
        const struct pfx_wire_val *val = &slot->vals[i];
        ++*values;
        if (field->type == PFX_W_STRS) {
            PFX_TRY(pfx_wire_check_str(at, field, (const char *)val->data, val->len));
            put_string(out, (const char *)val->data, val->len);
        } else {
            PFX_TRY(pfx_wire_check_blob(at, field, val->len));
            put_blob(out, val);
        }
    }
    pfx_buf_add(out, "]", 1);
    return PFX_OK;
}

static pfx_result put_value(const struct pfx_wire_where *at, const struct pfx_wire_field *field,
                            const struct pfx_wire_slot *slot, struct pfx_buf *out, size_t *values)
{
    ++*values;
    switch (field->type) {
    case PFX_W_STR:
        PFX_TRY(pfx_wire_check_str(at, field, (const char *)slot->vals[0].data,
                                   slot->vals[0].len));
        put_string(out, (const char *)slot->vals[0].data, slot->vals[0].len);
        break;
    case PFX_W_BLOB:
        PFX_TRY(pfx_wire_check_blob(at, field, slot->vals[0].len));
        put_blob(out, &slot->vals[0]);
        break;
    case PFX_W_INT:
        PFX_TRY(pfx_wire_check_int(at, field, slot->num));
        pfx_buf_addf(out, "%lld", (long long)slot->num);
        break;
    case PFX_W_BOOL:
        pfx_buf_add_str(out, slot->num ? "true" : "false");
        break;
    case PFX_W_STRS:
    case PFX_W_BLOBS:
    case PFX_W_OBJS:
        return put_array(at, field, slot, out, values);
    case PFX_W_OBJ:
        return put_object(slot->objs[0], false, out, values, at->err);
    case PFX_W_BODY: {
        const char *why = NULL;
        size_t inside = 0;
        if (!slot->text)
            return pfx_wire_bad(at, field, "was received: decode it before it is sent on");
        if (!pfx_json_scan(slot->text, slot->text_len, &inside, &why))
            return pfx_wire_bad(at, field, "isn't the text of an object: %s", why);
        *values += inside;
        pfx_buf_add(out, slot->text, slot->text_len);
        break;
    }
    }
    return PFX_OK;
}

static pfx_result put_object(const struct pfx_msg *msg, bool envelope, struct pfx_buf *out,
                             size_t *values, struct pfx_error *err)
{
    const struct pfx_wire_schema *schema = msg->schema;
    const struct pfx_wire_where at = {PFX_CLASS_USAGE, "encode", schema, err};
    size_t start = out->len;
    bool first = true;
    ++*values;
    pfx_buf_add(out, "{", 1);
    if (envelope) {
        pfx_buf_addf(out, "\"v\":%d,\"t\":\"%s\"", PFX_WIRE_VERSION, schema->name);
        first = false;
    }
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct pfx_wire_field *field = &schema->fields[i];
        const struct pfx_wire_slot *slot = &msg->slots[i];
        bool array = field->type == PFX_W_STRS || field->type == PFX_W_BLOBS ||
                     field->type == PFX_W_OBJS;
        if (!slot->set) {
            if (field->flags & PFX_W_OPT)
                continue;
            if (!array) /* an array to which nothing was added is an empty one */
                return pfx_wire_bad(&at, field, "is missing");
        }
        pfx_buf_addf(out, "%s\"%s\":", first ? "" : ",", field->name);
        first = false;
        PFX_TRY(put_value(&at, field, slot, out, values));
    }
    pfx_buf_add(out, "}", 1);
    if (out->over)
        return pfx_fail(err, PFX_CLASS_USAGE, "encode", schema->name, "",
                        "it doesn't fit into the buffer of %zu bytes", out->max);
    if (out->len - start > schema->ceiling)
        return pfx_fail(err, PFX_CLASS_USAGE, "encode", schema->name, "",
                        "it has %zu bytes, more than %u", out->len - start, schema->ceiling);
    return PFX_OK;
}

pfx_result pfx_msg_encode(const struct pfx_msg *msg, bool envelope, struct pfx_buf *out,
                          struct pfx_error *err)
{
    size_t start = out->len, values = 0;
    bool over = out->over;
    if (pfx_wire_has_secret(msg->schema))
        out->wipe = true;
    pfx_result r = put_object(msg, envelope, out, &values, err);
    if (pfx_ok(r) && values > PFX_JSON_VALUES) /* the other side would refuse it */
        r = pfx_fail(err, PFX_CLASS_USAGE, "encode", msg->schema->name, "",
                     "it has %zu values, more than %u", values, PFX_JSON_VALUES);
    if (pfx_failed(r) && out->data) {
        if (out->wipe)
            OPENSSL_cleanse(out->data + start, out->len - start);
        out->data[start] = 0;
        out->len = start;
        out->over = over;
    }
    return r;
}
