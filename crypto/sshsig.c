/* Signatures of ssh-keygen -Y sign. */
#include "crypto/sshsig.h"

#include <string.h>

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include "crypto/encode.h"
#include "crypto/lines.h"
#include "crypto/ossl.h"

#define MAGIC "SSHSIG"
#define VERSION 1
#define BEGIN "-----BEGIN SSH SIGNATURE-----"
#define END "-----END SSH SIGNATURE-----"
#define LINE 70          /* characters, as ssh-keygen breaks them */
#define USER_PRESENT 0x01 /* WebAuthn section 6.1: flag UP */

PFX_OSSL_CLEANUP(EVP_MD_CTX, EVP_MD_CTX_free)
PFX_OSSL_CLEANUP(ECDSA_SIG, ECDSA_SIG_free)

static pfx_result bad(struct pfx_error *err, const char *code, const char *text)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, "read SSH signature", "", code, "%s", text);
}

/* --- the text --- */

pfx_result pfx_sshsig_unarmor(struct pfx_bytes text, struct pfx_buf *out, struct pfx_error *err)
{
    static const char no[] = "It isn't what ssh-keygen -Y sign writes: a block from '" BEGIN
                             "' to '" END "', and nothing else.";
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf base64 = pfx_buf_make(PFX_SSHSIG_TEXT_MAX);
    struct pfx_lines lines = {.rest = text};
    struct pfx_bytes line;
    if (text.len > PFX_SSHSIG_TEXT_MAX || !pfx_lines_next(&lines, &line) ||
        !pfx_bytes_equal(line, BEGIN))
        return bad(err, "form", no);
    for (;;) {
        if (!pfx_lines_next(&lines, &line))
            return bad(err, "form", no);
        if (pfx_bytes_equal(line, END))
            break;
        pfx_buf_add(&base64, line.data, line.len);
    }
    if (lines.rest.len > 0 || !pfx_base64_decode(pfx_buf_str(&base64), base64.len, out))
        return bad(err, "form", no);
    return PFX_OK;
}

bool pfx_sshsig_armor(struct pfx_bytes blob, struct pfx_buf *out)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf base64 = pfx_buf_make(PFX_SSHSIG_TEXT_MAX);
    bool ok = pfx_base64_encode(blob.data, blob.len, &base64) && pfx_buf_add_str(out, BEGIN "\n");
    for (size_t at = 0; ok && at < base64.len; at += LINE) {
        size_t len = base64.len - at < LINE ? base64.len - at : LINE;
        ok = pfx_buf_add(out, base64.data + at, len) && pfx_buf_add_str(out, "\n");
    }
    return ok && pfx_buf_add_str(out, END "\n");
}

/* --- the blob --- */

static bool is_sk(struct pfx_bytes algorithm)
{
    return pfx_bytes_equal(algorithm, pfx_ssh_type_name(PFX_SSH_SK_ED25519)) ||
           pfx_bytes_equal(algorithm, pfx_ssh_type_name(PFX_SSH_SK_ECDSA));
}

/* Behind the signature of a security key: its flags and its counter, both signed as well. */
static bool take_sk(struct pfx_bytes *rest, struct pfx_sshsig *sig)
{
    if (rest->len != 5)
        return false;
    const uint8_t *at = rest->data;
    sig->flags = at[0];
    sig->counter =
        (uint32_t)at[1] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 8 | (uint32_t)at[4];
    *rest = (struct pfx_bytes){at + 5, 0};
    return true;
}

pfx_result pfx_sshsig_parse(struct pfx_bytes blob, struct pfx_sshsig *ret, struct pfx_error *err)
{
    static const uint8_t version[] = {0, 0, 0, VERSION};
    static const char torn[] = "It is torn, or there are bytes behind it.";
    struct pfx_sshsig sig = {.flags = 0};
    struct pfx_bytes rest = blob, reserved, inner;
    if (blob.len > PFX_SSHSIG_MAX || !pfx_bytes_skip(&rest, MAGIC))
        return bad(err, "form", "It isn't a signature of ssh-keygen -Y sign.");
    if (rest.len < sizeof version || memcmp(rest.data, version, sizeof version) != 0)
        return bad(err, "form", "It is of another version than 1.");
    rest.data += sizeof version;
    rest.len -= sizeof version;
    if (!pfx_ssh_string(&rest, &sig.key) || !pfx_ssh_string(&rest, &sig.namespace) ||
        !pfx_ssh_string(&rest, &reserved) || !pfx_ssh_string(&rest, &sig.hash) ||
        !pfx_ssh_string(&rest, &inner) || rest.len > 0)
        return bad(err, "form", torn);
    if (reserved.len > 0) /* it may be signed along, but nobody knows what it says */
        return bad(err, "form", "Its reserved member isn't empty.");
    if (!pfx_bytes_equal(sig.hash, "sha256") && !pfx_bytes_equal(sig.hash, "sha512"))
        return bad(err, "form", "Its hash is neither sha256 nor sha512.");
    if (!pfx_ssh_string(&inner, &sig.algorithm) || !pfx_ssh_string(&inner, &sig.signature) ||
        (is_sk(sig.algorithm) && !take_sk(&inner, &sig)) || inner.len > 0)
        return bad(err, "form", torn);
    *ret = sig;
    return PFX_OK;
}

/* --- verifying --- */

static bool add_string(struct pfx_buf *out, struct pfx_bytes bytes)
{
    uint8_t size[4] = {(uint8_t)(bytes.len >> 24), (uint8_t)(bytes.len >> 16),
                       (uint8_t)(bytes.len >> 8), (uint8_t)bytes.len};
    return pfx_buf_add(out, size, sizeof size) && pfx_buf_add(out, bytes.data, bytes.len);
}

static bool hashed(struct pfx_bytes name, struct pfx_bytes message, struct pfx_buf *out)
{
    uint8_t digest[64];
    size_t len;
    enum pfx_hash hash = pfx_bytes_equal(name, "sha512") ? PFX_HASH_SHA512 : PFX_HASH_SHA256;
    return pfx_digest(hash, message.data, message.len, digest, &len) &&
           add_string(out, (struct pfx_bytes){digest, len});
}

/* What is signed: magic, namespace, reserved, hash, the message's hash (PROTOCOL.sshsig); of a
 * security key: the hash of its application, flags, counter, the hash of that (PROTOCOL.u2f). */
static bool signed_data(const struct pfx_sshsig *sig, const struct pfx_ssh_key *key,
                        struct pfx_bytes message, struct pfx_buf *out)
{
    static const struct pfx_bytes nothing = {(const uint8_t *)"", 0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf plain = pfx_buf_make(PFX_SSHSIG_MAX + 256);
    uint8_t digest[32];
    if (!pfx_buf_add_str(&plain, MAGIC) || !add_string(&plain, sig->namespace) ||
        !add_string(&plain, nothing) || !add_string(&plain, sig->hash) ||
        !hashed(sig->hash, message, &plain))
        return false;
    if (key->application.len == 0)
        return pfx_buf_add(out, plain.data, plain.len);
    uint8_t between[5] = {sig->flags, (uint8_t)(sig->counter >> 24), (uint8_t)(sig->counter >> 16),
                          (uint8_t)(sig->counter >> 8), (uint8_t)sig->counter};
    return pfx_sha256(key->application.data, key->application.len, digest) &&
           pfx_buf_add(out, digest, sizeof digest) && pfx_buf_add(out, between, sizeof between) &&
           pfx_sha256(plain.data, plain.len, digest) && pfx_buf_add(out, digest, sizeof digest);
}

/* r and s as SSH writes them become DER. */
static bool ecdsa_der(struct pfx_bytes signature, struct pfx_buf *out)
{
    struct pfx_bytes r, s;
    if (!pfx_ssh_mpint(&signature, &r) || !pfx_ssh_mpint(&signature, &s) || signature.len > 0 ||
        r.len > 66 || s.len > 66)
        return false;
    PFX_CLEANUP(ECDSA_SIG_free_p) ECDSA_SIG *both = ECDSA_SIG_new();
    BIGNUM *r_bn = BN_bin2bn(r.data, (int)r.len, NULL), *s_bn = BN_bin2bn(s.data, (int)s.len, NULL);
    if (!both || !r_bn || !s_bn || ECDSA_SIG_set0(both, r_bn, s_bn) != 1)
        pfx_die("no memory for a signature");
    PFX_CLEANUP(pfx_openssl_free_p) unsigned char *der = NULL;
    int len = i2d_ECDSA_SIG(both, &der);
    return len > 0 && pfx_buf_add(out, der, (size_t)len);
}

/* The hash under the signature; NULL: Ed25519 has its own. False: no algorithm of this key's. */
static bool digest_of(const struct pfx_ssh_key *key, struct pfx_bytes algorithm,
                      const EVP_MD **ret_md)
{
    *ret_md = NULL;
    if (key->type == PFX_SSH_RSA) { /* "ssh-rsa" would be SHA-1 */
        *ret_md = pfx_bytes_equal(algorithm, "rsa-sha2-512")   ? EVP_sha512()
                  : pfx_bytes_equal(algorithm, "rsa-sha2-256") ? EVP_sha256()
                                                               : NULL;
        return *ret_md != NULL;
    }
    if (key->type == PFX_SSH_ECDSA_256 || key->type == PFX_SSH_SK_ECDSA)
        *ret_md = EVP_sha256();
    else if (key->type == PFX_SSH_ECDSA_384)
        *ret_md = EVP_sha384();
    else if (key->type == PFX_SSH_ECDSA_521)
        *ret_md = EVP_sha512();
    return pfx_bytes_equal(algorithm, pfx_ssh_type_name(key->type));
}

static bool holds(const struct pfx_sshsig *sig, const struct pfx_ssh_key *key, const EVP_MD *md,
                  struct pfx_bytes data)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(256);
    PFX_CLEANUP(EVP_MD_CTX_free_p) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    struct pfx_bytes signature = sig->signature;
    if (md && key->type != PFX_SSH_RSA) {
        if (!ecdsa_der(signature, &der))
            return false;
        signature = pfx_buf_bytes(&der);
    }
    bool right = ctx && EVP_DigestVerifyInit(ctx, NULL, md, NULL, key->pkey) == 1 &&
                 EVP_DigestVerify(ctx, signature.data, signature.len, data.data, data.len) == 1;
    ERR_clear_error();
    return right;
}

pfx_result pfx_sshsig_verify(const struct pfx_sshsig *sig, const char *namespace,
                             struct pfx_bytes message, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_ssh_key_done) struct pfx_ssh_key key = {.type = PFX_SSH_TYPE_COUNT};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf data = pfx_buf_make(PFX_SSHSIG_MAX + 512);
    const EVP_MD *md;
    PFX_TRY(pfx_ssh_key_parse(sig->key, &key, err));
    if (!pfx_bytes_equal(sig->namespace, namespace))
        return pfx_fail(err, PFX_CLASS_REFUSED, "verify SSH signature", "", "namespace",
                        "It was made for another namespace than %s: sign with ssh-keygen -Y sign "
                        "-n %s.",
                        namespace, namespace);
    if (!digest_of(&key, sig->algorithm, &md))
        return bad(err, "signature", "Its algorithm isn't one of its key's type.");
    if (key.application.len > 0 && !(sig->flags & USER_PRESENT))
        return pfx_fail(err, PFX_CLASS_REFUSED, "verify SSH signature", "", "user presence",
                        "The security key says that nobody touched it.");
    if (!signed_data(sig, &key, message, &data))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "verify SSH signature", "", "",
                        "What is signed is longer than it can be.");
    if (!holds(sig, &key, md, pfx_buf_bytes(&data)))
        return pfx_fail(err, PFX_CLASS_REFUSED, "verify SSH signature", "", "signature",
                        "It isn't this key's signature over what has to be signed.");
    return PFX_OK;
}
