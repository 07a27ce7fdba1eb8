/*
 * What a token really does: each mechanism is tried with throwaway session keys and its result looked
 * at, because advertised flags lie. Leaves nothing behind.
 */
#ifndef PFX_PKCS11_PROBE_H
#define PFX_PKCS11_PROBE_H

#include "crypto/pbe.h"
#include "pkcs11/keys.h"

enum pfx_way_in { PFX_WAY_NONE, PFX_WAY_UNWRAP, PFX_WAY_CREATE }; /* how a KEK enters */

struct pfx_probe_row {
    CK_MECHANISM_TYPE mechanism;
    bool advertised;  /* with the flag for this use */
    CK_RV rv;         /* CKR_OK and works: proven; CKR_OK and not works: the result was wrong */
    bool tried, works;
    bool passing;     /* doesn't work now, for a reason that may pass: a full disk, a lost device */
    char use[200];    /* used for what, or why it isn't */
};
struct pfx_probe {
    enum pfx_role role;
    struct pfx_probe_row rows[64];
    size_t n_rows;
    bool missing_any;      /* lacks what its role needs */
    bool passing;          /* some row is `passing`, or the probe before found more: a later one may */
    char missing[640];     /* ... and what */
    char conflicts[12][320];
    size_t n_conflicts;
    /* What operations pick from. */
    bool oaep_sha256, oaep_sha384, oaep_sha512; /* decryption in the token */
    bool raw_rsa;
    bool seals; /* raw RSA with a public key of ours, proven right */
    CK_MECHANISM_TYPE sign_rsa;   /* CKM_RSA_PKCS with DigestInfo, or CKM_SHA256_RSA_PKCS */
    CK_MECHANISM_TYPE sign_pss;   /* CKM_SHA256_RSA_PKCS_PSS, CKM_RSA_PKCS_PSS or CKM_RSA_X_509 */
    bool ecdsa, eddsa, hmac;
    enum pfx_way_in way_in;
    CK_MECHANISM_TYPE kwp;        /* 0x210B or 0x210A, whichever is RFC 5649; CK_UNAVAILABLE_... */
    CK_MECHANISM_TYPE blob_rsa, blob_ec; /* for wrapped user keys */
    struct {
        enum pfx_tier rsa, ec;
    } tier[PFX_PROFILE_COUNT]; /* of each PFX profile */
    bool key_types[PFX_KEY_TYPE_COUNT];
    bool modifiable_kept;         /* CKA_MODIFIABLE=false is honoured */
    bool allowed_mechanisms_kept; /* CKA_ALLOWED_MECHANISMS is honoured */
};
/* Runs the probe for what `role` needs (union over roles when they share a token: call it for each).
 * The token must be logged in. The result is also kept in the token for pkcs11/keys.h. */
PFX_MUST_USE pfx_result pfx_probe_run(struct pfx_token *token, enum pfx_role role,
                                      struct pfx_probe *ret_probe, struct pfx_error *err);
enum pfx_tier pfx_probe_tier(const struct pfx_probe *probe, enum pfx_profile profile,
                             enum pfx_key_type type);
/* What the probes of this token have proven, which is what operations pick from. A probe that was
 * disturbed (`passing`) takes nothing away that an earlier one has proven. */
void pfx_token_proven(struct pfx_token *token, struct pfx_probe *ret_proven);
const char *pfx_ckm_name(CK_MECHANISM_TYPE mechanism); /* "CKM_AES_CBC_PAD"; "0x..." if unknown */

#endif
