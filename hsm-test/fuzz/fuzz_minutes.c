/*
 * Pages of ceremonies, as an auditor is handed them, and what tokens and people put into records:
 * after a first line "set" each line is a name of a witness, a token's label and a version.
 */
#include "crypto/minutes.h"

#include "fuzz.h"

static void again(const struct pfx_minutes *minutes, struct pfx_bytes text)
{
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(PFX_MINUTES_MAX);
    must(pfx_ok(pfx_minutes_write(minutes, &out, &err)));
    must(same(pfx_buf_bytes(&out), text));
}

static void try_record(struct pfx_bytes text)
{
    PFX_CLEANUP(pfx_minutes_done) struct pfx_minutes minutes = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_ok(pfx_minutes_parse(text, &minutes, &err)))
        again(&minutes, text);
    else
        must_say(&err);
}

/* No value of a page becomes a tag: what stands between ours has been escaped. */
static void try_html(const struct pfx_minutes_page *page)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf html = pfx_buf_make(PFX_MINUTES_HTML_MAX);
    if (!pfx_minutes_html(page, &html))
        return;
    static const char *const never[] = {"<script", "<img", "<a ", "<i>", "<!--", NULL};
    for (size_t i = 0; never[i]; i++)
        must(!memmem(html.data, html.len, never[i], strlen(never[i])));
}

static void try_page(struct pfx_bytes text)
{
    PFX_CLEANUP(pfx_minutes_page_done) struct pfx_minutes_page page = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_minutes_page_parse(text, &page, &err))) {
        must(err.cls == PFX_CLASS_REFUSED || err.cls == PFX_CLASS_INTEGRITY);
        must_say(&err);
        return;
    }
    must(page.receipt.data + page.receipt.len == text.data + text.len);
    try_html(&page);
}

static void try_values(struct pfx_bytes text)
{
    PFX_CLEANUP(pfx_minutes_done) struct pfx_minutes minutes = {0};
    struct pfx_minutes_section *head = pfx_minutes_add(&minutes, PFX_MK_HEAD, "");
    pfx_minutes_set(head, PFX_MF_KIND, "init");
    pfx_minutes_set_time(head, PFX_MF_TIME, 0);
    pfx_minutes_set_int(head, PFX_MF_UID, 7);
    pfx_minutes_set(head, PFX_MF_HOST, "h");
    pfx_minutes_set(head, PFX_MF_LOG, "h/pfx-agent");
    pfx_minutes_set_hex(head, PFX_MF_POLICY, "01234567890123456789012345678901", 32);
    pfx_minutes_set(head, PFX_MF_VERSION, "1");
    while (text.len > 0) {
        PFX_AUTOFREE char *value = text_of(take_until(&text, '\n'));
        (void)pfx_minutes_add(&minutes, PFX_MK_WITNESS, value);
        struct pfx_minutes_section *role = pfx_minutes_add(&minutes, PFX_MK_ROLE, value);
        pfx_minutes_set(role, PFX_MF_TOKEN, "-");
        if (value[strspn(value, " ")])
            pfx_minutes_set(role, PFX_MF_TOKEN, value);
        pfx_minutes_set(role, PFX_MF_SERIAL, "-");
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(PFX_MINUTES_MAX);
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_ok(pfx_minutes_write(&minutes, &out, &err))) {
        PFX_CLEANUP(pfx_minutes_done) struct pfx_minutes read = {0};
        must(pfx_ok(pfx_minutes_parse(pfx_buf_bytes(&out), &read, &err)));
        must(read.n == minutes.n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfx_bytes all = {data, size}, rest = all;
    if (is_word(take_until(&rest, '\n'), "set")) {
        try_values(rest);
        return 0;
    }
    try_page(all);
    try_record(all);
    return 0;
}
