/*
 * The page for a printer. The type is small, and what a key may do stands beside it: the ten keys of
 * a host with one app registration, and the seal, fill one sheet of A4.
 */
#include <string.h>

#include "crypto/minutes.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
    "style-src 'unsafe-inline'\">\n"
    "<title>Key ceremony record</title>\n<style>\n"
    "@page{size:A4;margin:9mm}\n"
    "body{font:7pt/1.18 \"DejaVu Sans\",Arial,sans-serif;margin:0 auto;max-width:192mm;color:#000}\n"
    "h1{font-size:13pt;margin:0 0 1mm}\nh2{font-size:8.4pt;margin:1.6mm 0 .4mm;"
    "border-bottom:.3mm solid #000}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "td,th{text-align:left;vertical-align:top;padding:.25mm 2mm .25mm 0;"
    "border-bottom:.1mm solid #999}\n"
    "tr{break-inside:avoid}\nth{font-weight:bold;white-space:nowrap}\n"
    "code,pre{font:6.4pt/1.2 \"DejaVu Sans Mono\",\"Courier New\",monospace;"
    "overflow-wrap:anywhere}\n"
    "pre{white-space:pre-wrap;margin:0}\n.s,.s code,pre.s{font-size:5.7pt;line-height:1.14}\n"
    ".sign td{height:7mm;vertical-align:bottom;border-bottom:.2mm solid #000}\n"
    ".sign{width:auto;min-width:70%}\n"
    "</style></head><body>\n";

static void text(struct pfx_buf *out, const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        switch (value[i]) {
        case '&':
            (void)pfx_buf_add_str(out, "&amp;");
            break;
        case '<':
            (void)pfx_buf_add_str(out, "&lt;");
            break;
        case '>':
            (void)pfx_buf_add_str(out, "&gt;");
            break;
        case '"':
            (void)pfx_buf_add_str(out, "&quot;");
            break;
        case '\'':
            (void)pfx_buf_add_str(out, "&#39;");
            break;
        default:
            (void)pfx_buf_add(out, &value[i], 1);
        }
    }
}

static void word(struct pfx_buf *out, const char *value)
{
    text(out, value, strlen(value));
}

static void field(struct pfx_buf *out, const struct pfx_minutes_section *section,
                  enum pfx_minutes_field which)
{
    word(out, pfx_minutes_get(section, which));
}

/* Eight digits at a time: a person compares it so. */
static void hash(struct pfx_buf *out, const char *hex)
{
    size_t len = strlen(hex);
    (void)pfx_buf_add_str(out, "<code>");
    for (size_t i = 0; i < len; i += 8) {
        (void)pfx_buf_add_str(out, i ? " " : "");
        text(out, hex + i, len - i < 8 ? len - i : 8);
    }
    (void)pfx_buf_add_str(out, "</code>");
}

static void title(struct pfx_buf *out, const char *words)
{
    (void)pfx_buf_addf(out, "<h2>%s</h2>\n<table>\n", words);
}

static void whole(struct pfx_buf *out, const struct pfx_minutes_section *top)
{
    (void)pfx_buf_add_str(out, "<h1>Key ceremony record: ");
    field(out, top, PFX_MF_KIND);
    (void)pfx_buf_add_str(out, "</h1>\n<table><tr><th>When, where<td>");
    field(out, top, PFX_MF_TIME);
    (void)pfx_buf_add_str(out, " on host ");
    field(out, top, PFX_MF_HOST);
    (void)pfx_buf_add_str(out, ", by uid ");
    field(out, top, PFX_MF_UID);
    (void)pfx_buf_add_str(out, ", operation log ");
    field(out, top, PFX_MF_LOG);
    (void)pfx_buf_add_str(out, "<tr><th>Policy, SHA-256<td>");
    hash(out, pfx_minutes_get(top, PFX_MF_POLICY));
    (void)pfx_buf_add_str(out, "<tr><th>pfx-hsm ");
    field(out, top, PFX_MF_VERSION);
    (void)pfx_buf_add_str(out, ", SHA-256<td>");
    hash(out, pfx_minutes_get(top, PFX_MF_EXE));
    if (pfx_minutes_get(top, PFX_MF_LATE)[0]) {
        (void)pfx_buf_add_str(out, "<tr><th>Written late<td>");
        field(out, top, PFX_MF_LATE);
    }
    (void)pfx_buf_add_str(out, "</table>\n");
}

static void role(struct pfx_buf *out, const struct pfx_minutes_section *s)
{
    (void)pfx_buf_add_str(out, "<tr><th>");
    word(out, s->name);
    (void)pfx_buf_add_str(out, "<td>");
    field(out, s, PFX_MF_TOKEN);
    (void)pfx_buf_add_str(out, ", serial <code>");
    field(out, s, PFX_MF_SERIAL);
    (void)pfx_buf_add_str(out, "</code><br>");
    field(out, s, PFX_MF_DEVICE);
    (void)pfx_buf_add_str(out, "<td>");
    field(out, s, PFX_MF_MODULE);
    (void)pfx_buf_add_str(out, "<br>");
    hash(out, pfx_minutes_get(s, PFX_MF_MODULE_SHA256));
    (void)pfx_buf_add_str(out, "\n");
}

static void listed(struct pfx_buf *out, const struct pfx_minutes_section *s,
                   enum pfx_minutes_field which, const char *name)
{
    if (!pfx_minutes_get(s, which)[0])
        return;
    (void)pfx_buf_addf(out, "<b>%s</b> ", name);
    field(out, s, which);
    (void)pfx_buf_add_str(out, "<br>");
}

static void key(struct pfx_buf *out, const struct pfx_minutes_section *s)
{
    (void)pfx_buf_add_str(out, "<tr><th>");
    word(out, s->name);
    (void)pfx_buf_add_str(out, "<br><span class=\"s\" style=\"font-weight:normal\">");
    field(out, s, PFX_MF_ROLE);
    (void)pfx_buf_add_str(out, ", ");
    field(out, s, PFX_MF_ALGORITHM);
    (void)pfx_buf_add_str(out, ",<br>");
    field(out, s, PFX_MF_HOW);
    (void)pfx_buf_add_str(out, "</span><td class=\"s\"><code>id ");
    field(out, s, PFX_MF_ID);
    (void)pfx_buf_add_str(out, "<br>operation ");
    field(out, s, PFX_MF_OPERATION);
    if (pfx_minutes_get(s, PFX_MF_INTENT)[0])
        (void)pfx_buf_add_str(out, ", entry ");
    field(out, s, PFX_MF_INTENT);
    (void)pfx_buf_add_str(out, "</code><br>");
    if (pfx_minutes_get(s, PFX_MF_SPKI)[0])
        hash(out, pfx_minutes_get(s, PFX_MF_SPKI));
    (void)pfx_buf_add_str(out, "<td class=\"s\">");
    listed(out, s, PFX_MF_IS, "is");
    listed(out, s, PFX_MF_IS_NOT, "is not");
    listed(out, s, PFX_MF_UNKNOWN, "not known to the token:");
    if (pfx_minutes_get(s, PFX_MF_LABEL)[0])
        (void)pfx_buf_add_str(out, "<b>label</b> ");
    field(out, s, PFX_MF_LABEL);
    (void)pfx_buf_add_str(out, " ");
    listed(out, s, PFX_MF_MECHANISMS, "mechanisms");
    (void)pfx_buf_add_str(out, "\n");
}

static void certificate(struct pfx_buf *out, const struct pfx_minutes_section *s)
{
    (void)pfx_buf_add_str(out, "<tr><th>");
    word(out, s->name);
    (void)pfx_buf_add_str(out, "<td>");
    hash(out, pfx_minutes_get(s, PFX_MF_SHA256));
    (void)pfx_buf_add_str(out, "<td>until ");
    field(out, s, PFX_MF_UNTIL);
    (void)pfx_buf_add_str(out, "<td class=\"s\"><code>operation ");
    field(out, s, PFX_MF_OPERATION);
    (void)pfx_buf_add_str(out, "</code>");
    (void)pfx_buf_add_str(out, "\n");
}

static void pin(struct pfx_buf *out, const struct pfx_minutes_section *s)
{
    (void)pfx_buf_add_str(out, "<tr><th>");
    word(out, s->name);
    (void)pfx_buf_add_str(out, "<td>");
    hash(out, pfx_minutes_get(s, PFX_MF_SPKI));
    (void)pfx_buf_add_str(out, "<td>generation ");
    field(out, s, PFX_MF_GENERATION);
    (void)pfx_buf_add_str(out, ", ");
    field(out, s, PFX_MF_STATE);
    (void)pfx_buf_add_str(out, ", keyName ");
    field(out, s, PFX_MF_KEY_NAME);
    (void)pfx_buf_add_str(out, ", providerName ");
    field(out, s, PFX_MF_PROVIDER);
    (void)pfx_buf_add_str(out, "\n");
}

static void standing(struct pfx_buf *out, const struct pfx_minutes_section *s)
{
    (void)pfx_buf_add_str(out, "<tr><th>");
    word(out, s->name);
    (void)pfx_buf_add_str(out, "<td>");
    field(out, s, PFX_MF_STATE);
    if (pfx_minutes_get(s, PFX_MF_SINCE)[0])
        (void)pfx_buf_add_str(out, " since ");
    field(out, s, PFX_MF_SINCE);
    (void)pfx_buf_add_str(out, "\n");
}

static void approval(struct pfx_buf *out, const struct pfx_minutes_section *s)
{
    (void)pfx_buf_add_str(out, "<tr><th>");
    word(out, s->name);
    (void)pfx_buf_add_str(out, "<td>");
    field(out, s, PFX_MF_COMMAND);
    (void)pfx_buf_add_str(out, ", ");
    field(out, s, PFX_MF_TIME);
    (void)pfx_buf_add_str(out, "<br>asked by ");
    field(out, s, PFX_MF_ASKER);
    (void)pfx_buf_add_str(out, ", uid ");
    field(out, s, PFX_MF_UID);
    (void)pfx_buf_add_str(out, "; mode ");
    field(out, s, PFX_MF_MODE);
    (void)pfx_buf_add_str(out, "<td>");
    if (pfx_minutes_get(s, PFX_MF_SIGNER)[0])
        (void)pfx_buf_add_str(out, "signed by ");
    (void)pfx_buf_add_str(out, "<code>");
    field(out, s, PFX_MF_SIGNER);
    (void)pfx_buf_add_str(out, "</code><br><span class=\"s\"><code>nonce ");
    field(out, s, PFX_MF_NONCE);
    if (pfx_minutes_get(s, PFX_MF_OPERATION)[0])
        (void)pfx_buf_add_str(out, "<br>operation ");
    field(out, s, PFX_MF_OPERATION);
    (void)pfx_buf_add_str(out, "</code></span>\n");
}

static void attestation(struct pfx_buf *out, const struct pfx_minutes_section *s)
{
    (void)pfx_buf_add_str(out, "<tr><th>");
    word(out, s->name);
    (void)pfx_buf_add_str(out, "<td>");
    hash(out, pfx_minutes_get(s, PFX_MF_SHA256));
    (void)pfx_buf_add_str(out, "<td>");
    field(out, s, PFX_MF_SOURCE);
    (void)pfx_buf_add_str(out, ", ");
    field(out, s, PFX_MF_SIZE);
    (void)pfx_buf_add_str(out, " bytes\n");
}

static void note(struct pfx_buf *out, const struct pfx_minutes_section *s)
{
    (void)pfx_buf_add_str(out, "<tr><td class=\"s\">");
    word(out, s->name);
    (void)pfx_buf_add_str(out, "\n");
}

static void sign_here(struct pfx_buf *out, const char *name)
{
    (void)pfx_buf_add_str(out, "<tr><td>");
    word(out, name);
    (void)pfx_buf_add_str(out, "<td>date<td style=\"width:60mm\">signature\n");
}

static void witnesses(struct pfx_buf *out, const struct pfx_minutes *record)
{
    (void)pfx_buf_add_str(out, "<h2>Signed by hand</h2>\n<table class=\"sign\">\n");
    sign_here(out, "Operator:");
    for (size_t i = 0; i < record->n; i++)
        if (record->list[i].kind == PFX_MK_WITNESS)
            sign_here(out, record->list[i].name);
    (void)pfx_buf_add_str(out, "</table>\n");
}

static void seal(struct pfx_buf *out, const struct pfx_minutes_page *page)
{
    (void)pfx_buf_add_str(
        out, "<h2>Sealed by the operation log</h2>\n<p style=\"margin:0\">SHA-256 of the record, the "
             "text file up to its line &quot;" PFX_MINUTES_END "&quot;: ");
    hash(out, page->sha256);
    (void)pfx_buf_add_str(out, "</p>\n<pre class=\"s\">");
    text(out, (const char *)page->entry.data, page->entry.len);
    (void)pfx_buf_add_str(out, "\n");
    text(out, (const char *)page->receipt.data, page->receipt.len);
    (void)pfx_buf_add_str(out, "</pre>\n<p style=\"margin:0\" class=\"s\">The entry holds the hash, "
                               "the hashes below lead from it to the checkpoint, and the log key "
                               "signed that. pfx-audit ceremony checks the text file, and so does "
                               "openssl (auditor's guide).</p>\n");
}

static const struct part {
    enum pfx_minutes_kind kind;
    const char *title;
    void (*row)(struct pfx_buf *out, const struct pfx_minutes_section *s);
} parts[] = {
    {PFX_MK_ROLE, "Tokens", role},
    {PFX_MK_KEY, "Keys: CKA_ID, operation, SHA-256 of the public key; attributes as read back", key},
    {PFX_MK_CERTIFICATE, "Client certificates: SHA-256", certificate},
    {PFX_MK_PIN, "Encryption key, as passwords are sealed to it: SHA-256 of the public key", pin},
    {PFX_MK_STANDING, "Generations, after the ceremony", standing},
    {PFX_MK_APPROVAL, "Approved by", approval},
    {PFX_MK_ATTESTATION, "Attestation by the HSM: SHA-256", attestation},
    {PFX_MK_NOTE, "Notes", note},
};

bool pfx_minutes_html(const struct pfx_minutes_page *page, struct pfx_buf *out)
{
    const struct pfx_minutes *record = &page->record;
    (void)pfx_buf_add_str(out, head);
    whole(out, pfx_minutes_find(record, PFX_MK_HEAD, NULL));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!pfx_minutes_find(record, parts[i].kind, NULL))
            continue;
        title(out, parts[i].title);
        for (size_t k = 0; k < record->n; k++)
            if (record->list[k].kind == parts[i].kind)
                parts[i].row(out, &record->list[k]);
        (void)pfx_buf_add_str(out, "</table>\n");
    }
    seal(out, page);
    witnesses(out, record);
    return pfx_buf_add_str(out, "</body></html>\n");
}
