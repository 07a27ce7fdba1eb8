/* Rotations that are due. */
#include "pkcs11/hsm/due.h"

#include "api/conf/process.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

void pfx_due_of(const struct pfx_hsm_policy *policy, const struct pfx_pins *pins,
                struct pfx_schedule *ret)
{
    struct pfx_generation list[PFX_GENERATIONS_MOST];
    size_t n = pfx_pins_generations(pins, list);
    pfx_schedule_of(list, n, policy->rotate_every, pfx_now_ms(), ret);
}

void pfx_due_take(struct pfx_hsm *hsm, const struct pfx_pins *pins)
{
    pthread_mutex_lock(&hsm->small);
    hsm->due.n = pfx_pins_generations(pins, hsm->due.list);
    pthread_mutex_unlock(&hsm->small);
}

void pfx_due_tick(struct pfx_hsm *hsm)
{
    struct pfx_schedule now;
    char text[PFX_SCHEDULE_TEXT];
    int64_t at_ms = pfx_now_ms();
    pthread_mutex_lock(&hsm->small);
    struct pfx_due *due = &hsm->due;
    pfx_schedule_of(due->list, due->n, hsm->policy->rotate_every, at_ms, &now);
    bool tell = now.warn && (due->told_day != at_ms / DAY_MS || due->told_staged != now.staged ||
                             due->told_active != now.active);
    due->told_day = at_ms / DAY_MS;
    due->told_staged = now.staged;
    due->told_active = now.active;
    pthread_mutex_unlock(&hsm->small);
    if (tell)
        pfx_log(PFX_LOG_WARN, "%s", pfx_schedule_say(&now, text));
}
