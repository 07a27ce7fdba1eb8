/* Operations: intents, results, and what an ok result must say. */
#include "agent/audit/approvals.h"
#include "agent/audit/meaning_state.h"
#include "agent/audit/questions.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct pfx_meaning *pfx_meaning_new(struct pfx_report *report)
{
    struct pfx_meaning *meaning = pfx_alloc(sizeof(*meaning));
    meaning->report = report;
    meaning->match = pfx_match_new();
    meaning->life = pfx_life_new();
    meaning->standings = pfx_standings_new();
    meaning->questions = pfx_questions_new();
    meaning->records = pfx_records_new();
    meaning->open = pfx_alloc_array(PFX_OPEN_SLOTS, sizeof(*meaning->open));
    return meaning;
}

void pfx_meaning_free(struct pfx_meaning *meaning)
{
    if (!meaning)
        return;
    pfx_match_free(meaning->match);
    free(meaning->life);
    free(meaning->standings);
    pfx_questions_free(meaning->questions);
    free(meaning->records);
    free(meaning->open);
    free(meaning->policies);
    free(meaning->ended);
    free(meaning->nonces);
    free(meaning);
}

void pfx_meaning_tell(struct pfx_meaning *meaning, enum pfx_finding_level level, uint64_t seq,
                      const char *fmt, ...)
{
    char text[PFX_FINDING_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    pfx_report_add(meaning->report, level, PFX_FOUND_MEANING, meaning->log, seq, "%s", text);
}

void pfx_meaning_begin(struct pfx_meaning *meaning, uint32_t log, struct pfx_source *source)
{
    if (meaning->n_open > 0) /* untouched pages stay untouched */
        memset(meaning->open, 0, PFX_OPEN_SLOTS * sizeof(*meaning->open));
    pfx_life_reset(meaning->life);
    pfx_standings_reset(meaning->standings);
    pfx_questions_reset(meaning->questions);
    pfx_records_reset(meaning->records);
    *meaning = (struct pfx_meaning){.report = meaning->report,
                                    .match = meaning->match,
                                    .open = meaning->open,
                                    .life = meaning->life,
                                    .standings = meaning->standings,
                                    .questions = meaning->questions,
                                    .records = meaning->records,
                                    .source = source,
                                    .policies = meaning->policies,
                                    .ended = meaning->ended,
                                    .n_ended = meaning->n_ended,
                                    .nonces = meaning->nonces, /* spent once in all logs */
                                    .n_nonces = meaning->n_nonces,
                                    .nonces_over = meaning->nonces_over,
                                    .log = log,
                                    .first = true};
}

void pfx_meaning_gap(struct pfx_meaning *meaning, uint64_t upto)
{
    if (meaning->n_open > 0)
        memset(meaning->open, 0, PFX_OPEN_SLOTS * sizeof(*meaning->open));
    meaning->n_open = 0;
    pfx_life_reset(meaning->life);
    pfx_standings_reset(meaning->standings);
    pfx_questions_reset(meaning->questions);
    pfx_records_reset(meaning->records);
    meaning->from = upto;
    meaning->first = true;
    meaning->begun = false;
    meaning->known_pins = meaning->known_policy = meaning->known_boot = meaning->known_n = false;
    meaning->policy_pending = meaning->boot_expected = meaning->has_time = false;
}

static size_t slot_of(uint64_t seq)
{
    return (size_t)((seq * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - PFX_OPEN_BITS));
}

struct pfx_open *pfx_meaning_open_find(struct pfx_meaning *meaning, uint64_t seq)
{
    for (size_t i = slot_of(seq);; i = (i + 1) % PFX_OPEN_SLOTS) {
        struct pfx_open *open = &meaning->open[i];
        if (!open->event)
            return NULL;
        if (open->seq == seq)
            return open;
    }
}

static void open_remove(struct pfx_meaning *meaning, struct pfx_open *open)
{
    /* Backward shift, so that no grave stays behind. */
    size_t hole = (size_t)(open - meaning->open);
    for (size_t i = (hole + 1) % PFX_OPEN_SLOTS; meaning->open[i].event;
         i = (i + 1) % PFX_OPEN_SLOTS) {
        size_t home = slot_of(meaning->open[i].seq);
        bool stays = hole < i ? home > hole && home <= i : home > hole || home <= i;
        if (stays)
            continue;
        meaning->open[hole] = meaning->open[i];
        hole = i;
    }
    meaning->open[hole].event = PFX_EV_UNKNOWN;
    meaning->n_open--;
}

/* Key ids have any length: the first bytes and the length tell them apart well enough, together
 * with a hash of the key. */
static void key_words(const struct pfx_entry *entry, struct pfx_open *open)
{
    uint8_t hash[32];
    if (pfx_entry_hash(entry, PFX_F_KEY_SPKI, hash)) {
        memcpy(open->spki, hash, sizeof(open->spki));
        open->has_spki = true;
    }
    if (pfx_entry_hash(entry, PFX_F_TICKET, hash)) {
        memcpy(open->payload, hash, 16);
        open->has_ticket = true;
    }
    struct pfx_bytes id = pfx_entry_text(entry, PFX_F_KEY_ID);
    if (id.len > 0) {
        uint64_t fold = UINT64_C(0xcbf29ce484222325);
        for (size_t i = 0; i < id.len; i++)
            fold = (fold ^ id.data[i]) * UINT64_C(0x100000001b3);
        memcpy(open->payload + 16, &fold, sizeof(fold));
        open->has_id = true;
    }
    open->has_cert = open->has_cert || pfx_entry_has(entry, PFX_F_CERT_SHA256);
}

static void take_intent(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                        const struct pfx_entry *entry)
{
    if (meaning->policy_pending) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, meaning->policy_pending_seq,
                         "start names another policy than before, and no policy.changed follows");
        meaning->policy_pending = false;
    }
    if (event == PFX_EV_UNKNOWN)
        return; /* a newer writer's: said once at the end */
    if (meaning->n_open == PFX_OPEN_MOST) {
        if (!meaning->overflow)
            pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                             "more than %u intents wait for their results; from here on they can't "
                             "be matched any more",
                             PFX_OPEN_MOST);
        meaning->overflow = true;
        return;
    }
    size_t i = slot_of(seq);
    while (meaning->open[i].event)
        i = (i + 1) % PFX_OPEN_SLOTS;
    struct pfx_open *open = &meaning->open[i];
    memset(open, 0, sizeof(*open));
    open->seq = seq;
    open->event = (uint8_t)event;
    open->process = meaning->process;
    struct pfx_bytes op = pfx_entry_text(entry, PFX_F_OP);
    memcpy(open->op, op.data, op.len < sizeof(open->op) ? op.len : sizeof(open->op));
    key_words(entry, open);
    if (pfx_event_pins(event)) {
        open->has_spki = pfx_entry_hash(entry, PFX_F_PIN_SPKI, open->spki);
        open->generation = pfx_entry_int(entry, PFX_F_PIN_GENERATION);
    }
    meaning->n_open++;
}

/* The members that intent and result both have must say the same. */
static bool same_key(const struct pfx_open *intent, const struct pfx_open *both)
{
    return (!intent->has_spki || memcmp(intent->spki, both->spki, sizeof(both->spki)) == 0) &&
           (!intent->has_ticket || memcmp(intent->payload, both->payload, 16) == 0) &&
           (!intent->has_id || memcmp(intent->payload + 16, both->payload + 16, 8) == 0);
}

static pfx_result take_result(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                              const struct pfx_entry *entry, struct pfx_error *err)
{
    int64_t ref = pfx_entry_int(entry, PFX_F_REF);
    const char *name = pfx_events[event].name;
    /* Recovery may not know what an intent was: it ends it all the same. */
    bool ended =
        event == PFX_EV_UNKNOWN && pfx_entry_int(entry, PFX_F_OUTCOME) == PFX_OUTCOME_UNKNOWN;
    if (event == PFX_EV_UNKNOWN && !ended)
        return PFX_OK;
    if (!pfx_entry_has(entry, PFX_F_REF) || ref < 0 || (uint64_t)ref >= seq) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "result of %s names no intent before it (ref)", name);
        return PFX_OK;
    }
    struct pfx_open *open = pfx_meaning_open_find(meaning, (uint64_t)ref);
    if (!open) {
        if ((uint64_t)ref < meaning->from)
            pfx_report_open(meaning->report, meaning->log,
                            "results whose intents stand before entry %" PRIu64
                            " were not compared with them",
                            meaning->from);
        else if (!meaning->overflow)
            pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                             "result of %s: entry %" PRId64
                             " is no intent, or has had its result already",
                             name, ref);
        return PFX_OK;
    }
    struct pfx_open intent = *open, both = *open;
    open_remove(meaning, open);
    struct pfx_bytes op = pfx_entry_text(entry, PFX_F_OP);
    if (ended)
        name = pfx_events[intent.event].name;
    else if (intent.event != event || op.len != sizeof(intent.op) ||
             memcmp(intent.op, op.data, sizeof(intent.op)) != 0) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "result of %s doesn't belong to its intent, entry %" PRId64 ": another %s",
                         name, ref, intent.event != event ? "event" : "op");
        return PFX_OK;
    }
    int64_t outcome = pfx_entry_int(entry, PFX_F_OUTCOME);
    if (outcome == PFX_OUTCOME_UNKNOWN)
        pfx_meaning_tell(meaning, PFX_LEVEL_WARNING, seq,
                         "%s of entry %" PRId64 " ended with the process: its outcome is unknown",
                         name, ref);
    else if (intent.process != meaning->process)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "%s of entry %" PRId64
                         " was begun by an earlier process: its outcome can only be unknown",
                         name, ref);
    if (event >= PFX_EV_STANDING_ACTIVATE && event <= PFX_EV_STANDING_ROTATE)
        pfx_standing_written(meaning, seq, event, entry);
    if (pfx_event_pins(event) && outcome == PFX_OUTCOME_OK &&
        pfx_entry_has(entry, PFX_F_PIN_GENERATION) &&
        pfx_entry_int(entry, PFX_F_PIN_GENERATION) != intent.generation)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "result of %s names another generation than its intent, entry %" PRId64,
                         name, ref);
    if (pfx_event_pins(event)) {
        pfx_life_written(meaning, seq, event, entry);
        pfx_meaning_pinned(meaning, seq, entry, &intent);
    }
    if (outcome != PFX_OUTCOME_OK ||
        (event != PFX_EV_KEY_MAKE && event != PFX_EV_KEY_REWRAP && event != PFX_EV_PFX_BUILD &&
         event != PFX_EV_USER_KEY_DESTROY))
        return PFX_OK;
    key_words(entry, &both);
    if (!same_key(&intent, &both)) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "result of %s names another key or ticket than its intent, entry %" PRId64,
                         name, ref);
        return PFX_OK;
    }
    if (event == PFX_EV_KEY_REWRAP)
        return pfx_meaning_rewrapped(meaning, seq, &both, err);
    if (event == PFX_EV_KEY_MAKE)
        return pfx_meaning_made(meaning, seq, entry, &both, err);
    return event == PFX_EV_PFX_BUILD ? pfx_meaning_built(meaning, seq, entry, &both, err)
                                     : pfx_meaning_destroyed(meaning, seq, entry, &both, err);
}

/* Who may write it, and how. */
static void check_kind(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                       const struct pfx_entry *entry)
{
    const struct pfx_event_info *info = &pfx_events[event];
    int64_t phase = pfx_entry_int(entry, PFX_F_PHASE);
    int64_t outcome = pfx_entry_int(entry, PFX_F_OUTCOME);
    bool before = pfx_entry_int(entry, PFX_F_BEFORE) != 0;
    if (event == PFX_EV_UNKNOWN)
        meaning->unknown_events++;
    else if (!(info->writers >> pfx_entry_int(entry, PFX_F_SRC) & 1))
        pfx_meaning_tell(
            meaning, PFX_LEVEL_FINDING, seq, "%s isn't an event that %s may write", info->name,
            pfx_entry_int(entry, PFX_F_SRC) == PFX_SRC_AGENTD ? "pfx-agentd" : "pfx-hsm");
    else if (!before && info->operation != (phase != PFX_PHASE_NOTE))
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         info->operation ? "%s is an operation, and stands here as a note"
                                         : "%s is a note, and stands here as an operation",
                         info->name);
    if ((phase == PFX_PHASE_INTENT) != (outcome == PFX_OUTCOME_PENDING))
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s has the outcome %s",
                         pfx_phase_name((enum pfx_phase)phase),
                         pfx_outcome_name((enum pfx_outcome)outcome));
    if (before && meaning->under_way)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "says that it happened before the log existed, but doesn't stand at the "
                         "log's beginning");
    bool may = before || event == PFX_EV_LOG_BEGIN || event == PFX_EV_LOG_REOPEN ||
               event == PFX_EV_START || event == PFX_EV_POLICY_CHANGED;
    if (!may)
        meaning->under_way = true;
    if (pfx_entry_int(entry, PFX_F_WEAK) && event != PFX_EV_APPROVAL_ASK &&
        event != PFX_EV_APPROVAL_GIVE)
        meaning->report->weak++;
    if (pfx_entry_int(entry, PFX_F_WEAK))
        pfx_meaning_tell(meaning, PFX_LEVEL_WARNING, seq,
                         pfx_entry_has(entry, PFX_F_APPROVALS)
                             ? "weak: users of the host approved it without signatures (mode uid): "
                               "%.*s"
                             : "weak: one person's user id alone permitted %.*s",
                         (int)pfx_entry_text(entry, PFX_F_EVENT).len,
                         (const char *)pfx_entry_text(entry, PFX_F_EVENT).data);
    if (entry->n_unknown > 0)
        meaning->unknown_members++;
}

static void check_recovered(struct pfx_meaning *meaning, uint64_t seq,
                            const struct pfx_entry *entry)
{
    if (!pfx_entry_is(entry, PFX_F_FAIL_CODE, "uncovered"))
        return; /* entries that a checkpoint covered, or a torn end that was cut off */
    int64_t count = pfx_entry_int(entry, PFX_F_COUNT), first = pfx_entry_int(entry, PFX_F_LOG_SIZE);
    if (!pfx_entry_has(entry, PFX_F_LOG_SIZE) || count <= 0 || first < 0 ||
        (uint64_t)first + (uint64_t)count > seq) {
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "log.recovered doesn't say which entries before it were under no "
                         "checkpoint (count, log.size)");
        return;
    }
    pfx_meaning_tell(meaning, PFX_LEVEL_WARNING, seq,
                     "%" PRId64 " %s from %" PRId64
                     " on %s under no checkpoint when pfx-hsm started: whoever could write to that "
                     "disk then may have written %s",
                     count, pfx_entries((uint64_t)count), first, count == 1 ? "was" : "were",
                     count == 1 ? "it" : "them");
}

static void check_first(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event)
{
    meaning->first = false;
    bool begins = event == PFX_EV_LOG_BEGIN || event == PFX_EV_LOG_REOPEN;
    if (seq == 0 && !begins)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "the log begins with neither log.begin nor log.reopen");
    if (seq == 0) {
        meaning->begun = event == PFX_EV_LOG_BEGIN;
        meaning->known_n = meaning->begun; /* a successor goes on counting */
        meaning->known_pins = meaning->begun;
        meaning->n = 0;
    }
}

pfx_result pfx_meaning_entry(struct pfx_meaning *meaning, uint64_t seq,
                             const struct pfx_entry *entry, struct pfx_error *err)
{
    enum pfx_event event = pfx_event_find(pfx_entry_text(entry, PFX_F_EVENT));
    bool begins = event == PFX_EV_LOG_BEGIN || event == PFX_EV_LOG_REOPEN;
    if (meaning->first)
        check_first(meaning, seq, event);
    else if (begins)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s stands inside of a log",
                         pfx_events[event].name);
    check_kind(meaning, seq, event, entry);
    pfx_meaning_form(meaning, seq, event, entry);
    pfx_meaning_approvals(meaning, seq, event, entry);
    pfx_meaning_process(meaning, seq, event, entry);
    pfx_meaning_policy(meaning, seq, event, entry);
    pfx_records_entry(meaning, seq, event, entry);
    if (event == PFX_EV_LOG_SEGMENT)
        pfx_meaning_segment(meaning, seq, entry);
    if (event == PFX_EV_LOG_SEGMENT || event == PFX_EV_TOKEN_READY)
        pfx_meaning_pins(meaning, seq, entry);
    if (event == PFX_EV_LOG_RECOVERED)
        check_recovered(meaning, seq, entry);
    if (event == PFX_EV_LOG_RETENTION) {
        int64_t first = pfx_entry_int(entry, PFX_F_LOG_SIZE);
        if (first > 0 && (uint64_t)first > meaning->retained && (uint64_t)first <= seq)
            meaning->retained = (uint64_t)first;
    }
    if (event == PFX_EV_CEREMONY_PIN && pfx_entry_int(entry, PFX_F_BEFORE)) {
        static const struct pfx_open none;
        pfx_meaning_pinned(meaning, seq, entry, &none);
    }
    pfx_meaning_agentd(meaning, seq, entry);
    if (event == PFX_EV_UPLOAD_CONFIRMED && pfx_entry_int(entry, PFX_F_OUTCOME) == PFX_OUTCOME_OK) {
        uint8_t hash[32];
        if (pfx_entry_hash(entry, PFX_F_OUT_SHA256, hash))
            return pfx_match_add(meaning->match, PFX_MATCH_UPLOADED, hash, meaning->log, seq, NULL,
                                 err);
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq,
                         "upload.confirmed doesn't name its PFX (out.sha256)");
    }
    switch (pfx_entry_int(entry, PFX_F_PHASE)) {
    case PFX_PHASE_INTENT:
        take_intent(meaning, seq, event, entry);
        return PFX_OK;
    case PFX_PHASE_RESULT:
        return take_result(meaning, seq, event, entry, err);
    default:
        return PFX_OK;
    }
}

void pfx_meaning_end(struct pfx_meaning *meaning)
{
    for (size_t i = 0; meaning->n_open > 0 && i < PFX_OPEN_SLOTS; i++)
        if (meaning->open[i].event)
            pfx_meaning_tell(meaning, PFX_LEVEL_WARNING, meaning->open[i].seq,
                             "%s has no result in what was examined",
                             pfx_events[meaning->open[i].event].name);
    if (meaning->boot_expected)
        pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, meaning->boot_seq,
                         "the host was started anew, and the log has no start");
    if (meaning->unsealed_proof)
        pfx_report_open(meaning->report, meaning->log,
                        "%" PRIu64 " password%s sealed before an entry that was examined says "
                        "which generation was active",
                        meaning->unsealed_proof, meaning->unsealed_proof == 1 ? " was" : "s were");
    if (meaning->unknown_events)
        pfx_report_open(meaning->report, meaning->log,
                        "the meaning of %" PRIu64 " %s of events that this version doesn't know: "
                        "only the form was checked",
                        meaning->unknown_events, pfx_entries(meaning->unknown_events));
    if (meaning->unknown_members)
        pfx_report_open(meaning->report, meaning->log,
                        "members that this version doesn't know, in %" PRIu64 " %s",
                        meaning->unknown_members, pfx_entries(meaning->unknown_members));
    pfx_records_end(meaning);
    pfx_meaning_approvals_end(meaning);
    pfx_meaning_policy_end(meaning);
}

pfx_result pfx_meaning_finish(struct pfx_meaning *meaning, bool whole, struct pfx_error *err)
{
    return pfx_match_finish(meaning->match, whole, meaning->report, err);
}

size_t pfx_meaning_policies(const struct pfx_meaning *meaning,
                            const struct pfx_meaning_policy **ret)
{
    *ret = meaning->policies;
    return meaning->n_policies;
}

uint64_t pfx_meaning_retained(const struct pfx_meaning *meaning)
{
    return meaning->retained;
}

uint64_t pfx_meaning_last_start(const struct pfx_meaning *meaning)
{
    return meaning->last_start;
}
