/*
 * A token that plays a role: its module, found by RFC 7512 URI (never by slot number), its login and
 * its pool of sessions.
 *
 * Roles that name the same token of the same module share one struct pfx_token. When the token or
 * the module is lost, it is opened anew (C_Finalize, C_Initialize, find, login) and its epoch rises:
 * cached handles carry the epoch they were found in.
 */
#ifndef PFX_PKCS11_TOKEN_H
#define PFX_PKCS11_TOKEN_H

#include "api/conf/hsm_policy.h"
#include "crypto/result.h"
#include "crypto/secret.h"
#include "pkcs11/cryptoki.h" /* p11-kit's pkcs11.h, names of CKR, CKM, CKA; pfx_ckr_fail */

struct pfx_token;
struct pfx_token_facts {
    char label[33], serial[17], manufacturer[33], model[17]; /* without padding */
    char module[256];      /* path */
    char module_sha256[65], module_version[32], firmware[16];
    CK_FLAGS flags;
};

/* Loads the module (dlopen, C_Initialize with OS locking and the parameters string) and finds
 * exactly one token. USAGE: module missing, URI wrong (the p11-kit parser's reason), no such token,
 * or several (lists what is there, with labels and serials). */
PFX_MUST_USE pfx_result pfx_token_open(enum pfx_role role, const struct pfx_role_conf *conf,
                                       unsigned sessions, struct pfx_token **ret_token,
                                       struct pfx_error *err);
void pfx_token_close(struct pfx_token *token); /* logs out, closes; the last one finalizes */
const struct pfx_token_facts *pfx_token_facts(const struct pfx_token *token);
/* Do both roles live on one token? */
bool pfx_token_same(const struct pfx_token *a, const struct pfx_token *b);
uint64_t pfx_token_epoch(const struct pfx_token *token);

/* PIN rules. After CKR_PIN_INCORRECT no further login with that PIN, across restarts, until the
 * credential changes: the guard keeps, for each role and token, a salted scrypt hash of the refused
 * PIN in a file. Token flags USER_PIN_COUNT_LOW, FINAL_TRY and LOCKED forbid a login.
 * Roles that share a token share its PIN, so the file is the token's. The guard must outlive the
 * tokens that were logged in with it: it is asked again at each new login. */
struct pfx_pin_guard;
PFX_MUST_USE pfx_result pfx_pin_guard_open(const char *folder, struct pfx_pin_guard **ret_guard,
                                           struct pfx_error *err);
void pfx_pin_guard_free(struct pfx_pin_guard *guard);
/* Logs in as CKU_USER. Keeps the PIN (in locked memory) only if keep, to log in again after the
 * token was opened anew; a message calls one that isn't kept the one given with the command.
 * REFUSED when a rule forbids it, or when the module takes the login to another of its tokens for
 * one to this; USAGE when the PIN is wrong. */
PFX_MUST_USE pfx_result pfx_token_login(struct pfx_token *token, struct pfx_pin_guard *guard,
                                        const struct pfx_secret *pin, bool keep,
                                        struct pfx_error *err);
/* Ends the login unless another role needs it. */
void pfx_token_logout(struct pfx_token *token, enum pfx_role role);
bool pfx_token_logged_in(const struct pfx_token *token);

/* A session of the pool; one thread at a time. Waits up to 30 s for a free one (TRANSIENT). A session
 * that the token dropped is replaced; a token that is gone is opened anew, once a call (DEVICE when
 * it can't be). `write` serialises token writes where the module needs it (NSS). */
struct pfx_session;
PFX_MUST_USE pfx_result pfx_session_acquire(struct pfx_token *token, bool write,
                                            struct pfx_session **ret_session, struct pfx_error *err);
void pfx_session_release(struct pfx_session *session);
static inline void pfx_session_releasep(struct pfx_session **pp)
{
    if (*pp)
        pfx_session_release(*pp);
}
#define PFX_AUTOSESSION __attribute__((cleanup(pfx_session_releasep)))
CK_SESSION_HANDLE pfx_session_handle(const struct pfx_session *session);
CK_FUNCTION_LIST *pfx_session_module(const struct pfx_session *session);
struct pfx_token *pfx_session_token(const struct pfx_session *session);
/* Tells the pool that a call answered rv: decides whether session or token must be opened anew. */
void pfx_session_saw(struct pfx_session *session, CK_RV rv);

/* Called after each C_Login with its answer, whoever needed it; roles: a bit for each role that was
 * opened on the token. It must not use the token. May be NULL; set it before the first login. */
extern void (*pfx_login_trace)(const struct pfx_token_facts *facts, unsigned roles, CK_RV rv);

/* Called before and after each C_* call by the wrapper: for the watchdog. May be NULL. */
extern void (*pfx_cryptoki_trace)(const char *function, bool entering);

#endif
