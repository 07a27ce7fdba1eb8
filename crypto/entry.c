/* Entries of the operation log: the table of their members, reading and writing. */
#include "crypto/entry.h"

#include <stdio.h>

#include "crypto/canon_scan.h"
#include "crypto/encode.h"
#include "crypto/entry_form.h"

/* Each member in canonical order: field, group and name, type, most bytes of text. T stands at the
 * top, G in a group. */
#define FIELDS(T, G)                                                                               \
    G(ACTOR_PID, "actor", "pid", INT, 0)                                                           \
    G(ACTOR_ROLE, "actor", "role", WORD, 32)                                                       \
    G(ACTOR_UID, "actor", "uid", INT, 0)                                                           \
    T(APPROVALS, "approvals", RAW, 0)                                                              \
    T(AT, "at", TIME, 0)                                                                           \
    T(BEFORE, "before", BOOL, 0)                                                                   \
    T(BOOT, "boot", STR, 64)                                                                       \
    G(CERT_SHA256, "cert", "sha256", HASH, 0)                                                      \
    G(CLOCK_STEP, "clock", "step", INT, 0)                                                         \
    T(COUNT, "count", INT, 0)                                                                      \
    T(EVENT, "event", WORD, 64)                                                                    \
    G(FAIL_CODE, "fail", "code", WORD, 64)                                                         \
    G(FAIL_OP, "fail", "op", STR, 64)                                                              \
    T(FOUND, "found", WORD, 32)                                                                    \
    G(KEY_ALG, "key", "alg", WORD, 32)                                                             \
    G(KEY_ID, "key", "id", HEX, 128)                                                               \
    G(KEY_SPKI, "key", "spki", HASH, 0)                                                            \
    G(LOG_ANCHOR, "log", "anchor", INT, 0)                                                         \
    G(LOG_BEFORE, "log", "before", TEXT, 8192)                                                     \
    G(LOG_KEYS, "log", "keys", RAW, 0)                                                             \
    G(LOG_N, "log", "n", INT, 0)                                                                   \
    G(LOG_OPEN, "log", "open", RAW, 0)                                                             \
    G(LOG_ORIGIN, "log", "origin", STR, 255)                                                       \
    G(LOG_RAN, "log", "ran", INT, 0)                                                               \
    G(LOG_RESTORED, "log", "restored", INT, 0)                                                     \
    G(LOG_ROOT, "log", "root", HASH, 0)                                                            \
    G(LOG_SIZE, "log", "size", INT, 0)                                                             \
    T(N, "n", INT, 0)                                                                              \
    T(OP, "op", ULID, 0)                                                                           \
    G(OUT_SHA256, "out", "sha256", HASH, 0)                                                        \
    T(OUTCOME, "outcome", WORD, 16)                                                                \
    T(PHASE, "phase", WORD, 16)                                                                    \
    G(PIN_GENERATION, "pin", "generation", INT, 0)                                                 \
    G(PIN_SERIAL, "pin", "serial", INT, 0)                                                         \
    G(PIN_SPKI, "pin", "spki", HASH, 0)                                                            \
    G(PIN_STATE, "pin", "state", WORD, 32)                                                         \
    T(PINS, "pins", RAW, 0)                                                                        \
    G(POLICY_FORCE, "policy", "force", HASH, 0)                                                    \
    G(POLICY_SHA256, "policy", "sha256", HASH, 0)                                                  \
    T(PREV, "prev", HASH, 0)                                                                       \
    T(REASON, "reason", WORD, 64)                                                                  \
    T(REF, "ref", INT, 0)                                                                          \
    T(RV, "rv", WORD, 64)                                                                          \
    G(SEAL_BY, "seal", "by", WORD, 32)                                                             \
    G(SEAL_GENERATION, "seal", "generation", INT, 0)                                               \
    G(SEAL_HASH, "seal", "hash", WORD, 32)                                                         \
    G(SEAL_SHA256, "seal", "sha256", HASH, 0)                                                      \
    G(SEAL_SPKI, "seal", "spki", HASH, 0)                                                          \
    T(SEQ, "seq", INT, 0)                                                                          \
    G(SOFTWARE_EXE, "software", "exe", HASH, 0)                                                    \
    G(SOFTWARE_MODULES, "software", "modules", RAW, 0)                                             \
    G(SOFTWARE_VERSION, "software", "version", STR, 64)                                            \
    T(SRC, "src", WORD, 16)                                                                        \
    G(STANDING_SERIAL, "standing", "serial", INT, 0)                                               \
    G(STANDING_STATE, "standing", "state", WORD, 32)                                               \
    G(TARGET_ATTEMPT, "target", "attempt", INT, 0)                                                 \
    G(TARGET_ENROLMENT, "target", "enrolment", INT, 0)                                             \
    G(TARGET_NAME, "target", "name", STR, 256)                                                     \
    G(TARGET_ORDER, "target", "order", INT, 0)                                                     \
    G(TARGET_THUMBPRINT, "target", "thumbprint", HEX, 128)                                         \
    G(TARGET_TRANSACTION, "target", "transaction", STR, 64)                                        \
    G(TARGET_USER, "target", "user", HASH, 0)                                                      \
    T(TICKET, "ticket", HASH, 0)                                                                   \
    T(TIER, "tier", WORD, 32)                                                                      \
    T(TIME, "time", TIME, 0)                                                                       \
    G(TOKEN_LABEL, "token", "label", STR, 64)                                                      \
    G(TOKEN_SERIAL, "token", "serial", STR, 64)                                                    \
    T(UP, "up", INT, 0)                                                                            \
    T(V, "v", INT, 0)                                                                              \
    T(WEAK, "weak", BOOL, 0)

#define INFO_TOP(id, name, type, max) [PFX_F_##id] = {"", name, PFX_T_##type, max},
#define INFO_GROUP(id, group, name, type, max) [PFX_F_##id] = {group, name, PFX_T_##type, max},
const struct pfx_field_info pfx_fields[PFX_FIELD_COUNT] = {FIELDS(INFO_TOP, INFO_GROUP)};

/* The names again, side by side and padded with zeros, so that they compare as numbers. */
static const struct names {
    char top[16], sub[16];
} names[PFX_FIELD_COUNT + 1] = {
#define NAMES_TOP(id, name, type, max) [PFX_F_##id] = {name, ""},
#define NAMES_GROUP(id, group, name, type, max) [PFX_F_##id] = {group, name},
    FIELDS(NAMES_TOP, NAMES_GROUP)
        /* Sorts behind every name of a member: 0xFF is in no UTF-8. */
        [PFX_FIELD_COUNT] = {"\xff\xff\xff\xff\xff\xff\xff\xff", ""},
};

#define WORD(text)                                                                                 \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }
static const struct word {
    const char *name;
    size_t len;
} src_names[] = {WORD("hsm"), WORD("agentd"), {NULL, 0}},
  phase_names[] = {WORD("intent"), WORD("result"), WORD("note"), {NULL, 0}},
  outcome_names[] = {WORD("pending"),   WORD("ok"),      WORD("usage"),     WORD("refused"),
                     WORD("transient"), WORD("device"),  WORD("integrity"), WORD("internal"),
                     WORD("lost"),      WORD("unknown"), {NULL, 0}};

const char *pfx_src_name(enum pfx_src src)
{
    return src_names[src].name;
}

const char *pfx_phase_name(enum pfx_phase phase)
{
    return phase_names[phase].name;
}

const char *pfx_outcome_name(enum pfx_outcome outcome)
{
    return outcome_names[outcome].name;
}

enum pfx_outcome pfx_outcome_of(enum pfx_class cls)
{
    static const enum pfx_outcome of[] = {
        [PFX_CLASS_OK] = PFX_OUTCOME_OK,
        [PFX_CLASS_USAGE] = PFX_OUTCOME_USAGE,
        [PFX_CLASS_REFUSED] = PFX_OUTCOME_REFUSED,
        [PFX_CLASS_TRANSIENT] = PFX_OUTCOME_TRANSIENT,
        [PFX_CLASS_DEVICE] = PFX_OUTCOME_DEVICE,
        [PFX_CLASS_INTEGRITY] = PFX_OUTCOME_INTEGRITY,
        [PFX_CLASS_INTERNAL] = PFX_OUTCOME_INTERNAL,
        [PFX_CLASS_LOST] = PFX_OUTCOME_LOST,
    };
    return (size_t)cls < sizeof of / sizeof of[0] ? of[cls] : PFX_OUTCOME_INTERNAL;
}

bool pfx_field_find(const char *dotted, enum pfx_field *ret)
{
    const char *dot = strchr(dotted, '.');
    size_t len = dot ? (size_t)(dot - dotted) : 0;
    const char *name = dot ? dot + 1 : dotted;
    if (dot == dotted)
        return false;
    for (unsigned i = 0; i < PFX_FIELD_COUNT; i++) {
        const struct pfx_field_info *info = &pfx_fields[i];
        if (strlen(info->group) == len && memcmp(info->group, dotted, len) == 0 &&
            strcmp(info->name, name) == 0) {
            *ret = (enum pfx_field)i;
            return true;
        }
    }
    return false;
}

/* "key.id"; returns buf. */
static char *dotted_name(enum pfx_field field, char buf[40])
{
    const struct pfx_field_info *info = &pfx_fields[field];
    snprintf(buf, 40, "%s%s%s", info->group, info->group[0] ? "." : "", info->name);
    return buf;
}

/* --- reading ------------------------------------------------------------------------------- */

enum place { AT_TOP, IN_GROUP, IN_UNKNOWN };
struct reading {
    struct pfx_entry *entry;
    unsigned row; /* members come in the table's order: none before it comes any more */
    enum place place;
    uint64_t group; /* IN_GROUP: its name, as pfx_canon_prefix has it */
    bool empty;     /* IN_GROUP: none of its members came yet */
    struct pfx_error *err;
};

static inline uint64_t name_prefix(const char name[16])
{
    uint64_t whole;
    memcpy(&whole, name, 8);
    return be64toh(whole);
}

/* The first eight bytes are the same. */
static inline bool rest_equal(const char name[16], struct pfx_bytes key)
{
    return key.len < 8 || (key.len < 16 && name[key.len] == '\0' &&
                           memcmp(name + 8, key.data + 8, key.len - 8) == 0);
}

static __attribute__((cold, noinline)) void say(const struct reading *r, unsigned field,
                                                const char *what)
{
    char name[40];
    pfx_result failure =
        pfx_fail(r->err, PFX_CLASS_REFUSED, "read entry", dotted_name((enum pfx_field)field, name),
                 "", "This member of the entry %s.", what);
    (void)failure; /* the scan ends with REFUSED */
}

static inline bool bad(const struct reading *r, unsigned field, const char *what)
{
    say(r, field, what);
    return false;
}

static inline bool take_enum(const struct word words[], struct pfx_bytes text, int64_t *ret)
{
    for (int i = 0; words[i].len > 0; i++)
        if (words[i].len == text.len && memcmp(words[i].name, text.data, text.len) == 0) {
            *ret = i;
            return true;
        }
    return false;
}

static bool take_word(unsigned field, struct pfx_bytes text, int64_t *ret)
{
    switch (field) {
    case PFX_F_SRC:
        return take_enum(src_names, text, ret);
    case PFX_F_PHASE:
        return take_enum(phase_names, text, ret);
    case PFX_F_OUTCOME:
        return take_enum(outcome_names, text, ret);
    default:
        return true;
    }
}

static inline bool take_field(struct reading *r, unsigned field,
                              const struct pfx_canon_value *value)
{
    static const uint8_t kinds[] = {
        [PFX_T_INT] = PFX_CANON_INT,  [PFX_T_BOOL] = PFX_CANON_BOOL, [PFX_T_STR] = PFX_CANON_STR,
        [PFX_T_TEXT] = PFX_CANON_STR, [PFX_T_WORD] = PFX_CANON_STR,  [PFX_T_HASH] = PFX_CANON_STR,
        [PFX_T_HEX] = PFX_CANON_STR,  [PFX_T_ULID] = PFX_CANON_STR,  [PFX_T_TIME] = PFX_CANON_STR,
        [PFX_T_RAW] = PFX_CANON_ARR,
    };
    const struct pfx_field_info *info = &pfx_fields[field];
    if (value->kind != kinds[info->type])
        return bad(r, field, "is of another type than it has to be");
    struct pfx_entry_value *into = &r->entry->values[field];
    into->number = value->number;
    into->text = info->type == PFX_T_RAW ? value->raw : value->text;
    into->escaped = value->escaped;
    if (value->kind == PFX_CANON_STR) {
        if (!pfx_form_holds(info, into->text, into->escaped))
            return bad(r, field, "is too long, or not in the form that it has to be in");
        if (info->type == PFX_T_WORD && !take_word(field, into->text, &into->number))
            return bad(r, field, "is a word that isn't known");
    }
    r->entry->has[field / 64] |= UINT64_C(1) << (field % 64);
    return true;
}

static bool take_top(struct reading *r, const struct pfx_canon_found *found)
{
    if (r->place == IN_GROUP && r->empty)
        return bad(r, r->row, "is missing: its group has none");
    const uint64_t prefix = found->prefix;
    unsigned row = r->row;
    while (name_prefix(names[row].top) < prefix)
        row++;
    r->row = row;
    r->place = IN_UNKNOWN;
    if (name_prefix(names[row].top) != prefix || !rest_equal(names[row].top, found->key)) {
        r->entry->n_unknown++;
        return true;
    }
    if (names[row].sub[0] == '\0')
        return take_field(r, row, &found->value);
    if (found->value.kind != PFX_CANON_OBJ)
        return bad(r, row, "is missing: its group isn't an object");
    r->place = IN_GROUP;
    r->group = prefix;
    r->empty = true;
    return true;
}

static bool take_member(void *ctx, const struct pfx_canon_found *found)
{
    struct reading *r = ctx;
    if (!found->group.data)
        return take_top(r, found);
    if (r->place != IN_GROUP)
        return true; /* the whole group counts as one unknown member */
    r->empty = false;
    const uint64_t prefix = found->prefix;
    unsigned row = r->row;
    while (name_prefix(names[row].top) == r->group && name_prefix(names[row].sub) < prefix)
        row++;
    r->row = row;
    if (name_prefix(names[row].top) != r->group || name_prefix(names[row].sub) != prefix ||
        !rest_equal(names[row].sub, found->key)) {
        r->entry->n_unknown++;
        return true;
    }
    return take_field(r, row, &found->value);
}

/* The first mandatory member that isn't there; PFX_FIELD_COUNT: all are. */
static enum pfx_field first_missing(const struct pfx_entry *entry)
{
    static const uint8_t needed[] = {PFX_F_V,       PFX_F_SEQ,  PFX_F_SRC,        PFX_F_TIME,
                                     PFX_F_UP,      PFX_F_BOOT, PFX_F_EVENT,      PFX_F_PHASE,
                                     PFX_F_OUTCOME, PFX_F_OP,   PFX_F_ACTOR_ROLE, PFX_F_PREV};
    for (size_t i = 0; i < sizeof needed; i++)
        if (!pfx_entry_has(entry, needed[i]))
            return needed[i];
    return PFX_FIELD_COUNT;
}

pfx_result pfx_entry_read(struct pfx_bytes json, struct pfx_entry *ret, struct pfx_error *err)
{
    if (json.len > PFX_ENTRY_MAX)
        return pfx_fail(err, PFX_CLASS_REFUSED, "read entry", NULL, "",
                        "The entry has %zu bytes; %d are the most.", json.len, PFX_ENTRY_MAX);
    ret->has[0] = ret->has[1] = 0;
    ret->n_unknown = 0;
    struct reading r = {.entry = ret, .place = AT_TOP, .err = err};
    PFX_TRY(pfx_canon_walk(json, take_member, &r, err));
    char name[40];
    /* A group without members at the very end would lack v, which sorts behind all groups. */
    enum pfx_field missing = first_missing(ret);
    if (missing != PFX_FIELD_COUNT)
        return pfx_fail(err, PFX_CLASS_REFUSED, "read entry", dotted_name(missing, name), "",
                        "This member of the entry is missing.");
    if (ret->values[PFX_F_V].number != PFX_ENTRY_VERSION)
        return pfx_fail(err, PFX_CLASS_REFUSED, "read entry", "v", "",
                        "The entry has version %lld; this program knows %d. Use a newer pfx-agent.",
                        (long long)ret->values[PFX_F_V].number, PFX_ENTRY_VERSION);
    return PFX_OK;
}

bool pfx_entry_plain(const struct pfx_entry *entry, enum pfx_field field, struct pfx_buf *out)
{
    if (!pfx_entry_has(entry, field))
        return true;
    struct pfx_canon_value value = {.kind = PFX_CANON_STR,
                                    .text = entry->values[field].text,
                                    .escaped = entry->values[field].escaped};
    return pfx_canon_unescape(&value, out);
}

bool pfx_entry_is(const struct pfx_entry *entry, enum pfx_field field, const char *text)
{
    if (!pfx_entry_has(entry, field))
        return false;
    struct pfx_bytes have = entry->values[field].text;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf plain = pfx_buf_make(PFX_ENTRY_MAX);
    if (entry->values[field].escaped) {
        if (!pfx_entry_plain(entry, field, &plain))
            return false;
        have = pfx_buf_bytes(&plain);
    }
    size_t len = strlen(text);
    return have.len == len && (len == 0 || memcmp(have.data, text, len) == 0);
}

bool pfx_entry_hash(const struct pfx_entry *entry, enum pfx_field field, uint8_t ret[32])
{
    struct pfx_bytes text = pfx_entry_text(entry, field);
    return text.len == 64 && pfx_form_unhex(text, ret);
}

int64_t pfx_entry_time(const struct pfx_entry *entry, enum pfx_field field)
{
    struct pfx_bytes text = pfx_entry_text(entry, field);
    int64_t ms = 0;
    char buf[PFX_TIME_SIZE] = "";
    if (text.len < sizeof buf && text.len > 0)
        memcpy(buf, text.data, text.len);
    return pfx_time_parse(buf, &ms) ? ms : 0;
}

/* --- writing ------------------------------------------------------------------------------- */

static void write_field(struct pfx_canon *canon, const struct pfx_entry *entry, unsigned field,
                        struct pfx_buf *quoted)
{
    const struct pfx_field_info *info = &pfx_fields[field];
    const struct pfx_entry_value *value = &entry->values[field];
    switch (info->type) {
    case PFX_T_INT:
        pfx_canon_int(canon, info->name, value->number);
        break;
    case PFX_T_BOOL:
        pfx_canon_bool(canon, info->name, value->number != 0);
        break;
    case PFX_T_RAW:
        pfx_canon_raw(canon, info->name, value->text);
        break;
    default: /* text, with its escapes already */
        pfx_buf_reset(quoted);
        if (!pfx_buf_add(quoted, "\"", 1) ||
            !pfx_buf_add(quoted, value->text.data, value->text.len) ||
            !pfx_buf_add(quoted, "\"", 1))
            pfx_die("entry: a text that is longer than an entry");
        pfx_canon_raw(canon, info->name, pfx_buf_bytes(quoted));
    }
}

pfx_result pfx_entry_write(const struct pfx_entry *entry, struct pfx_buf *out,
                           struct pfx_error *err)
{
    char name[40];
    enum pfx_field missing = first_missing(entry);
    if (missing != PFX_FIELD_COUNT)
        return pfx_fail(err, PFX_CLASS_USAGE, "write entry", dotted_name(missing, name), "",
                        "This member is missing.");
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf json = pfx_buf_make(PFX_ENTRY_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf quoted = pfx_buf_make(PFX_ENTRY_MAX + 2);
    struct pfx_canon canon = pfx_canon_make(&json);
    const char *group = "";
    pfx_canon_open(&canon, NULL, '{');
    for (unsigned i = 0; i < PFX_FIELD_COUNT; i++) {
        if (!pfx_entry_has(entry, (enum pfx_field)i))
            continue;
        const char *next = pfx_fields[i].group;
        if (strcmp(group, next) != 0) {
            if (group[0])
                pfx_canon_close(&canon, '}');
            if (next[0])
                pfx_canon_open(&canon, next, '{');
            group = next;
        }
        write_field(&canon, entry, i, &quoted);
    }
    if (group[0])
        pfx_canon_close(&canon, '}');
    pfx_canon_close(&canon, '}');
    if (json.over || !pfx_buf_add(out, json.data, json.len))
        return pfx_fail(err, PFX_CLASS_USAGE, "write entry", NULL, "",
                        "The entry is longer than the %d bytes there is room for.", PFX_ENTRY_MAX);
    return PFX_OK;
}

enum pfx_record pfx_record_next(struct pfx_bytes data, size_t *offset, struct pfx_bytes *ret_entry)
{
    if (*offset >= data.len)
        return PFX_RECORD_END;
    size_t left = data.len - *offset;
    const uint8_t *at = data.data + *offset;
    if (left < PFX_RECORD_HEAD)
        return PFX_RECORD_SHORT;
    size_t len = (size_t)at[0] << 8 | at[1];
    if (len == 0)
        return PFX_RECORD_END;
    if (len > left - PFX_RECORD_HEAD)
        return PFX_RECORD_SHORT;
    *ret_entry = (struct pfx_bytes){at + PFX_RECORD_HEAD, len};
    *offset += PFX_RECORD_HEAD + len;
    return PFX_RECORD_WHOLE;
}
