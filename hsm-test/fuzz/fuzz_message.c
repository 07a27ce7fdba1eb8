/*
 * Messages and bodies of every schema of the three sockets, both directions.
 *
 *   NAME\n        "job", "up.order", "up.order.result", ...: the schema
 *   {...}         its text, or:
 *   !bytes        which build a message member by member, good and bad values; what comes behind
 *                 them spoils its text
 *
 * What can be written can be read; what was read is written the same again and again.
 */
#include "api/wire/json.h"
#include "api/wire/messages.h"
#include "fuzz.h"

#define MAX_SCHEMAS 200
#define MOST 300 /* bytes of a built string or blob, unless its least is more */

static struct {
    const char *name;
    bool result;
    const struct pfx_wire_schema *schema;
    bool envelope;
} schemas[MAX_SCHEMAS];
static size_t n_schemas;

static void add_schema(const char *name, bool result, const struct pfx_wire_schema *schema,
                       bool envelope)
{
    must(n_schemas < MAX_SCHEMAS);
    schemas[n_schemas].name = name;
    schemas[n_schemas].result = result;
    schemas[n_schemas].schema = schema;
    schemas[n_schemas++].envelope = envelope;
}

static void list_schemas(void)
{
    static const struct pfx_wire_schema *const envelopes[] = {
        &pfx_s_hello, &pfx_s_welcome, &pfx_s_bye, &pfx_s_pull, &pfx_s_job, &pfx_s_beat,
        &pfx_s_done,  &pfx_s_ack,     &pfx_s_req, &pfx_s_item, &pfx_s_end};
    static const struct pfx_wire_pair *const tables[] = {pfx_wire_jobs, pfx_wire_agent,
                                                         pfx_wire_admin, pfx_wire_broker};
    if (n_schemas > 0)
        return;
    for (size_t i = 0; i < sizeof envelopes / sizeof *envelopes; i++)
        add_schema(envelopes[i]->name, false, envelopes[i], true);
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct pfx_wire_pair *pair = tables[t]; pair->name; pair++) {
            add_schema(pair->name, false, pair->request, false);
            if (pair->result)
                add_schema(pair->name, true, pair->result, false);
        }
}

static size_t find_schema(struct pfx_bytes word)
{
    static const char suffix[] = ".result";
    size_t n = sizeof suffix - 1;
    bool result = word.len > n && memcmp(word.data + word.len - n, suffix, n) == 0;
    struct pfx_bytes name = {word.data, word.len - (result ? n : 0)};
    for (size_t i = 0; i < n_schemas; i++)
        if (schemas[i].result == result && is_word(name, schemas[i].name))
            return i;
    return any_of(word, n_schemas);
}

/* --- reading --- */

static pfx_result decode(size_t which, const char *json, size_t len, struct pfx_msg **ret_msg,
                         struct pfx_error *err)
{
    return schemas[which].envelope
               ? pfx_msg_decode_any(&schemas[which].schema, 1, json, len, ret_msg, err)
               : pfx_msg_decode(schemas[which].schema, json, len, ret_msg, err);
}

static bool has_body(const struct pfx_wire_schema *schema)
{
    for (size_t i = 0; i < schema->n_fields; i++)
        if (schema->fields[i].type == PFX_W_BODY)
            return true;
    return false;
}

/* Every member is there or optional, and within its bounds. */
static void must_obey(const struct pfx_msg *msg)
{
    const struct pfx_wire_schema *schema = pfx_msg_schema(msg);
    for (size_t i = 0; i < schema->n_fields; i++) {
        const struct pfx_wire_field *f = &schema->fields[i];
        bool array = f->type == PFX_W_STRS || f->type == PFX_W_BLOBS || f->type == PFX_W_OBJS;
        if (!pfx_msg_has(msg, f->name)) {
            must((f->flags & PFX_W_OPT) != 0 || array);
            continue;
        }
        size_t n = array ? pfx_msg_count(msg, f->name) : 1;
        must(!array || n <= f->items);
        for (size_t k = 0; k < n; k++) {
            const char *text = NULL;
            if (f->type == PFX_W_STR)
                text = pfx_msg_str(msg, f->name);
            else if (f->type == PFX_W_STRS)
                text = pfx_msg_str_at(msg, f->name, k);
            int64_t size = text                     ? (int64_t)strlen(text)
                           : f->type == PFX_W_BLOB  ? (int64_t)pfx_msg_blob(msg, f->name).len
                           : f->type == PFX_W_BLOBS ? (int64_t)pfx_msg_blob_at(msg, f->name, k).len
                           : f->type == PFX_W_INT   ? pfx_msg_int(msg, f->name)
                                                    : f->min;
            must(size >= f->min && size <= f->max);
            must(!text || pfx_utf8_valid(text, strlen(text)));
            if (f->type == PFX_W_OBJ)
                must_obey(pfx_msg_obj(msg, f->name));
            if (f->type == PFX_W_OBJS)
                must_obey(pfx_msg_obj_at(msg, f->name, k));
        }
        must(f->type != PFX_W_STRS || pfx_msg_strs(msg, f->name)[n] == NULL);
    }
}

/* A failure comes back as one, whatever is in it. */
static void try_error(struct pfx_bytes bytes)
{
    struct pfx_error err = PFX_ERROR_NONE, back;
    PFX_AUTOFREE char *text = text_of(bytes);
    PFX_AUTOMSG struct pfx_msg *end = pfx_msg_new(&pfx_s_end);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf json = pfx_buf_make(pfx_s_end.ceiling);
    err.cls = (enum pfx_class)(bytes.len % 9);
    snprintf(err.op, sizeof err.op, "%s", text);
    snprintf(err.text, sizeof err.text, "%s", text);
    pfx_msg_get_error(end, "error", &back);
    must(back.cls == PFX_CLASS_OK);
    pfx_msg_set_int(end, "id", 1);
    pfx_msg_set_int(end, "exit", 4);
    pfx_msg_put_error(end, "error", &err);
    struct pfx_error why = PFX_ERROR_NONE;
    must(pfx_ok(pfx_msg_encode(end, true, &json, &why)));
    pfx_msg_get_error(end, "error", &back);
    size_t was = strlen(err.text), told = strlen(back.text);
    must(back.cls != PFX_CLASS_OK && told <= was && was - told <= 3); /* a torn character's bytes */
}

static void try_text(size_t which, const char *json, size_t len)
{
    const struct pfx_wire_schema *schema = schemas[which].schema;
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOMSG struct pfx_msg *msg = NULL;
    PFX_AUTOMSG struct pfx_msg *back = NULL;
    if (pfx_failed(decode(which, json, len, &msg, &err))) {
        must(err.cls == PFX_CLASS_REFUSED && !msg);
        must_say(&err);
        return;
    }
    must(len <= schema->ceiling && pfx_msg_is(msg, schema));
    must_obey(msg);
    if (has_body(schema)) /* the frames' target does those */
        return;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(schema->ceiling);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(schema->ceiling);
    must(pfx_ok(pfx_msg_encode(msg, schemas[which].envelope, &text, &err)));
    must(pfx_ok(decode(which, pfx_buf_str(&text), text.len, &back, &err)));
    must(pfx_ok(pfx_msg_encode(back, schemas[which].envelope, &again, &err)));
    must(same(pfx_buf_bytes(&text), pfx_buf_bytes(&again)));
}

/* --- building --- */

static unsigned draw(struct pfx_bytes *in)
{
    if (in->len == 0)
        return 0;
    in->len--;
    return *in->data++;
}

/* A length around the bounds, mostly within. */
static size_t draw_len(struct pfx_bytes *in, const struct pfx_wire_field *f)
{
    int64_t least = f->min, most = f->max < MOST ? f->max : f->min > MOST ? f->min : MOST;
    unsigned what = draw(in);
    if (what == 255 && f->max <= 4096)
        return (size_t)f->max + 1;
    if (what == 254 && least > 0)
        return (size_t)least - 1;
    if (what == 253)
        return (size_t)most;
    int64_t len = least + what % 32;
    return (size_t)(len < most ? len : most);
}

/* Plain letters, or any bytes (none of them 0, which ends a text). */
static uint8_t *draw_bytes(struct pfx_bytes *in, size_t len)
{
    uint8_t *bytes = pfx_alloc(len + 1);
    unsigned kind = draw(in);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)('a' + i % 26);
        if (kind % 4 == 3 && (bytes[i] = (uint8_t)draw(in)) == 0)
            bytes[i] = 'x';
    }
    if (kind % 4 == 2 && len > 0)
        bytes[len / 2] = (uint8_t) "\"\\\n\t\x1F\x7F/ "[kind / 4 % 8];
    return bytes;
}

static int64_t draw_int(struct pfx_bytes *in, const struct pfx_wire_field *f)
{
    unsigned what = draw(in);
    switch (what % 8) {
    case 7:
        return what > 128 ? f->max + 1 : f->min - 1;
    case 6:
        return f->max;
    case 5:
        return INT64_C(1) << 53;
    default:
        return f->min + (int64_t)(what % (unsigned)(f->max - f->min > 100 ? 100 : 1));
    }
}

static void build(struct pfx_bytes *in, struct pfx_msg *msg, unsigned depth);

static void build_member(struct pfx_bytes *in, struct pfx_msg *msg, const struct pfx_wire_field *f,
                         unsigned depth)
{
    bool array = f->type == PFX_W_STRS || f->type == PFX_W_BLOBS || f->type == PFX_W_OBJS;
    unsigned n = array ? draw(in) % 4 : 1;
    if (array && n == 3 && f->items < 100 && draw(in) == 255)
        n = f->items + 1;
    for (unsigned i = 0; i < n; i++) {
        size_t len = f->type == PFX_W_STR || f->type == PFX_W_BLOB || f->type == PFX_W_STRS ||
                             f->type == PFX_W_BLOBS
                         ? draw_len(in, f)
                         : 0;
        PFX_AUTOFREE uint8_t *bytes = draw_bytes(in, len);
        switch (f->type) {
        case PFX_W_STR:
            pfx_msg_set_str(msg, f->name, (char *)bytes);
            break;
        case PFX_W_STRS:
            pfx_msg_add_str(msg, f->name, (char *)bytes);
            break;
        case PFX_W_BLOB:
            pfx_msg_set_blob(msg, f->name, bytes, len);
            break;
        case PFX_W_BLOBS:
            pfx_msg_add_blob(msg, f->name, bytes, len);
            break;
        case PFX_W_INT:
            pfx_msg_set_int(msg, f->name, draw_int(in, f));
            break;
        case PFX_W_BOOL:
            pfx_msg_set_bool(msg, f->name, draw(in) & 1);
            break;
        case PFX_W_OBJ:
            build(in, pfx_msg_set_obj(msg, f->name), depth + 1);
            break;
        case PFX_W_OBJS:
            build(in, pfx_msg_add_obj(msg, f->name), depth + 1);
            break;
        case PFX_W_BODY:
            if (draw(in) % 8 == 7)
                pfx_msg_set_body_text(msg, f->name, "[", 1);
            else
                pfx_msg_set_body_text(msg, f->name, "{\"n\":7}", 7);
            break;
        }
    }
}

static void build(struct pfx_bytes *in, struct pfx_msg *msg, unsigned depth)
{
    const struct pfx_wire_schema *schema = pfx_msg_schema(msg);
    if (depth > 3)
        return;
    for (size_t i = 0; i < schema->n_fields; i++)
        if (draw(in) % 16 != 15)
            build_member(in, msg, &schema->fields[i], depth);
}

/* Three bytes a change: where, and what. */
static void spoil(struct pfx_bytes *in, struct pfx_buf *text)
{
    while (in->len >= 3 && text->len > 0) {
        size_t at = (draw(in) << 8 | draw(in)) % text->len;
        uint8_t what = (uint8_t)draw(in);
        if (what % 16 == 15)
            pfx_buf_cut(text, at);
        else
            text->data[at] = what;
    }
}

static void try_built(size_t which, struct pfx_bytes in)
{
    const struct pfx_wire_schema *schema = schemas[which].schema;
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_AUTOMSG struct pfx_msg *msg = pfx_msg_new(schema);
    PFX_AUTOMSG struct pfx_msg *read = NULL;
    build(&in, msg, 0);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make((size_t)schema->ceiling + 1);
    if (pfx_failed(pfx_msg_encode(msg, schemas[which].envelope, &text, &err))) {
        must(err.cls == PFX_CLASS_USAGE && text.len == 0);
        must_say(&err);
        return;
    }
    must(pfx_ok(decode(which, pfx_buf_str(&text), text.len, &read, &err)));
    try_text(which, pfx_buf_str(&text), text.len);
    if (in.len < 3)
        return;
    spoil(&in, &text);
    PFX_AUTOFREE char *exact = pfx_memdup(text.data, text.len);
    try_text(which, exact, text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfx_bytes rest = {data, size};
    list_schemas();
    try_error(rest);
    size_t which = find_schema(take_until(&rest, '\n'));
    if (rest.len > 0 && rest.data[0] == '!')
        try_built(which, (struct pfx_bytes){rest.data + 1, rest.len - 1});
    else
        try_text(which, rest.data ? (const char *)rest.data : "", rest.len);
    return 0;
}
