/* The probe's tools: one row a try. For this folder only. */
#ifndef PFX_PKCS11_TRY_H
#define PFX_PKCS11_TRY_H

#include "pkcs11/object.h"

struct pfx_try {
    struct pfx_session *session;
    struct pfx_token *token;
    struct pfx_probe *probe;
    enum pfx_hash kek_hash;
    CK_RV tampered_rv;
};

/* A new row; asks the module what it advertises. Never NULL. */
struct pfx_probe_row *pfx_try_row(struct pfx_try *t, CK_MECHANISM_TYPE mechanism, CK_FLAGS flag,
                                  const char *use, ...) PFX_PRINTF(4, 5);
/* Writes the outcome; why is added to `use` where it doesn't work. Returns works. */
bool pfx_try_done(struct pfx_probe_row *row, CK_RV rv, bool works, const char *why);
/* The same from a result of keys.h. */
bool pfx_try_result(struct pfx_probe_row *row, pfx_result r, const struct pfx_error *err);
void pfx_try_missing(struct pfx_try *t, const char *fmt, ...) PFX_PRINTF(2, 3);
void pfx_try_conflict(struct pfx_try *t, const char *fmt, ...) PFX_PRINTF(2, 3);

/* A throwaway key with the template of this use; false: no such key here. */
PFX_MUST_USE bool pfx_try_key(struct pfx_try *t, enum pfx_key_use use, enum pfx_key_type type,
                              struct pfx_key **ret_key);
bool pfx_try_sign(struct pfx_try *t, struct pfx_key *key, CK_MECHANISM_TYPE mechanism,
                  const char *use);
bool pfx_try_oaep(struct pfx_try *t, struct pfx_key *key, enum pfx_hash hash, const char *use);
bool pfx_try_raw(struct pfx_try *t, struct pfx_key *key, const char *use);
/* Which of our RSA sizes the mechanism's range covers. */
void pfx_try_rsa_sizes(struct pfx_try *t);
/* Are MODIFIABLE=false and ALLOWED_MECHANISMS honoured? On an HMAC key: cheap. */
void pfx_try_attributes(struct pfx_try *t);

/* probe_users.c, probe_wrap.c */
void pfx_try_users(struct pfx_try *t);
struct pfx_try_keys {
    struct pfx_key *rsa, *ec, *transport, *wrapping;
};
void pfx_try_way_in(struct pfx_try *t, const struct pfx_try_keys *keys);
void pfx_try_tiers(struct pfx_try *t, const struct pfx_try_keys *keys);
void pfx_try_blobs(struct pfx_try *t, const struct pfx_try_keys *keys);

#endif
