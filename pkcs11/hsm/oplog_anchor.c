/*
 * The anchor: the log's head in the labels of two token objects, written in turn, so that one of
 * them is whole whenever the other is being written.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/encode.h"
#include "pkcs11/hsm/oplog_impl.h"

#define PREFIX "pfxlog1:"
#define RETRY_MS 60000

static void origin_digits(const char *origin, char ret[9])
{
    uint8_t digest[32];
    char hex[65];
    if (!pfx_sha256(origin, strlen(origin), digest))
        pfx_die("SHA-256 failed");
    snprintf(ret, 9, "%.8s", pfx_hex(digest, 4, hex));
}

static void text_hash(const struct pfx_checkpoint *checkpoint, uint8_t ret[12])
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_CHECKPOINT_MAX);
    uint8_t digest[32];
    pfx_checkpoint_text(checkpoint, &text);
    if (!pfx_sha256(text.data, text.len, digest))
        pfx_die("SHA-256 failed");
    memcpy(ret, digest, 12);
}

void pfx_anchor_label(const struct pfx_checkpoint *checkpoint, char ret[65])
{
    char origin[9], hex[25];
    uint8_t hash[12];
    origin_digits(checkpoint->origin, origin);
    text_hash(checkpoint, hash);
    snprintf(ret, 65, PREFIX "%s:%" PRIu64 ":%s", origin, checkpoint->size,
             pfx_hex(hash, sizeof hash, hex));
}

static bool parse_label(const char *label, char ret_origin[9], struct pfx_anchor_seen *ret)
{
    char again[65], hex[25];
    struct pfx_buf hash PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(12);
    if (strncmp(label, PREFIX, strlen(PREFIX)) != 0 || strlen(label) > 64)
        return false;
    const char *at = label + strlen(PREFIX);
    if (strspn(at, "0123456789abcdef") != 8 || at[8] != ':')
        return false;
    snprintf(ret_origin, 9, "%.8s", at);
    const char *size = at + 9;
    size_t digits = strspn(size, "0123456789");
    if (digits < 1 || digits > 16 || size[digits] != ':' || strlen(size + digits + 1) != 24 ||
        !pfx_unhex(size + digits + 1, 24, &hash))
        return false;
    ret->size = strtoull(size, NULL, 10);
    memcpy(ret->hash, hash.data, 12);
    /* One way to write it. */
    snprintf(again, sizeof again, PREFIX "%s:%" PRIu64 ":%s", ret_origin, ret->size,
             pfx_hex(ret->hash, 12, hex));
    return strcmp(again, label) == 0;
}

/* Is it the anchor of a log that this one came after? "host/pfx-agent/3": 1 or 2. */
static bool is_before(const char *origin, const char *digits)
{
    char before[PFX_ORIGIN_SIZE], theirs[9];
    const char *slash = strrchr(origin, '/');
    unsigned long own = slash ? strtoul(slash + 1, NULL, 10) : 0;
    for (unsigned long n = 1; n < own && n < 10000; n++) {
        int len = snprintf(before, sizeof before, "%.*s", (int)(slash - origin), origin);
        if (n > 1)
            snprintf(before + len, sizeof before - (size_t)len, "/%lu", n);
        origin_digits(before, theirs);
        if (strcmp(theirs, digits) == 0)
            return true;
    }
    return false;
}

pfx_result pfx_oplog_anchors_read(struct pfx_oplog *log, const struct pfx_signer *signer,
                                  bool begins, bool successor, struct pfx_error *err)
{
    char labels[2][65] = {"", ""}, ours[9], theirs[9];
    const char *origin = log->facts.origin;
    pthread_mutex_lock(&log->lock);
    log->signing++; /* pfx_oplog_detach waits for it */
    pthread_mutex_unlock(&log->lock);
    pfx_result r = signer->anchor_read(signer->ctx, labels, err);
    pfx_oplog_signer_give(log);
    PFX_TRY(r);
    origin_digits(origin, ours);
    for (int i = 0; i < 2; i++) {
        struct pfx_anchor_seen seen = {.ours = false};
        labels[i][64] = '\0';
        log->anchors[i] = seen;
        if (labels[i][0] == '\0')
            continue;
        bool parsed = parse_label(labels[i], theirs, &seen);
        if (!parsed && begins && successor)
            continue; /* the way out must be open */
        if (!parsed)
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "read anchor", origin, "",
                            "The label of an anchor key in the token isn't an anchor: somebody "
                            "changed it. pfx-agent log reopen starts a successor of this log.");
        seen.ours = strcmp(ours, theirs) == 0;
        if (begins && (seen.ours || !successor))
            return pfx_fail(
                err, PFX_CLASS_INTEGRITY, "read anchor", origin, "",
                "The token says that a log with %" PRIu64
                " entries was there before, and it is lost. pfx-agent log reopen starts "
                "its successor.",
                seen.size);
        /* A crash may have come before a successor wrote its own; never before its own successor's.
         */
        if (!seen.ours && !begins && !(successor && is_before(origin, theirs)))
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "read anchor", origin, "",
                            "The anchor in the token belongs to another log (%" PRIu64
                            " entries), and this one isn't its successor.",
                            seen.size);
        if (seen.ours)
            log->anchors[i] = seen;
    }
    return PFX_OK;
}

static pfx_result keep_copy(struct pfx_oplog *log, const struct pfx_checkpoint *checkpoint,
                            int64_t now, struct pfx_error *err)
{
    char hex[25], time[PFX_TIME_SIZE], text[PFX_ORIGIN_SIZE + 128];
    uint8_t hash[12];
    text_hash(checkpoint, hash);
    int len = snprintf(text, sizeof text, "%s\n%" PRIu64 "\n%s\n%s\n", checkpoint->origin,
                       checkpoint->size, pfx_hex(hash, sizeof hash, hex),
                       pfx_time_format(now, true, time));
    return pfx_oplog_small(log, &pfx_small_anchor, "anchor",
                           (struct pfx_bytes){(const uint8_t *)text, (size_t)len}, err);
}

static pfx_result write_anchor(struct pfx_oplog *log, const struct pfx_checkpoint *checkpoint,
                               struct pfx_error *err)
{
    char label[65];
    struct pfx_signer signer;
    unsigned which = log->anchors[1].size < log->anchors[0].size ? 1 : 0;
    pfx_anchor_label(checkpoint, label);
    if (!pfx_oplog_signer_take(log, &signer))
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "write anchor", checkpoint->origin, "signer",
                        "The token of the log role isn't there. Look at pfx-agent status, then try "
                        "again.");
    struct pfx_error inner = PFX_ERROR_NONE;
    pfx_result r = signer.anchor_write(signer.ctx, which, label, &inner);
    pfx_oplog_signer_give(log);
    if (pfx_failed(r)) /* what it holds now isn't known: it stays the next one to be written */
        return pfx_fail(err, r.cls, "write anchor", inner.object, inner.code, "%s", inner.text);
    int64_t now = pfx_oplog_now();
    log->anchors[which] = (struct pfx_anchor_seen){.ours = true, .size = checkpoint->size};
    text_hash(checkpoint, log->anchors[which].hash);
    pthread_mutex_lock(&log->lock);
    log->anchor_size = checkpoint->size;
    log->anchor_ms = now;
    pthread_mutex_unlock(&log->lock);
    return keep_copy(log, checkpoint, now, err);
}

pfx_result pfx_oplog_anchor(struct pfx_oplog *log, struct pfx_error *err)
{
    if (log->note_size == 0 || log->anchor_size == log->note_size)
        return PFX_OK;
    struct pfx_checkpoint *checkpoint PFX_AUTOFREE = pfx_alloc(sizeof *checkpoint);
    struct pfx_error why = PFX_ERROR_NONE;
    /* The checkpoint it names is kept first: an auditor wants to see it. */
    pfx_result r = pfx_checkpoint_parse(pfx_buf_bytes(&log->note_text), checkpoint, &why);
    if (pfx_ok(r))
        r = pfx_oplog_milestone(log, &why);
    if (pfx_ok(r))
        r = write_anchor(log, checkpoint, &why);
    pthread_mutex_lock(&log->lock);
    log->anchor_why = why;
    log->anchor_retry_ms = pfx_ok(r) ? 0 : pfx_oplog_uptime() + RETRY_MS;
    pthread_mutex_unlock(&log->lock);
    if (pfx_failed(r) && err && err->cls == PFX_CLASS_OK)
        *err = why;
    return r;
}

int64_t pfx_oplog_anchor_at(const struct pfx_oplog *log)
{
    if (log->state != PFX_OPLOG_OPEN || !log->attached || log->covered <= log->anchor_size)
        return INT64_MAX;
    int64_t due;
    if (log->covered - log->anchor_size >= log->anchor_entries)
        due = 0;
    else /* anchor_ms is wall clock: what a step of it does is an anchor early or late */
        due = pfx_oplog_uptime() + log->anchor_ms + log->anchor_every_ms - pfx_oplog_now();
    return due > log->anchor_retry_ms ? due : log->anchor_retry_ms;
}

bool pfx_oplog_anchor_due(const struct pfx_oplog *log, int64_t now, bool idle)
{
    /* Never between a result and its release, unless it never gets quiet. */
    return pfx_oplog_anchor_at(log) <= now &&
           (idle || log->covered - log->anchor_size >= 2 * log->anchor_entries);
}

static bool is_successor(const char *origin)
{
    const char *slash = strrchr(origin, '/');
    return slash && slash[1] != '\0' && strspn(slash + 1, "0123456789") == strlen(slash + 1);
}

static pfx_result check_one(struct pfx_oplog *log, struct pfx_logdir *dir,
                            const struct pfx_anchor_seen *anchor, uint64_t size,
                            struct pfx_error *err)
{
    const char *origin = log->facts.origin;
    if (anchor->size > size)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "compare anchor", origin, "rollback",
                        "The token says that this log had %" PRIu64
                        " entries, but here are %" PRIu64
                        ": it was rolled back or lost its end. Bring the files back, or start its "
                        "successor with pfx-agent log reopen.",
                        anchor->size, size);
    struct pfx_tree tree = {log->own_hasher, pfx_logdir_node, dir};
    struct pfx_frontier frontier;
    struct pfx_checkpoint *then PFX_AUTOFREE = pfx_alloc(sizeof *then);
    uint8_t hash[12];
    PFX_TRY(pfx_tree_frontier(&tree, anchor->size, &frontier, err));
    snprintf(then->origin, sizeof then->origin, "%s", origin);
    then->size = anchor->size;
    pfx_frontier_root(log->own_hasher, &frontier, &then->root);
    text_hash(then, hash);
    if (memcmp(hash, anchor->hash, sizeof hash) != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "compare anchor", origin, "root",
                        "The first %" PRIu64 " of %" PRIu64
                        " entries aren't those that the anchor in the token names: this is another "
                        "history. Bring the right files back, or start a successor with pfx-agent "
                        "log reopen.",
                        anchor->size, size);
    return PFX_OK;
}

static pfx_result check_anchors(struct pfx_oplog *log, uint64_t size, struct pfx_error *err)
{
    struct pfx_logdir *dir PFX_CLEANUP(pfx_logdir_closep) = NULL;
    PFX_TRY(pfx_logdir_open(log->dir, &dir, err));
    bool any = false;
    for (int i = 0; i < 2; i++) {
        if (!log->anchors[i].ours)
            continue;
        any = true;
        PFX_TRY(check_one(log, dir, &log->anchors[i], size, err));
    }
    struct pfx_anchor_copy copy;
    if (!any && pfx_logdir_anchor(dir, &copy))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "compare anchor", log->facts.origin, "missing",
                        "This log was anchored at %" PRIu64
                        " entries, but the token has no anchor any more: it was replaced or its "
                        "keys were made anew. Start a successor with pfx-agent log reopen.",
                        copy.size);
    return PFX_OK;
}

static pfx_result check_signature(struct pfx_oplog *log, const struct pfx_signer *signer,
                                  struct pfx_error *err)
{
    struct pfx_checkpoint *last PFX_AUTOFREE = pfx_alloc(sizeof *last);
    PFX_TRY(pfx_checkpoint_parse(pfx_buf_bytes(&log->note_text), last, err));
    uint64_t mask = 0;
    struct pfx_error inner = PFX_ERROR_NONE;
    pfx_result r = pfx_checkpoint_verify(last, signer->keys, signer->n_keys, &mask, &inner);
    if (pfx_ok(r) && mask == (UINT64_C(1) << signer->n_keys) - 1)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "compare checkpoint", last->origin, "signature",
                    "The last checkpoint (%" PRIu64
                    " entries) isn't signed by the keys in the token: %s",
                    last->size, inner.text[0] ? inner.text : "one of them is missing.");
}

static pfx_result attach(struct pfx_oplog *log, struct pfx_oplog_job *job, struct pfx_error *err)
{
    const struct pfx_signer *signer = job->in;
    pthread_mutex_lock(&log->lock);
    pfx_result r = pfx_oplog_usable(log, err);
    uint64_t size = log->synced;
    pthread_mutex_unlock(&log->lock);
    PFX_TRY(r);
    struct pfx_error why = PFX_ERROR_NONE;
    r = check_signature(log, signer, &why);
    if (pfx_ok(r))
        r = pfx_oplog_anchors_read(log, signer, false, is_successor(log->facts.origin), &why);
    if (pfx_ok(r))
        r = check_anchors(log, size, &why);
    if (pfx_ok(r))
        r = pfx_oplog_keep_keys(log, signer, &why);
    uint64_t anchored = 0;
    for (int i = 0; i < 2; i++)
        if (log->anchors[i].ours && log->anchors[i].size > anchored)
            anchored = log->anchors[i].size;
    pthread_mutex_lock(&log->lock);
    if (pfx_ok(r)) {
        log->signer = *signer;
        log->attached = true;
        log->anchor_size = anchored;
        log->cover_retry_ms = log->cover_delay_ms = log->anchor_retry_ms = 0;
        uint64_t *ret_ahead = job->out;
        if (ret_ahead)
            *ret_ahead = !log->attached_once && anchored > 0 && log->opened_size > anchored
                             ? log->opened_size - anchored
                             : 0;
        log->attached_once = true;
    } else if (r.cls == PFX_CLASS_INTEGRITY && log->state == PFX_OPLOG_OPEN) {
        log->state = PFX_OPLOG_REFUSED;
        log->why = why;
    }
    pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
    if (pfx_failed(r) && err && err->cls == PFX_CLASS_OK)
        *err = why;
    return r;
}

pfx_result pfx_oplog_attach(struct pfx_oplog *log, const struct pfx_signer *signer,
                            uint64_t *ret_ahead, struct pfx_error *err)
{
    pfx_oplog_detach(log);
    return pfx_oplog_run(log, attach, signer, ret_ahead, err);
}

static pfx_result settle(struct pfx_oplog *log, struct pfx_oplog_job *job, struct pfx_error *err)
{
    (void)job;
    pthread_mutex_lock(&log->lock);
    pfx_result r = pfx_oplog_usable(log, err);
    pthread_mutex_unlock(&log->lock);
    PFX_TRY(r);
    PFX_TRY(pfx_oplog_commit(log, err));
    PFX_TRY(pfx_oplog_cover(log, NULL, err));
    PFX_TRY(pfx_oplog_chores(log, err));
    PFX_TRY(pfx_oplog_milestone(log, err));
    return pfx_oplog_anchor(log, err);
}

pfx_result pfx_oplog_settle(struct pfx_oplog *log, struct pfx_error *err)
{
    return pfx_oplog_run(log, settle, NULL, NULL, err);
}
