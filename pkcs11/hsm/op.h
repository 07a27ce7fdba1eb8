/*
 * The one way through which pfx-hsm does anything with a key.
 *
 * An operation is described (event, who asks, for whom, which key), then pfx_op_run does, in this
 * order: the table's permission, the roles it needs, its ceiling; the intent; the work; the result;
 * and only then hands out the reply. The work can't release anything itself: what it makes goes
 * into a message that only pfx_op_run gives to its caller.
 *
 * Intent and result are entries of the signed operation log. The intent is on disk before the work
 * begins; the reply of a success leaves only when a signed checkpoint covers its result; a failure
 * is told when its result is on disk. What can't be logged isn't done (hsmlog.h). Operations fill
 * struct pfx_op with all that an entry holds; journal.c makes the entries from it.
 */
#ifndef PFX_HSM_OP_H
#define PFX_HSM_OP_H

#include "api/wire/schema.h"
#include "pkcs11/hsm/hsm.h"

enum pfx_event {
    PFX_EVENT_KEY_MAKE,  /* new user key and request */
    PFX_EVENT_PFX_BUILD, /* build PFX and seal */
    PFX_EVENT_USER_KEY_DESTROY,
    PFX_EVENT_ASSERTION_SIGN,
    PFX_EVENT_SECRET_OPEN,
    PFX_EVENT_SECRET_SEAL,
    PFX_EVENT_CEREMONY_KEY,  /* a standing key made or found */
    PFX_EVENT_CEREMONY_PIN,  /* a pin record written */
    PFX_EVENT_CEREMONY_CERT, /* a client certificate made */
    PFX_EVENT_PROBE,
    PFX_EVENT_KEY_EXPORT, /* a public key, after its pin was checked */
    PFX_EVENT_REWRAP,            /* a blob and its ticket under the keys that are active now */
    PFX_EVENT_STANDING_ROTATE,   /* the next generation of a standing key is made */
    PFX_EVENT_STANDING_ACTIVATE, /* and used from here on */
    PFX_EVENT_STANDING_DESTROY,
    /* generations of the encryption key */
    PFX_EVENT_KEY_ROTATE, /* about to be made; then made, or adopted, and staged */
    PFX_EVENT_KEY_ACTIVATE,
    PFX_EVENT_KEY_RETIRE,
    PFX_EVENT_KEY_DESTROY,
    PFX_EVENT_KEY_COMPROMISE,
    PFX_EVENT_CONNECTOR_PROBE,
    PFX_EVENT_CONNECTOR_CONFIRM,
    PFX_EVENT_BACKUP,     /* the manifest of a backup: the CLI has read the files */
};
enum pfx_actor_role { PFX_ACTOR_SELF, PFX_ACTOR_AGENTD, PFX_ACTOR_UPLOADER, PFX_ACTOR_OPERATOR };
struct pfx_actor { /* SO_PEERCRED of the line that the request came over */
    enum pfx_actor_role role;
    int64_t pid, uid;
};

struct pfx_approved;
struct pfx_op {
    enum pfx_event event;
    struct pfx_actor actor;
    struct { /* for whom; all optional */
        int64_t enrolment, attempt;
        bool has_user;
        uint8_t user[32]; /* SHA-256(salt of that user, object id): entries name nobody */
        char name[64];    /* standing key, app registration or secret */
    } target;
    struct { /* what was brought; key.make: the ticket that was made. SHA-256 */
        bool has_ticket, has_certificate;
        uint8_t ticket[32], certificate[32];
    } given;
    struct { /* of a move of a generation: what the operator said */
        bool has_records;
        int64_t records; /* that name it, as pfx-agentd counted */
        char reason[33];
    } said;
    struct { /* known before (id, algorithm), completed by the work */
        bool has_id, has_spki;
        struct pfx_key_id id;
        uint8_t spki[32]; /* SHA-256 */
        char algorithm[16];
        uint8_t foreign_id[64]; /* CKA_ID of a key that others made, in place of id */
        size_t foreign_len;
    } key;
    struct { /* what the work adds for the result */
        char token_label[33], token_serial[17];
        const char *tier;      /* static */
        const char *sealed_by; /* static */
        const char *seal_hash; /* static */
        unsigned generation;   /* of the encryption key */
        int64_t pin_serial;    /* of the pins' file with it */
        const char *pin_state; /* static; of the pin record that is written */
        const char *found;     /* static; key, blob or nothing: NULL for a key that was made */
        const char *standing_state; /* static; that a standing key comes into */
        int64_t standing_serial;    /* of their file, with it */
        bool has_sha256, has_sealed, has_pinned;
        uint8_t sha256[32]; /* of what is released */
        uint8_t sealed[32]; /* SHA-256 of the sealed password */
        uint8_t pinned[32]; /* SHA-256 of the public key that it is sealed to, or that is pinned */
    } out;
    /* A key of the log itself, made while there is no log yet: told as a note once there is. */
    bool early;
    /* What people approved (approvals.h): stands in the intent, and is spent with it. May be NULL. */
    struct pfx_approved *approved;
    int64_t started_ms; /* uptime */
    char ulid[27];      /* both entries' */
    uint64_t intent;    /* seq */
};

const char *pfx_event_name(enum pfx_event event);
/* Does its entry say what is written into the pins? */
bool pfx_event_pins(enum pfx_event event);
const char *pfx_actor_name(enum pfx_actor_role role);
void pfx_op_target_user(struct pfx_op *op, const char *user_id, struct pfx_bytes salt);
void pfx_op_token(struct pfx_op *op, const struct pfx_token *token);
void pfx_op_key(struct pfx_op *op, const struct pfx_key_id *id, struct pfx_bytes spki,
                const char *algorithm);
void pfx_op_out(struct pfx_op *op, struct pfx_bytes released);
void pfx_op_ticket(struct pfx_op *op, struct pfx_bytes ticket);
void pfx_op_certificate(struct pfx_op *op, struct pfx_bytes der);
void pfx_op_pinned(struct pfx_op *op, struct pfx_bytes spki);
void pfx_op_sealed(struct pfx_op *op, struct pfx_bytes sealed, const char *hash);

/* Does the work and leaves its reply in *ret_reply (may stay NULL where nothing is released). */
typedef pfx_result (*pfx_op_work)(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                                  struct pfx_msg **ret_reply, struct pfx_error *err);
/* *ret_reply is owned by the caller and only written on success. hsm->lock is held. */
PFX_MUST_USE pfx_result pfx_op_run(struct pfx_worker *worker, struct pfx_op *op, pfx_op_work work,
                                   void *ctx, struct pfx_msg **ret_reply, struct pfx_error *err);

#endif
