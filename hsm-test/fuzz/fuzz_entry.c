/*
 * Hostile entries of the log. Canonical JSON that is taken comes out again as it went in, written
 * by the writer from what the scanner gave out; so does an entry whose members are all known.
 */
#include <string.h>

#include "crypto/encode.h"
#include "crypto/entry.h"

#define ROOM (1 << 21)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        __builtin_trap();
}

static void must_equal(const struct pfx_buf *again, struct pfx_bytes json)
{
    must(!again->over && again->len == json.len && memcmp(again->data, json.data, json.len) == 0);
}

struct mirror {
    struct pfx_canon writer;
    bool in_group;
};

static void write_again(struct pfx_canon *writer, const char *name,
                        const struct pfx_canon_value *value)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf plain = pfx_buf_make(ROOM);
    switch (value->kind) {
    case PFX_CANON_STR:
        must(pfx_canon_unescape(value, &plain));
        must(pfx_utf8_valid(pfx_buf_str(&plain), plain.len));
        must(value->escaped == (plain.len != value->text.len));
        pfx_canon_str(writer, name, pfx_buf_bytes(&plain));
        break;
    case PFX_CANON_INT:
        pfx_canon_int(writer, name, value->number);
        break;
    case PFX_CANON_BOOL:
        pfx_canon_bool(writer, name, value->number != 0);
        break;
    default:
        pfx_canon_raw(writer, name, value->raw);
    }
}

static bool mirror_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                          const struct pfx_canon_value *value)
{
    struct mirror *m = ctx;
    PFX_AUTOFREE char *name = pfx_strndup((const char *)key.data, key.len);
    if (!group.data && m->in_group) {
        pfx_canon_close(&m->writer, '}');
        m->in_group = false;
    }
    if (!group.data && value->kind == PFX_CANON_OBJ) {
        pfx_canon_open(&m->writer, name, '{');
        m->in_group = true;
    } else {
        write_again(&m->writer, name, value);
    }
    return true;
}

static bool mirror_element(void *ctx, const struct pfx_canon_value *value)
{
    write_again(ctx, NULL, value);
    return true;
}

static void try_canonical(struct pfx_bytes json)
{
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(ROOM);
    struct mirror m = {.writer = pfx_canon_make(&again)};
    pfx_canon_open(&m.writer, NULL, '{');
    pfx_result scanned = pfx_canon_scan(json, mirror_member, &m, &err);
    must(pfx_ok(scanned) || (scanned.cls == PFX_CLASS_REFUSED && err.text[0]));
    if (pfx_failed(scanned))
        return;
    if (m.in_group)
        pfx_canon_close(&m.writer, '}');
    pfx_canon_close(&m.writer, '}');
    must_equal(&again, json);
}

static void try_elements(struct pfx_bytes json)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(ROOM);
    struct pfx_canon writer = pfx_canon_make(&again);
    pfx_canon_open(&writer, NULL, '[');
    if (pfx_failed(pfx_canon_elements(json, mirror_element, &writer, NULL)))
        return;
    pfx_canon_close(&writer, ']');
    must_equal(&again, json);
}

static void try_entry(struct pfx_bytes json)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_entry entry;
    memset(&entry, 0xA5, sizeof entry); /* nothing of what was there before may show */
    pfx_result read = pfx_entry_read(json, &entry, &err);
    must(pfx_ok(read) || (read.cls == PFX_CLASS_REFUSED && err.text[0]));
    if (pfx_failed(read))
        return;
    for (unsigned i = 0; i < PFX_FIELD_COUNT; i++) {
        enum pfx_field field = (enum pfx_field)i;
        enum pfx_field_type type = pfx_fields[field].type;
        uint8_t hash[32];
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf plain = pfx_buf_make(ROOM);
        if (!pfx_entry_has(&entry, field) || type == PFX_T_INT || type == PFX_T_BOOL)
            continue;
        must(pfx_entry_hash(&entry, field, hash) || type != PFX_T_HASH);
        if (type == PFX_T_RAW)
            continue;
        must(pfx_entry_plain(&entry, field, &plain));
        bool whole = !memchr(pfx_buf_str(&plain), '\0', plain.len);
        must(pfx_entry_is(&entry, field, pfx_buf_str(&plain)) == whole);
    }
    must(pfx_entry_time(&entry, PFX_F_TIME) >= 0);
    if (entry.n_unknown > 0)
        return;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_ENTRY_MAX);
    must(pfx_ok(pfx_entry_write(&entry, &again, &err)));
    must_equal(&again, json);
}

static void try_records(struct pfx_bytes data)
{
    size_t at = 0, before = 0;
    struct pfx_bytes entry;
    while (pfx_record_next(data, &at, &entry) == PFX_RECORD_WHOLE) {
        must(entry.len > 0 && at == before + PFX_RECORD_HEAD + entry.len && at <= data.len);
        must(entry.data == data.data + before + PFX_RECORD_HEAD);
        before = at;
    }
    must(at == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfx_bytes json = {data, size};
    try_canonical(json);
    try_elements(json);
    try_entry(json);
    try_records(json);
    return 0;
}
