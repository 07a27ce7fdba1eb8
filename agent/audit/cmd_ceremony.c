/* pfx-audit ceremony: what the page of a key ceremony proves, and what it doesn't. */
#include <string.h>

#include "agent/audit/ceremony.h"
#include "agent/audit/text.h"
#include "crypto/encode.h"

static const char *const limits[] = {
    ("that attributes, labels, modules, notes and names on the page are so: pfx-hsm wrote them down "
     "when it looked, and the log holds their hash only"),
    ("that nobody else holds the keys, or a copy: an HSM's own backups and clones stand in no log"),
    ("that the people whose names stand there were there: their hands sign the paper"),
};
static const char attested[] =
    "what the HSM's attestation says: the files are named by their SHA-256, and the vendor's tool "
    "and root certificate check them";
static const char weak[] = "a key of it was approved without anybody's signature";
static const char people[] =
    "that the keys which approved it belong to the people they name: compare the roster's lines in "
    "the log with your own copy";
static const char unsure[] =
    "whether what was cut off was done: the log has its beginning only. A later page says what was "
    "found";
static const char no_log[] =
    "that the log's entries say of each key what the page says: give an export with --log DIR";
static const char rest_of_log[] =
    "the rest of the log, and what its entries mean: pfx-audit verify does that";

static uint64_t count(const struct pfx_ceremony *c, enum pfx_ceremony_match match)
{
    uint64_t n = 0;
    for (size_t i = 0; c->found && i < c->page.record.n; i++)
        n += c->found[i].match == match;
    return n;
}

/* Keys, certificates, generations and approvals: what stands in the log in entries of their own. */
static uint64_t logged(const struct pfx_ceremony *c)
{
    return count(c, PFX_PAGE_AGREES) + count(c, PFX_PAGE_DIFFERS) + count(c, PFX_PAGE_ABSENT) +
           count(c, PFX_PAGE_UNSEEN);
}

static int verdict(const struct pfx_ceremony *c)
{
    if (count(c, PFX_PAGE_DIFFERS) + count(c, PFX_PAGE_ABSENT) > 0 || c->differs)
        return PFX_AUDIT_TAMPERING;
    return count(c, PFX_PAGE_UNSEEN) > 0 ? PFX_AUDIT_FINDING : PFX_AUDIT_OK;
}

static const char *match_name(enum pfx_ceremony_match match)
{
    switch (match) {
    case PFX_PAGE_AGREES:
        return "agrees";
    case PFX_PAGE_DIFFERS:
        return "differs";
    case PFX_PAGE_ABSENT:
        return "absent";
    case PFX_PAGE_UNSEEN:
        return "not presented";
    case PFX_PAGE_NONE:
        break;
    }
    return NULL;
}

/* --- for people ------------------------------------------------------------------------------- */

static void print_head(const struct pfx_ceremony *c, bool printed)
{
    const struct pfx_minutes_section *head = pfx_minutes_find(&c->page.record, PFX_MK_HEAD, NULL);
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(16 * 1024);
    char time[PFX_TIME_SIZE], id[9];
    pfx_text_show_str(c->checkpoint.origin, &text);
    (void)printf("PROVEN: the operation log %s holds this record, entry %llu of %llu\n",
                 pfx_buf_str(&text), (unsigned long long)c->index,
                 (unsigned long long)c->checkpoint.size);
    pfx_buf_reset(&text);
    pfx_text_show_str(pfx_minutes_get(head, PFX_MF_HOST), &text);
    (void)printf("record      %s of %s on host %s, by uid %s\n",
                 pfx_minutes_get(head, PFX_MF_KIND), pfx_minutes_get(head, PFX_MF_TIME),
                 pfx_buf_str(&text), pfx_minutes_get(head, PFX_MF_UID));
    (void)printf("logged      %s by the host's clock\n",
                 pfx_time_format(c->entry_ms, true, time));
    if (c->late)
        (void)printf("late        written %s, since the ceremony ended without a page of its own\n",
                     pfx_minutes_get(head, PFX_MF_LATE));
    (void)printf("SHA-256     %s\n", c->page.sha256);
    if (printed)
        (void)printf("printed     the HTML file is what this text makes, byte for byte\n");
    for (size_t i = 0; i < c->keys.n; i++)
        if (c->signers >> i & 1)
            (void)printf("signed by   log key %s (%s)\n",
                         pfx_hex(c->keys.keys[i].id, sizeof(c->keys.keys[i].id), id),
                         c->keys.keys[i].type == PFX_NOTE_P256 ? "ECDSA P-256" : "Ed25519");
}

static void print_section(const struct pfx_ceremony *c, size_t i)
{
    const struct pfx_minutes_section *s = &c->page.record.list[i];
    const struct pfx_ceremony_found *found = &c->found[i];
    struct pfx_buf line PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(16 * 1024);
    char time[PFX_TIME_SIZE];
    if (found->match == PFX_PAGE_NONE)
        return;
    (void)pfx_buf_addf(&line, "%-11s ", pfx_minutes_kind_name(s->kind));
    pfx_text_show_str(s->name, &line);
    if (found->match == PFX_PAGE_ABSENT)
        (void)pfx_buf_add_str(&line, ": NO ENTRY of the log says this");
    else if (found->match == PFX_PAGE_UNSEEN)
        (void)pfx_buf_add_str(&line, ": its entry isn't presented in this export");
    else
        (void)pfx_buf_addf(&line, ": %s entry %llu%s%s", found->what ? "DIFFERS from" : "as in",
                           (unsigned long long)found->seq, found->what ? " in " : "",
                           found->what ? found->what : "");
    if (found->since != UINT64_MAX && found->since != found->seq)
        (void)pfx_buf_addf(&line, "; first named by entry %llu, %s",
                           (unsigned long long)found->since,
                           pfx_time_format(found->since_ms, false, time));
    pfx_text_line(pfx_buf_str(&line));
}

static void print_log(const struct pfx_ceremony *c)
{
    uint64_t n = logged(c), well = count(c, PFX_PAGE_AGREES);
    (void)printf("log         its entries up to the record make the root that was signed\n");
    if (c->presented > 0)
        (void)printf("            entries before %llu aren't presented\n",
                     (unsigned long long)c->presented);
    if (c->differs)
        (void)printf("DIFFERS: %s\n", c->differs);
    (void)printf("%s: %llu of %llu keys, certificates, generations and approvals are in the log as "
                 "on the page\n",
                 verdict(c) == PFX_AUDIT_OK ? "PROVEN" : "NOT PROVEN", (unsigned long long)well,
                 (unsigned long long)n);
    if (c->weak)
        pfx_text_paragraph(weak, "WEAK: ");
    for (size_t i = 0; i < c->page.record.n; i++)
        print_section(c, i);
}

static bool cut_off(const struct pfx_ceremony *c)
{
    for (size_t i = 0; i < c->page.record.n; i++)
        if (strcmp(pfx_minutes_get(&c->page.record.list[i], PFX_MF_HOW), "cut-off") == 0)
            return true;
    return false;
}

static void print_table(const struct pfx_ceremony *c, bool printed)
{
    print_head(c, printed);
    if (c->compared)
        print_log(c);
    (void)printf("Not proven:\n");
    if (c->unknown > 0)
        (void)printf("- %u signature line%s by keys that you didn't give with --key\n", c->unknown,
                     pfx_plural(c->unknown));
    pfx_text_paragraph(c->compared ? rest_of_log : no_log, "- ");
    if (pfx_minutes_find(&c->page.record, PFX_MK_ATTESTATION, NULL))
        pfx_text_paragraph(attested, "- ");
    if (pfx_minutes_find(&c->page.record, PFX_MK_APPROVAL, NULL))
        pfx_text_paragraph(people, "- ");
    if (cut_off(c))
        pfx_text_paragraph(unsure, "- ");
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        pfx_text_paragraph(limits[i], "- ");
}

/* --- for programs ----------------------------------------------------------------------------- */

static void json_sections(const struct pfx_ceremony *c, struct pfx_json *json)
{
    pfx_json_open(json, "sections", '[');
    for (size_t i = 0; i < c->page.record.n; i++) {
        const struct pfx_minutes_section *s = &c->page.record.list[i];
        const struct pfx_ceremony_found *found = &c->found[i];
        if (found->match == PFX_PAGE_NONE)
            continue;
        bool there = found->match == PFX_PAGE_AGREES || found->match == PFX_PAGE_DIFFERS;
        pfx_json_open(json, NULL, '{');
        pfx_json_str(json, "kind", pfx_minutes_kind_name(s->kind));
        pfx_json_str(json, "name", s->name);
        pfx_json_str(json, "match", match_name(found->match));
        pfx_json_str(json, "differs", found->what);
        pfx_json_opt(json, "seq", there ? (int64_t)found->seq : -1);
        pfx_json_opt(json, "since", found->since != UINT64_MAX ? (int64_t)found->since : -1);
        pfx_json_close(json, '}');
    }
    pfx_json_close(json, ']');
}

static void print_json(const struct pfx_ceremony *c, bool printed)
{
    const struct pfx_minutes_section *head = pfx_minutes_find(&c->page.record, PFX_MK_HEAD, NULL);
    struct pfx_json json = pfx_json_make("pfx-audit/ceremony/1");
    pfx_json_bool(&json, "proven", verdict(c) == PFX_AUDIT_OK);
    pfx_json_str(&json, "origin", c->checkpoint.origin);
    pfx_json_int(&json, "seq", (int64_t)c->index);
    pfx_json_int(&json, "size", (int64_t)c->checkpoint.size);
    pfx_json_str(&json, "record", pfx_minutes_get(head, PFX_MF_KIND));
    pfx_json_str(&json, "time", pfx_minutes_get(head, PFX_MF_TIME));
    if (c->late)
        pfx_json_str(&json, "written_late", pfx_minutes_get(head, PFX_MF_LATE));
    pfx_json_str(&json, "sha256", c->page.sha256);
    pfx_json_bool(&json, "printed", printed);
    pfx_json_signers(&json, &c->keys, c->signers);
    pfx_json_bool(&json, "compared", c->compared);
    pfx_json_str(&json, "differs", c->differs);
    if (c->compared)
        pfx_json_bool(&json, "weak", c->weak);
    if (c->compared)
        json_sections(c, &json);
    pfx_json_print(&json);
}

/* From what was checked, so that nobody has to believe an HTML file. */
static pfx_result write_page(const struct pfx_ceremony *c, const char *path, struct pfx_error *err)
{
    struct pfx_buf html PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_MINUTES_HTML_MAX);
    if (!pfx_minutes_html(&c->page, &html))
        return pfx_fail(err, PFX_CLASS_USAGE, "write", path, "", "the page is too long");
    return pfx_audit_put(path, pfx_buf_bytes(&html), err);
}

/* A page for a printer that came with the text says what the text says, or it is another one. */
static pfx_result check_printed(const struct pfx_ceremony *c, const char *path,
                                struct pfx_error *err)
{
    struct pfx_buf html PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_MINUTES_HTML_MAX);
    struct pfx_buf given PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_MINUTES_HTML_MAX);
    size_t line = 1, i = 0;
    PFX_TRY(pfx_audit_file(path, PFX_MINUTES_HTML_MAX, &given, err));
    if (!pfx_minutes_html(&c->page, &html))
        return pfx_fail(err, PFX_CLASS_USAGE, "compare", path, "", "the page is too long");
    for (; i < html.len && i < given.len && html.data[i] == given.data[i]; i++)
        line += html.data[i] == '\n';
    if (i == html.len && i == given.len)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "compare", path, "",
                    "it isn't what the text makes: they differ in line %zu. --out FILE makes it "
                    "anew",
                    line);
}

int pfx_audit_ceremony(const struct pfx_audit_options *options)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_ceremony c PFX_CLEANUP(pfx_ceremony_done) = {.index = 0};
    pfx_result r = PFX_OK;
    if (options->n_keys == 0)
        r = pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                     "ceremony needs --key FILE: the log's public key, as you got it yourself. A "
                     "page can't vouch for its own signer");
    if (pfx_ok(r))
        r = pfx_ceremony_page(&c, options->operands[0], options, &err);
    if (pfx_ok(r) && options->log)
        r = pfx_ceremony_export(&c, options->log, &err);
    bool printed = options->n_operands > 1;
    if (pfx_ok(r) && printed)
        r = check_printed(&c, options->operands[1], &err);
    if (pfx_ok(r) && options->out)
        r = write_page(&c, options->out, &err);
    if (pfx_failed(r))
        return pfx_audit_fail(&err);
    if (options->format == PFX_AUDIT_JSON)
        print_json(&c, printed);
    else
        print_table(&c, printed);
    return verdict(&c);
}
