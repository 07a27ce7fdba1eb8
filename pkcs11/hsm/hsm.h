/* What all threads of pfx-hsm share. */
#ifndef PFX_HSM_HSM_H
#define PFX_HSM_HSM_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "api/conf/hsm_policy.h"
#include "crypto/cert.h"
#include "pkcs11/hsm/ceiling.h"
#include "pkcs11/hsm/ring.h"
#include "pkcs11/hsm/standing.h"
#include "pkcs11/probe.h"

enum pfx_role_phase {
    PFX_ROLE_CLOSED,    /* module or token missing, or no login: `why` says which */
    PFX_ROLE_LOGGED_IN, /* but probe, keys or pins don't hold: `why` */
    PFX_ROLE_READY,
};
struct pfx_role_state {
    struct pfx_token *token; /* NULL while closed */
    enum pfx_role_phase phase;
    struct pfx_error why;    /* unless ready */
    bool again;              /* opening once more may help: the cause isn't a person's to remove */
    bool no_keys;            /* `init` has not been run for this role */
    uint64_t opening;        /* rises each time the role is opened */
    struct pfx_probe *probe; /* NULL until it was run */
    bool lacking;            /* it, or the policy, has something against the role */
    uint64_t probe_epoch;
    unsigned disturbed;  /* probes in a row that found less for a reason that may pass */
    int64_t probe_at_ms; /* uptime; such a probe isn't repeated by itself before */
};

struct pfx_app {
    uint8_t x5t_s256[32];
    int64_t not_after_ms;
    char *pem;
};

struct pfx_hsm {
    const struct pfx_hsm_policy *policy;
    struct pfx_pin_guard *guard;
    struct pfx_certs *roots;
    int64_t started_ms;
    /* Order of locks: lock, then any of the small ones. Operations hold it for reading; what opens
     * or closes tokens, and the ceremony, for writing. The encryption role is touched under the
     * writer's lock only. */
    pthread_rwlock_t lock;
    struct pfx_role_state roles[PFX_ROLE_COUNT];
    struct pfx_buf standing_spki[PFX_STANDING_MAX]; /* public halves as found when ready */
    struct pfx_rotation *rotation;      /* rotation.h: generations of the standing keys */
    unsigned generations[PFX_STANDING_MAX]; /* of it, those that are active; not the log's */
    struct pfx_app apps[PFX_APPS_MAX];

    struct pfx_hsmlog *log;  /* hsmlog.h */
    struct pfx_approvals *approvals; /* approvals.h */
    struct pfx_force *force;         /* force.h: borrowed, as policy is */
    bool force_logged;               /* the log has it as it is */
    bool force_lost;                 /* ... and something else: nothing is done */
    bool force_vouched;              /* the MAC key says that the file is ours */
    bool force_due, force_approved;  /* the change was approved, and stands in the file: restart */
    unsigned log_generation; /* of the log keys in force, or to be made: under lock */

    int64_t pages_at_ms; /* uptime: pages of ceremonies are missing, and are tried again; 0: none */

    struct pfx_ceilings ceilings;

    sem_t lanes;                  /* policy->sessions: pfx-agentd's operations at the tokens at once */
    pthread_mutex_t small;        /* for what follows */
    struct pfx_claim {
        struct pfx_key_id id;
        unsigned n; /* workers */
        bool alone;
    } claims[256]; /* user keys that some worker has at this moment: claim.h */
    size_t n_claims;
    struct pfx_due { /* due.h: the pins' generations, and what was last told of them */
        struct pfx_generation list[PFX_GENERATIONS_MOST];
        size_t n;
        int64_t told_day;
        unsigned told_active, told_staged;
    } due;
    struct pfx_error trouble; /* the last failure of a token in an operation, until one succeeds */
    int64_t trouble_ms;
    uint64_t done_ok, done_failed;
    atomic_bool stopping;
};

/* One thread that does operations. */
struct pfx_worker {
    struct pfx_hsm *hsm;
    struct pfx_ring ring;
    unsigned index;
    bool began; /* this task has an operation in the log: its failure isn't a refusal of its own */
};

/* Makes the state folder if it is missing (0700; 0711 when auditors may read the log), and refuses
 * one that others can write to. */
PFX_MUST_USE pfx_result pfx_hsm_folders(const struct pfx_hsm_policy *policy, struct pfx_error *err);
/* policy and force are borrowed, and its folders are there. Reads the CA roots; opens the operation log, and no
 * token. */
PFX_MUST_USE pfx_result pfx_hsm_new(const struct pfx_hsm_policy *policy, struct pfx_force *force,
                                    struct pfx_hsm **ret_hsm, struct pfx_error *err);
/* Ends the operation log, then closes the tokens: log out, C_Finalize. */
void pfx_hsm_free(struct pfx_hsm *hsm);
static inline void pfx_hsm_freep(struct pfx_hsm **pp)
{
    pfx_hsm_free(*pp);
}
/* "state_dir/name"; free it. */
char *pfx_hsm_path(const struct pfx_hsm *hsm, const char *name);
/* The standing key of this index, of the generation that is in force. The lock is held. */
void pfx_hsm_standing(const struct pfx_hsm *hsm, size_t index, struct pfx_standing_key *ret_key);

/* Why operations on these roles can't be done now; OK when all are ready. The lock is held. */
#define PFX_NEEDS(role) (1u << (role))
PFX_MUST_USE pfx_result pfx_hsm_needs(const struct pfx_hsm *hsm, unsigned roles,
                                      struct pfx_error *err);
/* The class of an error and of the result that carries it, changed together. */
PFX_MUST_USE pfx_result pfx_reclass(pfx_result result, enum pfx_class from, enum pfx_class to,
                                    struct pfx_error *err);

#endif
