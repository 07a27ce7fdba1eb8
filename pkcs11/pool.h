/* Inside of a token and its sessions; for this folder only. */
#ifndef PFX_PKCS11_POOL_H
#define PFX_PKCS11_POOL_H

#include "pkcs11/module.h"
#include "pkcs11/probe.h"

struct pfx_session {
    struct pfx_token *token;
    CK_SESSION_HANDLE handle; /* 0: not open */
    uint64_t generation;      /* of the module, when it was opened */
    uint64_t serial;          /* unique for each C_OpenSession: session objects end with it */
    bool in_use, write, read_only;
    bool stale;               /* replace before the next use */
    bool suspect; /* an answer without a reason: look at the token before the next use */
    bool want_login;          /* the token's state when this session was taken */
    uint64_t want_generation;
    pthread_t owner;
};

/* What the probes of all roles on this token found; keys.h picks from it. */
struct pfx_caps {
    struct pfx_probe merged;
    bool probed[PFX_ROLE_COUNT];
    bool complete[PFX_ROLE_COUNT]; /* all that the role needs is proven */
    bool doubted[PFX_ROLE_COUNT];  /* the last probe found less, and wasn't believed */
    CK_RV tampered_rv;       /* what a changed blob answers here, where that isn't a clear code */
    enum pfx_hash kek_hash;  /* OAEP hash under which a KEK comes in */
    bool no_local;           /* its own keys have CKA_LOCAL false (NSS) */
    /* Attributes that the token doesn't take in a template, for each enum pfx_half. */
    CK_ATTRIBUTE_TYPE dropped[4][16];
    size_t n_dropped[4];
};

struct pfx_token {
    struct pfx_token *next; /* of the same module */
    unsigned refs;
    struct pfx_module *module;
    char *uri;
    char what[64];          /* "users token", for messages before the label is known */
    struct pfx_token_facts facts;
    pthread_mutex_t caps_lock;
    struct pfx_caps caps;
    /* With the module's lock held: */
    CK_SLOT_ID slot;
    uint64_t generation; /* of the module, when the slot was found */
    uint64_t epoch;
    CK_OBJECT_HANDLE canary; /* a key that the token showed in this epoch; see key_find.c */
    uint64_t canary_epoch;
    bool lost;           /* a call said so: reopen the module before the next use */
    bool away;           /* the last look for it found nothing */
    bool settling;       /* one thread is looking for it */
    unsigned roles;      /* bits: opened */
    unsigned needs;      /* bits: still need the login */
    bool logged_in;      /* we want it to be */
    struct pfx_session **sessions;
    size_t n_sessions;   /* entries, up to max_sessions */
    size_t max_sessions;
    unsigned granted[PFX_ROLE_COUNT]; /* of max_sessions, for each role that was ever opened */
    size_t session_limit; /* open sessions beyond which the token said CKR_SESSION_COUNT; 0: none */
    /* One login at a time, and the login's PIN: */
    pthread_mutex_t login_lock;
    struct pfx_secret *pin;
    bool pin_proven; /* the token took it */
    struct pfx_pin_guard *guard;
};

/* A session handle of our own, out of the pool, for tidying up: never used for work. */
CK_RV pfx_session_open_raw(struct pfx_token *token, bool write, CK_SESSION_HANDLE *ret_handle);
/* Destroys a session object wherever its session is; nothing if that is gone. */
void pfx_session_object_destroy(struct pfx_token *token, uint64_t session_serial,
                                CK_OBJECT_HANDLE handle);
uint64_t pfx_session_serial(const struct pfx_session *session);
bool pfx_session_serial_alive(struct pfx_token *token, uint64_t serial);
/* Fails with the token's label as object. */
#define pfx_session_fail(session, err, rv, function, ...)                                          \
    pfx_ckr_fail(err, rv, function, pfx_session_token(session)->facts.label, __VA_ARGS__)

/* As the token says now; *ret_rv is C_GetSessionInfo's answer. */
bool pfx_session_logged_in(struct pfx_session *session, CK_RV *ret_rv);
/* login.c: makes sure that the session is logged in, where the token is to be. */
PFX_MUST_USE pfx_result pfx_login_again(struct pfx_session *session, struct pfx_error *err);
/* C_GetTokenInfo as it is now. */
CK_RV pfx_token_info_now(struct pfx_token *token, CK_TOKEN_INFO *ret_info);
/* Is the very token of pfx_token_open still in its slot? */
PFX_MUST_USE pfx_result pfx_token_present(struct pfx_session *session, struct pfx_error *err);
bool pfx_token_is(const struct pfx_token *token, const CK_TOKEN_INFO *info);

/* pin_guard.c: around each C_Login. hash stands for the PIN between the two. */
#define PFX_PIN_HASH_SIZE 32
enum pfx_pin_from { /* so that a refusal tells its owner what to do */
    PFX_PIN_FILE,   /* the role's pin_file, or a credential: read at each start */
    PFX_PIN_GIVEN,  /* with one command, and not kept */
};
PFX_MUST_USE pfx_result pfx_pin_guard_begin(struct pfx_pin_guard *guard,
                                            const struct pfx_token_facts *facts,
                                            const struct pfx_secret *pin, enum pfx_pin_from from,
                                            uint8_t ret_hash[PFX_PIN_HASH_SIZE],
                                            struct pfx_error *err);
/* verdict: what C_Login answered. */
PFX_MUST_USE pfx_result pfx_pin_guard_end(struct pfx_pin_guard *guard,
                                          const struct pfx_token_facts *facts,
                                          const uint8_t hash[PFX_PIN_HASH_SIZE], CK_RV verdict,
                                          struct pfx_error *err);

#endif
