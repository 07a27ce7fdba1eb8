/* Records of ceremonies: the table of their fields, and writing. */
#include "crypto/minutes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/canon_scan.h"
#include "crypto/encode.h"

#define HEX_DIGITS "0123456789abcdef"
#define WORD_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/+-"
#define ULID_CHARS "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

/* L begins a line, J goes on in it; O: may be missing. */
#define L(kind, field, name, type) {PFX_MK_##kind, PFX_MF_##field, name, PFX_MT_##type, false, false}
#define J(kind, field, name, type) {PFX_MK_##kind, PFX_MF_##field, name, PFX_MT_##type, true, false}
#define LO(kind, field, name, type) {PFX_MK_##kind, PFX_MF_##field, name, PFX_MT_##type, false, true}
#define JO(kind, field, name, type) {PFX_MK_##kind, PFX_MF_##field, name, PFX_MT_##type, true, true}
const struct pfx_minutes_row pfx_minutes_rows[] = {
    L(HEAD, KIND, "kind", WORD),
    J(HEAD, TIME, "time", TIME),
    J(HEAD, UID, "uid", INT),
    L(HEAD, HOST, "host", WORD),
    J(HEAD, LOG, "log", TEXT),
    L(HEAD, POLICY, "policy", HASH),
    L(HEAD, VERSION, "version", TEXT),
    JO(HEAD, EXE, "executable", HASH),
    LO(HEAD, LATE, "written-late", TIME),
    L(ROLE, TOKEN, "token", TEXT),
    J(ROLE, SERIAL, "serial", TEXT),
    JO(ROLE, DEVICE, "device", TEXT),
    LO(ROLE, MODULE, "module", TEXT),
    LO(ROLE, MODULE_SHA256, "sha256", HASH),
    L(KEY, ROLE, "role", WORD),
    J(KEY, ALGORITHM, "algorithm", WORD),
    J(KEY, HOW, "how", WORD),
    L(KEY, ID, "id", HEX),
    J(KEY, OPERATION, "operation", ULID),
    JO(KEY, INTENT, "intent", INT),
    LO(KEY, LABEL, "label", TEXT),
    LO(KEY, SPKI, "spki", HASH),
    LO(KEY, IS, "is", TEXT),
    LO(KEY, IS_NOT, "not", TEXT),
    LO(KEY, UNKNOWN, "unknown", TEXT),
    LO(KEY, MECHANISMS, "mechanisms", TEXT),
    L(CERTIFICATE, SHA256, "sha256", HASH),
    L(CERTIFICATE, OPERATION, "operation", ULID),
    J(CERTIFICATE, UNTIL, "until", TIME),
    L(PIN, GENERATION, "generation", INT),
    J(PIN, STATE, "state", WORD),
    L(PIN, KEY_NAME, "key-name", TEXT),
    L(PIN, PROVIDER, "provider", TEXT),
    LO(PIN, SPKI, "spki", HASH),
    L(STANDING, STATE, "state", WORD),
    JO(STANDING, SINCE, "since", TIME),
    L(APPROVAL, COMMAND, "command", WORD),
    J(APPROVAL, MODE, "mode", WORD),
    J(APPROVAL, TIME, "time", TIME),
    L(APPROVAL, ASKER, "asked-by", TEXT),
    J(APPROVAL, UID, "uid", INT),
    LO(APPROVAL, OPERATION, "operation", ULID),
    L(APPROVAL, NONCE, "nonce", HASH),
    LO(APPROVAL, SIGNER, "key", TEXT),
    L(ATTESTATION, SOURCE, "source", TEXT),
    L(ATTESTATION, SHA256, "sha256", HASH),
    J(ATTESTATION, SIZE, "size", INT),
    {.name = NULL},
};

const char *pfx_minutes_kind_name(enum pfx_minutes_kind kind)
{
    static const char *const names[PFX_MK_COUNT] = {
        [PFX_MK_HEAD] = PFX_MINUTES_TITLE, [PFX_MK_WITNESS] = "witness",
        [PFX_MK_ROLE] = "role",           [PFX_MK_KEY] = "key",
        [PFX_MK_CERTIFICATE] = "certificate",
        [PFX_MK_PIN] = "pin",             [PFX_MK_STANDING] = "standing",
        [PFX_MK_APPROVAL] = "approval",   [PFX_MK_ATTESTATION] = "attestation",
        [PFX_MK_NOTE] = "note"};
    return names[kind];
}

void pfx_minutes_done(struct pfx_minutes *record)
{
    for (size_t i = 0; i < record->n; i++) {
        free(record->list[i].name);
        for (size_t k = 0; k < PFX_MF_COUNT; k++)
            free(record->list[i].values[k]);
    }
    free(record->list);
    *record = (struct pfx_minutes){0, NULL};
}

/* --- values ----------------------------------------------------------------------------------- */

/* What a page of paper can't show, or shows in another order: controls, invisible and
 * direction-changing characters. ';' parts fields of one line; a name stands alone in its
 * own. */
static bool is_shown(const uint8_t *at, size_t n, bool alone)
{
    if (n == 1)
        return *at >= 0x20 && *at != 0x7F && (alone || *at != ';');
    if (n == 2)
        return (at[0] != 0xC2 || (at[1] >= 0xA0 && at[1] != 0xAD)) && (at[0] != 0xD8 || at[1] != 0x9C);
    if (n == 4)
        return at[0] != 0xF3; /* U+E0000 ... tags; private use */
    unsigned point = (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
    return !((point >= 0x200B && point <= 0x200F) || (point >= 0x2028 && point <= 0x202E) ||
             (point >= 0x2060 && point <= 0x206F) || point == 0xFEFF ||
             (point >= 0xFFF9 && point <= 0xFFFB) || (point >= 0xE000 && point <= 0xF8FF));
}

/* Into something that a line can hold; NULL where nothing is left. */
static char *clean(const char *text, bool alone)
{
    const uint8_t *at = (const uint8_t *)text, *end = at + strlen(text);
    char out[PFX_MINUTES_VALUE + 1];
    size_t len = 0;
    while (at < end && *at == ' ')
        at++;
    while (at < end) {
        size_t n = pfx_canon_utf8(at, end);
        bool shown = n > 0 && is_shown(at, n, alone);
        size_t step = n > 0 ? n : 1;
        if (len + (shown ? n : 1) > PFX_MINUTES_VALUE)
            break;
        if (shown)
            memcpy(out + len, at, n);
        else
            out[len] = *at == ';' ? ',' : '?';
        len += shown ? n : 1;
        at += step;
    }
    while (len > 0 && out[len - 1] == ' ')
        len--;
    return len > 0 ? pfx_strndup(out, len) : NULL;
}

static bool made_of(const char *value, const char *characters, size_t least, size_t most)
{
    size_t len = strlen(value);
    return len >= least && len <= most && strspn(value, characters) == len;
}

bool pfx_minutes_value_ok(enum pfx_minutes_type type, const char *value)
{
    int64_t ms;
    char buf[PFX_TIME_SIZE];
    switch (type) {
    case PFX_MT_NAME:
    case PFX_MT_TEXT: {
        char *same PFX_AUTOFREE = clean(value, type == PFX_MT_NAME);
        return same && strcmp(same, value) == 0;
    }
    case PFX_MT_WORD:
        return made_of(value, WORD_CHARS, 1, 128);
    case PFX_MT_HEX:
        return made_of(value, HEX_DIGITS, 2, 128) && strlen(value) % 2 == 0;
    case PFX_MT_HASH:
        return made_of(value, HEX_DIGITS, 64, 64);
    case PFX_MT_ULID:
        return made_of(value, ULID_CHARS, 26, 26) && value[0] <= '7';
    case PFX_MT_TIME:
        return strlen(value) < sizeof buf && pfx_time_parse(value, &ms) &&
               strcmp(pfx_time_format(ms, true, buf), value) == 0;
    case PFX_MT_INT:
        return made_of(value, "0123456789", 1, 15) && (value[0] != '0' || !value[1]);
    }
    return false;
}

static const struct pfx_minutes_row *row_of(enum pfx_minutes_kind kind, enum pfx_minutes_field field)
{
    for (const struct pfx_minutes_row *row = pfx_minutes_rows; row->name; row++)
        if (row->kind == kind && row->field == field)
            return row;
    pfx_die("record: a field that its section doesn't have");
}

struct pfx_minutes_section *pfx_minutes_add(struct pfx_minutes *record, enum pfx_minutes_kind kind,
                                          const char *name)
{
    if ((record->n == 0) != (kind == PFX_MK_HEAD))
        pfx_die("record: its head is its first section");
    if (record->n == PFX_MINUTES_SECTIONS)
        return NULL;
    record->list = pfx_grow(record->list, record->n + 1, sizeof(*record->list));
    struct pfx_minutes_section *section = &record->list[record->n++];
    *section = (struct pfx_minutes_section){.kind = kind};
    section->name = kind == PFX_MK_HEAD ? NULL : clean(name, true);
    if (!section->name)
        section->name = pfx_strdup(kind == PFX_MK_HEAD ? "" : "-");
    return section;
}

void pfx_minutes_set(struct pfx_minutes_section *section, enum pfx_minutes_field field,
                    const char *value)
{
    if (!section) /* there were too many: its record can't be written */
        return;
    const struct pfx_minutes_row *row = row_of(section->kind, field);
    char *kept = NULL;
    if (value && row->type == PFX_MT_TEXT)
        kept = clean(value, false);
    else if (value && *value)
        kept = pfx_strdup(value);
    if (kept && !pfx_minutes_value_ok(row->type, kept))
        pfx_die("record: a value that its field doesn't allow");
    free(section->values[field]);
    section->values[field] = kept;
}

void pfx_minutes_set_int(struct pfx_minutes_section *section, enum pfx_minutes_field field,
                        int64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRId64, value);
    pfx_minutes_set(section, field, text);
}

void pfx_minutes_set_hex(struct pfx_minutes_section *section, enum pfx_minutes_field field,
                        const void *data, size_t len)
{
    char text[129];
    if (len > 64)
        pfx_die("record: more bytes than a field takes");
    pfx_minutes_set(section, field, pfx_hex(data, len, text));
}

void pfx_minutes_set_time(struct pfx_minutes_section *section, enum pfx_minutes_field field,
                         int64_t ms)
{
    char text[PFX_TIME_SIZE];
    pfx_minutes_set(section, field, pfx_time_format(ms, true, text));
}

const char *pfx_minutes_get(const struct pfx_minutes_section *section, enum pfx_minutes_field field)
{
    return section && section->values[field] ? section->values[field] : "";
}

const struct pfx_minutes_section *pfx_minutes_find(const struct pfx_minutes *record,
                                                 enum pfx_minutes_kind kind, const char *name)
{
    for (size_t i = 0; i < record->n; i++)
        if (record->list[i].kind == kind && (!name || strcmp(record->list[i].name, name) == 0))
            return &record->list[i];
    return NULL;
}

/* --- writing ---------------------------------------------------------------------------------- */

static pfx_result write_section(const struct pfx_minutes_section *section, struct pfx_buf *out,
                                struct pfx_error *err)
{
    const char *kind = pfx_minutes_kind_name(section->kind);
    (void)pfx_buf_addf(out, "%s%s%s\n", kind, section->name[0] ? " " : "", section->name);
    bool open = false; /* a line that goes on */
    for (const struct pfx_minutes_row *row = pfx_minutes_rows; row->name; row++) {
        if (row->kind != section->kind)
            continue;
        const char *value = section->values[row->field];
        if (!value && !row->optional)
            return pfx_fail(err, PFX_CLASS_USAGE, "write record", section->name, "",
                            "%s has no %s.", kind, row->name);
        if (open && !row->joined) {
            (void)pfx_buf_add_str(out, "\n");
            open = false;
        }
        if (!value)
            continue;
        (void)pfx_buf_addf(out, "%s%s %s", open ? "; " : "  ", row->name, value);
        open = true;
    }
    if (open)
        (void)pfx_buf_add_str(out, "\n");
    return PFX_OK;
}

pfx_result pfx_minutes_write(const struct pfx_minutes *record, struct pfx_buf *out,
                            struct pfx_error *err)
{
    for (size_t i = 0; i < record->n; i++)
        PFX_TRY(write_section(&record->list[i], out, err));
    (void)pfx_buf_add_str(out, PFX_MINUTES_END "\n");
    if (record->n == 0 || record->n == PFX_MINUTES_SECTIONS || out->over)
        return pfx_fail(err, PFX_CLASS_USAGE, "write record", "", "",
                        "It has too many sections, or is too long.");
    return PFX_OK;
}

bool pfx_minutes_seal(struct pfx_buf *record_text, struct pfx_bytes entry, struct pfx_bytes receipt)
{
    uint8_t digest[32];
    char hex[65];
    if (!pfx_sha256(record_text->data, record_text->len, digest))
        return false;
    (void)pfx_buf_addf(record_text, "sha256 %s\nentry ", pfx_hex(digest, sizeof digest, hex));
    (void)pfx_buf_add(record_text, entry.data, entry.len);
    (void)pfx_buf_add_str(record_text, "\n");
    return pfx_buf_add(record_text, receipt.data, receipt.len);
}
