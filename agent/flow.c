#include "agent/flow.h"

#include <string.h>

#include "crypto/mem.h"

static const char *const state_names[PFX_STATE_COUNT] = {
    [PFX_NEW] = "NEW",           [PFX_KEYED] = "KEYED",     [PFX_ORDERED] = "ORDERED",
    [PFX_ISSUED] = "ISSUED",     [PFX_CHECKED] = "CHECKED", [PFX_SEALED] = "SEALED",
    [PFX_IMPORTED] = "IMPORTED", [PFX_ACTIVE] = "ACTIVE",   [PFX_HELD] = "HELD",
    [PFX_FAILED] = "FAILED",     [PFX_ENDED] = "ENDED",
};

/* clang-format off */
#define AGAIN(state) {state, NULL, true}
#define TO(state) {state, NULL, false}
#define STAY(state) TO(state)
#define ALL_STAY(state) TO(state), TO(state), TO(state), TO(state)
#define SETTLE(state, job) {state, job, true}
#define HOLD {PFX_HELD, NULL, false}

/*
 * A POST is never sent twice: when its answer is lost, the next job looks first. Everything else is
 * safe to repeat: hsm.key_csr finds its key by CKA_ID, hsm.build_seal draws a new password,
 * up.download and up.readback only read.
 *
 * An order's settle job that is refused has no meaning of its own in the flow; a
 * person looks at it.
 */
const struct pfx_flow_row pfx_flow[] = {
    /* state, job, settle, ok,
     *     transient, refused, lost, held */
    {PFX_NEW, "hsm.key_csr", NULL, PFX_KEYED,
         AGAIN(PFX_NEW), TO(PFX_FAILED), AGAIN(PFX_NEW), HOLD},
    {PFX_KEYED, "up.order", "up.order_settle", PFX_ORDERED,
         AGAIN(PFX_KEYED), HOLD, SETTLE(PFX_KEYED, "up.order_settle"), HOLD},
    {PFX_KEYED, "up.order_settle", NULL, PFX_ORDERED,
         AGAIN(PFX_KEYED), HOLD, AGAIN(PFX_KEYED), HOLD},
    {PFX_ORDERED, NULL, NULL, PFX_ISSUED, /* by the bulk poll */
         STAY(PFX_ORDERED), TO(PFX_ENDED), STAY(PFX_ORDERED), STAY(PFX_ORDERED)},
    {PFX_ISSUED, "up.download", NULL, PFX_CHECKED,
         AGAIN(PFX_ISSUED), HOLD, AGAIN(PFX_ISSUED), HOLD},
    {PFX_CHECKED, "hsm.build_seal", NULL, PFX_SEALED,
         AGAIN(PFX_CHECKED), HOLD, AGAIN(PFX_CHECKED), HOLD},
    {PFX_SEALED, "up.import", "up.import_settle", PFX_IMPORTED,
         AGAIN(PFX_SEALED), HOLD, SETTLE(PFX_SEALED, "up.import_settle"), HOLD},
    {PFX_SEALED, "up.import_settle", NULL, PFX_IMPORTED,
         AGAIN(PFX_SEALED), HOLD, AGAIN(PFX_SEALED), HOLD},
    {PFX_IMPORTED, "up.readback", NULL, PFX_ACTIVE,
         AGAIN(PFX_IMPORTED), TO(PFX_SEALED), AGAIN(PFX_IMPORTED), HOLD},
    {PFX_ACTIVE, NULL, NULL, PFX_ACTIVE, ALL_STAY(PFX_ACTIVE)},
    {PFX_HELD, NULL, NULL, PFX_HELD, ALL_STAY(PFX_HELD)},
    {PFX_FAILED, NULL, NULL, PFX_FAILED, ALL_STAY(PFX_FAILED)},
    {PFX_ENDED, NULL, NULL, PFX_ENDED, ALL_STAY(PFX_ENDED)},
};
/* clang-format on */
const size_t pfx_flow_rows = sizeof(pfx_flow) / sizeof(pfx_flow[0]);

#define BIT(state) (1u << (state))
/* Ways that people and passes open beside the table: to be held, released, retried, canceled, ended
 * for leaving the scope, rebuilt because Intune lost the record or the parcel is gone. An order may
 * be answered with its certificate. The CA may revoke at any time, and an operator remove. */
static const unsigned ways[PFX_STATE_COUNT] = {
    [PFX_NEW] = BIT(PFX_HELD) | BIT(PFX_ENDED),
    [PFX_KEYED] = BIT(PFX_HELD) | BIT(PFX_ENDED) | BIT(PFX_ISSUED) | BIT(PFX_CHECKED),
    [PFX_ISSUED] = BIT(PFX_ENDED),
    [PFX_CHECKED] = BIT(PFX_ENDED),
    [PFX_ACTIVE] = BIT(PFX_CHECKED) | BIT(PFX_ENDED),
    [PFX_SEALED] = BIT(PFX_CHECKED) | BIT(PFX_ENDED),
    [PFX_IMPORTED] = BIT(PFX_HELD) | BIT(PFX_ENDED),
    [PFX_HELD] = BIT(PFX_NEW) | BIT(PFX_KEYED) | BIT(PFX_ORDERED) | BIT(PFX_ISSUED) |
                 BIT(PFX_CHECKED) | BIT(PFX_SEALED) | BIT(PFX_IMPORTED) | BIT(PFX_ENDED),
};

const char *pfx_state_name(enum pfx_state state)
{
    return state < PFX_STATE_COUNT ? state_names[state] : "?";
}

bool pfx_state_parse(const char *name, enum pfx_state *ret_state)
{
    for (unsigned i = 0; i < PFX_STATE_COUNT; i++) {
        if (strcmp(state_names[i], name) == 0) {
            *ret_state = (enum pfx_state)i;
            return true;
        }
    }
    return false;
}

bool pfx_state_in_flight(enum pfx_state state)
{
    return state != PFX_ACTIVE && state != PFX_FAILED && state != PFX_ENDED;
}

const struct pfx_flow_row *pfx_flow_by_job(const char *kind)
{
    for (size_t i = 0; i < pfx_flow_rows; i++)
        if (pfx_flow[i].job && strcmp(pfx_flow[i].job, kind) == 0)
            return &pfx_flow[i];
    return NULL;
}

const struct pfx_flow_row *pfx_flow_by_state(enum pfx_state state)
{
    for (size_t i = 0; i < pfx_flow_rows; i++)
        if (pfx_flow[i].state == state)
            return &pfx_flow[i];
    pfx_die("a state without a row in the flow's table");
}

struct pfx_outcome pfx_flow_outcome(const struct pfx_flow_row *row, enum pfx_class cls)
{
    switch (cls) {
    case PFX_CLASS_OK:
        return (struct pfx_outcome){row->ok, NULL, false};
    case PFX_CLASS_TRANSIENT:
    case PFX_CLASS_DEVICE:
        return row->transient;
    case PFX_CLASS_REFUSED:
        return row->refused;
    case PFX_CLASS_LOST:
        return row->lost;
    case PFX_CLASS_USAGE:
    case PFX_CLASS_INTEGRITY:
    case PFX_CLASS_INTERNAL:
        break;
    }
    return row->held;
}

const char *pfx_flow_again(const char *kind)
{
    const struct pfx_flow_row *row = pfx_flow_by_job(kind);
    return row && row->settle ? row->settle : kind;
}

bool pfx_flow_may(enum pfx_state from, enum pfx_state to)
{
    if (ways[from] & BIT(to))
        return true;
    for (size_t i = 0; i < pfx_flow_rows; i++) {
        const struct pfx_flow_row *row = &pfx_flow[i];
        if (row->state == from && (row->ok == to || row->refused.to == to || row->held.to == to))
            return true;
    }
    return false;
}

const char *pfx_flow_resume(const char *kind, enum pfx_class cls)
{
    /* "refused" and "usage" say that nothing was done; anything else leaves it open. */
    return cls == PFX_CLASS_REFUSED || cls == PFX_CLASS_USAGE ? kind : pfx_flow_again(kind);
}

enum pfx_ca_status pfx_ca_status(const char *word)
{
    static const char *const waits[] = {"pending",   "processing",     "needs_approval",
                                        "needs_csr", "waiting_pickup", "reissue_pending"};
    static const char *const ends[] = {"rejected", "denied", "canceled", "revoked", "expired"};
    if (strcmp(word, "issued") == 0)
        return PFX_CA_ISSUED;
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++)
        if (strcmp(word, waits[i]) == 0)
            return PFX_CA_PENDING;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (strcmp(word, ends[i]) == 0)
            return PFX_CA_ENDED;
    return PFX_CA_UNKNOWN;
}
