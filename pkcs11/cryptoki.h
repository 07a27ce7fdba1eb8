/* Cryptoki as p11-kit's header spells it, names for people, and errors from CK_RV. */
#ifndef PFX_PKCS11_CRYPTOKI_H
#define PFX_PKCS11_CRYPTOKI_H

#include <p11-kit/pkcs11.h>

#include "crypto/result.h"

/* Mechanisms that p11-kit's header of Debian 12 may lack. */
#ifndef CKM_AES_KEY_WRAP_KWP
#define CKM_AES_KEY_WRAP_KWP 0x210BUL /* PKCS#11 v3.0: RFC 5649 */
#endif

/* CKR_OK to class OK; everything else by one table of CK_RV to class and sentence. text continues
 * the table's sentence with what to do; may be "". */
PFX_MUST_USE PFX_PRINTF(5, 6) pfx_result
    pfx_ckr_fail(struct pfx_error *err, CK_RV rv, const char *function, const char *object,
                 const char *text, ...);
const char *pfx_ckr_name(CK_RV rv); /* "CKR_DEVICE_ERROR"; "0x..." if unknown (static buffer per thread) */
/* The reverse; CK_UNAVAILABLE_INFORMATION for what isn't the name of a CKR. */
CK_RV pfx_ckr_parse(const char *name);
/* Does it stand for trouble that may pass (a full disk, a lost device), not for what the token can't
 * do? By the table's class; true for a vendor's own codes, false for CKR_OK. */
bool pfx_ckr_passes(CK_RV rv);

#endif
