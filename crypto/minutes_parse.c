/*
 * Reading records. What is read is written once more and compared, so that a page is either what
 * pfx_minutes_write makes, byte for byte, or no page.
 */
#include <string.h>

#include "crypto/encode.h"
#include "crypto/lines.h"
#include "crypto/minutes.h"

#define LINE_MAX_BYTES 2048

struct reading {
    struct pfx_lines lines;
    struct pfx_minutes record;
    const struct pfx_minutes_row *next; /* the first row that may come in this section */
};

static pfx_result wrong(const struct reading *r, const char *what, struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, "read record", "", "", "Line %u %s.", r->lines.n, what);
}

static void section_begin(struct reading *r)
{
    r->next = pfx_minutes_rows;
}

/* One "name value" of the section; rows come in their order. */
static pfx_result field(struct reading *r, struct pfx_bytes text, struct pfx_error *err)
{
    struct pfx_minutes_section *section = &r->record.list[r->record.n - 1];
    for (const struct pfx_minutes_row *row = r->next; row->name; row++) {
        struct pfx_bytes rest = text;
        if (row->kind != section->kind || !pfx_bytes_skip(&rest, row->name) ||
            !pfx_bytes_skip(&rest, " "))
            continue;
        char *value PFX_AUTOFREE = pfx_strndup((const char *)rest.data, rest.len);
        if (strlen(value) != rest.len || !pfx_minutes_value_ok(row->type, value))
            return wrong(r, "has a value that can't stand there", err);
        section->values[row->field] = PFX_TAKE(value);
        r->next = row + 1;
        return PFX_OK;
    }
    return wrong(r, "has a field that its section doesn't have, or not there", err);
}

static pfx_result fields(struct reading *r, struct pfx_bytes line, struct pfx_error *err)
{
    for (;;) {
        const uint8_t *end = memchr(line.data, ';', line.len);
        size_t len = end ? (size_t)(end - line.data) : line.len;
        PFX_TRY(field(r, (struct pfx_bytes){line.data, len}, err));
        if (!end)
            return PFX_OK;
        line = (struct pfx_bytes){line.data + len, line.len - len};
        if (!pfx_bytes_skip(&line, "; "))
            return wrong(r, "has a ';' without a field behind it", err);
    }
}

static pfx_result section(struct reading *r, struct pfx_bytes line, struct pfx_error *err)
{
    for (enum pfx_minutes_kind kind = PFX_MK_HEAD + 1; kind < PFX_MK_COUNT; kind++) {
        struct pfx_bytes rest = line;
        if (!pfx_bytes_skip(&rest, pfx_minutes_kind_name(kind)) || !pfx_bytes_skip(&rest, " "))
            continue;
        char *name PFX_AUTOFREE = pfx_strndup((const char *)rest.data, rest.len);
        if (strlen(name) != rest.len || !pfx_minutes_value_ok(PFX_MT_NAME, name))
            return wrong(r, "has a name that can't stand there", err);
        if (!pfx_minutes_add(&r->record, kind, name))
            return wrong(r, "is a section too many", err);
        section_begin(r);
        return PFX_OK;
    }
    return wrong(r, "begins no section that a record has", err);
}

/* Lines up to "end of record", that one with them; *ret_used are their bytes. */
static pfx_result read_lines(struct reading *r, struct pfx_bytes text, size_t *ret_used,
                             struct pfx_error *err)
{
    struct pfx_bytes line;
    r->lines = (struct pfx_lines){.rest = text};
    if (!pfx_lines_next(&r->lines, &line) || !pfx_bytes_equal(line, PFX_MINUTES_TITLE))
        return pfx_fail(err, PFX_CLASS_REFUSED, "read record", "", "",
                        "It doesn't begin with \"" PFX_MINUTES_TITLE "\".");
    (void)pfx_minutes_add(&r->record, PFX_MK_HEAD, "");
    section_begin(r);
    while (pfx_lines_next(&r->lines, &line)) {
        if (line.len > LINE_MAX_BYTES)
            return wrong(r, "is too long", err);
        if (pfx_bytes_equal(line, PFX_MINUTES_END)) {
            *ret_used = text.len - r->lines.rest.len;
            return PFX_OK;
        }
        if (pfx_bytes_skip(&line, "  "))
            PFX_TRY(fields(r, line, err));
        else
            PFX_TRY(section(r, line, err));
    }
    return pfx_fail(err, PFX_CLASS_REFUSED, "read record", "", "",
                    "It is cut: there is no line \"" PFX_MINUTES_END "\".");
}

static pfx_result read_record(struct reading *r, struct pfx_bytes text, size_t *ret_used,
                              struct pfx_error *err)
{
    struct pfx_buf again PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_MINUTES_MAX);
    struct pfx_error why = PFX_ERROR_NONE;
    PFX_TRY(read_lines(r, text, ret_used, err));
    if (pfx_failed(pfx_minutes_write(&r->record, &again, &why)))
        return pfx_fail(err, PFX_CLASS_REFUSED, "read record", why.object, "", "%s", why.text);
    if (again.len != *ret_used || memcmp(again.data, text.data, again.len) != 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "read record", "", "",
                        "Its lines aren't in the form that pfx-hsm writes.");
    return PFX_OK;
}

pfx_result pfx_minutes_parse(struct pfx_bytes text, struct pfx_minutes *ret, struct pfx_error *err)
{
    struct reading r = {0};
    size_t used = 0;
    pfx_result result = read_record(&r, text, &used, err);
    if (pfx_ok(result) && used != text.len)
        result = wrong(&r, "is followed by more than a record", err);
    if (pfx_failed(result)) {
        pfx_minutes_done(&r.record);
        return result;
    }
    *ret = r.record;
    return PFX_OK;
}

void pfx_minutes_page_done(struct pfx_minutes_page *page)
{
    pfx_minutes_done(&page->record);
}

static pfx_result read_seal(struct reading *r, struct pfx_bytes record, struct pfx_minutes_page *page,
                            struct pfx_error *err)
{
    struct pfx_bytes line;
    uint8_t digest[32];
    if (!pfx_lines_next(&r->lines, &line) || !pfx_bytes_skip(&line, "sha256 ") || line.len != 64)
        return pfx_fail(err, PFX_CLASS_REFUSED, "read page", "", "",
                        "Behind \"" PFX_MINUTES_END "\" there is no line with its SHA-256.");
    if (!pfx_sha256(record.data, record.len, digest))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "read page", "", "", "SHA-256 failed.");
    pfx_hex(digest, sizeof digest, page->sha256);
    if (memcmp(line.data, page->sha256, 64) != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read page", "", "",
                        "Its record isn't the one that the hash below it belongs to: a line was "
                        "changed, or the hash was.");
    if (!pfx_lines_next(&r->lines, &line) || !pfx_bytes_skip(&line, "entry ") || line.len == 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "read page", "", "",
                        "The entry of the operation log isn't there.");
    page->entry = line;
    page->receipt = r->lines.rest;
    return PFX_OK;
}

pfx_result pfx_minutes_page_parse(struct pfx_bytes text, struct pfx_minutes_page *ret,
                                 struct pfx_error *err)
{
    struct reading r = {0};
    size_t used = 0;
    *ret = (struct pfx_minutes_page){.sha256 = ""};
    pfx_result result = read_record(&r, text, &used, err);
    if (pfx_ok(result))
        result = read_seal(&r, (struct pfx_bytes){text.data, used}, ret, err);
    if (pfx_failed(result)) {
        pfx_minutes_done(&r.record);
        return result;
    }
    ret->record = r.record;
    return PFX_OK;
}
