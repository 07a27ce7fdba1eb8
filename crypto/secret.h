/*
 * The one type for secrets: PINs, PFX passwords, key-encryption keys, access tokens, API keys,
 * and private key bytes in the export tier `transit`.
 *
 * Each secret has its own locked pages between two guard pages; they are left out of core dumps,
 * don't survive a fork, and are wiped on free. There is no way to print one.
 *
 * Where the kernel has memfd_secret(2) they are pages of that: taken out of the kernel's own map,
 * so that reading the process's memory from outside (/proc/PID/mem, ptrace, a driver) fails there,
 * for root too. The host doesn't hibernate while there is one.
 */
#ifndef PFX_CRYPTO_SECRET_H
#define PFX_CRYPTO_SECRET_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/mem.h"
#include "crypto/result.h"

struct pfx_secret;

enum pfx_secret_memory {
    PFX_SECRET_AUTO,   /* memfd_secret where the kernel has it, else locked pages */
    PFX_SECRET_LOCKED, /* for a PKCS#11 library whose driver has to reach them, and hibernation */
    PFX_SECRET_MEMFD,
};
/* What secrets are made of from now on; before, AUTO. USAGE: the kernel has no memfd_secret. */
PFX_MUST_USE pfx_result pfx_secret_memory(enum pfx_secret_memory memory, struct pfx_error *err);
bool pfx_secret_hidden(void); /* is it memfd_secret? */

/* len bytes, zeroed; len may be 0. INTERNAL when the pages can't be locked: the text names
 * RLIMIT_MEMLOCK and the setting that raises it. */
PFX_MUST_USE pfx_result pfx_secret_new(size_t len, struct pfx_secret **ret_secret,
                                       struct pfx_error *err);
/* A copy of data; the caller wipes its own. */
PFX_MUST_USE pfx_result pfx_secret_copy(const void *data, size_t len,
                                        struct pfx_secret **ret_secret, struct pfx_error *err);
void pfx_secret_free(struct pfx_secret *secret); /* wipes; NULL is fine */
uint8_t *pfx_secret_data(struct pfx_secret *secret);
const uint8_t *pfx_secret_bytes(const struct pfx_secret *secret);
size_t pfx_secret_len(const struct pfx_secret *secret);
/* Shortens; the tail is wiped. len must not be larger than before. */
void pfx_secret_truncate(struct pfx_secret *secret, size_t len);
/* Constant time for equal lengths. */
bool pfx_secret_equal(const struct pfx_secret *a, const struct pfx_secret *b);

static inline void pfx_secret_freep(struct pfx_secret **pp)
{
    pfx_secret_free(*pp);
}
#define PFX_AUTOSECRET __attribute__((cleanup(pfx_secret_freep)))

/* Reads at most max bytes from fd into a secret until end of file, or until a line feed; one
 * trailing CR LF or LF is dropped. USAGE when it is empty or longer. fd stays open. The bytes
 * pass through no other buffer. (The only I/O in crypto/: it is here so that a secret never is
 * anywhere else.) */
PFX_MUST_USE pfx_result pfx_secret_read_fd(int fd, size_t max, const char *what,
                                           struct pfx_secret **ret_secret, struct pfx_error *err);

/* Gives OpenSSL's bignums and cJSON-free code the same protection: call once at start. */
PFX_MUST_USE pfx_result pfx_secret_setup(struct pfx_error *err);

#endif
