/* pfx-audit check: what a receipt proves, and what it doesn't. */
#include <string.h>

#include "agent/audit/audit.h"
#include "agent/audit/facts.h"
#include "agent/audit/text.h"
#include "crypto/encode.h"

#define RECEIPT_MAX (64 * 1024)

struct checking {
    struct pfx_buf text, entry_file;
    struct pfx_source *source;
    struct pfx_source_cursor cursor;
    struct pfx_audit_keys keys;

    uint64_t index;
    struct pfx_proof proof;
    struct pfx_checkpoint checkpoint;
    uint64_t signers;      /* a bit for each of keys */
    struct pfx_bytes json; /* the entry; empty: none was given */
    bool readable;         /* it is an entry of a form that is known here */
    struct pfx_facts facts;
};

static void checking_done(struct checking *c)
{
    pfx_buf_done(&c->text);
    pfx_buf_done(&c->entry_file);
    pfx_source_cursor_done(&c->cursor);
    pfx_source_close(c->source);
    pfx_audit_keys_done(&c->keys);
}

/* A receipt that isn't in form has been cut or changed. */
static pfx_result read_receipt(struct checking *c, const char *path, struct pfx_error *err)
{
    struct pfx_bytes note;
    struct pfx_error why = PFX_ERROR_NONE;
    PFX_TRY(pfx_audit_file(path, RECEIPT_MAX, &c->text, err));
    if (pfx_failed(pfx_receipt_parse(pfx_buf_bytes(&c->text), &c->index, &c->proof, &note, &why)) ||
        pfx_failed(pfx_checkpoint_parse(note, &c->checkpoint, &why)))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read receipt", path, why.code, "%s", why.text);
    if (c->index >= c->checkpoint.size)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read receipt", path, "",
                        "it is for entry %llu, and its checkpoint covers %llu",
                        (unsigned long long)c->index, (unsigned long long)c->checkpoint.size);
    return PFX_OK;
}

static pfx_result read_entry(struct checking *c, const struct pfx_audit_options *options,
                             struct pfx_error *err)
{
    uint64_t upto;
    if (options->entry) {
        PFX_TRY(pfx_audit_file(options->entry, PFX_ENTRY_MAX + 1, &c->entry_file, err));
        c->json = pfx_buf_bytes(&c->entry_file);
        /* An editor's last LF isn't the entry's: canonical JSON has none. */
        if (c->json.len > 0 && c->json.data[c->json.len - 1] == '\n')
            c->json.len--;
        if (c->json.len == 0)
            return pfx_fail(err, PFX_CLASS_USAGE, "read entry", options->entry, "",
                            "the file is empty");
        return PFX_OK;
    }
    if (!options->log)
        return PFX_OK;
    PFX_TRY(pfx_source_open(options->log, &c->source, err));
    c->cursor = pfx_source_cursor_make(c->index, c->checkpoint.size);
    if (pfx_source_next(c->source, &c->cursor, &c->json, &upto) != PFX_SOURCE_ENTRY)
        return pfx_fail(err, PFX_CLASS_USAGE, "read entry", options->log, "",
                        "entry %llu isn't presented in this export", (unsigned long long)c->index);
    return PFX_OK;
}

static pfx_result check_inclusion(struct checking *c, struct pfx_error *err)
{
    struct pfx_entry entry;
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_node leaf;
    char number[32];
    struct pfx_hasher *hasher = pfx_hasher_new();
    pfx_hash_leaf(hasher, c->json, &leaf);
    bool holds = pfx_inclusion_holds(hasher, c->index, c->checkpoint.size, &leaf, &c->proof,
                                     &c->checkpoint.root);
    pfx_hasher_free(hasher);
    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)c->index);
    if (!holds)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "check entry", number, "",
                        "this entry with these hashes doesn't lead to the checkpoint's root: it "
                        "is another entry, or one of both was changed");
    c->readable = pfx_ok(pfx_entry_read(c->json, &entry, &why));
    if (!c->readable)
        return PFX_OK;
    pfx_facts_of(&entry, &c->facts);
    if (pfx_entry_int(&entry, PFX_F_SEQ) != (int64_t)c->index)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "check entry", number, "",
                        "the entry at this place says that it is number %lld",
                        (long long)pfx_entry_int(&entry, PFX_F_SEQ));
    return PFX_OK;
}

static pfx_result check(struct checking *c, const struct pfx_audit_options *options,
                        struct pfx_error *err)
{
    if (options->n_keys == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "check needs --key FILE: the log's public key, as you got it yourself. A "
                        "receipt can't vouch for its own signer");
    if (options->entry && options->log)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "the entry comes from --entry or from --log, not from both");
    PFX_TRY(read_receipt(c, options->operands[0], err));
    PFX_TRY(
        pfx_audit_keys_load(options->keys, options->n_keys, c->checkpoint.origin, &c->keys, err));
    PFX_TRY(pfx_checkpoint_verify(&c->checkpoint, c->keys.keys, c->keys.n, &c->signers, err));
    PFX_TRY(read_entry(c, options, err));
    return c->json.len > 0 ? check_inclusion(c, err) : PFX_OK;
}

static const char *const limits[] = {
    "that what the entry says is so: whoever has root and the PIN on the live host can write lies",
    "what the entries around it say, and that none was left out of what you were given",
    ("that this checkpoint is the newest, or that nobody was shown another log of this size: "
     "compare it with one that was kept elsewhere"),
};
static const char no_entry[] =
    "give the entry, too, as a receipt holds none: --entry FILE (pfx-audit prove --entry writes "
    "it) or --log DIR (an export that has it). So far the receipt is in form, and its checkpoint "
    "is signed";

static const char *type_name(enum pfx_note_type type)
{
    return type == PFX_NOTE_P256 ? "ECDSA P-256" : "Ed25519";
}

/* "name+0a1b2c3d (Ed25519)" */
static void signer(const struct pfx_vkey *key, struct pfx_buf *out)
{
    char id[9];
    pfx_text_show_str(key->name, out);
    (void)pfx_buf_addf(out, "+%s (%s)", pfx_hex(key->id, sizeof(key->id), id),
                       type_name(key->type));
}

static void print_entry(const struct checking *c)
{
    const struct pfx_facts *f = &c->facts;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64 * 1024);
    char time[PFX_TIME_SIZE];
    (void)printf("entry       %llu\n", (unsigned long long)c->index);
    if (!c->readable) {
        (void)printf("            not an entry of a form that this program knows\n");
        return;
    }
    pfx_text_show_str(f->event, &text);
    (void)printf("event       %s, %s, %s, written for %s\n", pfx_buf_str(&text),
                 pfx_phase_name(f->phase), pfx_outcome_name(f->outcome), pfx_src_name(f->src));
    (void)printf("time        %s by the host's clock\n", pfx_time_format(f->time, true, time));
    pfx_buf_reset(&text);
    pfx_facts_who(f, &text);
    (void)printf("who         %s\n", pfx_buf_str(&text));
    pfx_buf_reset(&text);
    if (f->user[0])
        (void)pfx_buf_addf(&text, "user %s ", f->user);
    pfx_facts_what(f, true, &text);
    if (text.len > 0)
        (void)printf("about       %s\n", pfx_buf_str(&text));
    if (f->out[0])
        (void)printf("released    SHA-256 %s\n", f->out);
    if (f->weak)
        (void)printf("WEAK        permitted without anybody's signature\n");
}

static void print_table(const struct checking *c)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(16 * 1024);
    struct pfx_buf root PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64);
    pfx_text_show_str(c->checkpoint.origin, &text);
    if (c->json.len > 0)
        (void)printf("PROVEN: entry %llu is in the log %s\n", (unsigned long long)c->index,
                     pfx_buf_str(&text));
    else {
        (void)printf("NOT PROVEN: which entry %llu of the log %s is\n",
                     (unsigned long long)c->index, pfx_buf_str(&text));
        pfx_text_paragraph(no_entry, "next: ");
    }
    if (c->json.len > 0)
        print_entry(c);
    (void)pfx_base64_encode(c->checkpoint.root.bytes, PFX_HASH_SIZE, &root);
    (void)printf("checkpoint  %llu %s, root %s\n", (unsigned long long)c->checkpoint.size,
                 pfx_entries(c->checkpoint.size), pfx_buf_str(&root));
    for (size_t i = 0; i < c->keys.n; i++)
        if (c->signers >> i & 1) {
            pfx_buf_reset(&text);
            signer(&c->keys.keys[i], &text);
            (void)printf("signed by   %s\n", pfx_buf_str(&text));
        }
    (void)printf("Not proven:\n");
    for (size_t i = c->json.len == 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        pfx_text_paragraph(limits[i], "- ");
}

static void print_json(const struct checking *c)
{
    struct pfx_json json = pfx_json_make("pfx-audit/check/1");
    struct pfx_buf root PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64);
    (void)pfx_base64_encode(c->checkpoint.root.bytes, PFX_HASH_SIZE, &root);
    pfx_json_bool(&json, "proven", c->json.len > 0);
    pfx_json_int(&json, "seq", (int64_t)c->index);
    pfx_json_str(&json, "origin", c->checkpoint.origin);
    pfx_json_int(&json, "size", (int64_t)c->checkpoint.size);
    pfx_json_str(&json, "root", pfx_buf_str(&root));
    pfx_json_signers(&json, &c->keys, c->signers);
    if (c->readable)
        pfx_json_raw(&json, "entry", c->json);
    if (c->readable)
        pfx_json_bool(&json, "weak", c->facts.weak);
    pfx_json_str(&json, "next", c->json.len == 0 ? no_entry : NULL);
    pfx_json_open(&json, "not_proven", '[');
    for (size_t i = c->json.len == 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        pfx_json_str(&json, NULL, limits[i]);
    pfx_json_close(&json, ']');
    pfx_json_print(&json);
}

int pfx_audit_check(const struct pfx_audit_options *options)
{
    struct checking c PFX_CLEANUP(checking_done) = {.text = pfx_buf_make(RECEIPT_MAX),
                                                    .entry_file = pfx_buf_make(PFX_ENTRY_MAX + 1)};
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(check(&c, options, &err))) {
        bool bad = err.cls == PFX_CLASS_INTEGRITY;
        if (bad && options->format == PFX_AUDIT_JSON) {
            struct pfx_json json = pfx_json_make("pfx-audit/check/1");
            pfx_json_bool(&json, "proven", false);
            pfx_json_str(&json, "error", err.text);
            pfx_json_print(&json);
        } else if (bad)
            (void)printf("NOT PROVEN\n");
        return pfx_audit_fail(&err);
    }
    if (options->format == PFX_AUDIT_JSON)
        print_json(&c);
    else
        print_table(&c);
    return c.json.len > 0 ? PFX_AUDIT_OK : PFX_AUDIT_FINDING;
}
