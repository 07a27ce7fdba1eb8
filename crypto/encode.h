/* Base64, base64url, hex, UTF-8 and RFC 3339: the encodings of the formats we speak. */
#ifndef PFX_CRYPTO_ENCODE_H
#define PFX_CRYPTO_ENCODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/mem.h"
#include "crypto/result.h"

/* RFC 4648 section 4 with padding, no line breaks. Appends; false: buf is over its ceiling. */
bool pfx_base64_encode(const void *data, size_t len, struct pfx_buf *out);
/* RFC 4648 section 5 without padding. */
bool pfx_base64url_encode(const void *data, size_t len, struct pfx_buf *out);
/* Strict: no white space, right padding, zero spare bits. Appends; false leaves out alone. */
PFX_MUST_USE bool pfx_base64_decode(const char *text, size_t len, struct pfx_buf *out);
PFX_MUST_USE bool pfx_base64url_decode(const char *text, size_t len, struct pfx_buf *out);

/* PEM with lines of 64 characters. Appends; false leaves out as it was. */
PFX_MUST_USE bool pfx_pem_encode(const char *label, struct pfx_bytes der, struct pfx_buf *out);
#define PFX_PEM_LABEL_SIZE 64
enum pfx_pem {
    PFX_PEM_BLOCK, /* one was read */
    PFX_PEM_NONE,  /* no further one */
    PFX_PEM_BAD,   /* one that is torn or not Base64; label says which, as far as it was read */
};
/* The next block from *pos on, whatever its line breaks; text around it is skipped. Moves *pos past
 * it and appends the bytes. */
PFX_MUST_USE enum pfx_pem pfx_pem_next(struct pfx_bytes text, size_t *pos,
                                       char label[PFX_PEM_LABEL_SIZE], struct pfx_buf *ret_der);

/* Lower case into out, which has room for 2 * len + 1. Returns out. */
char *pfx_hex(const void *data, size_t len, char *out);
PFX_MUST_USE bool pfx_unhex(const char *text, size_t len, struct pfx_buf *out); /* either case */
/* Text for a table: 40 hex digits or more in a row (hashes, thumbprints) become the first 8 of them
 * and "..."; the rest is appended as it is. */
void pfx_hex_shorten(const char *text, struct pfx_buf *out);

PFX_MUST_USE bool pfx_utf8_valid(const char *text, size_t len); /* no surrogates, no overlong */
/* So many bytes of text, max at most, that no character of it is torn at their end. */
size_t pfx_utf8_cut(const char *text, size_t max);
/* Mends a text in place that was cut by bytes, or isn't ours: a character that its end tears is
 * dropped, any other byte that isn't UTF-8 becomes '?'. Returns text. */
char *pfx_utf8_mend(char *text);
PFX_MUST_USE bool pfx_ascii_printable(const char *text, size_t len); /* 0x20 to 0x7E only */

/* Milliseconds since 1970 UTC; 0 to 12 fractional digits (cut to milliseconds), "Z" or an offset.
 * Years 1970 to 9999. */
PFX_MUST_USE bool pfx_time_parse(const char *text, int64_t *ret_ms);
/* A date alone ("2026-11-22"), taken as midnight UTC. */
PFX_MUST_USE bool pfx_date_parse(const char *text, int64_t *ret_ms);
/* "2026-11-22T08:00:00Z", or with ".120" where with_ms. buf has PFX_TIME_SIZE bytes. */
#define PFX_TIME_SIZE 32
char *pfx_time_format(int64_t ms, bool with_ms, char buf[PFX_TIME_SIZE]);
/* So many calendar months later, in UTC: the same day and time of day; where that month is shorter,
 * its last day. Past the year 9999: its last millisecond. */
int64_t pfx_time_add_months(int64_t ms, unsigned months);

/* A fresh version-4 GUID in lower case with dashes, from the OpenSSL RNG. */
#define PFX_GUID_SIZE 37
char *pfx_guid_new(char buf[PFX_GUID_SIZE]);

PFX_MUST_USE bool pfx_sha256(const void *data, size_t len, uint8_t ret_digest[32]);

#endif
