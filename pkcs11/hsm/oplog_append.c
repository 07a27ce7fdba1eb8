/* Appending: memory only, under the lock; waiting for the committer. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"
#include "pkcs11/hsm/oplog_impl.h"

static void set_int(struct pfx_entry *entry, enum pfx_field field, int64_t value)
{
    entry->has[field / 64] |= UINT64_C(1) << (field % 64);
    entry->values[field] = (struct pfx_entry_value){.number = value};
}

static void set_text(struct pfx_entry *entry, enum pfx_field field, const char *text)
{
    entry->has[field / 64] |= UINT64_C(1) << (field % 64);
    entry->values[field] = (struct pfx_entry_value){.text = {(const uint8_t *)text, strlen(text)}};
}

struct completion {
    char time[PFX_TIME_SIZE], op[PFX_ULID_SIZE], prev[65];
};

static void complete(const struct pfx_oplog *log, struct pfx_entry *entry, uint64_t seq,
                     const struct pfx_node *prev, struct completion *text)
{
    int64_t now = pfx_oplog_now();
    set_int(entry, PFX_F_V, PFX_ENTRY_VERSION);
    set_int(entry, PFX_F_SEQ, (int64_t)seq);
    set_int(entry, PFX_F_UP, pfx_oplog_uptime());
    set_text(entry, PFX_F_BOOT, log->boot);
    set_text(entry, PFX_F_TIME, pfx_time_format(now, true, text->time));
    set_text(entry, PFX_F_PREV, pfx_hex(prev->bytes, sizeof prev->bytes, text->prev));
    if (!pfx_entry_has(entry, PFX_F_OP))
        set_text(entry, PFX_F_OP, pfx_ulid(now, text->op));
}

static bool take_key(void *ctx, const struct pfx_canon_value *value)
{
    struct pfx_oplog_facts *facts = ctx;
    struct pfx_buf line PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_VKEY_LINE_SIZE - 1);
    if (value->kind != PFX_CANON_STR || !pfx_canon_unescape(value, &line) ||
        facts->n_keys == sizeof facts->keys / sizeof *facts->keys)
        return false;
    snprintf(facts->keys[facts->n_keys++], PFX_VKEY_LINE_SIZE, "%s", pfx_buf_str(&line));
    return true;
}

static bool take_open(void *ctx, const struct pfx_canon_value *value)
{
    struct pfx_oplog *log = ctx;
    if (value->kind != PFX_CANON_INT || value->number < 0 || log->n_open == PFX_OPEN_MAX ||
        (log->n_open > 0 && log->open[log->n_open - 1] >= (uint64_t)value->number))
        return false;
    log->open[log->n_open++] = (uint64_t)value->number;
    return true;
}

static void learn_keys(struct pfx_oplog_facts *facts, const struct pfx_entry *entry)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (!pfx_entry_has(entry, PFX_F_LOG_KEYS))
        return;
    facts->n_keys = 0;
    pfx_result r =
        pfx_canon_elements(pfx_entry_text(entry, PFX_F_LOG_KEYS), take_key, facts, &ignored);
    if (pfx_failed(r))
        facts->n_keys = 0; /* no signer fits then */
}

static void learn_open(struct pfx_oplog *log, const struct pfx_entry *entry, uint64_t seq)
{
    int64_t phase = pfx_entry_int(entry, PFX_F_PHASE);
    if (phase == PFX_PHASE_INTENT && log->n_open < PFX_OPEN_MAX)
        log->open[log->n_open++] = seq;
    if (phase != PFX_PHASE_RESULT || !pfx_entry_has(entry, PFX_F_REF))
        return;
    uint64_t ref = (uint64_t)pfx_entry_int(entry, PFX_F_REF);
    for (size_t i = 0; i < log->n_open; i++) {
        if (log->open[i] != ref)
            continue;
        log->n_open--;
        memmove(&log->open[i], &log->open[i + 1], (log->n_open - i) * sizeof log->open[0]);
        return;
    }
}

static void copy_text(char *to, size_t size, struct pfx_bytes text)
{
    size_t len = text.len < size ? text.len : size - 1;
    memcpy(to, text.data ? (const char *)text.data : "", len);
    to[len] = '\0';
}

/* What lies between two boots isn't counted: only the wall clock would know it. */
static int64_t ran_since(const struct pfx_oplog_facts *facts, bool same_boot, int64_t up)
{
    bool known = strcmp(facts->boot, PFX_BOOT_UNKNOWN) != 0;
    return same_boot && known && up > facts->last_up ? up - facts->last_up : 0;
}

static void learn_time(struct pfx_oplog_facts *facts, const struct pfx_entry *entry)
{
    int64_t up = pfx_entry_int(entry, PFX_F_UP);
    facts->ran_ms += ran_since(facts, pfx_entry_is(entry, PFX_F_BOOT, facts->boot), up);
    facts->last_up = up;
    if (pfx_entry_is(entry, PFX_F_EVENT, "log.segment") && pfx_entry_has(entry, PFX_F_LOG_RAN))
        facts->ran_ms = pfx_entry_int(entry, PFX_F_LOG_RAN);
}

int64_t pfx_oplog_ran(const struct pfx_oplog *log)
{
    const struct pfx_oplog_facts *facts = &log->facts;
    return facts->ran_ms +
           ran_since(facts, strcmp(facts->boot, log->boot) == 0, pfx_oplog_uptime());
}

static void learn_facts(struct pfx_oplog *log, const struct pfx_entry *entry)
{
    struct pfx_oplog_facts *facts = &log->facts;
    learn_time(facts, entry);
    copy_text(facts->boot, sizeof facts->boot, pfx_entry_text(entry, PFX_F_BOOT));
    facts->stopped = false;
    if (pfx_entry_int(entry, PFX_F_SRC) == PFX_SRC_AGENTD) {
        facts->agentd_n = pfx_entry_int(entry, PFX_F_N);
        return;
    }
    /* An intent's write may never have been made. */
    int64_t serial = pfx_entry_int(entry, PFX_F_PIN_SERIAL);
    if (serial > facts->pins_serial && pfx_entry_int(entry, PFX_F_OUTCOME) == PFX_OUTCOME_OK)
        facts->pins_serial = serial;
    /* An intent has none: its write may never have been made. */
    int64_t standing = pfx_entry_int(entry, PFX_F_STANDING_SERIAL);
    if (standing > facts->standing_serial)
        facts->standing_serial = standing;
    if (pfx_entry_int(entry, PFX_F_PHASE) != PFX_PHASE_NOTE)
        return;
    facts->stopped = pfx_entry_is(entry, PFX_F_EVENT, "stop");
    bool begins = pfx_entry_is(entry, PFX_F_EVENT, "log.begin") ||
                  pfx_entry_is(entry, PFX_F_EVENT, "log.reopen");
    bool segment = pfx_entry_is(entry, PFX_F_EVENT, "log.segment");
    if ((begins || segment) && !facts->origin[0]) /* stays: others read it without the lock */
        copy_text(facts->origin, sizeof facts->origin, pfx_entry_text(entry, PFX_F_LOG_ORIGIN));
    if (begins || segment || pfx_entry_is(entry, PFX_F_EVENT, "log.rotate-key"))
        learn_keys(facts, entry);
    if (segment)
        facts->agentd_n = pfx_entry_int(entry, PFX_F_LOG_N);
    facts->has_force =
        pfx_entry_hash(entry, PFX_F_POLICY_FORCE, facts->force_sha256) || facts->has_force;
    if (begins || segment || pfx_entry_is(entry, PFX_F_EVENT, "start") ||
        pfx_entry_is(entry, PFX_F_EVENT, "policy.changed"))
        facts->has_policy =
            pfx_entry_hash(entry, PFX_F_POLICY_SHA256, facts->policy_sha256) || facts->has_policy;
}

void pfx_oplog_learn(struct pfx_oplog *log, struct pfx_bytes json, const struct pfx_entry *entry)
{
    uint64_t seq = log->frontier.size;
    pfx_hash_leaf(log->hasher, json, &log->prev);
    pfx_frontier_add(log->hasher, &log->frontier, &log->prev, pfx_oplog_tile_done, log);
    learn_facts(log, entry);
    /* The first entry that is read says what was open before it; while appending it says what the
     * list has anyway. */
    if (pfx_entry_is(entry, PFX_F_EVENT, "log.segment") && pfx_entry_has(entry, PFX_F_LOG_OPEN)) {
        struct pfx_error ignored = PFX_ERROR_NONE;
        log->n_open = 0;
        pfx_result r =
            pfx_canon_elements(pfx_entry_text(entry, PFX_F_LOG_OPEN), take_open, log, &ignored);
        (void)r;
    }
    learn_open(log, entry, seq);
}

void pfx_oplog_remember(struct pfx_oplog *log, uint64_t end, struct pfx_before *ret)
{
    *ret = (struct pfx_before){log->frontier,  log->prev,    log->facts,
                               log->tiles_end, log->n_tiles, end};
}

void pfx_oplog_restore(struct pfx_oplog *log, const struct pfx_before *before)
{
    log->frontier = before->frontier;
    log->prev = before->prev;
    log->facts = before->facts;
    struct pfx_full_tile *tile = *before->tiles_end;
    while (tile) {
        struct pfx_full_tile *next = tile->next;
        free(tile);
        tile = next;
    }
    *before->tiles_end = NULL;
    log->tiles_end = before->tiles_end;
    log->n_tiles = before->n_tiles;
}

void pfx_oplog_put_one(struct pfx_oplog *log, const struct pfx_entry *draft)
{
    struct pfx_entry entry = *draft, read;
    struct completion text;
    struct pfx_error err = PFX_ERROR_NONE;
    complete(log, &entry, log->frontier.size, &log->prev, &text);
    pfx_buf_reset(&log->scratch);
    /* pfx_oplog_append_all wrote it before, with numbers at least as long. */
    if (pfx_failed(pfx_entry_write(&entry, &log->scratch, &err)) ||
        pfx_failed(pfx_entry_read(pfx_buf_bytes(&log->scratch), &read, &err)))
        pfx_die("an entry of the operation log can't be written");
    struct pfx_segment *segment = log->current;
    if (segment->pending.len == 0)
        segment->pending_at = segment->end;
    uint8_t head[PFX_RECORD_HEAD] = {(uint8_t)(log->scratch.len >> 8),
                                     (uint8_t)(log->scratch.len & 0xff)};
    if (!pfx_buf_add(&segment->pending, head, sizeof head) ||
        !pfx_buf_add(&segment->pending, log->scratch.data, log->scratch.len))
        pfx_die("no room for an entry of the operation log");
    segment->end += sizeof head + log->scratch.len;
    if (log->frontier.size == log->covered)
        log->uncovered_since_ms = pfx_oplog_uptime();
    pfx_oplog_learn(log, pfx_buf_bytes(&log->scratch), &read);
}

void pfx_oplog_put(struct pfx_oplog *log, const struct pfx_entry *draft)
{
    if (log->spare && log->spare->first == log->frontier.size)
        pfx_oplog_roll(log);
    pfx_oplog_put_one(log, draft);
}

/* How long the records get at most, and how many intents are among them. */
static pfx_result measure(struct pfx_oplog *log, const struct pfx_draft *drafts, size_t n,
                          uint64_t *ret_len, size_t *ret_intents, struct pfx_error *err)
{
    static const struct pfx_node zeros;
    struct pfx_buf json PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_ENTRY_MAX + 1);
    *ret_len = 0;
    *ret_intents = 0;
    for (size_t i = 0; i < n; i++) {
        struct pfx_entry entry = drafts[i].entry, read;
        struct completion text;
        complete(log, &entry, (uint64_t)PFX_CANON_INT_MAX, &zeros, &text);
        set_int(&entry, PFX_F_UP, PFX_CANON_INT_MAX);
        pfx_buf_reset(&json);
        PFX_TRY(pfx_entry_write(&entry, &json, err));
        struct pfx_error inner = PFX_ERROR_NONE;
        if (pfx_failed(pfx_entry_read(pfx_buf_bytes(&json), &read, &inner)))
            return pfx_fail(err, PFX_CLASS_USAGE, "append entry", "operation log", inner.code,
                            "What was to be appended isn't an entry: %s", inner.text);
        *ret_len += PFX_RECORD_HEAD + json.len;
        *ret_intents += pfx_entry_int(&entry, PFX_F_PHASE) == PFX_PHASE_INTENT;
    }
    return PFX_OK;
}

/* A result's own promise is free for it. */
static enum pfx_room room_of(const struct pfx_oplog *log, const struct pfx_draft *drafts, size_t n,
                             enum pfx_room room)
{
    if (room != PFX_ROOM_PROMISED)
        return room;
    for (size_t i = 0; i < n; i++) {
        bool found = false;
        uint64_t ref = (uint64_t)pfx_entry_int(&drafts[i].entry, PFX_F_REF);
        for (size_t j = 0; j < log->n_open; j++)
            found = found || log->open[j] == ref;
        if (!found || !pfx_entry_has(&drafts[i].entry, PFX_F_REF))
            return PFX_ROOM_RESERVED;
    }
    return room;
}

static pfx_result find_room(struct pfx_oplog *log, const struct pfx_draft *drafts, size_t n,
                            uint64_t len, size_t intents, enum pfx_room room, struct pfx_error *err)
{
    for (int tries = 0;; tries++) {
        while (log->exclusive && log->state == PFX_OPLOG_OPEN)
            pthread_cond_wait(&log->done, &log->lock);
        PFX_TRY(pfx_oplog_usable(log, err));
        if (log->n_open + intents > PFX_OPEN_MAX)
            return pfx_fail(err, PFX_CLASS_TRANSIENT, "append entry", "operation log", "open",
                            "%zu operations wait for their result already. Try again later.",
                            log->n_open);
        if (pfx_oplog_fits(log, len, intents, room_of(log, drafts, n, room)))
            return PFX_OK;
        if (tries == 3)
            break;
        unsigned before = log->room_tries;
        log->room_wanted = true;
        if (log->room_need < len + PFX_NOTE_ROOM)
            log->room_need = len + PFX_NOTE_ROOM;
        pthread_cond_signal(&log->work);
        while (log->room_tries == before && log->state == PFX_OPLOG_OPEN)
            pthread_cond_wait(&log->done, &log->lock);
    }
    const struct pfx_error *why = &log->room_why;
    return pfx_fail(err, PFX_CLASS_TRANSIENT, why->op[0] ? why->op : "append entry", log->dir,
                    why->code[0] ? why->code : "ENOSPC", "%s",
                    why->text[0] ? why->text : "No room for so much at once. Try again later.");
}

static pfx_result wait_locked(struct pfx_oplog *log, uint64_t seq, enum pfx_until until,
                              struct pfx_error *err)
{
    unsigned failures = log->cover_failures;
    for (;;) {
        if (until == PFX_UNTIL_APPENDED || (until == PFX_UNTIL_SYNCED && log->synced > seq) ||
            (until == PFX_UNTIL_COVERED && log->covered > seq))
            return PFX_OK;
        PFX_TRY(pfx_oplog_usable(log, err));
        if (until == PFX_UNTIL_COVERED) {
            if (!log->attached)
                return pfx_fail(err, PFX_CLASS_TRANSIENT, "sign checkpoint", log->facts.origin,
                                "signer",
                                "The token of the log role isn't there. Look at pfx-agent status, "
                                "then try again.");
            if (log->cover_failures != failures && log->cover_failed_upto > seq) {
                if (err && err->cls == PFX_CLASS_OK)
                    *err = log->cover_why;
                return (pfx_result){log->cover_why.cls};
            }
            if (log->cover_wanted <= seq)
                log->cover_wanted = seq + 1;
            pthread_cond_signal(&log->work);
        }
        pthread_cond_wait(&log->done, &log->lock);
    }
}

pfx_result pfx_oplog_wait(struct pfx_oplog *log, uint64_t seq, enum pfx_until until,
                          struct pfx_error *err)
{
    pthread_mutex_lock(&log->lock);
    pfx_result r;
    if (until != PFX_UNTIL_APPENDED && seq >= log->frontier.size) {
        r = pfx_fail(err, PFX_CLASS_USAGE, "wait for entry", log->facts.origin, "",
                     "Entry %" PRIu64 " was never appended.", seq);
    } else {
        log->waiters++;
        r = wait_locked(log, seq, until, err);
        if (--log->waiters == 0)
            pthread_cond_broadcast(&log->done);
    }
    pthread_mutex_unlock(&log->lock);
    return r;
}

pfx_result pfx_oplog_append_all(struct pfx_oplog *log, struct pfx_draft *drafts, size_t n,
                                enum pfx_room room, enum pfx_until until, uint64_t *ret_last,
                                struct pfx_error *err)
{
    uint64_t len;
    size_t intents;
    if (n == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "append entry", "operation log", "", "No entries.");
    PFX_TRY(measure(log, drafts, n, &len, &intents, err));
    pthread_mutex_lock(&log->lock);
    log->waiters++;
    pfx_result r = find_room(log, drafts, n, len, intents, room, err);
    if (pfx_ok(r)) {
        for (size_t i = 0; i < n; i++)
            pfx_oplog_put(log, &drafts[i].entry);
        uint64_t last = log->frontier.size - 1;
        if (ret_last)
            *ret_last = last;
        pthread_cond_signal(&log->work);
        r = wait_locked(log, last, until, err);
    }
    if (--log->waiters == 0)
        pthread_cond_broadcast(&log->done);
    pthread_mutex_unlock(&log->lock);
    return r;
}

pfx_result pfx_oplog_append(struct pfx_oplog *log, struct pfx_draft *draft, enum pfx_room room,
                            enum pfx_until until, uint64_t *ret_seq, struct pfx_error *err)
{
    return pfx_oplog_append_all(log, draft, 1, room, until, ret_seq, err);
}
