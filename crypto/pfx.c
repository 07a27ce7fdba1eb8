/* PKCS#12 files around a private key that arrives encrypted. */
#include "crypto/pfx.h"

#include <limits.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>

#include "crypto/cert_chain.h"
#include "crypto/encode.h"
#include "crypto/ossl.h"

PFX_OSSL_CLEANUP(PKCS12, PKCS12_free)
PFX_OSSL_CLEANUP(X509_SIG, X509_SIG_free)
PFX_OSSL_CLEANUP(X509_ALGOR, X509_ALGOR_free)

typedef STACK_OF(PKCS12_SAFEBAG) bag_list;
typedef STACK_OF(PKCS7) safe_list;

static void bags_free_p(bag_list **pp)
{
    sk_PKCS12_SAFEBAG_pop_free(*pp, PKCS12_SAFEBAG_free);
}

static void safes_free_p(safe_list **pp)
{
    sk_PKCS7_pop_free(*pp, PKCS7_free);
}

#define MAC_SALT 8 /* not 16: macOS and iOS then call the password wrong */
#define MAX_PART (1024 * 1024)
#define LOCAL_KEY_ID 20

static pfx_result fail_ossl(struct pfx_error *err, const char *text)
{
    return pfx_fail_ossl(err, PFX_CLASS_INTERNAL, "build PFX", "", text);
}

/* Appends the bag; frees it where that fails. */
static bool push_bag(bag_list *bags, PKCS12_SAFEBAG *bag)
{
    if (bag && sk_PKCS12_SAFEBAG_push(bags, bag) > 0)
        return true;
    PKCS12_SAFEBAG_free(bag);
    return false;
}

static bool push_safe(safe_list *safes, PKCS7 *safe)
{
    if (safe && sk_PKCS7_push(safes, safe) > 0)
        return true;
    PKCS7_free(safe);
    return false;
}

/* friendlyName and localKeyID, the same on key and leaf: that is how readers pair them. */
static bool name_bag(PKCS12_SAFEBAG *bag, const char *friendly_name,
                     const unsigned char id[LOCAL_KEY_ID])
{
    unsigned char copy[LOCAL_KEY_ID]; /* the parameter isn't const */
    memcpy(copy, id, sizeof copy);
    return PKCS12_add_friendlyname_utf8(bag, friendly_name, (int)strlen(friendly_name)) == 1 &&
           PKCS12_add_localkeyid(bag, copy, sizeof copy) == 1;
}

/* Which schemes stand in the file. */
static const struct scheme {
    int cert_nid; /* as PKCS12_pack_p7encdata_ex wants it: a cipher means PBES2 with it,
                   * HMAC-SHA-256 and an IV of its own */
    const EVP_MD *(*mac)(void);
} schemes[PFX_PROFILE_COUNT] = {
    [PFX_PROFILE_MODERN] = {NID_aes_256_cbc, EVP_sha256},
    [PFX_PROFILE_COMPAT] = {NID_pbe_WithSHA1And3_Key_TripleDES_CBC, EVP_sha1},
};

static X509_ALGOR *key_algorithm(const struct pfx_pbe *pbe)
{
    struct pfx_pbe copy = *pbe; /* salt and iv aren't const there */
    int salt_len = (int)pfx_pbe_salt_len(pbe->profile);
    if (pbe->profile == PFX_PROFILE_COMPAT)
        return PKCS5_pbe_set(NID_pbe_WithSHA1And3_Key_TripleDES_CBC, (int)copy.iterations,
                             copy.salt, salt_len);
    return PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), (int)copy.iterations, copy.salt, salt_len, copy.iv,
                             NID_hmacWithSHA256);
}

/* EncryptedPrivateKeyInfo (RFC 5208 section 6) around a ciphertext that is there already. */
static X509_SIG *shroud(const struct pfx_pbe *pbe, struct pfx_bytes ciphertext)
{
    PFX_CLEANUP(X509_ALGOR_free_p) X509_ALGOR *algorithm = key_algorithm(pbe);
    PFX_CLEANUP(X509_SIG_free_p) X509_SIG *sig = X509_SIG_new();
    if (!algorithm || !sig)
        return NULL;
    X509_ALGOR *alg;
    ASN1_OCTET_STRING *octets;
    X509_SIG_getm(sig, &alg, &octets);
    if (X509_ALGOR_copy(alg, algorithm) != 1 ||
        ASN1_OCTET_STRING_set(octets, ciphertext.data, (int)ciphertext.len) != 1)
        return NULL;
    return PFX_TAKE(sig);
}

static bool add_key_safe(const struct pfx_pfx_spec *spec, const unsigned char id[LOCAL_KEY_ID],
                         safe_list *safes)
{
    PFX_CLEANUP(bags_free_p) bag_list *bags = sk_PKCS12_SAFEBAG_new_null();
    PFX_CLEANUP(X509_SIG_free_p) X509_SIG *sig = shroud(spec->pbe, spec->key_ciphertext);
    if (!bags || !sig)
        return false;
    PKCS12_SAFEBAG *bag = PKCS12_SAFEBAG_create0_pkcs8(sig);
    if (!bag)
        return false;
    (void)PFX_TAKE(sig); /* the bag has it now */
    if (!push_bag(bags, bag) || !name_bag(bag, spec->friendly_name, id))
        return false;
    return push_safe(safes, PKCS12_pack_p7data(bags));
}

static pfx_result add_cert_safe(const struct pfx_pfx_spec *spec, const struct pfx_secret *password,
                                const unsigned char id[LOCAL_KEY_ID], safe_list *safes,
                                struct pfx_error *err)
{
    PFX_CLEANUP(bags_free_p) bag_list *bags = sk_PKCS12_SAFEBAG_new_null();
    if (!bags)
        return fail_ossl(err, "The certificates can't be packed.");
    for (size_t i = 0; i < pfx_certs_count(spec->certs); i++) {
        PKCS12_SAFEBAG *bag = PKCS12_SAFEBAG_create_cert(pfx_certs_x509(spec->certs, i));
        if (!push_bag(bags, bag))
            return fail_ossl(err, "A certificate can't be put into the PFX.");
        if (i == 0 && !name_bag(bag, spec->friendly_name, id))
            return fail_ossl(err, "The friendly name can't be set.");
    }
    unsigned char salt[16];
    size_t salt_len = pfx_pbe_salt_len(spec->pbe->profile);
    if (RAND_bytes(salt, (int)salt_len) != 1)
        return fail_ossl(err, "OpenSSL has no random bytes.");
    PKCS7 *safe = PKCS12_pack_p7encdata_ex(
        schemes[spec->pbe->profile].cert_nid, (const char *)pfx_secret_bytes(password),
        (int)pfx_secret_len(password), salt, (int)salt_len, PFX_PBE_ITERATIONS, bags, NULL, NULL);
    if (!push_safe(safes, safe))
        return fail_ossl(err, "The certificates can't be encrypted.");
    return PFX_OK;
}

/* friendlyName is a BMPString (RFC 2985 section 5.5.1): what needs four bytes of UTF-8 has no place
 * in it. */
static bool is_bmp(const char *text, size_t len)
{
    if (!pfx_utf8_valid(text, len))
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((uint8_t)text[i] >= 0xF0)
            return false;
    }
    return true;
}

static pfx_result check_spec(const struct pfx_pfx_spec *spec, const struct pfx_secret *password,
                             struct pfx_error *err)
{
    size_t block = pfx_kek_block(spec->pbe->profile);
    if (block == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "build PFX", "profile", "",
                        "This profile isn't known: \"modern\" and \"compat\" are.");
    size_t len = pfx_secret_len(password);
    const char *text = (const char *)pfx_secret_bytes(password);
    if (len == 0 || len > 512 || !pfx_ascii_printable(text, len))
        return pfx_fail(err, PFX_CLASS_USAGE, "build PFX", "password", "",
                        "A PFX password is 1 to 512 printable ASCII characters: the connector and "
                        "keytool take no others.");
    if (pfx_certs_count(spec->certs) == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "build PFX", "certificates", "",
                        "There is none to go with the private key.");
    if (spec->key_ciphertext.len == 0 || spec->key_ciphertext.len % block != 0 ||
        spec->key_ciphertext.len > MAX_PART)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "build PFX", "private key", "",
                        "A ciphertext of %zu bytes isn't one in blocks of %zu.",
                        spec->key_ciphertext.len, block);
    if (spec->pbe->iterations < 1 || spec->pbe->iterations > INT_MAX)
        return pfx_fail(err, PFX_CLASS_USAGE, "build PFX", "iterations", "",
                        "%u iterations can't be.", spec->pbe->iterations);
    size_t name_len = spec->friendly_name ? strlen(spec->friendly_name) : 0;
    if (name_len == 0 || name_len > 512 || !is_bmp(spec->friendly_name, name_len))
        return pfx_fail(err, PFX_CLASS_USAGE, "build PFX", "friendly name", "",
                        "It must be 1 to 512 bytes of UTF-8 without characters beyond U+FFFF.");
    return PFX_OK;
}

/* The file as i2d would write it, after OpenSSL has read it again and its MAC holds. */
static pfx_result write_checked(PKCS12 *p12, const struct pfx_secret *password, struct pfx_buf *out,
                                struct pfx_error *err)
{
    PFX_CLEANUP(pfx_openssl_free_p) unsigned char *der = NULL;
    int len = i2d_PKCS12(p12, &der);
    if (len <= 0)
        return fail_ossl(err, "The PFX can't be encoded.");
    const unsigned char *at = der;
    PFX_CLEANUP(PKCS12_free_p) PKCS12 *again = d2i_PKCS12(NULL, &at, len);
    if (!again || at != der + len ||
        PKCS12_verify_mac(again, (const char *)pfx_secret_bytes(password),
                          (int)pfx_secret_len(password)) != 1)
        return pfx_fail_ossl(err, PFX_CLASS_INTEGRITY, "build PFX", "MAC",
                             "The finished PFX can't be read again.");
    if (!pfx_buf_add(out, der, (size_t)len))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "build PFX", "", "",
                        "The buffer's ceiling of %zu bytes is too low for %d.", out->max, len);
    return PFX_OK;
}

pfx_result pfx_pfx_build(const struct pfx_pfx_spec *spec, const struct pfx_secret *password,
                         struct pfx_buf *out, struct pfx_error *err)
{
    PFX_TRY(check_spec(spec, password, err));
    unsigned char id[LOCAL_KEY_ID];
    struct pfx_bytes leaf = pfx_certs_at(spec->certs, 0);
    if (!pfx_digest(PFX_HASH_SHA1, leaf.data, leaf.len, id, NULL))
        return fail_ossl(err, "The thumbprint can't be made.");
    PFX_CLEANUP(safes_free_p) safe_list *safes = sk_PKCS7_new_null();
    if (!safes)
        return fail_ossl(err, "The PFX can't be made.");
    PFX_TRY(add_cert_safe(spec, password, id, safes, err));
    if (!add_key_safe(spec, id, safes))
        return fail_ossl(err, "The private key can't be put into the PFX.");
    PFX_CLEANUP(PKCS12_free_p) PKCS12 *p12 = PKCS12_add_safes(safes, NID_pkcs7_data);
    unsigned char salt[MAC_SALT];
    if (!p12 || RAND_bytes(salt, sizeof salt) != 1 ||
        PKCS12_set_mac(p12, (const char *)pfx_secret_bytes(password), (int)pfx_secret_len(password),
                       salt, sizeof salt, PFX_PBE_ITERATIONS,
                       schemes[spec->pbe->profile].mac()) != 1)
        return fail_ossl(err, "The MAC of the PFX can't be made.");
    return write_checked(p12, password, out, err);
}

void pfx_password_from_random(struct pfx_secret *random)
{
    /* Arithmetic in place of a table: no index that depends on the password touches the cache. */
    uint8_t *data = pfx_secret_data(random);
    for (size_t i = 0; i < pfx_secret_len(random); i++) {
        unsigned v = data[i] & 0x3F;
        unsigned c = v + 'A';
        c += (v >= 26 ? 1u : 0u) * ('a' - 'A' - 26u);
        c -= (v >= 52 ? 1u : 0u) * ('a' + 26u - '0');
        c += (v >= 62 ? 1u : 0u) * ('-' - ('0' + 10u));
        c += (v >= 63 ? 1u : 0u) * ('_' - ('-' + 1u));
        data[i] = (uint8_t)c;
    }
}
