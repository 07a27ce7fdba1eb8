/*
 * The one way through which pfx-hsm does anything with a key.
 *
 * An operation is described (event, who asks, for whom, which key), then pfx_op_run does, in this
 * order: the table's permission, the roles it needs, its ceiling; the intent; the work; the result;
 * and only then hands out the reply. The work can't release anything itself: what it makes goes
 * into a message that only pfx_op_run gives to its caller.
 *
 * The signed operation log (operation-log.md) takes its place in op.c: the intent is written where
 * `begin` stands, result and checkpoint where `finish` stands. Operations fill struct pfx_op with
 * all that an entry holds and need no change for it.
 */
#ifndef PFX_HSM_OP_H
#define PFX_HSM_OP_H

#include "api/wire/schema.h"
#include "pkcs11/hsm/hsm.h"

enum pfx_event {
    PFX_EVENT_KEY_MAKE,  /* new user key and request */
    PFX_EVENT_PFX_BUILD, /* build PFX and seal */
    PFX_EVENT_ASSERTION_SIGN,
    PFX_EVENT_SECRET_OPEN,
    PFX_EVENT_SECRET_SEAL,
    PFX_EVENT_CEREMONY_KEY,  /* a standing key made or found */
    PFX_EVENT_CEREMONY_PIN,  /* a pin record written */
    PFX_EVENT_CEREMONY_CERT, /* a client certificate made */
    PFX_EVENT_PROBE,
    PFX_EVENT_KEY_EXPORT, /* a public key, after its pin was checked */
};
enum pfx_actor_role { PFX_ACTOR_SELF, PFX_ACTOR_AGENTD, PFX_ACTOR_UPLOADER, PFX_ACTOR_OPERATOR };
struct pfx_actor { /* SO_PEERCRED of the line that the request came over */
    enum pfx_actor_role role;
    int64_t pid, uid;
};

struct pfx_op {
    enum pfx_event event;
    struct pfx_actor actor;
    struct { /* for whom; all optional */
        int64_t enrolment, attempt;
        bool has_user;
        uint8_t user[32]; /* SHA-256(salt of that user, object id): entries name nobody */
        char name[64];    /* standing key, app registration or secret */
    } target;
    struct { /* known before (id, algorithm), completed by the work */
        bool has_id, has_spki;
        struct pfx_key_id id;
        uint8_t spki[32]; /* SHA-256 */
        char algorithm[16];
    } key;
    struct { /* what the work adds for the result */
        char token_label[33], token_serial[17];
        const char *tier;      /* static */
        const char *sealed_by; /* static */
        unsigned generation;
        bool has_sha256;
        uint8_t sha256[32]; /* of what is released */
    } out;
    int64_t started_ms; /* uptime */
};

const char *pfx_event_name(enum pfx_event event);
const char *pfx_actor_name(enum pfx_actor_role role);
void pfx_op_target_user(struct pfx_op *op, const char *user_id, struct pfx_bytes salt);
void pfx_op_token(struct pfx_op *op, const struct pfx_token *token);
void pfx_op_key(struct pfx_op *op, const struct pfx_key_id *id, struct pfx_bytes spki,
                const char *algorithm);
void pfx_op_out(struct pfx_op *op, struct pfx_bytes released);

/* Does the work and leaves its reply in *ret_reply (may stay NULL where nothing is released). */
typedef pfx_result (*pfx_op_work)(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                                  struct pfx_msg **ret_reply, struct pfx_error *err);
/* *ret_reply is owned by the caller and only written on success. hsm->lock is held. */
PFX_MUST_USE pfx_result pfx_op_run(struct pfx_worker *worker, struct pfx_op *op, pfx_op_work work,
                                   void *ctx, struct pfx_msg **ret_reply, struct pfx_error *err);

#endif
