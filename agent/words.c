#include "agent/words.h"

#include <stdio.h>
#include <string.h>

#include "agent/after.h"
#include "crypto/encode.h"

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

void pfx_words_revoked(const char *which, bool removed, char *out, size_t size)
{
    snprintf(
        out, size,
        "pfx-agent enrolment retry %s orders another one%s, pfx-agent enrolment release %s takes "
        "note and says no more",
        which, removed ? "" : " in its place, pfx-agent record remove takes it from Intune", which);
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
        if (e->revoked_at)
            return pfx_after_told(e) ? "revoked at the CA after its delivery"
                   : e->revoked_seen ? "revoked at the CA; another one is in its place"
                                     : "revoked at the CA; another one takes its place";
        return e->exposed_at ? "its user key is exposed by a compromised encryption key" : "";
    case PFX_HELD:
        return e->held_why ? e->held_why : "held";
    case PFX_FAILED:
        return "failed before an order was placed";
    case PFX_ENDED:
        if (e->parked)
            return e->parked;
        if (e->exposed_at && !e->revoked_at)
            return "its user key is exposed; another one is in its place";
        return e->revoked_at && e->active_at ? "revoked at the CA; another one is in its place"
                                             : "ended without a certificate";
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
        snprintf(ret_words->why, sizeof(ret_words->why), "%s: %.*s%s%s%s", text,
                 (int)pfx_utf8_cut(e->fail_text, 600), e->fail_text,
                 e->fail_code && *e->fail_code ? " (" : "",
                 e->fail_code && *e->fail_code ? e->fail_code : "",
                 e->fail_code && *e->fail_code ? ")" : "");
    else
        snprintf(ret_words->why, sizeof(ret_words->why), "%s", text);
    if (e->revoke_asked && !e->revoked_at) {
        size_t n = strlen(ret_words->why);
        snprintf(ret_words->why + n, sizeof(ret_words->why) - n,
                 "%sthe CA is asked to revoke it%s%.*s", n ? "; " : "", e->revoke_said ? ": " : "",
                 e->revoke_said ? (int)pfx_utf8_cut(e->revoke_said, 300) : 0,
                 e->revoke_said ? e->revoke_said : "");
    }
    char number[24];
    snprintf(number, sizeof(number), "%lld", (long long)e->id);
    if (pfx_after_told(e) && !e->revoked_seen)
        pfx_words_revoked(number, e->at == PFX_ENDED, ret_words->next, sizeof(ret_words->next));
    else if (e->at == PFX_ENDED && e->parked && !e->waived)
        snprintf(ret_words->next, sizeof(ret_words->next),
                 "pfx-agent enrolment retry %s lets the next pass order another one", number);
    else if (e->at == PFX_HELD)
        pfx_words_held(e->held_why, e->held_job, number, ret_words->next, sizeof(ret_words->next));
    else if (e->at == PFX_ORDERED && e->unvalidated && !e->cancel_at)
        snprintf(ret_words->next, sizeof(ret_words->next),
                 "the user opens the CA's mail in each of these mailboxes and follows its link");
    else if ((e->at == PFX_ENDED || e->at == PFX_FAILED) && !e->waived &&
             !((e->revoked_at || e->exposed_at) && e->active_at)) /* another one is in its place */
        snprintf(ret_words->next, sizeof(ret_words->next),
                 "a later pass orders again by itself; sooner with: pfx-agent enrolment retry %s",
                 number);
}
