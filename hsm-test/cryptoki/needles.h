/*
 * The secrets that the token holds, for tests that look for them elsewhere. After each key that is
 * made, created, unwrapped or derived, the process that holds the token wraps it under an AES key of
 * its own and opens that; a line for each secret goes to tt_shared:
 *
 *   CLASS FUNCTION NAME HEX     rsa C_GenerateKeyPair d 01ab...; NAME is d, p, q, dP, dQ, qInv (rsa),
 *                               d (ec) or value (secret)
 *   random C_GenerateRandom value HEX
 *   plain C_Encrypt value HEX   what is encrypted: a PFX password that the token seals
 *   closed FUNCTION CLASS CKR   a key that the token doesn't give out; nothing can be looked for
 */
#ifndef TT_NEEDLES_H
#define TT_NEEDLES_H

#include <stddef.h>

#include <p11-kit/pkcs11.h>

#include "hsm-test/cryptoki/names.h"

void tt_needle_key(CK_FUNCTION_LIST *p11, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key,
                   enum tt_function function);
/* value: what is known without asking the token (C_CreateObject's template). */
void tt_needle_value(const char *cls, enum tt_function function, const char *name,
                     const unsigned char *value, size_t len);

#endif
