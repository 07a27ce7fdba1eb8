/*
 * The flow of an enrolment as one table: one row for each state and job. Pure: no clock, no store.
 * Everything that moves an enrolment asks here where it goes.
 */
#ifndef PFX_AGENT_FLOW_H
#define PFX_AGENT_FLOW_H

#include <stdbool.h>
#include <stddef.h>

#include "crypto/result.h"

enum pfx_state {
    PFX_NEW,      /* wanted; no key yet */
    PFX_KEYED,    /* key and request are there */
    PFX_ORDERED,  /* the CA has it */
    PFX_ISSUED,   /* certificate can be fetched */
    PFX_CHECKED,  /* certificate is here and is what was ordered */
    PFX_SEALED,   /* PFX and sealed password wait for Intune */
    PFX_IMPORTED, /* sent to Intune, not yet read back */
    PFX_ACTIVE,   /* read back; done */
    PFX_HELD,     /* waits for a person; remembers where it was */
    PFX_FAILED,   /* ended before an order was placed */
    PFX_ENDED,    /* ended without a certificate, or given up */
    PFX_STATE_COUNT,
};
const char *pfx_state_name(enum pfx_state state); /* "NEW", "KEYED", ... */
PFX_MUST_USE bool pfx_state_parse(const char *name, enum pfx_state *ret_state);
/* Neither done nor given up. */
bool pfx_state_in_flight(enum pfx_state state);

struct pfx_outcome {
    enum pfx_state to;
    const char *job; /* what goes into the outbox then; NULL: the first job of that state */
    bool again;      /* the state stays: the job goes out again after a back-off */
};
struct pfx_flow_row {
    enum pfx_state state;
    const char *job;    /* NULL: nothing is in the outbox; see the state */
    const char *settle; /* what goes out instead once the job may have been sent; NULL: the same */
    enum pfx_state ok;
    struct pfx_outcome transient; /* try again later; errors of a device too */
    struct pfx_outcome refused;
    struct pfx_outcome lost;
    struct pfx_outcome held; /* integrity, internal, usage */
};
extern const struct pfx_flow_row pfx_flow[];
extern const size_t pfx_flow_rows;

/* The row of a job kind; NULL for kinds that move no enrolment by themselves. */
const struct pfx_flow_row *pfx_flow_by_job(const char *kind);
/* The first row of a state; never NULL. */
const struct pfx_flow_row *pfx_flow_by_state(enum pfx_state state);
/* Where an answer of this class leads. */
struct pfx_outcome pfx_flow_outcome(const struct pfx_flow_row *row, enum pfx_class cls);
/* What is handed out in place of a job that was sent to a process that is gone, or never arrived.
 */
const char *pfx_flow_again(const char *kind);
/* Is there a way from one state to the other, by the table or by a person's command? */
bool pfx_flow_may(enum pfx_state from, enum pfx_state to);
/* What a HELD enrolment goes back to when a person says retry: the safe variant if the answer of
 * this class leaves open whether a POST was done. */
const char *pfx_flow_resume(const char *kind, enum pfx_class cls);

/* What an order's status word at the CA means. */
enum pfx_ca_status { PFX_CA_PENDING, PFX_CA_ISSUED, PFX_CA_ENDED, PFX_CA_UNKNOWN };
enum pfx_ca_status pfx_ca_status(const char *word);

#endif
