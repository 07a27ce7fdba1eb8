/*
 * One way through the entries up to the page's checkpoint: they must make the root that it signs,
 * and say what the record says (ceremony_match.c).
 */
#include <stdio.h>
#include <string.h>

#include "agent/audit/ceremony.h"
#include "crypto/encode.h"

/* Bundles missing in a row after which no more are looked for. */
#define ABSENT_MOST (UINT64_C(1) << 20)

/* The entry of a page that was written late is of whoever made pfx-hsm write it; who gave the
 * command is in the intents of the ceremony. */
static void check_asker(struct pfx_ceremony *c, const struct pfx_entry *entry)
{
    const struct pfx_minutes_section *head = pfx_minutes_find(&c->page.record, PFX_MK_HEAD, NULL);
    char uid[24];
    (void)snprintf(uid, sizeof uid, "%lld", (long long)pfx_entry_int(entry, PFX_F_ACTOR_UID));
    if (c->late && strcmp(pfx_minutes_get(head, PFX_MF_UID), uid) != 0)
        c->differs = "another user gave the command (uid)";
}

/* Who permitted an operation stands in its intent; a log's successor, in its first entry. */
static void take_intent(struct pfx_ceremony *c, const struct pfx_entry *entry)
{
    const struct pfx_minutes_section *head = pfx_minutes_find(&c->page.record, PFX_MK_HEAD, NULL);
    c->weak = c->weak || (pfx_entry_int(entry, PFX_F_WEAK) == 1 &&
                          pfx_entry_is(entry, PFX_F_EVENT, "log.reopen") &&
                          strcmp(pfx_minutes_get(head, PFX_MF_KIND), "log.reopen") == 0);
    for (size_t i = 0; i < c->page.record.n; i++) {
        const char *op = pfx_minutes_get(&c->page.record.list[i], PFX_MF_OPERATION);
        if (*op && pfx_entry_is(entry, PFX_F_OP, op))
            check_asker(c, entry);
        c->weak = c->weak || (*op && pfx_entry_int(entry, PFX_F_WEAK) == 1 &&
                              pfx_entry_is(entry, PFX_F_OP, op));
    }
}

/* Has an entry said anything yet of what the record has? */
static bool named(const struct pfx_ceremony *c)
{
    for (size_t i = 0; i < c->page.record.n; i++) {
        bool key = c->page.record.list[i].kind == PFX_MK_KEY;
        if (key && c->found[i].match != PFX_PAGE_NONE)
            return true;
    }
    return false;
}

static void take_entry(struct pfx_ceremony *c, uint64_t seq, struct pfx_bytes json)
{
    struct pfx_entry entry;
    struct pfx_error why = PFX_ERROR_NONE;
    if (seq >= c->index || pfx_failed(pfx_entry_read(json, &entry, &why)) ||
        pfx_entry_int(&entry, PFX_F_SRC) != PFX_SRC_HSM)
        return;
    if (pfx_entry_has(&entry, PFX_F_SOFTWARE_VERSION)) {
        c->known_start = true;
        c->start.has_policy = pfx_entry_hash(&entry, PFX_F_POLICY_SHA256, c->start.policy);
        c->start.has_exe = pfx_entry_hash(&entry, PFX_F_SOFTWARE_EXE, c->start.exe);
        struct pfx_buf version PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(sizeof c->start.version);
        (void)!pfx_entry_plain(&entry, PFX_F_SOFTWARE_VERSION, &version);
        (void)snprintf(c->start.version, sizeof c->start.version, "%s", pfx_buf_str(&version));
        if (!named(c))
            c->done_by = c->start;
    }
    if (pfx_entry_int(&entry, PFX_F_PHASE) != PFX_PHASE_RESULT)
        take_intent(c, &entry);
    pfx_ceremony_take(c, seq, &entry);
}

/* --- the way through -------------------------------------------------------------------------- */

struct pass {
    struct pfx_ceremony *c;
    struct pfx_hasher *hasher;
    struct pfx_frontier frontier;
    struct pfx_source_nodes nodes;
};

/* Entries up to `upto` aren't there: their hashes may be. What was read before is proven by nothing
 * any more, since the tiles stand for all of it. */
static pfx_result bridge(struct pass *pass, uint64_t upto, struct pfx_error *err)
{
    struct pfx_tree tree = {pass->hasher, pfx_source_node, &pass->nodes};
    struct pfx_ceremony *c = pass->c;
    struct pfx_error why = PFX_ERROR_NONE;
    for (size_t i = 0; i < c->page.record.n; i++)
        c->found[i] = (struct pfx_ceremony_found){.since = UINT64_MAX};
    c->known_start = false;
    c->presented = upto;
    if (pfx_ok(pfx_tree_frontier(&tree, upto, &pass->frontier, &why)))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "read export", pfx_source_path(c->source), "",
                    "the entries before %llu aren't presented, and their hash tiles neither",
                    (unsigned long long)upto);
}

static pfx_result walk(struct pass *pass, struct pfx_error *err)
{
    struct pfx_ceremony *c = pass->c;
    struct pfx_source_cursor cursor PFX_CLEANUP(pfx_source_cursor_done) =
        pfx_source_cursor_make(0, c->newest);
    uint64_t absent = 0;
    while (pass->frontier.size < c->checkpoint.size) {
        struct pfx_bytes json;
        uint64_t seq = cursor.seq, upto;
        enum pfx_source_got got = pfx_source_next(c->source, &cursor, &json, &upto);
        if (got == PFX_SOURCE_END || seq >= c->checkpoint.size || ++absent > ABSENT_MOST)
            break;
        if (got != PFX_SOURCE_ENTRY)
            continue;
        absent = 0;
        seq = cursor.seq - 1;
        if (seq >= c->checkpoint.size)
            break;
        if (seq != pass->frontier.size)
            PFX_TRY(bridge(pass, seq, err));
        struct pfx_node leaf;
        pfx_hash_leaf(pass->hasher, json, &leaf);
        pfx_frontier_add(pass->hasher, &pass->frontier, &leaf, NULL, NULL);
        take_entry(c, seq, json);
    }
    if (pass->frontier.size < c->checkpoint.size)
        PFX_TRY(bridge(pass, c->checkpoint.size, err));
    return PFX_OK;
}

static pfx_result compare_root(struct pass *pass, struct pfx_error *err)
{
    struct pfx_node root;
    pfx_frontier_root(pass->hasher, &pass->frontier, &root);
    if (pfx_hash_equal(&root, &pass->c->checkpoint.root))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "compare", pfx_source_path(pass->c->source), "",
                    "its entries don't make the root that the page's checkpoint signs: page and "
                    "export are of two logs, or the export was changed");
}

static bool is_hash(const uint8_t hash[32], const char *hex)
{
    char text[65];
    return strcmp(pfx_hex(hash, 32, text), hex) == 0;
}

/* A late page has what was in force when the ceremony was done, or, if nothing of that was kept, when
 * it was written. */
static void judge_head(struct pfx_ceremony *c)
{
    const struct pfx_minutes_section *head = pfx_minutes_find(&c->page.record, PFX_MK_HEAD, NULL);
    const char *policy = pfx_minutes_get(head, PFX_MF_POLICY), *exe = pfx_minutes_get(head, PFX_MF_EXE);
    const struct pfx_ceremony_start *start = &c->start, *before = c->late ? &c->done_by : start;
    if (!c->known_start)
        return;
    if (start->has_policy && !is_hash(start->policy, policy) && !is_hash(before->policy, policy))
        c->differs = "the policy isn't the one of the last start in the log";
    if (start->has_exe && !is_hash(start->exe, exe) && !is_hash(before->exe, exe))
        c->differs = "the executable isn't the one of the last start in the log";
    const char *version = pfx_minutes_get(head, PFX_MF_VERSION);
    if (start->version[0] && strcmp(start->version, version) != 0 &&
        strcmp(before->version, version) != 0)
        c->differs = "the version isn't the one of the last start in the log";
}

pfx_result pfx_ceremony_export(struct pfx_ceremony *c, const char *path, struct pfx_error *err)
{
    struct pfx_checkpoint *newest PFX_AUTOFREE = pfx_alloc(sizeof(*newest));
    struct pfx_error why = PFX_ERROR_NONE;
    PFX_TRY(pfx_source_open(path, &c->source, err));
    if (pfx_failed(pfx_checkpoint_parse(pfx_source_checkpoint(c->source), newest, &why)))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read checkpoint", path, "", "%s", why.text);
    if (strcmp(newest->origin, c->checkpoint.origin) != 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "compare", path, "",
                        "it is an export of another log than the one of the page");
    if (newest->size < c->checkpoint.size)
        return pfx_fail(err, PFX_CLASS_USAGE, "compare", path, "",
                        "the export ends before this ceremony's record: export the log anew");
    c->newest = newest->size;
    c->found = pfx_alloc_array(c->page.record.n, sizeof(*c->found));
    for (size_t i = 0; i < c->page.record.n; i++)
        c->found[i].since = UINT64_MAX;
    struct pass *pass PFX_AUTOFREE = pfx_alloc(sizeof(*pass));
    pass->c = c;
    pass->nodes = (struct pfx_source_nodes){.source = c->source, .size = c->newest};
    pass->hasher = pass->nodes.hasher = pfx_hasher_new();
    pfx_result result = walk(pass, err);
    if (pfx_ok(result))
        result = compare_root(pass, err);
    pfx_hasher_free(pass->hasher);
    PFX_TRY(result);
    c->compared = true;
    pfx_ceremony_judge(c);
    judge_head(c);
    return PFX_OK;
}
