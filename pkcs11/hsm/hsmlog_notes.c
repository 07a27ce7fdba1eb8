/* Notes: told at once where there is a log; with a quota where someone else decides how many. */
#include <inttypes.h>
#include <string.h>

#include "api/conf/process.h"
#include "pkcs11/hsm/due.h"
#include "pkcs11/hsm/hsmlog_put.h"
#include "pkcs11/hsm/rotation.h"

#define HOUR_MS (INT64_C(3600) * 1000)
#define LOST_EVERY_MS 60000
#define CLOCK_STEP_MS 2000
#define REFUSED_PER_HOUR 1000 /* of each side */
#define STRANGERS_PER_HOUR 100
#define STRANGERS 4
/* A build that the policy permits makes about five notes of pfx-agentd; the rest is for passes,
 * commands and what failed. */
#define AGENTD_PER_BUILD 8
#define AGENTD_PER_HOUR 1000

static struct pfx_hsmlog *traced;
static void tell_late(struct pfx_hsmlog *log);

pfx_result pfx_hsmlog_put(struct pfx_hsmlog *log, struct pfx_draft *draft, enum pfx_room room,
                          enum pfx_until until, uint64_t *ret_seq, struct pfx_error *err)
{
    int64_t clock_ms = pfx_now_ms() - pfx_uptime_ms();
    tell_late(log);
    pthread_mutex_lock(&log->lock);
    int64_t step_ms = clock_ms - log->clock_ms;
    bool stepped = step_ms > CLOCK_STEP_MS || step_ms < -CLOCK_STEP_MS;
    if (stepped)
        log->clock_ms = clock_ms;
    pthread_mutex_unlock(&log->lock);
    if (stepped) {
        struct pfx_draft *note PFX_AUTOFREE = pfx_alloc(sizeof *note);
        struct pfx_error ignored = PFX_ERROR_NONE;
        pfx_journal_clock(step_ms, note);
        pfx_result noted = pfx_oplog_append(log->writer, note, PFX_ROOM_RESERVED,
                                            PFX_UNTIL_APPENDED, NULL, &ignored);
        (void)noted;
    }
    return pfx_oplog_append(log->writer, draft, room, until, ret_seq, err);
}

/* With lock held. */
static void keep(struct pfx_hsmlog *log, struct pfx_draft *draft)
{
    pfx_draft_bool(draft, PFX_F_BEFORE, true);
    /* The oldest goes: what counts most, the keys of the log itself, is made last. */
    if (log->n_early == PFX_EARLY_MOST) {
        free(log->early[0]);
        log->n_early--;
        memmove(log->early, log->early + 1, log->n_early * sizeof *log->early);
        log->early_lost++;
    }
    log->early[log->n_early++] = draft;
}

void pfx_hsmlog_early(struct pfx_hsmlog *log, struct pfx_draft *draft)
{
    pthread_mutex_lock(&log->lock);
    keep(log, draft);
    pthread_mutex_unlock(&log->lock);
}

/* On a full disk every request is one: a line a minute, with how many there were. Lock held. */
static void tell_lost(struct pfx_hsmlog *log, const struct pfx_error *why)
{
    int64_t now = pfx_uptime_ms();
    log->notes_lost++;
    if (log->lost_told_ms != 0 && now - log->lost_told_ms < LOST_EVERY_MS)
        return;
    if (log->notes_lost == 1)
        pfx_log_error(why, "a note for the operation log is lost");
    else
        pfx_log_error(why, "%" PRIu64 " notes for the operation log are lost", log->notes_lost);
    log->lost_told_ms = now;
    log->notes_lost = 0;
}

/* With lock held. */
static bool append(struct pfx_hsmlog *log, struct pfx_draft *draft, enum pfx_room room)
{
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result noted = pfx_oplog_append(log->writer, draft, room, PFX_UNTIL_APPENDED, NULL, &why);
    /* A log that is closed or refused was told of once. */
    if (pfx_failed(noted) && pfx_hsmlog_state(log) == PFX_OPLOG_OPEN)
        tell_lost(log, &why);
    return pfx_ok(noted);
}

void pfx_hsmlog_note(struct pfx_hsmlog *log, struct pfx_draft *draft)
{
    pthread_mutex_lock(&log->lock);
    if (log->quiet) {
        keep(log, draft);
    } else {
        (void)append(log, draft, PFX_ROOM_ORDINARY);
        free(draft);
    }
    pthread_mutex_unlock(&log->lock);
}

pfx_result pfx_hsmlog_tell_early(struct pfx_hsmlog *log, struct pfx_error *err)
{
    pfx_result result = PFX_OK;
    pthread_mutex_lock(&log->lock);
    for (size_t i = 0; i < log->n_early; i++) {
        if (pfx_ok(result))
            result = pfx_oplog_append(log->writer, log->early[i], PFX_ROOM_ORDINARY,
                                      PFX_UNTIL_APPENDED, NULL, err);
        free(log->early[i]);
    }
    log->n_early = 0;
    log->quiet = false;
    if (log->early_lost > 0) {
        struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
        pfx_journal_quota("before the log", log->early_lost, draft);
        append(log, draft, PFX_ROOM_RESERVED);
        log->early_lost = 0;
    }
    pthread_mutex_unlock(&log->lock);
    return result;
}

void pfx_hsmlog_hush(struct pfx_hsmlog *log)
{
    pthread_mutex_lock(&log->lock);
    log->quiet = true;
    pthread_mutex_unlock(&log->lock);
}

static void login(const struct pfx_token_facts *facts, unsigned roles, CK_RV rv)
{
    struct pfx_draft *draft = pfx_alloc(sizeof *draft);
    pfx_journal_login(facts, roles, rv, draft);
    /* The token's login lock is held. An append may wait for room, which the committer makes; and
     * the committer may wait for this very lock, to sign. So it is told a little later. */
    pthread_mutex_lock(&traced->inner_lock);
    if (traced->n_late < PFX_LATE_MOST)
        traced->late[traced->n_late++] = PFX_TAKE(draft);
    pthread_mutex_unlock(&traced->inner_lock);
    free(draft);
}

/* The logins, in their order with what is put by others. */
static void tell_late(struct pfx_hsmlog *log)
{
    struct pfx_draft *late[PFX_LATE_MOST];
    pthread_mutex_lock(&log->inner_lock);
    size_t n = log->n_late;
    memcpy(late, log->late, n * sizeof *late);
    log->n_late = 0;
    pthread_mutex_unlock(&log->inner_lock);
    for (size_t i = 0; i < n; i++)
        pfx_hsmlog_note(log, late[i]);
}

void pfx_hsmlog_trace(struct pfx_hsmlog *log)
{
    pfx_login_trace = log ? login : NULL;
    traced = log;
}

void pfx_hsmlog_ready(struct pfx_hsm *hsm, enum pfx_role role)
{
    struct pfx_hsmlog *log = hsm->log;
    struct pfx_draft *draft = pfx_alloc(sizeof *draft);
    pthread_mutex_lock(&log->inner_lock);
    pfx_journal_ready(role, pfx_token_facts(hsm->roles[role].token), pfx_buf_bytes(&log->pins),
                      atomic_load(&log->pins_serial),
                      hsm->rotation->known ? hsm->rotation->serial : 0, draft);
    pthread_mutex_unlock(&log->inner_lock);
    tell_late(log); /* its login comes before */
    pfx_hsmlog_note(log, draft);
}

void pfx_hsmlog_pins(struct pfx_hsm *hsm, const struct pfx_pins *pins)
{
    struct pfx_hsmlog *log = hsm->log;
    pthread_mutex_lock(&log->inner_lock);
    pfx_buf_reset(&log->pins);
    pfx_journal_pins(pins, &log->pins);
    if (pins->serial > atomic_load(&log->pins_serial))
        atomic_store(&log->pins_serial, pins->serial);
    pthread_mutex_unlock(&log->inner_lock);
    pfx_due_take(hsm, pins);
}

int64_t pfx_hsmlog_pins_serial(const struct pfx_hsm *hsm)
{
    return atomic_load(&hsm->log->pins_serial);
}

/* --- quotas --- */

/* The count of an hour that is over, or is to end; with lock held. */
static void quota_end(struct pfx_hsmlog *log, struct pfx_quota *quota, const char *what)
{
    if (quota->over > 0 && !log->quiet) {
        struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
        pfx_journal_quota(what, quota->over, draft);
        if (!append(log, draft, PFX_ROOM_RESERVED)) {
            quota->since_ms = pfx_uptime_ms(); /* the count isn't lost: told when there is room */
            return;
        }
    }
    *quota = (struct pfx_quota){0, 0, 0};
}

static void quota_step(struct pfx_hsmlog *log, struct pfx_quota *quota, const char *what)
{
    if (quota->since_ms != 0 && pfx_uptime_ms() - quota->since_ms >= HOUR_MS)
        quota_end(log, quota, what);
}

/* Room for n more? With lock held. */
static bool quota_take(struct pfx_quota *quota, uint64_t n, uint64_t most)
{
    if (quota->since_ms == 0)
        quota->since_ms = pfx_uptime_ms();
    if (n > most - quota->used)
        return false;
    quota->used += n;
    return true;
}

static const char refused_name[] = "request.refused", agentd_name[] = "hsm.log";

void pfx_hsmlog_tick(struct pfx_hsm *hsm)
{
    struct pfx_hsmlog *log = hsm->log;
    tell_late(log);
    pthread_mutex_lock(&log->lock);
    for (size_t i = 0; i <= STRANGERS; i++)
        quota_step(log, &log->refused[i], refused_name);
    quota_step(log, &log->agentd, agentd_name);
    pthread_mutex_unlock(&log->lock);
}

void pfx_hsmlog_flush(struct pfx_hsmlog *log)
{
    tell_late(log);
    pthread_mutex_lock(&log->lock);
    for (size_t i = 0; i <= STRANGERS; i++)
        quota_end(log, &log->refused[i], refused_name);
    quota_end(log, &log->agentd, agentd_name);
    pthread_mutex_unlock(&log->lock);
}

static void refused(struct pfx_hsm *hsm, size_t side, uint64_t most, const struct pfx_actor *actor,
                    const char *name, pfx_result outcome, const struct pfx_error *why)
{
    struct pfx_hsmlog *log = hsm->log;
    struct pfx_quota *quota = &log->refused[side];
    pthread_mutex_lock(&log->lock);
    quota_step(log, quota, refused_name);
    if (log->quiet) {
        /* Before there is a log nothing can be done that would be worth refusing. */
    } else if (quota_take(quota, 1, most)) {
        struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
        pfx_journal_refused(actor, name, outcome, why, draft);
        /* Without room it is one that the count tells of. */
        quota->over += !append(log, draft, PFX_ROOM_REFUSAL);
    } else {
        quota->over++;
    }
    pthread_mutex_unlock(&log->lock);
}

void pfx_hsmlog_refused(struct pfx_hsm *hsm, const struct pfx_actor *actor, const char *name,
                        pfx_result outcome, const struct pfx_error *why)
{
    refused(hsm, actor->role, REFUSED_PER_HOUR, actor, name, outcome, why);
}

void pfx_hsmlog_stranger(struct pfx_hsm *hsm, const struct pfx_actor *actor, const char *name,
                         pfx_result outcome, const struct pfx_error *why)
{
    refused(hsm, STRANGERS, STRANGERS_PER_HOUR, actor, name, outcome, why);
}

/* --- pfx-agentd --- */

static pfx_result quota_check(struct pfx_hsm *hsm, int64_t last, uint64_t n, int64_t newest,
                              struct pfx_error *err)
{
    struct pfx_hsmlog *log = hsm->log;
    uint64_t most = (uint64_t)hsm->policy->per_hour_builds * AGENTD_PER_BUILD + AGENTD_PER_HOUR;
    pthread_mutex_lock(&log->lock);
    quota_step(log, &log->agentd, agentd_name);
    bool room = quota_take(&log->agentd, n, most);
    if (!room) {
        /* The same notes come again and again: they are counted by their numbers. */
        if (log->agentd.over == 0)
            log->agentd_first = last;
        uint64_t over = newest > log->agentd_first ? (uint64_t)(newest - log->agentd_first) : 0;
        log->agentd.over = over > log->agentd.over ? over : log->agentd.over;
    }
    pthread_mutex_unlock(&log->lock);
    if (room)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "take notes", agentd_name, "quota",
                    "pfx-agentd has noted %llu things within an hour, which is all that "
                    "ceilings.builds_per_hour lets it: the rest is taken later.",
                    (unsigned long long)most);
}

/* The drafts of all notes after `last`, which have to follow it without a gap. */
static pfx_result drafts_of(const struct pfx_msg *job, int64_t last, struct pfx_draft *drafts,
                            size_t *ret_n, struct pfx_error *err)
{
    int64_t next = last + 1;
    *ret_n = 0;
    for (size_t i = 0; i < pfx_msg_count(job, "notes"); i++) {
        const struct pfx_msg *note = pfx_msg_obj_at(job, "notes", i);
        int64_t n = pfx_msg_int(note, "n");
        /* What is passed over has to be what pfx-agentd may write, too: a job is good or it isn't.
         */
        PFX_TRY(pfx_journal_note(note, &drafts[*ret_n], err));
        if (n < next && *ret_n == 0)
            continue;
        if (n != next)
            return pfx_fail(err, PFX_CLASS_REFUSED, "take notes", agentd_name, "gap",
                            "The numbers of pfx-agentd's notes don't follow one another: %lld "
                            "comes where %lld must. Was its store restored from a backup, or is it "
                            "another one?",
                            (long long)n, (long long)next);
        next++;
        ++*ret_n;
    }
    return PFX_OK;
}

static pfx_result take_notes(struct pfx_hsm *hsm, const struct pfx_msg *job, int64_t *ret_n,
                             struct pfx_error *err)
{
    struct pfx_hsmlog *log = hsm->log;
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    size_t count = pfx_msg_count(job, "notes"), n = 0;
    struct pfx_draft *drafts PFX_AUTOFREE = pfx_alloc_array(count + 1, sizeof *drafts);
    switch (pfx_oplog_state(log->writer, &why)) {
    case PFX_OPLOG_OPEN:
        break;
    case PFX_OPLOG_NONE:
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "take notes", "operation log", "",
                        "It hasn't begun: run pfx-agent init.");
    case PFX_OPLOG_REFUSED:
    case PFX_OPLOG_CLOSED:
        return pfx_hsmlog_unusable(hsm, &why, err);
    }
    pfx_oplog_facts(log->writer, facts);
    PFX_TRY(drafts_of(job, facts->agentd_n, drafts, &n, err));
    *ret_n = facts->agentd_n;
    if (n == 0) { /* the answer to an earlier copy of this job was lost */
        struct pfx_oplog_status status;
        pfx_oplog_status(log->writer, &status);
        return pfx_oplog_wait(log->writer, status.size - 1, PFX_UNTIL_SYNCED, err);
    }
    PFX_TRY(quota_check(hsm, facts->agentd_n, n, facts->agentd_n + (int64_t)n, err));
    PFX_TRY(pfx_oplog_append_all(log->writer, drafts, n, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, NULL,
                                 err));
    *ret_n = facts->agentd_n + (int64_t)n;
    return PFX_OK;
}

pfx_result pfx_hsmlog_agentd(struct pfx_hsm *hsm, const struct pfx_msg *job, int64_t *ret_n,
                             struct pfx_error *err)
{
    struct pfx_hsmlog *log = hsm->log;
    pthread_mutex_lock(&log->agentd_lock);
    pfx_result result = take_notes(hsm, job, ret_n, err);
    pthread_mutex_unlock(&log->agentd_lock);
    return result;
}
