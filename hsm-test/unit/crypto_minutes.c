/* Records of ceremonies: what is written is read again, and nothing else is. */
#include <stdio.h>
#include <string.h>

#include "crypto/minutes.h"
#include "crypto_test.h"

#define HASH "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define ULID "01J0000000000000000000000A"

static struct pfx_minutes_section *begin(struct pfx_minutes *minutes)
{
    struct pfx_minutes_section *head = pfx_minutes_add(minutes, PFX_MK_HEAD, "");
    pfx_minutes_set(head, PFX_MF_KIND, "init");
    pfx_minutes_set_time(head, PFX_MF_TIME, 1795438800120);
    pfx_minutes_set_int(head, PFX_MF_UID, 0);
    pfx_minutes_set(head, PFX_MF_HOST, "host-1");
    pfx_minutes_set(head, PFX_MF_LOG, "host-1/pfx-agent");
    pfx_minutes_set(head, PFX_MF_POLICY, HASH);
    pfx_minutes_set(head, PFX_MF_VERSION, "0.1.0");
    return head;
}

static void text_of(const struct pfx_minutes *minutes, struct pfx_buf *out)
{
    ERROR(err);
    pfx_buf_reset(out);
    assert_ok(pfx_minutes_write(minutes, out, &err), &err);
}

static void refused(const char *text, const char *why)
{
    struct pfx_minutes read = {0};
    ERROR(err);
    struct pfx_bytes bytes = {(const uint8_t *)text, strlen(text)};
    assert_class(pfx_minutes_parse(bytes, &read, &err), PFX_CLASS_REFUSED);
    if (!strstr(err.text, why))
        fail_msg("%s isn't in: %s", why, err.text);
    assert_int_equal(read.n, 0);
}

static void same_again(const struct pfx_minutes *minutes)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_MINUTES_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_MINUTES_MAX);
    PFX_CLEANUP(pfx_minutes_done) struct pfx_minutes read = {0};
    ERROR(err);
    text_of(minutes, &text);
    assert_ok(pfx_minutes_parse(pfx_buf_bytes(&text), &read, &err), &err);
    assert_int_equal(read.n, minutes->n);
    text_of(&read, &again);
    assert_string_equal(pfx_buf_str(&text), pfx_buf_str(&again));
}

static const char small[] =
    "pfx-agent ceremony record v1\n"
    "  kind init; time 2026-11-23T13:00:00.120Z; uid 0\n"
    "  host host-1; log host-1/pfx-agent\n"
    "  policy " HASH "\n"
    "  version 0.1.0\n"
    "key mac-1\n"
    "  role users; algorithm hmac-sha256; how made\n"
    "  id 0a0b; operation " ULID "\n"
    "  is TOKEN\n"
    "note a; b\n"
    "end of record\n";

static void written(void **state)
{
    PFX_CLEANUP(pfx_minutes_done) struct pfx_minutes minutes = {0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_MINUTES_MAX);
    (void)state;
    begin(&minutes);
    struct pfx_minutes_section *key = pfx_minutes_add(&minutes, PFX_MK_KEY, "mac-1");
    pfx_minutes_set(key, PFX_MF_ROLE, "users");
    pfx_minutes_set(key, PFX_MF_ALGORITHM, "hmac-sha256");
    pfx_minutes_set(key, PFX_MF_HOW, "made");
    pfx_minutes_set_hex(key, PFX_MF_ID, "\x0a\x0b", 2);
    pfx_minutes_set(key, PFX_MF_OPERATION, ULID);
    pfx_minutes_set(key, PFX_MF_IS, "TOKEN");
    pfx_minutes_set(key, PFX_MF_SPKI, NULL);
    pfx_minutes_set(key, PFX_MF_UNKNOWN, "");
    assert_non_null(pfx_minutes_add(&minutes, PFX_MK_NOTE, "a; b"));
    text_of(&minutes, &text);
    assert_string_equal(pfx_buf_str(&text), small);
    same_again(&minutes);
    const struct pfx_minutes_section *found = pfx_minutes_find(&minutes, PFX_MK_KEY, "mac-1");
    assert_string_equal(pfx_minutes_get(found, PFX_MF_HOW), "made");
    assert_string_equal(pfx_minutes_get(found, PFX_MF_SPKI), "");
    assert_null(pfx_minutes_find(&minutes, PFX_MK_KEY, "mac-2"));
}

/* Names and labels come from people and tokens. */
static void cleaned(void **state)
{
    static const struct {
        const char *in, *name, *field;
    } rows[] = {
        {"plain", "plain", "plain"},
        {"  a;b  ", "a;b", "a,b"},
        {"a\nend of record\nb", "a?end of record?b", "a?end of record?b"},
        {"\x1b[2J\x7f", "?[2J?", "?[2J?"},
        {"z\xC3\xB6\xC3\xAB", "z\xC3\xB6\xC3\xAB", "z\xC3\xB6\xC3\xAB"},
        {"\xff\xC2\x9b", "??", "??"},
        {"a\xE2\x80\xAE" "b\xE2\x80\x8B\xEF\xBB\xBF\xC2\xAD", "a?b???", "a?b???"},
        {"\xEE\x80\x80\xF3\xA0\x81\x81", "??", "??"},
        {"", "-", ""},
        {"   ", "-", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PFX_CLEANUP(pfx_minutes_done) struct pfx_minutes minutes = {0};
        struct pfx_minutes_section *head = begin(&minutes);
        pfx_minutes_set(head, PFX_MF_VERSION, rows[i].in);
        assert_string_equal(pfx_minutes_get(head, PFX_MF_VERSION), rows[i].field);
        if (!rows[i].field[0])
            pfx_minutes_set(head, PFX_MF_VERSION, "1");
        struct pfx_minutes_section *witness = pfx_minutes_add(&minutes, PFX_MK_WITNESS, rows[i].in);
        assert_string_equal(witness->name, rows[i].name);
        same_again(&minutes);
    }
    /* Long text is cut between characters. */
    PFX_CLEANUP(pfx_minutes_done) struct pfx_minutes minutes = {0};
    begin(&minutes);
    char text[PFX_MINUTES_VALUE + 40];
    memset(text, 'x', sizeof text);
    memcpy(text + PFX_MINUTES_VALUE - 1, "\xC3\xB6\xC3\xB6", 5);
    const struct pfx_minutes_section *note = pfx_minutes_add(&minutes, PFX_MK_NOTE, text);
    assert_int_equal(strlen(note->name), PFX_MINUTES_VALUE - 1);
    same_again(&minutes);
}

static void limits(void **state)
{
    PFX_CLEANUP(pfx_minutes_done) struct pfx_minutes minutes = {0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_MINUTES_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf less = pfx_buf_make(100);
    ERROR(err);
    (void)state;
    assert_class(pfx_minutes_write(&minutes, &text, &err), PFX_CLASS_USAGE);
    assert_non_null(pfx_minutes_add(&minutes, PFX_MK_HEAD, ""));
    assert_class(pfx_minutes_write(&minutes, &text, &err), PFX_CLASS_USAGE); /* fields are missing */
    pfx_minutes_done(&minutes);
    begin(&minutes);
    assert_class(pfx_minutes_write(&minutes, &less, &err), PFX_CLASS_USAGE);
    while (pfx_minutes_add(&minutes, PFX_MK_NOTE, "x"))
        ;
    assert_int_equal(minutes.n, PFX_MINUTES_SECTIONS);
    pfx_minutes_set(NULL, PFX_MF_KIND, "x");
    pfx_buf_reset(&text);
    assert_class(pfx_minutes_write(&minutes, &text, &err), PFX_CLASS_USAGE);
}

static void read_strictly(void **state)
{
    static const struct {
        const char *from, *to, *why;
    } rows[] = {
        {"record v1", "record v2", "begin with"},
        {"end of record\n", "end of record", "cut"},
        {"end of record\n", "end of record\nx\n", "more than a record"},
        {"uid 0", "uid 00", "can't stand there"},
        {"uid 0", "uid -1", "can't stand there"},
        {".120Z", "Z", "can't stand there"},
        {"; uid 0", "", "has no uid"},
        {"; uid 0", ";uid 0", "without a field"},
        {"; uid 0", "; uid 0; uid 0", "doesn't have"},
        {"kind init; time", "time", "has no kind"},
        {"  version", "   version", "doesn't have"},
        {"version 0.1.0\n", "version 0.1.0 \n", "can't stand there"},
        {"version 0.1.0\n", "version 0.1.0\r\n", "can't stand there"},
        {"is TOKEN", "is TOKEN; not X", "form"},
        {"  is TOKEN\n", "  is TOKEN\n  spki " HASH "\n", "doesn't have"},
        {"key mac-1", "keys mac-1", "begins no section"},
        {"key mac-1", "key ", "can't stand there"},
        {"key mac-1", "key mac-1\n", "begins no section"},
        {"id 0a0b", "id 0A0b", "can't stand there"},
        {"id 0a0b", "id 0a0", "can't stand there"},
        {ULID, "81J0000000000000000000000A", "can't stand there"},
        {HASH, "0" HASH, "can't stand there"},
        {"note a; b", "note  a; b", "can't stand there"},
        {"note a; b\n", "note a; b\n\n", "begins no section"},
        {"note a; b", "note a\xE2\x80\xAE" "b", "can't stand there"},
        {"hmac-sha256", "hmac sha256", "can't stand there"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[4096];
        const char *at = strstr(small, rows[i].from);
        assert_non_null(at);
        (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - small), small, rows[i].to,
                       at + strlen(rows[i].from));
        refused(text, rows[i].why);
    }
    refused("", "begin with");
    char nul[] = "pfx-agent ceremony record v1\nnote a?b\n";
    struct pfx_minutes read = {0};
    ERROR(err);
    *strchr(nul, '?') = '\0';
    assert_class(pfx_minutes_parse((struct pfx_bytes){(uint8_t *)nul, sizeof nul - 1}, &read, &err),
                 PFX_CLASS_REFUSED);
}

static void pages(void **state)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_MINUTES_PAGE_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf html = pfx_buf_make(PFX_MINUTES_HTML_MAX);
    PFX_CLEANUP(pfx_minutes_page_done) struct pfx_minutes_page page = {0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf little = pfx_buf_make(1000);
    ERROR(err);
    (void)state;
    char *hostile = pfx_asprintf("%s", small);
    memcpy(strstr(hostile, "a; b"), "<\"&>", 4);
    assert_true(pfx_buf_add_str(&text, hostile));
    free(hostile);
    assert_true(pfx_minutes_seal(&text, BYTES("{\"a\":\"<i>\"}"), BYTES("receipt\nlines\n")));
    assert_ok(pfx_minutes_page_parse(pfx_buf_bytes(&text), &page, &err), &err);
    assert_int_equal(page.entry.len, 11);
    assert_int_equal(page.receipt.len, 14);
    assert_true(pfx_minutes_html(&page, &html));
    assert_non_null(strstr(pfx_buf_str(&html), "<td class=\"s\">&lt;&quot;&amp;&gt;\n"));
    assert_non_null(strstr(pfx_buf_str(&html), "{&quot;a&quot;:&quot;&lt;i&gt;&quot;}\nreceipt\n"));
    assert_null(strstr(pfx_buf_str(&html), "<script"));
    assert_false(pfx_minutes_html(&page, &little));
    /* The hash is the record's. */
    struct pfx_minutes_page other = {0};
    char *at = strstr((char *)text.data, "how made");
    memcpy(at, "how mode", 8);
    assert_class(pfx_minutes_page_parse(pfx_buf_bytes(&text), &other, &err), PFX_CLASS_INTEGRITY);
    memcpy(at, "how made", 8);
    for (const char *const *word = (const char *const[]){"sha256 ", "entry ", NULL}; *word; word++) {
        ERROR(why);
        char *line = strstr(strstr((char *)text.data, "end of record"), *word);
        line[0] = 'x';
        assert_class(pfx_minutes_page_parse(pfx_buf_bytes(&text), &other, &why), PFX_CLASS_REFUSED);
        line[0] = (*word)[0];
    }
    assert_class(pfx_minutes_page_parse(BYTES(small), &other, &err), PFX_CLASS_REFUSED);
}

/* A value that the type allows; another one for each n. */
static void value_of(enum pfx_minutes_type type, unsigned n, char out[80])
{
    switch (type) {
    case PFX_MT_NAME:
    case PFX_MT_TEXT:
    case PFX_MT_WORD:
        (void)snprintf(out, 80, "value-%u", n);
        break;
    case PFX_MT_HEX:
    case PFX_MT_HASH:
        (void)snprintf(out, 80, "%064x", 0xabc0000 + n);
        break;
    case PFX_MT_ULID:
        (void)snprintf(out, 80, "01J%023u", n);
        break;
    case PFX_MT_TIME:
        (void)snprintf(out, 80, "2026-11-23T13:%02u:%02u.000Z", n / 60, n % 60);
        break;
    case PFX_MT_INT:
        (void)snprintf(out, 80, "9%04u", n);
        break;
    }
}

/* What a reader of the page sees: tags and the blanks in hashes are gone. */
static char *seen(const struct pfx_minutes *minutes)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf html = pfx_buf_make(PFX_MINUTES_HTML_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_MINUTES_HTML_MAX);
    struct pfx_minutes_page page = {.record = *minutes, .entry = BYTES("{}"), .receipt = BYTES("r")};
    bool tag = false;
    assert_true(pfx_minutes_html(&page, &html));
    for (size_t i = 0; i < html.len; i++) {
        tag = tag || html.data[i] == '<';
        if (!tag && html.data[i] != ' ')
            assert_true(pfx_buf_add(&text, &html.data[i], 1));
        tag = tag && html.data[i] != '>';
    }
    return pfx_strdup(pfx_buf_str(&text));
}

/* Each field of each kind of section stands on the printed page, as it stands in the text. */
static void all_printed(void **state)
{
    PFX_CLEANUP(pfx_minutes_done) struct pfx_minutes minutes = {0};
    char value[80];
    unsigned n = 0;
    (void)state;
    for (enum pfx_minutes_kind kind = PFX_MK_HEAD; kind < PFX_MK_COUNT; kind++) {
        char name[16];
        (void)snprintf(name, sizeof name, "name%u", (unsigned)kind);
        struct pfx_minutes_section *s = pfx_minutes_add(&minutes, kind, name);
        for (const struct pfx_minutes_row *row = pfx_minutes_rows; row->name; row++) {
            if (row->kind != kind)
                continue;
            value_of(row->type, n++, value);
            pfx_minutes_set(s, row->field, value);
        }
    }
    same_again(&minutes);
    char *page PFX_AUTOFREE = seen(&minutes);
    assert_true(n > 40);
    for (size_t i = 0; i < minutes.n; i++) {
        const struct pfx_minutes_section *s = &minutes.list[i];
        if (!strstr(page, s->name))
            fail_msg("%s isn't printed", s->name);
        for (size_t f = 0; f < PFX_MF_COUNT; f++)
            if (s->values[f] && !strstr(page, s->values[f]))
                fail_msg("%s of %s isn't printed", s->values[f], s->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written),       cmocka_unit_test(cleaned), cmocka_unit_test(limits),
        cmocka_unit_test(read_strictly), cmocka_unit_test(pages),
        cmocka_unit_test(all_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
