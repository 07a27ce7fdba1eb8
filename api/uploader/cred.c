#include "api/uploader/cred.h"

#include "crypto/mem.h"

/* Each attempt may cost an entry in the operation log and a part of pfx-hsm's hourly ceiling. */
#define FIRST_PAUSE_MS 500
#define MAX_PAUSE_MS 30000

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

static void forget(struct pfx_cred *cred)
{
    pfx_secret_free(PFX_TAKE(cred->value));
}

void pfx_cred_drop(struct pfx_cred *cred, unsigned generation)
{
    if (generation == cred->generation)
        forget(cred);
}

void pfx_cred_tidy(struct pfx_cred *cred, int64_t now_ms)
{
    if (!cred->value)
        return;
    if (now_ms >= cred->good_until ||
        (cred->idle_ms > 0 && now_ms >= cred->last_used + cred->idle_ms))
        forget(cred);
}

void pfx_cred_done(struct pfx_cred *cred)
{
    forget(cred);
}

void pfx_cred_put(struct pfx_cred *cred, struct pfx_secret *value, int64_t good_ms, int64_t now_ms)
{
    forget(cred);
    cred->value = value;
    cred->generation++;
    cred->good_until = good_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + good_ms;
    cred->last_used = now_ms;
    cred->busy = false;
    cred->setbacks = 0;
    cred->not_before = 0;
    cred->trouble = PFX_ERROR_NONE;
}

static int64_t pause_ms(unsigned setbacks)
{
    int64_t pause = FIRST_PAUSE_MS << (setbacks > 8 ? 8 : setbacks);
    return pause > MAX_PAUSE_MS ? MAX_PAUSE_MS : pause;
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
    cred->not_before = now_ms + (wait_ms >= 0 ? wait_ms : pause);
}
