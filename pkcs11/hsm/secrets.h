/* Service secrets (api/wire/secret_names.h): sealed to the secrets key at once, one file each in the state
 * folder, opened only for the uploader.
 *   pfx-agent secret v1
 *   name digicert
 *   changed <ms UTC>
 *   sealed_to <SHA-256 of the secrets key's SPKI, hex>
 *   oaep sha256
 *   sealed <base64>
 */
#ifndef PFX_HSM_SECRETS_H
#define PFX_HSM_SECRETS_H

#include "api/wire/secret_names.h"
#include "pkcs11/hsm/hsm.h"

#define PFX_SECRET_BLOCKS 2 /* hold PFX_SECRET_MAX with RSA-3072 and SHA-256 */

struct pfx_sealed {
    char name[32];
    int64_t changed_ms;
    char sealed_to[65];
    struct pfx_buf blocks[PFX_SECRET_BLOCKS];
    size_t n_blocks;
};
void pfx_sealed_init(struct pfx_sealed *sealed);
void pfx_sealed_done(struct pfx_sealed *sealed); /* usable as cleanup after _init */
PFX_MUST_USE bool pfx_sealed_write(const struct pfx_sealed *sealed, struct pfx_buf *out);
PFX_MUST_USE bool pfx_sealed_parse(const char *text, size_t len, struct pfx_sealed *ret_sealed);
/* *ret_present = false when none is stored; INTEGRITY for a file that isn't ours. */
PFX_MUST_USE pfx_result pfx_sealed_load(const struct pfx_hsm *hsm, const char *name,
                                        struct pfx_sealed *ret_sealed, bool *ret_present,
                                        struct pfx_error *err);

#endif
