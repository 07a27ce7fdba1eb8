/*
 * Members without which an entry hides what it is about. Whoever writes a log that lies leaves out
 * what could be compared: so what each event must say is looked at before anything is.
 */
#include "agent/audit/meaning_state.h"

#define MEMBERS_MOST 7

static const struct {
    enum pfx_event event;
    enum pfx_phase phase;
    enum pfx_field members[MEMBERS_MOST];
    size_t n;
} musts[] = {
#define MUST(event, phase, ...)                                                                    \
    {                                                                                              \
        PFX_EV_##event, PFX_PHASE_##phase, {__VA_ARGS__},                                          \
            sizeof((enum pfx_field[]){__VA_ARGS__}) / sizeof(enum pfx_field)                       \
    }
    MUST(APPROVAL_ASK, NOTE, PFX_F_APPROVALS, PFX_F_TARGET_NAME, PFX_F_ACTOR_UID),
    MUST(APPROVAL_GIVE, NOTE, PFX_F_APPROVALS, PFX_F_TARGET_NAME, PFX_F_ACTOR_UID),
    MUST(BACKUP_CREATE, RESULT, PFX_F_OUT_SHA256),
    MUST(CEREMONY_PIN, RESULT, PFX_F_PIN_SERIAL),
    MUST(CEREMONY_RECORD, NOTE, PFX_F_OUT_SHA256, PFX_F_TARGET_NAME),
    MUST(KEY_ROTATE, RESULT, PFX_F_PIN_GENERATION, PFX_F_PIN_SERIAL, PFX_F_PIN_STATE),
    MUST(KEY_ACTIVATE, RESULT, PFX_F_PIN_GENERATION, PFX_F_PIN_SERIAL, PFX_F_PIN_SPKI,
         PFX_F_PIN_STATE),
    MUST(KEY_RETIRE, RESULT, PFX_F_PIN_GENERATION, PFX_F_PIN_SERIAL, PFX_F_PIN_SPKI,
         PFX_F_PIN_STATE),
    MUST(KEY_DESTROY, RESULT, PFX_F_PIN_GENERATION, PFX_F_PIN_SERIAL, PFX_F_PIN_SPKI,
         PFX_F_PIN_STATE, PFX_F_KEY_ID, PFX_F_FOUND),
    MUST(KEY_COMPROMISE, RESULT, PFX_F_PIN_GENERATION, PFX_F_PIN_SERIAL, PFX_F_PIN_SPKI,
         PFX_F_PIN_STATE, PFX_F_REASON),
    MUST(CONNECTOR_PROBE, RESULT, PFX_F_PIN_GENERATION, PFX_F_PIN_SERIAL, PFX_F_PIN_SPKI,
         PFX_F_TARGET_NAME, PFX_F_OUT_SHA256),
    MUST(CONNECTOR_CONFIRM, RESULT, PFX_F_PIN_GENERATION, PFX_F_PIN_SERIAL, PFX_F_PIN_SPKI,
         PFX_F_TARGET_NAME),
    MUST(POLICY_FORCE, NOTE, PFX_F_POLICY_FORCE),
    MUST(STANDING_ROTATE, RESULT, PFX_F_STANDING_SERIAL, PFX_F_KEY_ID),
    MUST(STANDING_ACTIVATE, RESULT, PFX_F_STANDING_SERIAL, PFX_F_KEY_ID),
    MUST(STANDING_DESTROY, RESULT, PFX_F_STANDING_SERIAL, PFX_F_KEY_ID),
#undef MUST
};

void pfx_meaning_form(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                      const struct pfx_entry *entry)
{
    int64_t phase = pfx_entry_int(entry, PFX_F_PHASE);
    if (pfx_entry_int(entry, PFX_F_OUTCOME) != PFX_OUTCOME_OK)
        return;
    for (size_t i = 0; i < sizeof(musts) / sizeof(musts[0]); i++) {
        if (musts[i].event != event || (int64_t)musts[i].phase != phase)
            continue;
        for (size_t k = 0; k < musts[i].n; k++)
            if (!pfx_entry_has(entry, musts[i].members[k])) {
                const struct pfx_field_info *info = &pfx_fields[musts[i].members[k]];
                pfx_meaning_tell(meaning, PFX_LEVEL_FINDING, seq, "%s is ok without its %s%s%s",
                                 pfx_events[event].name, info->group, *info->group ? "." : "",
                                 info->name);
            }
    }
}
