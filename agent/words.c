#include "agent/words.h"

#include <stdio.h>
#include <string.h>

#include "agent/timing.h"

void pfx_words_held(const char *held_why, const char *held_job, const char *which, char *out,
                    size_t size)
{
    if (held_why && strcmp(held_why, PFX_HELD_LIMIT) == 0)
        snprintf(out, size, "pfx-agent enrolment release %s", which);
    else if (held_job && strcmp(held_job, "up.order_settle") == 0)
        snprintf(
            out, size,
            "look at the CA whether the order is there, then: pfx-agent enrolment retry %s looks "
            "for it again, pfx-agent enrolment release %s orders again",
            which, *which == '-' ? "NUMBER" : which);
    else
        snprintf(out, size, "put right what it says, then: pfx-agent enrolment retry %s", which);
}

static const char *doing(struct pfx_agent *agent, const struct pfx_enrolment *e)
{
    switch (e->at) {
    case PFX_NEW:
        return "waits for pfx-hsm: key and request";
    case PFX_KEYED:
        if (e->settle_since)
            return "the answer to the order was lost: looking for it at the CA";
        return agent->no_orders ? "orders are paused" : "waits for pfx-uploader: order";
    case PFX_ORDERED:
        if (e->cancel_at)
            return "waits for the CA to cancel the order";
        return e->unvalidated ? "waits for the user: addresses aren't validated at the CA"
                              : "waits for the CA to issue";
    case PFX_ISSUED:
        return "waits for pfx-uploader: download";
    case PFX_CHECKED:
        return "waits for pfx-hsm: PFX";
    case PFX_SEALED:
        return agent->no_uploads ? "uploads are paused"
                                 : "waits for pfx-uploader: import to Intune";
    case PFX_IMPORTED:
        return "waits for pfx-uploader: read back from Intune";
    case PFX_ACTIVE:
        return "";
    case PFX_HELD:
        return e->held_why ? e->held_why : "held";
    case PFX_FAILED:
        return "failed before an order was placed";
    case PFX_ENDED:
        return "ended without a certificate";
    case PFX_STATE_COUNT:
        break;
    }
    return "";
}

void pfx_words_for(struct pfx_agent *agent, const struct pfx_enrolment *e,
                   struct pfx_words *ret_words)
{
    *ret_words = (struct pfx_words){0};
    const char *text = doing(agent, e);
    if (e->fail_text && *e->fail_text && e->at != PFX_ACTIVE)
        snprintf(ret_words->why, sizeof(ret_words->why), "%s: %.600s%s%s%s", text, e->fail_text,
                 e->fail_code && *e->fail_code ? " (" : "",
                 e->fail_code && *e->fail_code ? e->fail_code : "",
                 e->fail_code && *e->fail_code ? ")" : "");
    else
        snprintf(ret_words->why, sizeof(ret_words->why), "%s", text);
    char number[24];
    snprintf(number, sizeof(number), "%lld", (long long)e->id);
    if (e->at == PFX_HELD)
        pfx_words_held(e->held_why, e->held_job, number, ret_words->next, sizeof(ret_words->next));
    else if (e->at == PFX_ORDERED && e->unvalidated && !e->cancel_at)
        snprintf(ret_words->next, sizeof(ret_words->next),
                 "the user opens the CA's mail in each of these mailboxes and follows its link");
    else if ((e->at == PFX_ENDED || e->at == PFX_FAILED) && !e->waived)
        snprintf(ret_words->next, sizeof(ret_words->next),
                 "a later pass orders again by itself; sooner with: pfx-agent enrolment retry %s",
                 number);
}
