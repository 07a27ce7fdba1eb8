/* Checkpoints against the tree, their signatures against the keys that were in force. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/audit/events.h"
#include "agent/audit/verify.h"
#include "crypto/encode.h"

#define NO_SIZE UINT64_MAX

static void tell(struct pfx_verify_log *log, enum pfx_finding_class cls, uint64_t seq,
                 const char *says, const char *what, uint64_t size, const char *more)
{
    pfx_report_add(log->all->report, PFX_LEVEL_TAMPERING, cls, log->index, seq,
                   "%s of size %" PRIu64 " %s%s%s", what, size, says, *more ? ": " : "", more);
}

static const char *what_is(enum pfx_note_kind kind)
{
    switch (kind) {
    case PFX_NOTE_MILESTONE:
        return "the kept checkpoint";
    case PFX_NOTE_NEWEST:
        return "the newest checkpoint";
    case PFX_NOTE_KEPT:
        return "your checkpoint";
    case PFX_NOTE_BEFORE:
        return "the checkpoint that the successor names,";
    case PFX_NOTE_ANCHOR:
        return "the anchor";
    }
    return "the checkpoint";
}

void pfx_verify_add_note(struct pfx_verify_log *log, const struct pfx_note *note)
{
    if (log->n_notes == log->room_notes) {
        log->room_notes = log->room_notes ? log->room_notes * 2 : 8;
        log->notes = pfx_grow(log->notes, log->room_notes, sizeof(*log->notes));
    }
    /* By size; the export's own first, since the auditor's may be a copy of one of them. */
    size_t at = log->n_notes++;
    while (at > 0 &&
           (log->notes[at - 1].size > note->size ||
            (log->notes[at - 1].size == note->size && log->notes[at - 1].kind > note->kind))) {
        log->notes[at] = log->notes[at - 1];
        at--;
    }
    log->notes[at] = *note;
}

uint64_t pfx_verify_next_note(const struct pfx_verify_log *log)
{
    uint64_t size = NO_SIZE;
    if (log->next_milestone < log->n_milestones)
        size = log->milestones[log->next_milestone];
    if (log->next_note < log->n_notes && log->notes[log->next_note].size < size)
        size = log->notes[log->next_note].size;
    return size;
}

static bool keys_have(const struct pfx_vkey *keys, size_t n, const struct pfx_vkey *key)
{
    for (size_t i = 0; i < n; i++)
        if (pfx_vkey_equal(&keys[i], key))
            return true;
    return false;
}

static const char *type_name(const struct pfx_vkey *key)
{
    return key->type == PFX_NOTE_P256 ? "P-256" : "Ed25519";
}

/* Everybody whose signature is known, once; borrowed. */
struct signers {
    size_t n;
    struct pfx_vkey keys[PFX_AUDIT_KEYS + 2 * PFX_LOG_KEYS];
};

static void signers_add(struct signers *signers, const struct pfx_vkey *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!keys_have(signers->keys, signers->n, &keys[i]))
            signers->keys[signers->n++] = keys[i];
}

static bool has_signed(const struct signers *signers, uint64_t bits, const struct pfx_vkey *key)
{
    for (size_t i = 0; i < signers->n; i++)
        if (bits >> i & 1 && pfx_vkey_equal(&signers->keys[i], key))
            return true;
    return false;
}

static bool any_signed(const struct signers *signers, uint64_t bits, const struct pfx_vkey *keys,
                       size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (has_signed(signers, bits, &keys[i]))
            return true;
    return false;
}

static void all_signed(struct pfx_verify_log *log, const struct pfx_note *note,
                       const struct signers *signers, uint64_t bits,
                       const struct pfx_log_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++)
        if (!has_signed(signers, bits, &keys->keys[i])) {
            char line[PFX_VKEY_LINE_SIZE];
            pfx_vkey_line(&keys->keys[i], line);
            tell(log, PFX_FOUND_SIGNATURE, PFX_NO_ENTRY, "isn't signed by a key that was in force",
                 what_is(note->kind), note->size, line);
        }
}

static void trust(struct pfx_verify_log *log, const struct pfx_log_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(4096);
        struct pfx_vkey copy = {0};
        struct pfx_error err = PFX_ERROR_NONE;
        if (keys_have(log->trusted.keys, log->trusted.n, &keys->keys[i]) ||
            log->trusted.n == PFX_AUDIT_KEYS)
            continue;
        if (pfx_ok(pfx_vkey_spki(&keys->keys[i], &spki, &err)) &&
            pfx_ok(pfx_vkey_make(keys->keys[i].name, pfx_buf_bytes(&spki), &copy, &err)))
            log->trusted.keys[log->trusted.n++] = copy;
    }
}

/* A signature under this key's name and id is there, good or bad. */
static bool names_known(const struct pfx_checkpoint *checkpoint, const struct signers *signers)
{
    for (size_t i = 0; i < checkpoint->n_signatures; i++)
        for (size_t j = 0; j < signers->n; j++)
            if (memcmp(checkpoint->signatures[i].id, signers->keys[j].id, 4) == 0 &&
                strcmp(checkpoint->signatures[i].name, signers->keys[j].name) == 0)
                return true;
    return false;
}

static void facts_signers(struct pfx_verify_log *log, const struct signers *signers, uint64_t bits)
{
    char *text = log->facts->signers;
    size_t size = sizeof(log->facts->signers);
    text[0] = '\0';
    for (size_t i = 0; i < signers->n; i++)
        if (bits >> i & 1) {
            size_t len = strlen(text);
            snprintf(text + len, size - len, "%s%s", len ? ", " : "", type_name(&signers->keys[i]));
        }
}

static void check_signatures(struct pfx_verify_log *log, const struct pfx_note *note)
{
    struct signers signers = {0};
    signers_add(&signers, log->trusted.keys, log->trusted.n);
    signers_add(&signers, log->in_force.keys, log->in_force.n);
    signers_add(&signers, log->replaced.keys, log->replaced.n);
    uint64_t bits = 0;
    struct pfx_error err = PFX_ERROR_NONE;
    const struct pfx_checkpoint *checkpoint = note->checkpoint;
    if (pfx_failed(pfx_checkpoint_verify(checkpoint, signers.keys, signers.n, &bits, &err))) {
        bool bad = names_known(checkpoint, &signers);
        if (!bad && note->kind == PFX_NOTE_MILESTONE && !log->known_keys)
            log->unsigned_notes++; /* dropped entries would name the key */
        else
            tell(log, bad ? PFX_FOUND_SIGNATURE : PFX_FOUND_KEY, PFX_NO_ENTRY,
                 bad ? "has a bad signature" : "isn't signed by any key that is known",
                 what_is(note->kind), note->size, err.text);
        return;
    }
    if (log->known_keys) {
        bool both = (log->both_due && note->size > log->rotated) || note->size == log->both_at;
        if (both) {
            all_signed(log, note, &signers, bits, &log->replaced);
            log->both_at = note->size;
            log->both_due = false;
            /* Who trusts the old key trusts what it introduced. */
            if (any_signed(&signers, bits, log->replaced.keys, log->replaced.n) &&
                any_signed(&signers, bits, log->trusted.keys, log->trusted.n))
                trust(log, &log->in_force);
        }
        all_signed(log, note, &signers, bits, &log->in_force);
    }
    if (note->kind == PFX_NOTE_NEWEST) {
        facts_signers(log, &signers, bits);
        log->newest_trusted = any_signed(&signers, bits, log->trusted.keys, log->trusted.n);
        if (!log->newest_trusted)
            tell(log, PFX_FOUND_KEY, PFX_NO_ENTRY,
                 "isn't signed by a key that you gave, nor by one that such a key introduced",
                 what_is(note->kind), note->size, "");
    }
    if (note->kind == PFX_NOTE_KEPT &&
        !any_signed(&signers, bits, log->trusted.keys, log->trusted.n))
        tell(log, PFX_FOUND_KEY, PFX_NO_ENTRY, "isn't signed by a key that you gave",
             what_is(note->kind), note->size, "");
}

static void check_root(struct pfx_verify_log *log, const struct pfx_note *note,
                       const struct pfx_node *root)
{
    bool newest = note->kind == PFX_NOTE_NEWEST;
    if (!root || pfx_hash_equal(root, &note->checkpoint->root)) {
        log->newest_compared = log->newest_compared || (newest && root);
        if (!root && !newest)
            pfx_report_open(log->all->report, log->index,
                            "%s of size %" PRIu64 " was not compared with the entries",
                            what_is(note->kind), note->size);
        return;
    }
    log->newest_odd = log->newest_odd || newest;
    if (log->n_odd < PFX_FINDINGS_SHOWN)
        log->odd[log->n_odd] = (struct odd){note->size, note->kind};
    log->n_odd++;
}

static void check_anchor(struct pfx_verify_log *log, const struct pfx_note *note,
                         const struct pfx_node *root)
{
    const char *whose = note->word ? "anchor.json" : "the anchor";
    if (!root) {
        pfx_report_open(log->all->report, log->index,
                        "%s (size %" PRIu64 ") was not compared with the entries", whose,
                        note->size);
        return;
    }
    struct pfx_checkpoint text = {.size = note->size, .root = *root};
    memcpy(text.origin, log->origin, sizeof(text.origin));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf buf = pfx_buf_make(1024);
    pfx_checkpoint_text(&text, &buf);
    uint8_t hash[32];
    if (!pfx_sha256(buf.data, buf.len, hash))
        pfx_die("SHA-256 failed");
    if (memcmp(hash, note->anchor, sizeof(note->anchor)) != 0)
        pfx_report_add(log->all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_ANCHOR, log->index,
                       PFX_NO_ENTRY,
                       "%s vouches for another log: its first %" PRIu64
                       " entries aren't those that are presented here",
                       whose, note->size);
}

/* Sizes that the log doesn't reach. */
static void check_beyond(struct pfx_verify_log *log, const struct pfx_note *note)
{
    enum pfx_finding_class cls = note->kind == PFX_NOTE_ANCHOR      ? PFX_FOUND_ANCHOR
                                 : note->kind == PFX_NOTE_MILESTONE ? PFX_FOUND_FORM
                                                                    : PFX_FOUND_CONSISTENCY;
    pfx_report_add(log->all->report, PFX_LEVEL_TAMPERING, cls, log->index, PFX_NO_ENTRY,
                   "%s is of size %" PRIu64 ", the log has only %" PRIu64
                   ": entries at its end are missing, or it is an older copy",
                   note->word ? "anchor.json" : what_is(note->kind), note->size, log->newest->size);
}

static void check_note(struct pfx_verify_log *log, const struct pfx_note *note,
                       const struct pfx_node *root)
{
    if (note->size > log->newest->size)
        check_beyond(log, note);
    else if (note->kind == PFX_NOTE_ANCHOR)
        check_anchor(log, note, root);
    else
        check_root(log, note, root);
    if (note->kind == PFX_NOTE_ANCHOR)
        return;
    if (strcmp(note->checkpoint->origin, log->origin) != 0)
        tell(log, PFX_FOUND_CONSISTENCY, PFX_NO_ENTRY, "is of another log", what_is(note->kind),
             note->size, note->checkpoint->origin);
    check_signatures(log, note);
    log->facts->checkpoints++;
}

static pfx_result check_milestone(struct pfx_verify_log *log, uint64_t size,
                                  const struct pfx_node *root, struct pfx_error *err)
{
    PFX_AUTOFREE char *name = pfx_asprintf("checkpoints/%020" PRIu64, size);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(0);
    PFX_AUTOFREE struct pfx_checkpoint *checkpoint = pfx_alloc(sizeof(*checkpoint));
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result r = pfx_source_file(log->source, name, PFX_CHECKPOINT_MAX, &text, &why);
    if (pfx_failed(r) && r.cls != PFX_CLASS_INTEGRITY && r.cls != PFX_CLASS_USAGE) {
        *err = why;
        return r;
    }
    if (pfx_ok(r))
        r = pfx_checkpoint_parse(pfx_buf_bytes(&text), checkpoint, &why);
    if (pfx_ok(r) && checkpoint->size != size)
        r = pfx_fail(&why, PFX_CLASS_REFUSED, "read checkpoint", name, "",
                     "it is of size %" PRIu64 ", not that of its name", checkpoint->size);
    if (pfx_failed(r)) {
        pfx_report_add(log->all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_FORM, log->index,
                       PFX_NO_ENTRY, "%s: %s", name, why.text);
        return PFX_OK;
    }
    struct pfx_note note = {.kind = PFX_NOTE_MILESTONE, .size = size, .checkpoint = checkpoint};
    check_note(log, &note, root);
    return PFX_OK;
}

pfx_result pfx_verify_notes(struct pfx_verify_log *log, uint64_t size, const struct pfx_node *root,
                            struct pfx_error *err)
{
    while (log->next_milestone < log->n_milestones &&
           log->milestones[log->next_milestone] == size) {
        PFX_TRY(check_milestone(log, size, root, err));
        log->next_milestone++;
    }
    while (log->next_note < log->n_notes && log->notes[log->next_note].size == size)
        check_note(log, &log->notes[log->next_note++], root);
    return PFX_OK;
}

static void keys_done(struct pfx_log_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++)
        pfx_vkey_done(&keys->keys[i]);
    keys->n = 0;
}

static bool take_line(void *ctx, const struct pfx_canon_value *value)
{
    struct pfx_log_keys *keys = ctx;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf line = pfx_buf_make(PFX_VKEY_LINE_SIZE - 1);
    struct pfx_error err = PFX_ERROR_NONE;
    if (value->kind != PFX_CANON_STR || keys->n == PFX_LOG_KEYS ||
        !(value->escaped ? pfx_canon_unescape(value, &line)
                         : pfx_buf_add(&line, value->text.data, value->text.len)) ||
        pfx_failed(pfx_vkey_parse(pfx_buf_str(&line), &keys->keys[keys->n], &err)))
        return false;
    keys->n++;
    return true;
}

static bool same_keys(const struct pfx_log_keys *a, const struct pfx_log_keys *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!keys_have(b->keys, b->n, &a->keys[i]))
            return false;
    return true;
}

/* For the files in keys/; a log whose keys change more often than this has other troubles. */
#define NAMED_MOST 1024

static void name_key(struct pfx_verify_log *log, const struct pfx_vkey *key)
{
    for (size_t i = 0; i < log->n_named; i++)
        if (memcmp(log->named[i].spki_sha256, key->spki_sha256, 32) == 0)
            return;
    if (log->n_named == NAMED_MOST)
        return;
    log->named = pfx_grow(log->named, log->n_named + 1, sizeof(*log->named));
    struct pfx_named_key *named = &log->named[log->n_named++];
    memcpy(named->spki_sha256, key->spki_sha256, sizeof(named->spki_sha256));
    pfx_hex(key->id, sizeof(key->id), named->id);
    pfx_vkey_line(key, named->line);
}

void pfx_verify_keys(struct pfx_verify_log *log, uint64_t seq, const struct pfx_entry *entry)
{
    struct pfx_bytes name = pfx_entry_text(entry, PFX_F_EVENT);
    if (name.len < 4 || memcmp(name.data, "log.", 4) != 0)
        return; /* nearly all of them */
    enum pfx_event event = pfx_event_find(name);
    bool begins = event == PFX_EV_LOG_BEGIN || event == PFX_EV_LOG_REOPEN;
    if (!begins && event != PFX_EV_LOG_SEGMENT && event != PFX_EV_LOG_ROTATE_KEY)
        return;
    struct pfx_report *report = log->all->report;
    if (pfx_entry_has(entry, PFX_F_LOG_ORIGIN) &&
        !pfx_entry_is(entry, PFX_F_LOG_ORIGIN, log->origin))
        pfx_report_add(report, PFX_LEVEL_TAMPERING, PFX_FOUND_CONSISTENCY, log->index, seq,
                       "names another origin than the checkpoint");
    struct pfx_log_keys keys = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    if (!pfx_entry_has(entry, PFX_F_LOG_KEYS) ||
        pfx_failed(
            pfx_canon_elements(pfx_entry_text(entry, PFX_F_LOG_KEYS), take_line, &keys, &err)) ||
        keys.n == 0) {
        pfx_report_add(report, PFX_LEVEL_TAMPERING, PFX_FOUND_KEY, log->index, seq,
                       "names no keys that can be read (log.keys)");
        keys_done(&keys);
        return;
    }
    for (size_t i = 0; i < keys.n; i++)
        name_key(log, &keys.keys[i]);
    if (event == PFX_EV_LOG_ROTATE_KEY) {
        uint8_t spki[32];
        bool named = pfx_entry_hash(entry, PFX_F_KEY_SPKI, spki), found = !named;
        for (size_t i = 0; i < keys.n; i++)
            found = found || memcmp(keys.keys[i].spki_sha256, spki, sizeof(spki)) == 0;
        if (!found)
            pfx_report_add(report, PFX_LEVEL_TAMPERING, PFX_FOUND_KEY, log->index, seq,
                           "key.spki is none of the keys that it introduces");
        if (log->both_due)
            pfx_report_add(report, PFX_LEVEL_TAMPERING, PFX_FOUND_KEY, log->index, seq,
                           "the log's keys change again before a checkpoint covers the change at "
                           "entry %" PRIu64,
                           log->rotated);
        keys_done(&log->replaced);
        log->replaced = log->in_force;
        log->in_force = keys;
        log->both_due = log->known_keys;
        log->rotated = seq;
        log->both_at = NO_SIZE;
        log->known_keys = true;
        return;
    }
    bool same = same_keys(&keys, &log->in_force);
    if (log->known_keys && !same && !(log->both_due && same_keys(&keys, &log->replaced)))
        pfx_report_add(report, PFX_LEVEL_TAMPERING, PFX_FOUND_KEY, log->index, seq,
                       "the log's keys aren't those of before, and no log.rotate-key changed them");
    if (log->known_keys && same) {
        keys_done(&keys);
        return;
    }
    if (!log->known_keys) {
        log->in_force = keys;
        log->known_keys = true;
        return;
    }
    keys_done(&keys);
}

void pfx_verify_notes_end(struct pfx_verify_log *log)
{
    struct pfx_report *report = log->all->report;
    size_t told = log->n_odd < PFX_FINDINGS_SHOWN ? log->n_odd : PFX_FINDINGS_SHOWN;
    /* The newest vouches for the entries: another one that doesn't fit them is of another log. */
    bool other = !log->newest_odd && log->newest_compared;
    for (size_t i = 0; i < told; i++)
        tell(log, other ? PFX_FOUND_CONSISTENCY : PFX_FOUND_TREE, PFX_NO_ENTRY,
             other ? "doesn't belong to the same log as the newest one"
                   : "has another root than its entries",
             what_is(log->odd[i].kind), log->odd[i].size, "");
    if (log->n_odd > told)
        pfx_report_add(report, PFX_LEVEL_TAMPERING, other ? PFX_FOUND_CONSISTENCY : PFX_FOUND_TREE,
                       log->index, PFX_NO_ENTRY, "the same holds for %" PRIu64 " more",
                       log->n_odd - told);
    if (!log->newest_compared && !log->newest_odd)
        pfx_report_add(report, PFX_LEVEL_TAMPERING, PFX_FOUND_TREE, log->index, PFX_NO_ENTRY,
                       "the newest checkpoint could not be compared with the entries");
    if (log->both_due)
        pfx_report_add(report, PFX_LEVEL_WARNING, PFX_FOUND_KEY, log->index, log->rotated,
                       "the change of keys isn't covered by a checkpoint yet");
    if (log->unsigned_notes)
        pfx_report_open(report, log->index,
                        "signatures of %" PRIu64
                        " kept checkpoint%s: only entries that aren't presented name their keys",
                        log->unsigned_notes, pfx_plural(log->unsigned_notes));
    keys_done(&log->in_force);
    keys_done(&log->replaced);
}
