/* What lies beside the entries in an export: tail, keys, policies, name map, export.json. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/audit/verify.h"
#include "crypto/encode.h"

#define TAIL_MAX ((size_t)8 << 20)
#define SMALL_MAX 8192

static void tell(struct pfx_verify_log *log, enum pfx_finding_level level,
                 enum pfx_finding_class cls, uint64_t entry, const char *name, const char *text)
{
    pfx_report_add(log->all->report, level, cls, log->index, entry, "%s%s%s", name,
                   *name ? " " : "", text);
}

static void damaged(struct pfx_verify_log *log, const char *name, const char *text)
{
    tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_FORM, PFX_NO_ENTRY, name, text);
}

/* Entries that no checkpoint covers: their form, and that they follow. */
static void check_tail(struct pfx_verify_log *log)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf tail = pfx_buf_make(0);
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result r = pfx_source_file(log->source, "tail", TAIL_MAX, &tail, &why);
    if (pfx_failed(r) && strcmp(why.code, "ENOENT") == 0)
        return;
    if (pfx_failed(r)) {
        tell(log, PFX_LEVEL_WARNING, PFX_FOUND_UNCOVERED, PFX_NO_ENTRY, "", why.text);
        return;
    }
    char prev[65] = "";
    if (log->has_last)
        pfx_hex(log->last.bytes, sizeof(log->last.bytes), prev);
    uint64_t seq = log->newest->size;
    struct pfx_bytes json;
    size_t at = 0;
    enum pfx_record got = PFX_RECORD_END;
    while (at < tail.len &&
           (got = pfx_record_next(pfx_buf_bytes(&tail), &at, &json)) == PFX_RECORD_WHOLE) {
        struct pfx_entry entry;
        struct pfx_error form = PFX_ERROR_NONE;
        struct pfx_node leaf;
        if (pfx_failed(pfx_entry_read(json, &entry, &form))) {
            tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_FORM, seq, "", form.text);
        } else {
            struct pfx_bytes text = pfx_entry_text(&entry, PFX_F_PREV);
            if ((uint64_t)pfx_entry_int(&entry, PFX_F_SEQ) != seq)
                tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_SEQUENCE, seq, "",
                     "calls itself by another number");
            if (prev[0] && memcmp(text.data, prev, 64) != 0)
                tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_SEQUENCE, seq, "",
                     "its prev isn't the hash of the entry before it");
        }
        pfx_hash_leaf(log->all->hasher, json, &leaf);
        pfx_hex(leaf.bytes, sizeof(leaf.bytes), prev);
        seq++;
    }
    if (at < tail.len)
        tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_FORM, seq, "tail", "ends inside of a record");
    log->facts->tail = seq - log->newest->size;
    if (log->facts->tail == 0)
        return;
    pfx_report_add(
        log->all->report, PFX_LEVEL_WARNING, PFX_FOUND_UNCOVERED, log->index, log->newest->size,
        "covered by no checkpoint, as is all behind it: %" PRIu64 " in number", log->facts->tail);
    pfx_report_open(log->all->report, log->index,
                    "what stands at the end without a checkpoint over it (%" PRIu64
                    " in number): anybody could have written it",
                    log->facts->tail);
}

struct export_json {
    uint64_t first, size;
    bool origin_is;
    const char *origin;
    unsigned has;
};

static bool text_is(struct pfx_bytes bytes, const char *text)
{
    return bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}

static bool export_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                          const struct pfx_canon_value *value)
{
    struct export_json *json = ctx;
    bool number = value->kind == PFX_CANON_INT && value->number >= 0;
    bool text = value->kind == PFX_CANON_STR;
    char made[PFX_TIME_SIZE] = "";
    int64_t ms;
    if (group.len > 0)
        return true;
    if (text_is(key, "first") && number) {
        json->first = (uint64_t)value->number;
        json->has |= 1;
    } else if (text_is(key, "size") && number) {
        json->size = (uint64_t)value->number;
        json->has |= 2;
    } else if (text_is(key, "origin") && text) {
        json->origin_is = text_is(value->text, json->origin);
        json->has |= 4;
    } else if (text_is(key, "made") && text && value->text.len < sizeof(made)) {
        memcpy(made, value->text.data, value->text.len);
        json->has |= pfx_time_parse(made, &ms) ? 8u : 0;
    } else if (text_is(key, "software") && text) {
        json->has |= 16;
    } else if (text_is(key, "v") && number && value->number == 1) {
        json->has |= 32;
    }
    return true;
}

/* A small file; false: told, or not there. */
static bool small_file(struct pfx_verify_log *log, const char *name, size_t max,
                       struct pfx_buf *ret, bool *ret_there)
{
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result r = pfx_source_file(log->source, name, max, ret, &why);
    *ret_there = pfx_ok(r) || strcmp(why.code, "ENOENT") != 0;
    if (pfx_failed(r) && *ret_there)
        damaged(log, name, why.text);
    return pfx_ok(r);
}

static void check_export(struct pfx_verify_log *log)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(0);
    bool there;
    if (!small_file(log, "export.json", SMALL_MAX, &text, &there)) {
        if (!there)
            tell(log, PFX_LEVEL_WARNING, PFX_FOUND_MISSING, PFX_NO_ENTRY, "export.json",
                 "isn't there");
        return;
    }
    struct pfx_bytes bytes = pfx_buf_bytes(&text);
    if (bytes.len > 0 && bytes.data[bytes.len - 1] == '\n')
        bytes.len--;
    struct export_json json = {.origin = log->origin};
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_canon_scan(bytes, export_member, &json, &why)) || json.has != 63)
        damaged(log, "export.json",
                "isn't canonical JSON of first, made, origin, size, software and v");
    else if (!json.origin_is || json.size != log->newest->size)
        damaged(log, "export.json", "is of another log or size than the checkpoint");
    else if (log->since == 0 && log->facts->examined > 0 && json.first != log->facts->first)
        damaged(log, "export.json", "names another first entry than the one that is presented");
}

/* keys/ is the host's word: what lies there must at least be what the log itself names, to the byte
 * that an export writes. */
static const struct pfx_named_key *key_of(const struct pfx_verify_log *log, struct pfx_bytes text,
                                          bool pem)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(SMALL_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(SMALL_MAX);
    char label[PFX_PEM_LABEL_SIZE];
    size_t at = 0;
    uint8_t spki[32] = {0};
    if (pem &&
        (pfx_pem_next(text, &at, label, &der) != PFX_PEM_BLOCK ||
         !pfx_pem_encode("PUBLIC KEY", pfx_buf_bytes(&der), &again) || again.len != text.len ||
         memcmp(again.data, text.data, text.len) != 0 || !pfx_sha256(der.data, der.len, spki)))
        return NULL;
    for (size_t i = 0; i < log->n_named; i++) {
        const struct pfx_named_key *named = &log->named[i];
        size_t len = strlen(named->line);
        bool same = pem ? memcmp(named->spki_sha256, spki, sizeof(spki)) == 0
                        : text.len == len + 1 && memcmp(text.data, named->line, len) == 0 &&
                              text.data[len] == '\n';
        if (same)
            return named;
    }
    return NULL;
}

/* Not named by the entries that were examined, but a key all the same, under its own name and id.
 */
static bool is_key_file(const struct pfx_verify_log *log, struct pfx_bytes text, bool pem,
                        const char *name)
{
    PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey key = {0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(SMALL_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(SMALL_MAX);
    struct pfx_error why = PFX_ERROR_NONE;
    char label[PFX_PEM_LABEL_SIZE], line[PFX_VKEY_LINE_SIZE] = "", id[9];
    size_t at = 0;
    bool read;
    if (pem) {
        read = pfx_pem_next(text, &at, label, &der) == PFX_PEM_BLOCK &&
               pfx_ok(pfx_vkey_make(log->origin, pfx_buf_bytes(&der), &key, &why)) &&
               pfx_pem_encode("PUBLIC KEY", pfx_buf_bytes(&der), &again);
    } else {
        if (text.len == 0 || text.len > sizeof(line))
            return false;
        memcpy(line, text.data, text.len - 1);
        read = pfx_ok(pfx_vkey_parse(line, &key, &why)) &&
               pfx_buf_addf(&again, "%s\n", pfx_vkey_line(&key, line));
    }
    return read && again.len == text.len && memcmp(again.data, text.data, text.len) == 0 &&
           strcmp(key.name, log->origin) == 0 &&
           strncmp(name, pfx_hex(key.id, sizeof(key.id), id), 8) == 0 &&
           strchr(name, '.') == name + 8;
}

static void check_key_file(struct pfx_verify_log *log, const char *name)
{
    PFX_AUTOFREE char *path = pfx_asprintf("keys/%s", name);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(0);
    const char *ending = strrchr(name, '.');
    bool there, pem = ending && strcmp(ending, ".pem") == 0;
    if (!ending || (!pem && strcmp(ending, ".vkey") != 0) ||
        !small_file(log, path, SMALL_MAX, &text, &there))
        return;
    const struct pfx_named_key *named = key_of(log, pfx_buf_bytes(&text), pem);
    if (named && ending - name == 8 && memcmp(named->id, name, 8) == 0)
        return;
    if (named || !is_key_file(log, pfx_buf_bytes(&text), pem, name))
        damaged(log, path, "isn't a public key of this log, as an export has it");
    else if (!log->gap && log->since == 0)
        /* A change of keys that was given up leaves one behind. */
        tell(log, PFX_LEVEL_WARNING, PFX_FOUND_KEY, PFX_NO_ENTRY, path,
             "is none of the keys that the log names: don't take it");
}

static void check_policy(struct pfx_verify_log *log, const struct pfx_meaning_policy *policy)
{
    char hex[65];
    uint8_t hash[32];
    PFX_AUTOFREE char *path =
        pfx_asprintf("policy/%s.yaml", pfx_hex(policy->sha256, sizeof(policy->sha256), hex));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(0);
    bool there;
    if (!small_file(log, path, PFX_POLICY_TEXT_MAX, &text, &there)) {
        if (!there)
            pfx_report_add(log->all->report, PFX_LEVEL_WARNING, PFX_FOUND_MISSING, log->index,
                           policy->seq, "the text of the policy that it names isn't there: %s",
                           path);
        return;
    }
    if (!pfx_sha256(text.data ? text.data : (uint8_t *)"", text.len, hash))
        pfx_die("SHA-256 failed");
    if (memcmp(hash, policy->sha256, sizeof(hash)) != 0)
        damaged(log, path, "isn't the text that the log names");
}

static void check_names(struct pfx_verify_log *log)
{
    struct pfx_names *names = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_names_open(log->source, NULL, &names, &why))) {
        damaged(log, "names.jsonl:", why.text);
        return;
    }
    if (names)
        pfx_report_open(log->all->report, log->index,
                        "UPNs and addresses of the name map: only its object ids are bound to the "
                        "entries");
    else
        pfx_report_open(log->all->report, log->index,
                        "who the users are: there is no name map (names.jsonl)");
    pfx_names_close(names);
}

pfx_result pfx_verify_files(struct pfx_verify_log *log, struct pfx_error *err)
{
    check_tail(log);
    check_export(log);
    check_names(log);
    const struct pfx_meaning_policy *policies;
    size_t n = pfx_meaning_policies(log->all->meaning, &policies);
    for (size_t i = 0; i < n; i++)
        check_policy(log, &policies[i]);
    char **names;
    PFX_TRY(pfx_source_list(log->source, "keys", &names, &n, err));
    for (size_t i = 0; i < n; i++) {
        check_key_file(log, names[i]);
        free(names[i]);
    }
    free(names);
    return PFX_OK;
}
