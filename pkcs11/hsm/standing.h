/*
 * The keys that stand on the tokens: which there are, their names, and how each CKA_ID follows from
 * the name. Nothing is registered anywhere: another host with the same tokens finds the same keys.
 */
#ifndef PFX_HSM_STANDING_H
#define PFX_HSM_STANDING_H

#include "pkcs11/keys.h"

enum pfx_standing { /* index of a standing key; one more for each app registration follows */
                    PFX_STANDING_WRAPPING,
                    PFX_STANDING_TRANSPORT,
                    PFX_STANDING_MAC,
                    PFX_STANDING_SECRETS,
                    PFX_STANDING_LOG,
                    PFX_STANDING_LOG_ED25519,
                    PFX_STANDING_ANCHOR_A,
                    PFX_STANDING_ANCHOR_B,
                    PFX_STANDING_CLIENT, /* + index of the app in the policy */
};
#define PFX_APPS_MAX 16
#define PFX_STANDING_MAX (PFX_STANDING_CLIENT + PFX_APPS_MAX)

struct pfx_standing_key {
    enum pfx_role role;
    enum pfx_key_use use;
    enum pfx_key_type type; /* where the use has a choice */
    bool optional;          /* only where the token can */
    bool pair;              /* has a public half */
    unsigned generation;
    char stem[48];      /* "mac", "client-main" */
    char name[64];      /* "mac-1", "client-main-1" */
    char label[128];    /* CKA_LABEL */
    char algorithm[16]; /* for people */
    struct pfx_key_id id;
};
/* The keys of the log role are each host's own: the token may be shared, the log isn't. */
static inline bool pfx_standing_of_log(size_t index)
{
    return index >= PFX_STANDING_LOG && index <= PFX_STANDING_ANCHOR_B;
}
/* Those that `pfx-agent standing` changes; the log's own go by `log rotate-key`. */
static inline bool pfx_standing_rotates(size_t index)
{
    return index >= PFX_STANDING_CLIENT || index == PFX_STANDING_WRAPPING ||
           index == PFX_STANDING_MAC;
}
/* How many there are under this policy; USAGE when it names more apps than fit. */
size_t pfx_standing_count(const struct pfx_hsm_policy *policy);
void pfx_standing_describe(const struct pfx_hsm_policy *policy, size_t index,
                           struct pfx_standing_key *ret_key);
/* A generation of any other one that rotates; the rest have only the first. */
void pfx_standing_generation(const struct pfx_hsm_policy *policy, size_t index, unsigned generation,
                             struct pfx_standing_key *ret_key);
/* A generation of a key of the log role; the anchors have only the first. */
void pfx_standing_log(const struct pfx_hsm_policy *policy, size_t index, unsigned generation,
                      struct pfx_standing_key *ret_key);
/* A generation of the encryption key. */
void pfx_standing_encryption(const struct pfx_hsm_policy *policy, unsigned generation,
                             struct pfx_standing_key *ret_key);
/* CKA_ID of the user key of this enrolment and attempt on this host: a repeated job finds it. User
 * and purpose are in it, so a pfx-agentd that repeats a job with another user's id finds nothing,
 * and gets no second ticket for a key that is somebody else's. */
void pfx_user_key_id(const char *host_id, const char *user_id, const char *purpose,
                     int64_t enrolment, int64_t attempt, struct pfx_key_id *ret_id);
#define PFX_USER_LABEL "pfx-agent user " /* every user key's CKA_LABEL starts so */
/* "pfx-users (serial 0123...)" into buf, for people; returns buf. */
const char *pfx_token_text(const struct pfx_token *token, char buf[128]);

#endif
