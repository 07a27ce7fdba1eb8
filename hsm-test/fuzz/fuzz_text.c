/*
 * Small texts from outside: times, URLs, waiting times, encodings, mail addresses, foreign words on
 * their way to a screen, the words of a command line. The first line says what the rest is.
 */
#include <stdio.h>
#include <strings.h>

#include "agent/address.h"
#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "agent/item.h"
#include "api/uploader/digicert.h"
#include "api/uploader/retry.h"
#include "api/uploader/text.h"
#include "api/uploader/url.h"
#include "api/wire/messages.h"
#include "fuzz.h"

#define YEAR_10000_MS INT64_C(253402300800000)

static void try_time(const char *text)
{
    int64_t ms, again;
    char form[PFX_TIME_SIZE];
    if (pfx_time_parse(text, &ms)) {
        must(ms >= 0 && ms < YEAR_10000_MS);
        must(pfx_time_parse(pfx_time_format(ms, true, form), &again) && again == ms);
        must(pfx_time_parse(pfx_time_format(ms, false, form), &again));
        must(again <= ms && ms - again < 1000);
    }
    if (pfx_date_parse(text, &ms)) {
        pfx_time_format(ms, false, form);
        must(strncmp(form, text, 10) == 0 && strcmp(form + 10, "T00:00:00Z") == 0);
    }
    int64_t first, last;
    bool read = pfx_digicert_time(text, false, &first);
    must(read == pfx_digicert_time(text, true, &last));
    must(!read || (first >= 0 && first <= last && last - first < INT64_C(86400000)));
}

/* Two lines: the URL of a service, and a link that it sent. */
static void try_url(struct pfx_bytes rest)
{
    static const char base[] = "https://graph.example/tenant";
    PFX_AUTOFREE char *below = text_of(take_until(&rest, '\n'));
    PFX_AUTOFREE char *link = text_of(rest);
    struct pfx_error err = PFX_ERROR_NONE;
    char shown[160], host[300];
    if (!pfx_ascii_printable(below, strlen(below)))
        return; /* the program's own words */
    pfx_url_show(link, shown, sizeof shown);
    must(pfx_utf8_valid(shown, strlen(shown)) && !strpbrk(shown, "#\n\x1B"));
    pfx_url_host(link, host, sizeof host);
    must(pfx_utf8_valid(host, strlen(host)));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf encoded = pfx_buf_make(4 * strlen(link) + 1);
    pfx_url_encode(&encoded, link);
    must(!encoded.over && pfx_ascii_printable(pfx_buf_str(&encoded), encoded.len));
    must(!strpbrk(pfx_buf_str(&encoded), "/?#&=+ :@\"'"));
    if (pfx_failed(pfx_url_within(base, below, link, "page", &err))) {
        must(err.cls == PFX_CLASS_REFUSED);
        must_say(&err);
        return;
    }
    /* Whoever reads it, it is this host's, and below this path. */
    must(strncasecmp(link, "https:", 6) == 0);
    must(strcasecmp(pfx_url_host(link, host, sizeof host), "graph.example") == 0 ||
         strcasecmp(host, "graph.example:443") == 0 || strcasecmp(host, "graph.example.") == 0 ||
         strcasecmp(host, "graph.example:0443") == 0);
    link[strcspn(link, "?")] = '\0'; /* what is asked for may hold anything */
    must(!strstr(link, "/../"));
}

/* Two lines: Retry-After, x-ms-retry-after-ms. */
static void try_wait(struct pfx_bytes rest)
{
    PFX_AUTOFREE char *after = text_of(take_until(&rest, '\n'));
    PFX_AUTOFREE char *after_ms = text_of(rest);
    int64_t ms = pfx_retry_after(after, after_ms, INT64_C(1795000000000));
    must(ms >= -1 && ms <= PFX_RETRY_MAX_WAIT_MS);
    for (unsigned i = 0; i < PFX_SERVICE_COUNT; i++) {
        int64_t pause = pfx_retry_pause((enum pfx_service_id)i, (unsigned)(ms & 63), (uint32_t)ms);
        must(pause > 0 && pause <= PFX_RETRY_MAX_WAIT_MS);
    }
}

static void try_encodings(struct pfx_bytes bytes)
{
    const char *text = bytes.data ? (const char *)bytes.data : "";
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf plain = pfx_buf_make(bytes.len + 3);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(2 * bytes.len + 8);
    if (pfx_base64_decode(text, bytes.len, &plain))
        must(pfx_base64_encode(plain.data, plain.len, &again) &&
             same(pfx_buf_bytes(&again), bytes));
    else
        must(plain.len == 0);
    pfx_buf_reset(&plain);
    pfx_buf_reset(&again);
    if (pfx_base64url_decode(text, bytes.len, &plain))
        must(pfx_base64url_encode(plain.data, plain.len, &again) &&
             same(pfx_buf_bytes(&again), bytes));
    pfx_buf_reset(&plain);
    if (pfx_unhex(text, bytes.len, &plain)) {
        PFX_AUTOFREE char *hex = pfx_alloc(2 * plain.len + 1);
        pfx_hex(plain.data, plain.len, hex);
        must(strlen(hex) == bytes.len && strncasecmp(hex, text, bytes.len) == 0);
    }
    PFX_AUTOFREE char *copy = text_of(bytes);
    pfx_buf_reset(&again);
    pfx_hex_shorten(copy, &again);
    must(again.len <= strlen(copy) + 3);
}

static void must_be_clean(const char *text)
{
    must(pfx_utf8_valid(text, strlen(text)));
    for (const char *c = text; *c; c++)
        must((unsigned char)*c >= 0x20 && *c != 0x7F);
}

static void try_words(struct pfx_bytes bytes)
{
    char small[8], large[320], guid[37];
    must_be_clean(pfx_text_clean(small, sizeof small, (const char *)bytes.data, bytes.len));
    must_be_clean(pfx_text_clean(large, sizeof large, (const char *)bytes.data, bytes.len));
    PFX_AUTOFREE char *text = text_of(bytes);
    must_be_clean(pfx_text_data(small, sizeof small, text));
    must_be_clean(pfx_text_data(large, sizeof large, text));
    must(pfx_text_guid_after(guid, text, "ID: ")[0] == '\0' || pfx_text_is_guid(guid));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(8 * bytes.len + 16);
    cli_clean(text, &out);
    must_be_clean(pfx_buf_str(&out));
    size_t width = cli_width(pfx_buf_str(&out));
    for (size_t columns = 0; columns < 12; columns += 3) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf cut = pfx_buf_make(out.len + 8);
        cli_cut(pfx_buf_str(&out), columns, &cut);
        must(!cut.over && (width > columns || cut.len == out.len));
    }
    pfx_buf_reset(&out);
    cli_json_str(&out, text);
    must(!out.over && pfx_utf8_valid(pfx_buf_str(&out), out.len));
    PFX_AUTOMSG struct pfx_msg *item = pfx_msg_new(pfx_wire_find(pfx_wire_agent, "status")->result);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf json = pfx_buf_make(16384);
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_msg_set_str(item, "kind", "wait");
    pfx_item_trouble(item, "what", text);
    pfx_item_str(item, "name", text, 128);
    pfx_item_int(item, "count", (int64_t)bytes.len);
    must(pfx_ok(pfx_msg_encode(item, false, &json, &err)));
    PFX_AUTOMSG struct pfx_msg *shown = pfx_msg_new(pfx_wire_find(pfx_wire_agent, "run")->result);
    pfx_buf_reset(&json);
    pfx_msg_set_str(shown, "kind", "plan");
    pfx_item_add(shown, "addresses", text, 254);
    must(pfx_ok(pfx_msg_encode(shown, false, &json, &err)));
}

/* A line each: mail, then proxy addresses. */
static void try_addresses(struct pfx_bytes rest)
{
    PFX_AUTOSTRINGS struct pfx_strings given = {0};
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    while (rest.len > 0 && given.n < 80) {
        PFX_AUTOFREE char *text = text_of(take_until(&rest, '\n'));
        pfx_strings_add(&given, text);
    }
    if (given.n == 0)
        return;
    if (pfx_failed(pfx_addresses(given.v[0], (const char *const *)given.v + 1, given.n - 1, &list,
                                 &err))) {
        must(list.n == 0 && err.cls == PFX_CLASS_REFUSED);
        must_say(&err);
        must(pfx_next_step(err.text)[0] != '\0');
        return;
    }
    must(list.n > 0 && list.n <= PFX_MAX_ADDRESSES);
    for (size_t i = 0; i < list.n; i++) {
        must(pfx_ascii_printable(list.v[i], strlen(list.v[i])));
        must(pfx_address_plausible(list.v[i]) && !pfx_address_technical(list.v[i]));
        for (size_t k = 0; k < i; k++)
            must(strcasecmp(list.v[i], list.v[k]) != 0);
    }
    PFX_AUTOFREE char *json = pfx_strings_json(&list);
    PFX_AUTOSTRINGS struct pfx_strings back = {0};
    must(pfx_strings_parse(json, &back) && back.n == list.n);
    for (size_t i = 0; i < list.n; i++)
        must(strcmp(list.v[i], back.v[i]) == 0);
}

static void try_json(struct pfx_bytes bytes)
{
    PFX_AUTOFREE char *text = text_of(bytes);
    PFX_AUTOSTRINGS struct pfx_strings list = {0};
    if (!pfx_strings_parse(text, &list))
        return;
    PFX_AUTOFREE char *json = pfx_strings_json(&list);
    PFX_AUTOSTRINGS struct pfx_strings back = {0};
    must(pfx_strings_parse(json, &back) && back.n == list.n);
}

/* A line each: the words behind "pfx-agent". */
static void try_command(struct pfx_bytes rest)
{
    PFX_AUTOSTRINGS struct pfx_strings words = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    struct cli cli;
    int fd = -1;
    int64_t seconds = 0;
    pfx_strings_add(&words, "pfx-agent");
    while (rest.len > 0 && words.n < 60) {
        PFX_AUTOFREE char *word = text_of(take_until(&rest, '\n'));
        pfx_strings_add(&words, word);
        if (pfx_ok(cli_duration(word, &seconds, NULL)))
            must(seconds >= 0 && seconds <= 86400);
    }
    if (pfx_failed(cli_parse((int)words.n, words.v, &cli, &err))) {
        must(err.cls == PFX_CLASS_USAGE && err.text[0]);
        cli_done(&cli);
        return;
    }
    must(cli.verb || cli.given[CLI_VERSION]);
    if (cli.verb && !cli.given[CLI_HELP])
        must(cli.n_operands >= cli.verb->min_operands && cli.n_operands <= cli.verb->max_operands);
    must(cli.operands[cli.n_operands] == NULL);
    for (unsigned id = 0; id < CLI_OPTION_COUNT; id++)
        must(!cli.given[id] || !cli_options[id].arg || cli.values[id][0]);
    if (pfx_ok(cli_fd_value(&cli, CLI_PIN_FD, &fd, NULL)))
        must(fd >= -1 && fd <= 65535);
    cli_done(&cli);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const kinds[] = {"time",  "url",     "wait", "code",
                                        "words", "address", "json", "command"};
    struct pfx_bytes rest = {data, size};
    struct pfx_bytes word = take_until(&rest, '\n');
    size_t kind = any_of(word, 8);
    for (size_t i = 0; i < 8; i++)
        if (is_word(word, kinds[i]))
            kind = i;
    PFX_AUTOFREE char *text = text_of(rest);
    switch (kind) {
    case 0:
        try_time(text);
        break;
    case 1:
        try_url(rest);
        break;
    case 2:
        try_wait(rest);
        break;
    case 3:
        try_encodings(rest);
        break;
    case 4:
        try_words(rest);
        break;
    case 5:
        try_addresses(rest);
        break;
    case 6:
        try_json(rest);
        break;
    default:
        try_command(rest);
    }
    return 0;
}
