/* The bytes of a ticket: who a key was made for. pfx-hsm MACs them when it makes a key and asks for
 * them again before it packs one. */
#ifndef PFX_CRYPTO_TICKET_H
#define PFX_CRYPTO_TICKET_H

#include "crypto/key.h"
#include "crypto/mem.h"

struct pfx_ticket {
    const char *user_id;          /* object id */
    uint8_t salt[16];             /* that user's salt for the operation log */
    const char *const *addresses;
    size_t n_addresses;
    enum pfx_purpose purpose;
    struct pfx_bytes key_id;      /* CKA_ID */
    struct pfx_bytes spki;
};
/* Domain-separated and length-prefixed, addresses lower-cased and sorted: two tickets have the same
 * bytes only if they say the same. */
PFX_MUST_USE bool pfx_ticket_bytes(const struct pfx_ticket *ticket, struct pfx_buf *out);
/* The same two address sets, without regard to ASCII case and order? */
bool pfx_addresses_equal(const char *const *a, size_t n_a, const char *const *b, size_t n_b);

#endif
