/* The events of the log: who may write them, in which phases. */
#ifndef PFX_AUDIT_EVENTS_H
#define PFX_AUDIT_EVENTS_H

#include "crypto/entry.h"

enum pfx_event {
    PFX_EV_UNKNOWN,
    PFX_EV_APPROVAL_ASK,
    PFX_EV_APPROVAL_GIVE,
    PFX_EV_APPROVAL_REFUSE,
    PFX_EV_ASSERTION_SIGN,
    PFX_EV_BACKUP_CREATE,
    PFX_EV_CEREMONY_CERTIFICATE,
    PFX_EV_CEREMONY_KEY,
    PFX_EV_CEREMONY_PIN,
    PFX_EV_CEREMONY_RECORD,
    PFX_EV_CLOCK_STEP,
    PFX_EV_KEY_EXPORT,
    /* of generations of the encryption key, together: pfx_event_pins */
    PFX_EV_KEY_ROTATE,
    PFX_EV_KEY_ACTIVATE,
    PFX_EV_KEY_RETIRE,
    PFX_EV_KEY_DESTROY,
    PFX_EV_KEY_COMPROMISE,
    PFX_EV_CONNECTOR_PROBE,
    PFX_EV_CONNECTOR_CONFIRM,
    PFX_EV_KEY_MAKE,
    PFX_EV_KEY_RECOVERED,
    PFX_EV_KEY_REWRAP,
    PFX_EV_LOG_BEGIN,
    PFX_EV_LOG_QUOTA,
    PFX_EV_LOG_RECOVERED,
    PFX_EV_LOG_REOPEN,
    PFX_EV_LOG_RETENTION,
    PFX_EV_LOG_ROTATE_KEY,
    PFX_EV_LOG_SEGMENT,
    PFX_EV_PFX_BUILD,
    PFX_EV_POLICY_CHANGED,
    PFX_EV_POLICY_FORCE,
    PFX_EV_PROBE,
    PFX_EV_RELEASE_WITHHELD,
    PFX_EV_REQUEST_REFUSED,
    PFX_EV_SECRET_OPEN,
    PFX_EV_SECRET_SEAL,
    PFX_EV_STANDING_ACTIVATE,
    PFX_EV_STANDING_DESTROY,
    PFX_EV_STANDING_ROTATE,
    PFX_EV_START,
    PFX_EV_STOP,
    PFX_EV_TOKEN_LOGIN,
    PFX_EV_TOKEN_READY,
    PFX_EV_USER_KEY_DESTROY,
    /* src agentd */
    PFX_EV_AGENTD_START,
    PFX_EV_AGENTD_STOP,
    PFX_EV_BACKUP_RESTORED,
    PFX_EV_CERTIFICATE_RECEIVED,
    PFX_EV_COMMAND,
    PFX_EV_ENROLMENT_ENDED,
    PFX_EV_ENROLMENT_FAILED,
    PFX_EV_ENROLMENT_HELD,
    PFX_EV_LOG_DROPPED,
    PFX_EV_ORDER_CANCELLED,
    PFX_EV_ORDER_LOST,
    PFX_EV_ORDER_PLACED,
    PFX_EV_ORDER_REVOKED,
    PFX_EV_RECORD_REMOVED,
    PFX_EV_UPLOAD_CONFIRMED,
    PFX_EVENT_COUNT
};
struct pfx_event_info {
    const char *name;
    bool operation;  /* intent and result; else a note */
    uint8_t writers; /* a bit for each enum pfx_src */
};
extern const struct pfx_event_info pfx_events[PFX_EVENT_COUNT];
enum pfx_event pfx_event_find(struct pfx_bytes name);

#endif
