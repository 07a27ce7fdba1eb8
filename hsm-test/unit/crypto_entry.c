/* Entries of the operation log. Python's json module (canon_oracle.py) says what is canonical. */
#include "crypto_tool.h"

#include <stdio.h>
#include <string.h>

#include "entry_test.h"

static void reads_the_example(void **state)
{
    (void)state;
    ERROR(err);
    struct pfx_entry e;
    assert_ok(pfx_entry_read(BYTES(EXAMPLE), &e, &err), &err);
    assert_int_equal(e.n_unknown, 0);
    assert_int_equal(pfx_entry_int(&e, PFX_F_ACTOR_PID), 123);
    assert_true(pfx_entry_is(&e, PFX_F_ACTOR_ROLE, "operator"));
    assert_false(pfx_entry_is(&e, PFX_F_ACTOR_ROLE, "operato"));
    assert_int_equal(pfx_entry_int(&e, PFX_F_SEQ), 1235);
    assert_int_equal(pfx_entry_int(&e, PFX_F_REF), 1234);
    assert_int_equal(pfx_entry_int(&e, PFX_F_SRC), PFX_SRC_HSM);
    assert_int_equal(pfx_entry_int(&e, PFX_F_PHASE), PFX_PHASE_RESULT);
    assert_int_equal(pfx_entry_int(&e, PFX_F_OUTCOME), PFX_OUTCOME_OK);
    assert_true(pfx_entry_is(&e, PFX_F_OUTCOME, "ok"));
    assert_true(same_text(&e, PFX_F_OP, ULID));
    assert_int_equal(pfx_entry_time(&e, PFX_F_TIME), 1795334400120);
    uint8_t hash[32];
    assert_true(pfx_entry_hash(&e, PFX_F_PREV, hash));
    /* SHA-256("test") */
    assert_memory_equal(hash,
                        "\x9f\x86\xd0\x81\x88\x4c\x7d\x65\x9a\x2f\xea\xa0\xc5\x5a\xd0\x15"
                        "\xa3\xbf\x4f\x1b\x2b\x0b\x82\x2c\xd1\x5d\x6c\x15\xb0\xf0\x0a\x08",
                        32);
    assert_false(pfx_entry_hash(&e, PFX_F_TICKET, hash));
    assert_false(pfx_entry_hash(&e, PFX_F_KEY_ID, hash));
    assert_false(pfx_entry_has(&e, PFX_F_TICKET));
    assert_false(pfx_entry_is(&e, PFX_F_TICKET, ""));
    assert_int_equal(pfx_entry_text(&e, PFX_F_TICKET).len, 0);
    assert_int_equal(pfx_entry_int(&e, PFX_F_N), 0);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(PFX_ENTRY_MAX);
    assert_ok(pfx_entry_write(&e, &out, &err), &err);
    assert_string_equal(pfx_buf_str(&out), EXAMPLE);
}

/* Reading goes through the table in its order and compares eight bytes of a name at first. */
static void table_is_in_order(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PFX_FIELD_COUNT; i++) {
        const struct pfx_field_info *info = &pfx_fields[i], *last = &pfx_fields[i ? i - 1 : 0];
        assert_non_null(info->name);
        assert_true(strlen(info->name) > 0 && strlen(info->name) < 16 && strlen(info->group) < 16);
        const char *top = info->group[0] ? info->group : info->name;
        assert_true(strcmp(info->group, "v") < 0);
        const char *last_top = last->group[0] ? last->group : last->name;
        if (i > 0 && (strcmp(top, last_top) < 0 ||
                      (strcmp(top, last_top) == 0 && strcmp(info->name, last->name) <= 0)))
            fail_msg("%s.%s stands in the wrong place", info->group, info->name);
        for (unsigned j = 0; j < i; j++) {
            const struct pfx_field_info *other = &pfx_fields[j];
            const char *other_top = other->group[0] ? other->group : other->name;
            if (strcmp(top, other_top) != 0)
                assert_int_not_equal(strncmp(top, other_top, 8), 0);
            else
                assert_int_not_equal(strncmp(info->name, other->name, 8), 0);
        }
        PFX_AUTOFREE char *dotted =
            pfx_asprintf("%s%s%s", info->group, info->group[0] ? "." : "", info->name);
        enum pfx_field found = PFX_FIELD_COUNT;
        assert_true(pfx_field_find(dotted, &found));
        assert_int_equal(found, i);
        bool sized = info->type == PFX_T_STR || info->type == PFX_T_TEXT ||
                     info->type == PFX_T_WORD || info->type == PFX_T_HEX;
        assert_int_equal(info->max > 0, sized);
    }
    enum pfx_field found;
    static const char *const none[] = {"",       ".",       "key", "key.",
                                       ".event", "key.idx", "id",  "event.x"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_false(pfx_field_find(none[i], &found));
}

static bool is_enum(enum pfx_field field)
{
    return field == PFX_F_SRC || field == PFX_F_PHASE || field == PFX_F_OUTCOME;
}

/* A value of its type; what is read back has to be the same. */
static void set_sample(struct pfx_draft *draft, enum pfx_field field)
{
    switch (pfx_fields[field].type) {
    case PFX_T_INT:
        pfx_draft_int(draft, field, field == PFX_F_V ? 1 : PFX_CANON_INT_MAX - field);
        break;
    case PFX_T_BOOL:
        pfx_draft_bool(draft, field, true);
        break;
    case PFX_T_STR:
        pfx_draft_str(draft, field, "a \"b\" \\ \xE2\x82\xAC");
        break;
    case PFX_T_TEXT:
        pfx_draft_str(draft, field, "line\nline \"2\"\n");
        break;
    case PFX_T_WORD:
        if (!is_enum(field))
            pfx_draft_str(draft, field, "A-z_0.9");
        break;
    case PFX_T_HASH:
        pfx_draft_str(draft, field, HASH_B);
        break;
    case PFX_T_HEX:
        pfx_draft_hex(draft, field, "\x00\xff\x10", 3);
        break;
    case PFX_T_ULID:
        pfx_draft_str(draft, field, ULID);
        break;
    case PFX_T_TIME:
        pfx_draft_time(draft, field, 253402300799999);
        break;
    case PFX_T_RAW:
        pfx_draft_raw(draft, field, BYTES("[{\"a\":1,\"b\":[]},\"\xE2\x82\xAC\"]"));
    }
}

static void assert_sample(const struct pfx_entry *e, enum pfx_field field)
{
    static const char *const texts[] = {
        [PFX_T_STR] = "a \"b\" \\ \xE2\x82\xAC",
        [PFX_T_TEXT] = "line\nline \"2\"\n",
        [PFX_T_WORD] = "A-z_0.9",
        [PFX_T_HASH] = HASH_B,
        [PFX_T_HEX] = "00ff10",
        [PFX_T_ULID] = ULID,
        [PFX_T_TIME] = "9999-12-31T23:59:59.999Z",
        [PFX_T_RAW] = "[{\"a\":1,\"b\":[]},\"\xE2\x82\xAC\"]",
    };
    enum pfx_field_type type = pfx_fields[field].type;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf plain = pfx_buf_make(1000);
    assert_true(pfx_entry_has(e, field));
    if (type == PFX_T_INT) {
        assert_int_equal(pfx_entry_int(e, field),
                         field == PFX_F_V ? 1 : PFX_CANON_INT_MAX - (int)field);
    } else if (type == PFX_T_BOOL) {
        assert_int_equal(pfx_entry_int(e, field), 1);
    } else if (!is_enum(field)) {
        if (!pfx_entry_is(e, field, texts[type]) || pfx_entry_is(e, field, "x"))
            fail_msg("%s.%s comes back otherwise", pfx_fields[field].group, pfx_fields[field].name);
        assert_true(pfx_entry_plain(e, field, &plain));
        assert_string_equal(pfx_buf_str(&plain), texts[type]);
    }
}

/* Each field alone, and all together. */
static void every_field_comes_back(void **state)
{
    static struct pfx_draft draft;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf lines = pfx_buf_make(1 << 20);
    for (unsigned i = 0; i <= PFX_FIELD_COUNT; i++) {
        ERROR(err);
        begin(&draft);
        for (unsigned j = 0; j < PFX_FIELD_COUNT; j++)
            if (i == j || i == PFX_FIELD_COUNT)
                set_sample(&draft, (enum pfx_field)j);
        size_t from = lines.len;
        write_line(&draft.entry, &lines);
        struct pfx_entry e;
        struct pfx_bytes json = {lines.data + from, lines.len - 1 - from};
        assert_ok(pfx_entry_read(json, &e, &err), &err);
        assert_int_equal(e.n_unknown, 0);
        assert_int_equal(e.has[0], draft.entry.has[0]);
        assert_int_equal(e.has[1], draft.entry.has[1]);
        for (unsigned j = 0; j < PFX_FIELD_COUNT; j++)
            if (i == j || i == PFX_FIELD_COUNT)
                assert_sample(&e, (enum pfx_field)j);
        assert_int_equal(pfx_entry_int(&e, PFX_F_PHASE), PFX_PHASE_INTENT);
    }
    assert_true(pfx_buf_add_str(&lines, EXAMPLE "\n"));
    tool_write(*state, "lines", pfx_buf_bytes(&lines));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf said = pfx_buf_make(1000);
    tool_must(*state, &said, "/usr/bin/python3", CANON_ORACLE, "same", "lines", NULL);
    print_message("as Python would write them: %s", pfx_buf_str(&said));
}

static void words(void **state)
{
    (void)state;
    static struct pfx_draft draft;
    for (int src = 0; src <= PFX_SRC_AGENTD; src++)
        for (int phase = 0; phase <= PFX_PHASE_NOTE; phase++)
            for (int outcome = 0; outcome <= PFX_OUTCOME_UNKNOWN; outcome++) {
                begin(&draft);
                pfx_draft_init(&draft, (enum pfx_src)src, "start", (enum pfx_phase)phase,
                               (enum pfx_outcome)outcome);
                pfx_draft_int(&draft, PFX_F_SEQ, 7);
                pfx_draft_time(&draft, PFX_F_TIME, 0);
                pfx_draft_int(&draft, PFX_F_UP, 0);
                pfx_draft_str(&draft, PFX_F_BOOT, "");
                pfx_draft_str(&draft, PFX_F_ACTOR_ROLE, "self");
                pfx_draft_str(&draft, PFX_F_OP, ULID);
                pfx_draft_str(&draft, PFX_F_PREV, HASH_A);
                PFX_CLEANUP(pfx_buf_done) struct pfx_buf line = pfx_buf_make(PFX_ENTRY_MAX);
                write_line(&draft.entry, &line);
                pfx_buf_cut(&line, line.len - 1);
                struct pfx_entry e;
                ERROR(err);
                assert_ok(pfx_entry_read(pfx_buf_bytes(&line), &e, &err), &err);
                assert_int_equal(pfx_entry_int(&e, PFX_F_SRC), src);
                assert_int_equal(pfx_entry_int(&e, PFX_F_PHASE), phase);
                assert_int_equal(pfx_entry_int(&e, PFX_F_OUTCOME), outcome);
                assert_true(pfx_entry_is(&e, PFX_F_SRC, pfx_src_name((enum pfx_src)src)));
                assert_true(pfx_entry_is(&e, PFX_F_PHASE, pfx_phase_name((enum pfx_phase)phase)));
                assert_true(
                    pfx_entry_is(&e, PFX_F_OUTCOME, pfx_outcome_name((enum pfx_outcome)outcome)));
            }
    assert_string_equal(pfx_outcome_name(PFX_OUTCOME_UNKNOWN), "unknown");
    for (unsigned i = PFX_CLASS_OK; i <= PFX_CLASS_LOST; i++)
        assert_string_equal(pfx_outcome_name(pfx_outcome_of((enum pfx_class)i)),
                            pfx_class_name((enum pfx_class)i));
}

static void mandatory_members(void **state)
{
    (void)state;
    static const char *const parts[][2] = {
        {",\"v\":1", ""},
        {"\"v\":1", "\"v\":2"},
        {"\"v\":1", "\"v\":0"},
        {"\"seq\":1235,", ""},
        {"\"src\":\"hsm\",", ""},
        {"\"time\":\"2026-11-22T08:00:00.120Z\",", ""},
        {"\"up\":8123456,", ""},
        {"\"boot\":\"8d6cbd7a-3fd5-4c3f-9d0c-0123456789ab\",", ""},
        {"\"event\":\"pfx.build\",", ""},
        {"\"phase\":\"result\",", ""},
        {"\"outcome\":\"ok\",", ""},
        {",\"role\":\"operator\"", ""},
        {"\"op\":\"" ULID "\",", ""},
        {"\"prev\":\"" HASH_A "\",", ""},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        PFX_AUTOFREE char *text = with(parts[i][0], parts[i][1]);
        ERROR(err);
        struct pfx_entry e;
        assert_class(pfx_entry_read(text_bytes(text), &e, &err), PFX_CLASS_REFUSED);
        assert_true(err.text[0] != '\0');
    }
    /* The writer asks the same. */
    for (unsigned i = 0; i < PFX_FIELD_COUNT; i++) {
        static struct pfx_draft draft;
        begin(&draft);
        if (!pfx_entry_has(&draft.entry, (enum pfx_field)i))
            continue;
        draft.entry.has[i / 64] &= ~(UINT64_C(1) << (i % 64));
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(PFX_ENTRY_MAX);
        assert_true(pfx_buf_add_str(&out, "kept"));
        assert_class(pfx_entry_write(&draft.entry, &out, NULL), PFX_CLASS_USAGE);
        assert_string_equal(pfx_buf_str(&out), "kept");
    }
}

static void forms(void **state)
{
    (void)state;
    static const char time[] = "2026-11-22T08:00:00.120Z";
    static const char *const good[][2] = {
        {"operator", "A-z_0.9"},
        {"00ff10", "00"},
        {"00ff10", "00ff1000ff10aabbccddeeff"},
        {time, "1970-01-01T00:00:00.000Z"},
        {time, "2024-02-29T23:59:59.999Z"},
        {time, "2000-02-29T00:00:00.000Z"},
        {time, "9999-12-31T00:00:00.000Z"},
        {"\"users\"", "\"\""},
        {"\"users\"", "\"\\n\\u0000\""},
        {"1235", "-1235"},
        {"1235", "9007199254740991"},
        {ULID, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"},
        {"\"up\":8123456", "\"up\":8123456,\"uq\":{\"v\":2}"}, /* not known */
        {"\"actor\":{", "\"\":{\"v\":2},\"Actor\":\"\\n\",\"actor\":{\"a\":[],"},
        {"\"uid\":990}", "\"uid\":990,\"uidx\":[1,{}]}"},
        {"\"src\":", "\"softwares\":1,\"src\":"},
        {"\"src\":", "\"software\":{\"versions\":1},\"software1\":{\"version\":1},\"src\":"},
        {"\"boot\":", "\"approvalz\":{},\"boot\":"},
        {"\"target\":{\"order\":542772,", "\"target\":{\"order\":542772,\"transact\":{},"},
    };
    static const char *const bad[][2] = {
        {"operator", ""},
        {"operator", "opera tor"},
        {"operator", "opera/tor"},
        {"operator", "op\\n"},
        {"operator", "oper\xC3\xA4tor"},
        {"operator", "abcdefghijabcdefghijabcdefghijabc"}, /* 33 */
        {"00ff10", ""},
        {"00ff10", "0"},
        {"00ff10", "00ff1"},
        {"00ff10", "00FF10"},
        {"00ff10", "0g"},
        {"00ff10", "00ff1000ff10aabbccddee/f"},
        {"00ff10", "00ff1000ff10aabbccddee:f"},
        {"00ff10", "00ff1000ff10aabbccddee`f"},
        {"00ff10", "00ff1000ff10aabbccddeegf"},
        {"00ff10", "00ff1000ff10aabbccdd\xC3\xA4"},
        {"00ff10", "\xE1\xB0\xB1\xE1\xB0\xB1\xE1\xB0\xB1\xE1\xB0\xB1"}, /* a01 but for a bit */
        {HASH_B, "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c75"},
        {HASH_B, "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c7522"},
        {HASH_B, "60303AE22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"},
        {HASH_B, "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c75g"},
        {time, "2026-11-22T08:00:00Z"},
        {time, "2026-11-22T08:00:00.12Z"},
        {time, "2026-11-22T08:00:00.1200Z"},
        {time, "2026-11-22t08:00:00.120Z"},
        {time, "2026-11-22T08:00:00.120z"},
        {time, "2026-11-22 08:00:00.120Z"},
        {time, "2026-11-22T08:00:00,120Z"},
        {time, "2026-11-22T24:00:00.120Z"},
        {time, "2026-11-22T08:60:00.120Z"},
        {time, "2026-11-22T08:00:60.120Z"},
        {time, "2026-11-31T08:00:00.120Z"},
        {time, "2026-00-22T08:00:00.120Z"},
        {time, "2026-13-22T08:00:00.120Z"},
        {time, "2026-11-00T08:00:00.120Z"},
        {time, "2026-02-29T08:00:00.120Z"},
        {time, "2100-02-29T08:00:00.120Z"},
        {time, "1969-12-31T23:59:59.999Z"},
        {time, "2026-1 -22T08:00:00.120Z"},
        {ULID, "81ARYZ6S41TSV4RRFFQ69G5FAV"},
        {ULID, "01ARYZ6S41TSV4RRFFQ69G5FA"},
        {ULID, "01ARYZ6S41TSV4RRFFQ69G5FAVV"},
        {ULID, "01ARYZ6S41TSV4RRFFQ69G5FAI"},
        {ULID, "01ARYZ6S41TSV4RRFFQ69G5FAL"},
        {ULID, "01ARYZ6S41TSV4RRFFQ69G5FAO"},
        {ULID, "01ARYZ6S41TSV4RRFFQ69G5FAU"},
        {ULID, "01aryz6s41tsv4rrffq69g5fav"},
        {"\"hsm\"", "\"hs\""},
        {"\"hsm\"", "\"HSM\""},
        {"\"hsm\"", "\"hsm2\""},
        {"\"result\"", "\"results\""},
        {"\"outcome\":\"ok\"", "\"outcome\":\"fine\""},
        /* other types */
        {"1235", "\"1235\""},
        {"1235", "true"},
        {"1235", "[]"},
        {"1235", "{}"},
        {"1235", "{\"a\":1}"},
        {"\"hsm\"", "1"},
        {"\"" HASH_A "\",\"ref\"", "0,\"ref\""},
        {"{\"order\":542772,\"user\":\"" HASH_B "\"}", "1"},
        {"{\"order\":542772,\"user\":\"" HASH_B "\"}", "[]"},
        {"{\"order\":542772,\"user\":\"" HASH_B "\"}", "{}"},
        {"{\"order\":542772,\"user\":\"" HASH_B "\"}", "\"x\""},
        {"\"order\":542772", "\"order\":{}"},
        {"\"order\":542772", "\"order\":\"542772\""},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        PFX_AUTOFREE char *text = with(good[i][0], good[i][1]);
        ERROR(err);
        struct pfx_entry e;
        assert_ok(pfx_entry_read(text_bytes(text), &e, &err), &err);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        PFX_AUTOFREE char *text = with(bad[i][0], bad[i][1]);
        if (reads(text))
            fail_msg("taken with %s", bad[i][1]);
    }
}

static void lengths(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PFX_FIELD_COUNT; i++) {
        static struct pfx_draft draft;
        const struct pfx_field_info *info = &pfx_fields[i];
        if (info->max == 0 || is_enum((enum pfx_field)i))
            continue;
        for (unsigned more = 0; more < 2; more++) {
            ERROR(err);
            begin(&draft);
            size_t len = info->max + more * (info->type == PFX_T_HEX ? 2 : 1);
            PFX_AUTOFREE char *text = pfx_alloc(2 * len + 1);
            bool escaped = info->type == PFX_T_TEXT || info->type == PFX_T_STR;
            for (size_t j = 0; j < len; j++)
                memcpy(text + (escaped ? 2 * j : j), "\\n", escaped ? 2 : 1);
            if (!escaped)
                memset(text, 'a', len);
            draft.entry.has[i / 64] |= UINT64_C(1) << (i % 64);
            draft.entry.values[i].text = text_bytes(text);
            PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(PFX_ENTRY_MAX);
            assert_ok(pfx_entry_write(&draft.entry, &out, &err), &err);
            struct pfx_entry e;
            assert_class(pfx_entry_read(pfx_buf_bytes(&out), &e, NULL),
                         more ? PFX_CLASS_REFUSED : PFX_CLASS_OK);
        }
    }
}

static void unknown_members(void **state)
{
    (void)state;
    PFX_AUTOFREE char *text = with("\"actor\":{", "\"a\":{\"v\":2,\"w\":3},\"actor\":{\"a\":[1],");
    PFX_AUTOFREE char *more =
        pfx_asprintf("%.*s,\"zz\":{\"event\":{\"x\":1}}}", (int)strlen(text) - 1, text);
    ERROR(err);
    struct pfx_entry e;
    assert_ok(pfx_entry_read(text_bytes(more), &e, &err), &err);
    assert_int_equal(e.n_unknown, 3); /* a, actor.a, zz */
    assert_int_equal(pfx_entry_int(&e, PFX_F_V), 1);
    assert_true(pfx_entry_is(&e, PFX_F_EVENT, "pfx.build"));
    /* The next entry begins anew. */
    assert_ok(pfx_entry_read(BYTES(EXAMPLE), &e, &err), &err);
    assert_int_equal(e.n_unknown, 0);
}

/* Torn at each byte; each byte replaced by each other one. What is still taken is written back as
 * it was, so there is no second form of it. */
static void damaged(void **state)
{
    (void)state;
    char text[] = EXAMPLE;
    const size_t len = sizeof text - 1;
    for (size_t n = 0; n < len; n++) {
        /* On the heap, so that the sanitizer sees a look beyond the end. */
        PFX_AUTOFREE uint8_t *torn = pfx_memdup(text, n);
        struct pfx_entry e;
        assert_class(pfx_entry_read((struct pfx_bytes){torn, n}, &e, NULL), PFX_CLASS_REFUSED);
    }
    unsigned refused = 0, taken = 0, unknown = 0;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(PFX_ENTRY_MAX);
    for (size_t at = 0; at < len; at++)
        for (unsigned c = 0; c < 256; c++) {
            char kept = text[at];
            if ((uint8_t)kept == c)
                continue;
            text[at] = (char)c;
            struct pfx_entry e;
            if (pfx_failed(pfx_entry_read((struct pfx_bytes){(uint8_t *)text, len}, &e, NULL))) {
                refused++;
            } else if (e.n_unknown > 0) {
                unknown++;
            } else {
                ERROR(err);
                pfx_buf_reset(&out);
                assert_ok(pfx_entry_write(&e, &out, &err), &err);
                assert_int_equal(out.len, len);
                assert_memory_equal(out.data, text, len);
                taken++;
            }
            text[at] = kept;
        }
    print_message("%zu torn, %u changed: refused; %u changed: written back as they are; "
                  "%u with an unknown name\n",
                  len, refused, taken, unknown);
    assert_true(refused > 100000 && taken > 1000);
}

static void largest(void **state)
{
    (void)state;
    static struct pfx_draft draft;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(2 * PFX_ENTRY_MAX);
    ERROR(err);
    begin(&draft);
    assert_ok(pfx_entry_write(&draft.entry, &out, &err), &err);
    /* What is added to that for an array with one string. */
    size_t rest = PFX_ENTRY_MAX - out.len - strlen(",\"pins\":[\"\"]");
    PFX_AUTOFREE char *text = pfx_alloc(rest + 2);
    memset(text, 'a', rest + 1);
    for (size_t more = 0; more < 2; more++) {
        PFX_AUTOFREE char *array = pfx_asprintf("[\"%.*s\"]", (int)(rest + more), text);
        draft.entry.has[PFX_F_PINS / 64] |= UINT64_C(1) << (PFX_F_PINS % 64);
        draft.entry.values[PFX_F_PINS].text = text_bytes(array);
        pfx_buf_reset(&out);
        struct pfx_entry e;
        pfx_result written = pfx_entry_write(&draft.entry, &out, NULL);
        assert_class(written, more ? PFX_CLASS_USAGE : PFX_CLASS_OK);
        assert_int_equal(out.len, more ? 0 : PFX_ENTRY_MAX);
        if (!more)
            assert_ok(pfx_entry_read(pfx_buf_bytes(&out), &e, &err), &err);
    }
    /* Canonical, and with one byte more than there may be. */
    PFX_AUTOFREE char *longer = pfx_alloc(PFX_ENTRY_MAX);
    for (int len = PFX_ENTRY_MAX; len <= PFX_ENTRY_MAX + 1; len++) {
        int n = len - (int)strlen("{\"\":\"\"," EXAMPLE) + 1;
        memset(longer, 'a', (size_t)n);
        PFX_AUTOFREE char *json = pfx_asprintf("{\"\":\"%.*s\",%s", n, longer, &EXAMPLE[1]);
        assert_int_equal(strlen(json), len);
        assert_int_equal(reads(json), len == PFX_ENTRY_MAX);
    }
}

static void records(void **state)
{
    (void)state;
    static const uint8_t data[] = {0, 1, 'a', 0, 3, 'x', 'y', 'z', 0, 0, 0, 1, 'b'};
    size_t at = 0;
    struct pfx_bytes entry;
    struct pfx_bytes all = {data, sizeof data};
    assert_int_equal(pfx_record_next(all, &at, &entry), PFX_RECORD_WHOLE);
    assert_int_equal(entry.len, 1);
    assert_int_equal(pfx_record_next(all, &at, &entry), PFX_RECORD_WHOLE);
    assert_memory_equal(entry.data, "xyz", 3);
    assert_int_equal(at, 8);
    assert_int_equal(pfx_record_next(all, &at, &entry), PFX_RECORD_END);
    assert_int_equal(at, 8);
    for (size_t n = 0; n <= 8; n++) {
        at = 3;
        enum pfx_record want = n <= 3   ? PFX_RECORD_END
                               : n == 8 ? PFX_RECORD_WHOLE
                                        : PFX_RECORD_SHORT;
        PFX_AUTOFREE uint8_t *part = pfx_memdup(data, n);
        assert_int_equal(pfx_record_next((struct pfx_bytes){part, n}, &at, &entry), want);
        assert_int_equal(at, want == PFX_RECORD_WHOLE ? 8 : 3);
    }
    static uint8_t large[PFX_RECORD_HEAD + PFX_ENTRY_MAX] = {0xFF, 0xFF};
    at = 0;
    assert_int_equal(pfx_record_next((struct pfx_bytes){large, sizeof large}, &at, &entry),
                     PFX_RECORD_WHOLE);
    assert_int_equal(entry.len, PFX_ENTRY_MAX);
    at = 0;
    assert_int_equal(pfx_record_next((struct pfx_bytes){large, sizeof large - 1}, &at, &entry),
                     PFX_RECORD_SHORT);
    assert_int_equal(at, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_example), cmocka_unit_test(table_is_in_order),
        tool_test(every_field_comes_back),   cmocka_unit_test(words),
        cmocka_unit_test(mandatory_members), cmocka_unit_test(forms),
        cmocka_unit_test(lengths),           cmocka_unit_test(unknown_members),
        cmocka_unit_test(damaged),           cmocka_unit_test(largest),
        cmocka_unit_test(records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
