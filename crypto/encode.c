/* Base64, hex, UTF-8 and GUIDs. The times are in time.c. */
#include "crypto/encode.h"

#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#define HEX_LONG 40
#define HEX_SHOWN 8

static const char alphabet64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char alphabet64url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static bool encode64(const char *alphabet, bool pad, const uint8_t *in, size_t len,
                     struct pfx_buf *out)
{
    if (len > SIZE_MAX / 2)
        return false;
    size_t tail = len % 3;
    size_t size = len / 3 * 4 + (tail == 0 ? 0 : pad ? 4 : tail + 1);
    uint8_t *at = pfx_buf_extend(out, size);
    if (!at)
        return false;
    for (; len >= 3; in += 3, len -= 3) {
        *at++ = (uint8_t)alphabet[in[0] >> 2];
        *at++ = (uint8_t)alphabet[(in[0] & 0x03) << 4 | in[1] >> 4];
        *at++ = (uint8_t)alphabet[(in[1] & 0x0F) << 2 | in[2] >> 6];
        *at++ = (uint8_t)alphabet[in[2] & 0x3F];
    }
    if (tail > 0) {
        unsigned second = tail == 2 ? in[1] : 0;
        *at++ = (uint8_t)alphabet[in[0] >> 2];
        *at++ = (uint8_t)alphabet[(in[0] & 0x03u) << 4 | second >> 4];
        if (tail == 2)
            *at++ = (uint8_t)alphabet[(second & 0x0F) << 2];
        for (size_t i = tail; pad && i < 3; i++)
            *at++ = '=';
    }
    return true;
}

bool pfx_base64_encode(const void *data, size_t len, struct pfx_buf *out)
{
    return encode64(alphabet64, true, data, len, out);
}

bool pfx_base64url_encode(const void *data, size_t len, struct pfx_buf *out)
{
    return encode64(alphabet64url, false, data, len, out);
}

static int value64(const char *alphabet, char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == alphabet[62])
        return 62;
    return c == alphabet[63] ? 63 : -1;
}

/* text without its padding. */
static bool decode64(const char *alphabet, const char *text, size_t len, struct pfx_buf *out)
{
    size_t tail = len % 4;
    if (tail == 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (value64(alphabet, text[i]) < 0)
            return false;
    }
    /* Spare bits must be zero, else one value would have several spellings. */
    if (tail > 1 && (value64(alphabet, text[len - 1]) & (tail == 2 ? 0x0F : 0x03)) != 0)
        return false;
    uint8_t *at = pfx_buf_extend(out, len / 4 * 3 + (tail > 1 ? tail - 1 : 0));
    if (!at)
        return false;
    uint32_t bits = 0;
    unsigned have = 0;
    for (size_t i = 0; i < len; i++) {
        bits = (bits << 6 | (uint32_t)value64(alphabet, text[i])) & 0xFFFF;
        have += 6;
        if (have >= 8) {
            have -= 8;
            *at++ = (uint8_t)(bits >> have);
        }
    }
    return true;
}

bool pfx_base64_decode(const char *text, size_t len, struct pfx_buf *out)
{
    if (len % 4 != 0)
        return false;
    for (int i = 0; i < 2 && len > 0 && text[len - 1] == '='; i++)
        len--;
    return decode64(alphabet64, text, len, out);
}

bool pfx_base64url_decode(const char *text, size_t len, struct pfx_buf *out)
{
    return decode64(alphabet64url, text, len, out);
}

char *pfx_hex(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *in = data;
    char *at = out;
    for (size_t i = 0; i < len; i++) {
        *at++ = digits[in[i] >> 4];
        *at++ = digits[in[i] & 0x0F];
    }
    *at = '\0';
    return out;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool pfx_unhex(const char *text, size_t len, struct pfx_buf *out)
{
    if (len % 2 != 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (hex_value(text[i]) < 0)
            return false;
    }
    uint8_t *at = pfx_buf_extend(out, len / 2);
    if (!at)
        return false;
    for (size_t i = 0; i < len; i += 2)
        *at++ = (uint8_t)(hex_value(text[i]) << 4 | hex_value(text[i + 1]));
    return true;
}

/* Length of the well-formed sequence at p (Unicode 15, table 3-7); 0 if there is none. */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    size_t n = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || left < n)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) ||
        (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
        return 0;
    return n;
}

void pfx_hex_shorten(const char *text, struct pfx_buf *out)
{
    while (*text) {
        size_t digits = strspn(text, "0123456789abcdefABCDEF"), other = digits == 0;
        if (digits >= HEX_LONG)
            (void)pfx_buf_addf(out, "%.*s...", HEX_SHOWN, text);
        else
            (void)pfx_buf_add(out, text, digits + other);
        text += digits + other;
    }
}

bool pfx_utf8_valid(const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;
    while (len > 0) {
        size_t n = utf8_sequence(p, len);
        if (n == 0)
            return false;
        p += n;
        len -= n;
    }
    return true;
}

/* Bytes at p that may be the beginning of a character and nothing else; 0: they can't. */
static size_t torn_sequence(const uint8_t *p, size_t left)
{
    size_t want = p[0] >= 0xF0 ? 4 : p[0] >= 0xE0 ? 3 : 2;
    if (p[0] < 0xC2 || p[0] > 0xF4 || left >= want)
        return 0;
    for (size_t i = 1; i < left; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    }
    return left;
}

size_t pfx_utf8_cut(const char *text, size_t max)
{
    size_t len = strnlen(text, max);
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        if (torn_sequence((const uint8_t *)text + len - back, back))
            return len - back;
    }
    return len;
}

char *pfx_utf8_mend(char *text)
{
    size_t len = pfx_utf8_cut(text, strlen(text));
    text[len] = '\0';
    for (size_t i = 0; i < len;) {
        size_t n = utf8_sequence((const uint8_t *)text + i, len - i);
        if (n == 0)
            text[i] = '?';
        i += n > 0 ? n : 1;
    }
    return text;
}

bool pfx_ascii_printable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] < 0x20 || text[i] > 0x7E)
            return false;
    }
    return true;
}

char *pfx_guid_new(char buf[PFX_GUID_SIZE])
{
    uint8_t b[16];
    /* The signature has no way to fail, and an id that may repeat would let two things be taken
     * for one. */
    if (RAND_bytes(b, sizeof b) != 1)
        pfx_die("OpenSSL has no random bytes");
    b[6] = (uint8_t)((b[6] & 0x0F) | 0x40); /* RFC 4122 section 4.4 */
    b[8] = (uint8_t)((b[8] & 0x3F) | 0x80);
    char hex[33];
    pfx_hex(b, sizeof b, hex);
    snprintf(buf, PFX_GUID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
             hex + 20);
    return buf;
}

bool pfx_sha256(const void *data, size_t len, uint8_t ret_digest[32])
{
    return EVP_Digest(data, len, ret_digest, NULL, EVP_sha256(), NULL) == 1;
}
