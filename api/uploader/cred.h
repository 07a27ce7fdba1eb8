/*
 * Something secret that a service wants with each request: an access token, an API key. Whoever
 * needs it waits for one refresh, however many they are.
 */
#ifndef PFX_UPLOADER_CRED_H
#define PFX_UPLOADER_CRED_H

#include <stdbool.h>
#include <stdint.h>

#include "crypto/result.h"
#include "crypto/secret.h"

struct pfx_cred {
    const char *what;    /* "the access token for Graph" */
    const char *header;  /* "Authorization: Bearer "; NULL: it isn't sent in a header */
    /* Gets a new one: calls pfx_cred_put, pfx_cred_fail or pfx_cred_later, now or at some time. */
    void (*begin)(struct pfx_cred *cred);
    int64_t idle_ms;     /* forgotten when nobody wanted it for so long; 0: kept */

    struct pfx_secret *value;
    struct pfx_secret *refused; /* the last value, until there is another */
    unsigned generation; /* counts the values */
    unsigned version;    /* the same, but for one that was refused and came again */
    int64_t good_until, last_used;
    bool busy;
    unsigned setbacks;   /* in a row */
    int64_t not_before;
    unsigned failures;   /* final ones: whoever waits while this grows, fails too */
    struct pfx_error trouble; /* of the last setback or failure */
    unsigned refusals; /* of fresh values by the service, with less than a minute between two */
    int64_t refused_at, believed_until;
};

/* The value, borrowed until the loop's next turn; NULL: not there yet, it has been asked for. */
const struct pfx_secret *pfx_cred_want(struct pfx_cred *cred, int64_t now_ms);
/* When it makes sense to look again although nothing happened; INT64_MAX: never. */
int64_t pfx_cred_next(const struct pfx_cred *cred);
/*
 * The service refused the value of this generation. True: another one is worth a try; the old one
 * is forgotten. fresh: it was got because of an earlier refusal. A service that keeps refusing
 * fresh ones is believed for a while, since each costs an operation of the HSM: false.
 */
bool pfx_cred_refused(struct pfx_cred *cred, unsigned generation, bool fresh, int64_t now_ms);
/* Forgets a value that is no longer good or needed. */
void pfx_cred_tidy(struct pfx_cred *cred, int64_t now_ms);
void pfx_cred_done(struct pfx_cred *cred);

/* For begin: here it is (taken over), and how long it is good. After one that is good for less than
 * half a minute the next one may have to wait. */
void pfx_cred_put(struct pfx_cred *cred, struct pfx_secret *value, int64_t good_ms, int64_t now_ms);
/* It can't be had: whoever waits now fails with err. The next one to ask waits a little. */
void pfx_cred_fail(struct pfx_cred *cred, const struct pfx_error *err, int64_t now_ms);
/* Not now: whoever waits goes on waiting, and it is tried again after wait_ms, or a
 * back-off where that is longer (wait_ms < 0: in any case). */
void pfx_cred_later(struct pfx_cred *cred, const struct pfx_error *err, int64_t wait_ms,
                    int64_t now_ms);
/* pfx-hsm was asked for it in vain: one of these two. away: nobody answered, rather than that
 * it says no. */
void pfx_cred_denied(struct pfx_cred *cred, bool away, const struct pfx_error *err, int64_t now_ms);

#endif
