#include "agent/audit/events.h"

#include <string.h>

#define HSM (1u << PFX_SRC_HSM)
#define AGENTD (1u << PFX_SRC_AGENTD)

const struct pfx_event_info pfx_events[PFX_EVENT_COUNT] = {
    [PFX_EV_UNKNOWN] = {"", false, HSM | AGENTD},
    [PFX_EV_APPROVAL_ASK] = {"approval.ask", false, HSM},
    [PFX_EV_APPROVAL_GIVE] = {"approval.give", false, HSM},
    [PFX_EV_APPROVAL_REFUSE] = {"approval.refuse", false, HSM},
    [PFX_EV_ASSERTION_SIGN] = {"assertion.sign", true, HSM},
    [PFX_EV_BACKUP_CREATE] = {"backup.create", true, HSM},
    [PFX_EV_CEREMONY_CERTIFICATE] = {"ceremony.certificate", true, HSM},
    [PFX_EV_CEREMONY_KEY] = {"ceremony.key", true, HSM},
    [PFX_EV_CEREMONY_PIN] = {"ceremony.pin", true, HSM},
    [PFX_EV_CEREMONY_RECORD] = {"ceremony.record", false, HSM},
    [PFX_EV_CLOCK_STEP] = {"clock.step", false, HSM},
    [PFX_EV_KEY_EXPORT] = {"key.export", true, HSM},
    [PFX_EV_KEY_ROTATE] = {"key.rotate", true, HSM},
    [PFX_EV_KEY_ACTIVATE] = {"key.activate", true, HSM},
    [PFX_EV_KEY_RETIRE] = {"key.retire", true, HSM},
    [PFX_EV_KEY_DESTROY] = {"key.destroy", true, HSM},
    [PFX_EV_KEY_COMPROMISE] = {"key.compromise", true, HSM},
    [PFX_EV_CONNECTOR_PROBE] = {"connector.probe", true, HSM},
    [PFX_EV_CONNECTOR_CONFIRM] = {"connector.confirm", true, HSM},
    [PFX_EV_KEY_MAKE] = {"key.make", true, HSM},
    [PFX_EV_KEY_RECOVERED] = {"key.recovered", false, HSM},
    [PFX_EV_KEY_REWRAP] = {"key.rewrap", true, HSM},
    [PFX_EV_LOG_BEGIN] = {"log.begin", false, HSM},
    [PFX_EV_LOG_QUOTA] = {"log.quota", false, HSM},
    [PFX_EV_LOG_RECOVERED] = {"log.recovered", false, HSM},
    [PFX_EV_LOG_REOPEN] = {"log.reopen", false, HSM},
    [PFX_EV_LOG_RETENTION] = {"log.retention", false, HSM},
    [PFX_EV_LOG_ROTATE_KEY] = {"log.rotate-key", false, HSM},
    [PFX_EV_LOG_SEGMENT] = {"log.segment", false, HSM},
    [PFX_EV_PFX_BUILD] = {"pfx.build", true, HSM},
    [PFX_EV_POLICY_CHANGED] = {"policy.changed", false, HSM},
    [PFX_EV_POLICY_FORCE] = {"policy.force", false, HSM},
    [PFX_EV_PROBE] = {"probe", true, HSM},
    [PFX_EV_RELEASE_WITHHELD] = {"release.withheld", false, HSM},
    [PFX_EV_REQUEST_REFUSED] = {"request.refused", false, HSM | AGENTD},
    [PFX_EV_SECRET_OPEN] = {"secret.open", true, HSM},
    [PFX_EV_SECRET_SEAL] = {"secret.seal", true, HSM},
    [PFX_EV_STANDING_ACTIVATE] = {"standing.activate", true, HSM},
    [PFX_EV_STANDING_DESTROY] = {"standing.destroy", true, HSM},
    [PFX_EV_STANDING_ROTATE] = {"standing.rotate", true, HSM},
    [PFX_EV_START] = {"start", false, HSM},
    [PFX_EV_STOP] = {"stop", false, HSM},
    [PFX_EV_TOKEN_LOGIN] = {"token.login", false, HSM},
    [PFX_EV_TOKEN_READY] = {"token.ready", false, HSM},
    [PFX_EV_USER_KEY_DESTROY] = {"user_key.destroy", true, HSM},
    [PFX_EV_AGENTD_START] = {"agentd.start", false, AGENTD},
    [PFX_EV_AGENTD_STOP] = {"agentd.stop", false, AGENTD},
    [PFX_EV_BACKUP_RESTORED] = {"backup.restored", false, AGENTD},
    [PFX_EV_CERTIFICATE_RECEIVED] = {"certificate.received", false, AGENTD},
    [PFX_EV_COMMAND] = {"command", false, AGENTD},
    [PFX_EV_ENROLMENT_ENDED] = {"enrolment.ended", false, AGENTD},
    [PFX_EV_ENROLMENT_FAILED] = {"enrolment.failed", false, AGENTD},
    [PFX_EV_ENROLMENT_HELD] = {"enrolment.held", false, AGENTD},
    [PFX_EV_LOG_DROPPED] = {"log.dropped", false, AGENTD},
    [PFX_EV_ORDER_CANCELLED] = {"order.cancelled", false, AGENTD},
    [PFX_EV_ORDER_LOST] = {"order.lost", false, AGENTD},
    [PFX_EV_ORDER_PLACED] = {"order.placed", false, AGENTD},
    [PFX_EV_ORDER_REVOKED] = {"order.revoked", false, AGENTD},
    [PFX_EV_RECORD_REMOVED] = {"record.removed", false, AGENTD},
    [PFX_EV_UPLOAD_CONFIRMED] = {"upload.confirmed", false, AGENTD},
};

/* Names are asked a million times a run, so a table by length, first and last letter. */
#define SLOTS 256

static size_t slot_of(const uint8_t *name, size_t len)
{
    return (len * 31 + name[0] * 7u + name[len - 1]) % SLOTS;
}

enum pfx_event pfx_event_find(struct pfx_bytes name)
{
    static uint8_t slots[SLOTS], lengths[PFX_EVENT_COUNT];
    if (!lengths[PFX_EVENT_COUNT - 1])
        for (size_t i = 1; i < PFX_EVENT_COUNT; i++) {
            size_t len = strlen(pfx_events[i].name);
            size_t at = slot_of((const uint8_t *)pfx_events[i].name, len);
            while (slots[at])
                at = (at + 1) % SLOTS;
            slots[at] = (uint8_t)i;
            lengths[i] = (uint8_t)len;
        }
    if (name.len == 0)
        return PFX_EV_UNKNOWN;
    for (size_t at = slot_of(name.data, name.len); slots[at]; at = (at + 1) % SLOTS)
        if (lengths[slots[at]] == name.len &&
            memcmp(pfx_events[slots[at]].name, name.data, name.len) == 0)
            return (enum pfx_event)slots[at];
    return PFX_EV_UNKNOWN;
}
