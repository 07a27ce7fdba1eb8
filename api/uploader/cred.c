#include "api/uploader/cred.h"

#include "crypto/mem.h"

/* Each attempt may cost an entry in the operation log and a part of pfx-hsm's hourly ceiling. */
#define FIRST_PAUSE_MS 500
#define MAX_PAUSE_MS 30000
/* Few enough for a new key to be found at once after `secret set`. */
#define FREE_REFUSALS 5
#define MEMORY_MS 60000

const struct pfx_secret *pfx_cred_want(struct pfx_cred *cred, int64_t now_ms)
{
    if (cred->value && now_ms < cred->good_until) {
        cred->last_used = now_ms;
        return cred->value;
    }
    if (!cred->busy && now_ms >= cred->not_before) {
        cred->busy = true;
        cred->begin(cred);
        if (!cred->busy && cred->value && now_ms < cred->good_until) {
            cred->last_used = now_ms;
            return cred->value;
        }
    }
    return NULL;
}

int64_t pfx_cred_next(const struct pfx_cred *cred)
{
    return cred->busy ? INT64_MAX : cred->not_before;
}

void pfx_cred_done(struct pfx_cred *cred)
{
    pfx_secret_free(PFX_TAKE(cred->value));
    pfx_secret_free(PFX_TAKE(cred->refused));
}

static int64_t pause_ms(unsigned setbacks)
{
    int64_t pause = FIRST_PAUSE_MS << (setbacks > 8 ? 8 : setbacks);
    return pause > MAX_PAUSE_MS ? MAX_PAUSE_MS : pause;
}

bool pfx_cred_refused(struct pfx_cred *cred, unsigned generation, bool fresh, int64_t now_ms)
{
    if (generation != cred->generation)
        return true;
    if (now_ms < cred->believed_until)
        return false;
    if (fresh && cred->value) { /* several requests may have gone with one value: it counts once */
        if (now_ms - cred->refused_at > MEMORY_MS)
            cred->refusals = 0;
        cred->refused_at = now_ms;
        if (++cred->refusals > FREE_REFUSALS) {
            cred->believed_until = now_ms + pause_ms(cred->refusals - FREE_REFUSALS);
            return false;
        }
    }
    if (cred->value) {
        pfx_secret_free(cred->refused);
        cred->refused = PFX_TAKE(cred->value);
    }
    return true;
}

void pfx_cred_tidy(struct pfx_cred *cred, int64_t now_ms)
{
    if (now_ms >= cred->good_until ||
        (cred->idle_ms > 0 && now_ms >= cred->last_used + cred->idle_ms))
        pfx_cred_done(cred);
}

void pfx_cred_put(struct pfx_cred *cred, struct pfx_secret *value, int64_t good_ms, int64_t now_ms)
{
    if (!cred->refused || !pfx_secret_equal(cred->refused, value))
        cred->version++;
    pfx_cred_done(cred);
    cred->value = value;
    cred->generation++;
    cred->good_until = good_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + good_ms;
    cred->last_used = now_ms;
    cred->busy = false;
    cred->trouble = PFX_ERROR_NONE;
    if (good_ms >= MAX_PAUSE_MS)
        cred->setbacks = 0;
    /* One that is good for a second wants another one each second. */
    cred->not_before = good_ms >= MAX_PAUSE_MS ? 0 : now_ms + pause_ms(cred->setbacks++);
}

void pfx_cred_fail(struct pfx_cred *cred, const struct pfx_error *err, int64_t now_ms)
{
    cred->busy = false;
    cred->failures++;
    cred->trouble = *err;
    cred->not_before = now_ms + pause_ms(cred->setbacks++);
}

void pfx_cred_later(struct pfx_cred *cred, const struct pfx_error *err, int64_t wait_ms,
                    int64_t now_ms)
{
    cred->busy = false;
    cred->trouble = *err;
    int64_t pause = pause_ms(cred->setbacks++);
    cred->not_before = now_ms + (wait_ms > pause ? wait_ms : pause);
}

void pfx_cred_denied(struct pfx_cred *cred, bool away, const struct pfx_error *err, int64_t now_ms)
{
    if (away)
        pfx_cred_later(cred, err, -1, now_ms);
    else
        pfx_cred_fail(cred, err, now_ms);
}
