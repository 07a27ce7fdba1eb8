/* The logs of one call: opened, put in order, with what the auditor gave for each. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/audit/events.h"
#include "agent/audit/verify.h"
#include "crypto/encode.h"

#define ANCHOR_LAG 10000 /* entries: how far an anchor may fall behind by default */

bool pfx_anchor_label(const char *label, struct pfx_anchor *ret)
{
    static const char prefix[] = "pfxlog1:";
    if (strncmp(label, prefix, sizeof(prefix) - 1) != 0)
        return false;
    const char *origin = label + sizeof(prefix) - 1;
    const char *size = strchr(origin, ':');
    const char *hash = size ? strchr(size + 1, ':') : NULL;
    if (!hash || size - origin != 8 || hash - size < 2 || hash - size > 17 ||
        strlen(hash + 1) != 24 || strspn(size + 1, "0123456789") != (size_t)(hash - size - 1) ||
        (size[1] == '0' && hash - size > 2))
        return false;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(16);
    if (!pfx_unhex(origin, 8, &bytes) || !pfx_unhex(hash + 1, 24, &bytes))
        return false;
    memcpy(ret->origin, bytes.data, 4);
    memcpy(ret->hash, bytes.data + 4, 12);
    ret->size = strtoull(size + 1, NULL, 10);
    return true;
}

struct anchor_json {
    struct pfx_anchor anchor;
    unsigned has;
};

static bool text_is(struct pfx_bytes bytes, const char *text)
{
    return bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}

static bool anchor_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                          const struct pfx_canon_value *value)
{
    struct anchor_json *json = ctx;
    struct pfx_bytes text = value->text;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(32);
    if (group.len > 0)
        return true;
    if (text_is(key, "size") && value->kind == PFX_CANON_INT && value->number >= 0) {
        json->anchor.size = (uint64_t)value->number;
        json->has |= 1;
    } else if (text_is(key, "hash") && value->kind == PFX_CANON_STR && text.len == 24 &&
               strspn((const char *)text.data, "0123456789abcdef") >= 24 &&
               pfx_unhex((const char *)text.data, text.len, &bytes)) {
        memcpy(json->anchor.hash, bytes.data, 12);
        json->has |= 2;
    } else if (text_is(key, "origin") && value->kind == PFX_CANON_STR && !value->escaped) {
        uint8_t hash[32];
        if (!pfx_sha256(text.data, text.len, hash))
            return false;
        memcpy(json->anchor.origin, hash, 4);
        json->has |= 4;
    } else if (text_is(key, "time") && value->kind == PFX_CANON_STR && text.len < PFX_TIME_SIZE) {
        char time[PFX_TIME_SIZE] = "";
        int64_t ms;
        memcpy(time, text.data, text.len);
        json->has |= pfx_time_parse(time, &ms) ? 8u : 0;
    }
    return true;
}

bool pfx_anchor_json(struct pfx_bytes json, struct pfx_anchor *ret)
{
    struct anchor_json read = {.has = 0};
    struct pfx_error err = PFX_ERROR_NONE;
    if (json.len > 0 && json.data[json.len - 1] == '\n')
        json.len--;
    if (pfx_failed(pfx_canon_scan(json, anchor_member, &read, &err)) || read.has != 15)
        return false;
    *ret = read.anchor;
    return true;
}

static struct pfx_verify_log *log_of(struct pfx_verify *all, const char *origin)
{
    for (size_t i = 0; i < all->n_logs; i++)
        if (all->logs[i].newest && strcmp(all->logs[i].origin, origin) == 0)
            return &all->logs[i];
    return NULL;
}

/* Entry 0, ahead of the pass: a damaged one is told there. */
static void read_first(struct pfx_verify_log *log)
{
    PFX_CLEANUP(pfx_source_cursor_done)
    struct pfx_source_cursor cursor = pfx_source_cursor_make(0, log->newest->size);
    struct pfx_bytes json;
    uint64_t upto;
    struct pfx_entry entry;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_source_next(log->source, &cursor, &json, &upto) != PFX_SOURCE_ENTRY ||
        pfx_failed(pfx_entry_read(json, &entry, &err)))
        return;
    enum pfx_event event = pfx_event_find(pfx_entry_text(&entry, PFX_F_EVENT));
    log->begins = event == PFX_EV_LOG_BEGIN;
    log->reopens = event == PFX_EV_LOG_REOPEN;
    if (!log->reopens)
        return;
    if (pfx_entry_has(&entry, PFX_F_LOG_ANCHOR) && pfx_entry_has(&entry, PFX_F_LOG_RESTORED)) {
        log->anchored = pfx_entry_int(&entry, PFX_F_LOG_ANCHOR);
        log->restored = pfx_entry_int(&entry, PFX_F_LOG_RESTORED);
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf note = pfx_buf_make(PFX_CHECKPOINT_MAX);
    if (!pfx_entry_plain(&entry, PFX_F_LOG_BEFORE, &note) || note.len == 0)
        return;
    struct pfx_checkpoint *before = pfx_alloc(sizeof(*before));
    if (pfx_ok(pfx_checkpoint_parse(pfx_buf_bytes(&note), before, &err)))
        log->before = PFX_TAKE(before);
    free(before);
}

static pfx_result open_log(struct pfx_verify *all, struct pfx_verify_log *log, const char *path,
                           struct pfx_error *err)
{
    log->all = all;
    log->until = UINT64_MAX;
    log->both_at = UINT64_MAX;
    log->anchored = -1;
    PFX_TRY(pfx_source_open(path, &log->source, err));
    struct pfx_checkpoint *newest = pfx_alloc(sizeof(*newest));
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_ok(pfx_checkpoint_parse(pfx_source_checkpoint(log->source), newest, &why)) &&
        newest->size > 0) {
        log->newest = newest;
        memcpy(log->origin, newest->origin, sizeof(log->origin));
        read_first(log);
    } else {
        free(newest);
    }
    return PFX_OK;
}

/* Predecessors first: what a log's keys packed may be in its successor. */
static void put_in_order(struct pfx_verify *all)
{
    struct pfx_verify_log *ordered = pfx_alloc_array(all->n_logs, sizeof(*ordered));
    size_t n = 0;
    while (n < all->n_logs) {
        size_t had = n;
        for (size_t i = 0; i < all->n_logs; i++) {
            struct pfx_verify_log *log = &all->logs[i];
            struct pfx_verify_log *before = log->before ? log_of(all, log->before->origin) : NULL;
            if (log->placed || (before && before != log && !before->placed))
                continue;
            log->placed = true;
            ordered[n++] = *log;
        }
        for (size_t i = 0; n == had && i < all->n_logs; i++) /* a circle: as they were given */
            if (!all->logs[i].placed) {
                all->logs[i].placed = true;
                ordered[n++] = all->logs[i];
                break;
            }
    }
    free(all->logs);
    all->logs = ordered;
}

static void tell(struct pfx_verify_log *log, enum pfx_finding_level level,
                 enum pfx_finding_class cls, const char *text)
{
    pfx_report_add(log->all->report, level, cls, log->index, PFX_NO_ENTRY, "%s", text);
}

static void tell_newest(struct pfx_verify_log *log)
{
    struct pfx_bytes bytes = pfx_source_checkpoint(log->source);
    struct pfx_error why = PFX_ERROR_NONE;
    PFX_AUTOFREE struct pfx_checkpoint *newest = pfx_alloc(sizeof(*newest));
    if (bytes.len == 0) {
        tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_MISSING,
             "there is no checkpoint, so nothing of this log is proven");
        return;
    }
    if (pfx_ok(pfx_checkpoint_parse(bytes, newest, &why)))
        (void)snprintf(why.text, sizeof(why.text), "it is of size 0");
    PFX_AUTOFREE char *text =
        pfx_asprintf("checkpoint: %s; nothing of this log was examined", why.text);
    tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_FORM, text);
}

static void follow(struct pfx_verify *all, struct pfx_verify_log *log)
{
    if (!log->reopens)
        return;
    struct pfx_report *report = all->report;
    if (!log->before) {
        pfx_report_add(report, PFX_LEVEL_WARNING, PFX_FOUND_MISSING, log->index, 0,
                       "nothing was left of the log before it: log.reopen names no checkpoint "
                       "(log.before)");
    } else {
        log->predecessor = log_of(all, log->before->origin);
        if (log->predecessor == log)
            log->predecessor = NULL;
    }
    if (log->predecessor) {
        struct pfx_note note = {
            .kind = PFX_NOTE_BEFORE, .size = log->before->size, .checkpoint = log->before};
        pfx_verify_add_note(log->predecessor, &note);
        if (log->predecessor->newest->size > log->before->size)
            pfx_report_add(report, PFX_LEVEL_WARNING, PFX_FOUND_MISSING, log->index, 0,
                           "it goes on from size %" PRIu64 ", and its predecessor has %" PRIu64
                           " %s",
                           log->before->size, log->predecessor->newest->size,
                           pfx_entries(log->predecessor->newest->size));
    } else if (log->before) {
        pfx_report_open(report, log->index,
                        "it goes on from %s, size %" PRIu64 ", which isn't presented",
                        log->before->origin, log->before->size);
    }
    int64_t lost = log->anchored - log->restored;
    if (lost > 0 && log->anchored >= 0)
        pfx_report_add(report, PFX_LEVEL_WARNING, PFX_FOUND_MISSING, log->index, 0,
                       "%" PRId64 " %s of the log before it %s lost: anchored at %" PRId64
                       ", restored up to %" PRId64,
                       lost, pfx_entries((uint64_t)lost), lost == 1 ? "was" : "were", log->anchored,
                       log->restored);
}

static pfx_result take_kept(struct pfx_verify *all, const char *option, const char *file,
                            struct pfx_verify_log **ret_log, uint64_t *ret_size,
                            struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(0);
    PFX_TRY(pfx_audit_file(file, PFX_CHECKPOINT_MAX, &text, err));
    struct pfx_checkpoint *kept = pfx_alloc(sizeof(*kept));
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_verify_log *log = NULL;
    bool read = pfx_ok(pfx_checkpoint_parse(pfx_buf_bytes(&text), kept, &why));
    if (read)
        log = log_of(all, kept->origin);
    if (!log || kept->size == 0) {
        pfx_result r = pfx_fail(err, PFX_CLASS_USAGE, option, file, "", "%s",
                                !read             ? why.text
                                : kept->size == 0 ? "it is of size 0"
                                                  : "it isn't a checkpoint of a log given here");
        free(kept);
        return r;
    }
    struct pfx_note note = {.kind = PFX_NOTE_KEPT, .size = kept->size, .checkpoint = kept};
    pfx_verify_add_note(log, &note);
    *ret_log = log;
    *ret_size = kept->size;
    return PFX_OK;
}

static pfx_result take_period(struct pfx_verify *all, struct pfx_error *err)
{
    const struct pfx_audit_options *options = all->options;
    struct pfx_verify_log *log;
    uint64_t size;
    if (options->since) {
        PFX_TRY(take_kept(all, "--since", options->since, &log, &size, err));
        if (size <= log->newest->size)
            log->since = size;
        pfx_report_open(all->report, log->index,
                        "what the entries before %" PRIu64 " say: your checkpoint stands for them",
                        log->since);
    }
    if (!options->until)
        return PFX_OK;
    size_t len = strlen(options->until);
    if (len > 0 && len < 17 && strspn(options->until, "0123456789") == len) {
        log = &all->logs[0];
        size = strtoull(options->until, NULL, 10);
        if (all->n_logs > 1 || !log->newest)
            return pfx_fail(err, PFX_CLASS_USAGE, "--until", options->until, "",
                            "a size says nothing about several logs: give a checkpoint");
        if (size == 0 || size > log->newest->size)
            return pfx_fail(err, PFX_CLASS_USAGE, "--until", options->until, "",
                            "the log has %" PRIu64 " %s", log->newest->size,
                            pfx_entries(log->newest->size));
    } else {
        PFX_TRY(take_kept(all, "--until", options->until, &log, &size, err));
    }
    if (size < log->since)
        return pfx_fail(err, PFX_CLASS_USAGE, "--until", options->until, "",
                        "it lies before --since (size %" PRIu64 ")", log->since);
    if (size < log->newest->size) {
        log->until = size;
        pfx_report_open(all->report, log->index, "what the entries from %" PRIu64 " on say", size);
    }
    return PFX_OK;
}

static bool anchor_is_of(const struct pfx_anchor *anchor, const struct pfx_verify_log *log)
{
    uint8_t hash[32];
    return pfx_sha256(log->origin, strlen(log->origin), hash) &&
           memcmp(anchor->origin, hash, sizeof(anchor->origin)) == 0;
}

static void add_anchor(struct pfx_verify_log *log, const struct pfx_anchor *anchor, bool word)
{
    struct pfx_note note = {.kind = PFX_NOTE_ANCHOR, .size = anchor->size, .word = word};
    memcpy(note.anchor, anchor->hash, sizeof(note.anchor));
    pfx_verify_add_note(log, &note);
}

static pfx_result take_anchor(struct pfx_verify *all, struct pfx_error *err)
{
    const char *given = all->options->anchor;
    struct pfx_anchor anchor;
    if (!given)
        return PFX_OK;
    bool label = strncmp(given, "pfxlog1:", 8) == 0;
    if (label && !pfx_anchor_label(given, &anchor))
        return pfx_fail(err, PFX_CLASS_USAGE, "--anchor", given, "",
                        "not a whole label; it looks like pfxlog1:1a2b3c4d:1234:<24 hex digits>");
    if (!label) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(0);
        PFX_TRY(pfx_audit_file(given, 4096, &text, err));
        if (!pfx_anchor_json(pfx_buf_bytes(&text), &anchor))
            return pfx_fail(err, PFX_CLASS_USAGE, "--anchor", given, "",
                            "neither a label (pfxlog1:...) nor an anchor.json");
    }
    bool found = false;
    for (size_t i = 0; i < all->n_logs; i++)
        if (all->logs[i].newest && anchor_is_of(&anchor, &all->logs[i])) {
            add_anchor(&all->logs[i], &anchor, !label);
            found = true;
        }
    if (!found)
        pfx_report_add(all->report, PFX_LEVEL_TAMPERING, PFX_FOUND_ANCHOR, PFX_NO_LOG, PFX_NO_ENTRY,
                       "the anchor that you gave (size %" PRIu64
                       ") is of none of these logs: another one was written since, or this is "
                       "another host's",
                       anchor.size);
    return PFX_OK;
}

static void take_anchor_file(struct pfx_verify_log *log)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(0);
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_anchor anchor;
    pfx_result r = pfx_source_file(log->source, "anchor.json", 4096, &text, &why);
    if (pfx_failed(r) && strcmp(why.code, "ENOENT") == 0)
        return;
    if (pfx_failed(r) || !pfx_anchor_json(pfx_buf_bytes(&text), &anchor)) {
        tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_FORM,
             "anchor.json isn't canonical JSON of hash, origin, size and time");
        return;
    }
    if (!anchor_is_of(&anchor, log))
        tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_ANCHOR, "anchor.json is of another log");
    else
        add_anchor(log, &anchor, true);
}

static pfx_result prepare(struct pfx_verify_log *log, struct pfx_error *err)
{
    const struct pfx_audit_options *options = log->all->options;
    log->facts = pfx_report_log(log->all->report, pfx_source_path(log->source));
    if (!log->newest) {
        tell_newest(log);
        return PFX_OK;
    }
    memcpy(log->facts->origin, log->origin, sizeof(log->origin));
    log->facts->size = log->newest->size;
    log->facts->root = log->newest->root;
    PFX_TRY(pfx_audit_keys_load(options->keys, options->n_keys, log->origin, &log->trusted, err));
    size_t odd;
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(
            pfx_source_checkpoints(log->source, &log->milestones, &log->n_milestones, &odd, &why)))
        tell(log, PFX_LEVEL_TAMPERING, PFX_FOUND_FORM, why.text);
    else if (odd > 0)
        tell(log, PFX_LEVEL_WARNING, PFX_FOUND_FORM,
             "checkpoints/ has files that aren't named by a size");
    struct pfx_note newest = {
        .kind = PFX_NOTE_NEWEST, .size = log->newest->size, .checkpoint = log->newest};
    pfx_verify_add_note(log, &newest);
    take_anchor_file(log);
    return PFX_OK;
}

pfx_result pfx_verify_open(struct pfx_verify *all, struct pfx_error *err)
{
    all->n_logs = all->options->n_operands;
    all->logs = pfx_alloc_array(all->n_logs, sizeof(*all->logs));
    for (size_t i = 0; i < all->n_logs; i++) {
        PFX_TRY(open_log(all, &all->logs[i], all->options->operands[i], err));
        for (size_t j = 0; j < i; j++)
            if (all->logs[i].newest && all->logs[j].newest &&
                strcmp(all->logs[i].origin, all->logs[j].origin) == 0)
                return pfx_fail(err, PFX_CLASS_USAGE, "open export", all->options->operands[i], "",
                                "%s is the same log", all->options->operands[j]);
    }
    put_in_order(all);
    for (size_t i = 0; i < all->n_logs; i++) {
        all->logs[i].index = (uint32_t)i;
        PFX_TRY(prepare(&all->logs[i], err));
    }
    for (size_t i = 0; i < all->n_logs; i++)
        follow(all, &all->logs[i]);
    PFX_TRY(take_period(all, err));
    return take_anchor(all, err);
}

void pfx_verify_done(struct pfx_verify *all)
{
    for (size_t i = 0; i < all->n_logs; i++) {
        struct pfx_verify_log *log = &all->logs[i];
        for (size_t j = 0; j < log->n_notes; j++)
            if (log->notes[j].kind == PFX_NOTE_KEPT)
                free(log->notes[j].checkpoint);
        free(log->notes);
        free(log->milestones);
        free(log->named);
        free(log->before);
        free(log->newest);
        pfx_audit_keys_done(&log->trusted);
        pfx_source_close(log->source);
    }
    free(all->logs);
    all->logs = NULL;
    all->n_logs = 0;
}

/* How far the anchor protects. */
static void anchor_limits(struct pfx_verify_log *log)
{
    struct pfx_report *report = log->all->report;
    uint64_t size = 0;
    bool has = false, own = false;
    for (size_t i = 0; i < log->n_notes; i++)
        /* The auditor's own reading stands above anchor.json. */
        if (log->notes[i].kind == PFX_NOTE_ANCHOR && (!has || !log->notes[i].word)) {
            size = log->notes[i].size;
            has = true;
            own = own || !log->notes[i].word;
        }
    if (!has) {
        pfx_report_open(report, log->index,
                        "that this is the newest copy: no anchor was compared (--anchor)");
        return;
    }
    if (!own)
        pfx_report_open(report, log->index,
                        "that the token's anchor says the same: anchor.json is the host's word; "
                        "read the label yourself and give it with --anchor");
    if (size >= log->newest->size)
        return;
    uint64_t behind = log->newest->size - size;
    pfx_report_open(report, log->index,
                    "that nothing was cut off behind the last %" PRIu64
                    " %s: the anchor stands at %" PRIu64,
                    behind, pfx_entries(behind), size);
    if (log->since > size)
        return;
    uint64_t start = log->last_start;
    if (start >= size && start > 0)
        pfx_report_add(report, own ? PFX_LEVEL_FINDING : PFX_LEVEL_WARNING, PFX_FOUND_ANCHOR,
                       log->index, start,
                       "a start writes the anchor, and the anchor is older (size %" PRIu64
                       "): it is from another time, or the token refuses it",
                       size);
    else if (behind > ANCHOR_LAG)
        pfx_report_add(report, PFX_LEVEL_WARNING, PFX_FOUND_ANCHOR, log->index, PFX_NO_ENTRY,
                       "the anchor is %" PRIu64 " %s behind", behind, pfx_entries(behind));
}

void pfx_verify_limits(struct pfx_verify *all)
{
    struct pfx_report *report = all->report;
    all->whole = true;
    for (size_t i = 0; i < all->n_logs; i++) {
        struct pfx_verify_log *log = &all->logs[i];
        all->whole = all->whole && log->newest && !log->gap && log->since == 0 &&
                     (log->begins || log->predecessor);
        if (log->newest)
            anchor_limits(log);
    }
    pfx_report_open(report, PFX_NO_LOG,
                    "that the host told the truth: whoever holds root and the PIN on a live host "
                    "can log lies from then on");
    pfx_report_open(report, PFX_NO_LOG,
                    "uses of the keys by others who hold a PIN, and by the connector");
    /* No entry tells where a token keeps its objects. */
    pfx_report_open(report, PFX_NO_LOG,
                    "rollback protection by the token: none where its objects lie on the host's "
                    "disk, as with SoftHSM");
}
