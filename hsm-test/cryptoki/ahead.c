/* The stock of RSA keys. RSA_generate_key_ex here stands before libcrypto's for the module that
 * this program loads: everything else that makes a token's key is done by the module as always. */
#define OPENSSL_SUPPRESS_DEPRECATED /* SoftHSM calls RSA_generate_key_ex */
#include "hsm-test/cryptoki/ahead.h"

#include <dlfcn.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hsm-test/cryptoki/faults.h"

static RSA *stock[TT_MAX_AHEAD];
static size_t n_stock;

void tt_ahead_load(const char *file)
{
    FILE *in = fopen(file, "r");
    EVP_PKEY *key;
    if (!in) {
        fprintf(stderr, "pfx-test-token: %s: %s\n", file, strerror(errno));
        exit(1);
    }
    while (n_stock < TT_MAX_AHEAD && (key = PEM_read_PrivateKey(in, NULL, NULL, NULL))) {
        stock[n_stock] = EVP_PKEY_get1_RSA(key);
        n_stock += stock[n_stock] != NULL;
        EVP_PKEY_free(key);
    }
    fclose(in);
}

/* The next of this length that nobody has, in whichever process. */
static const RSA *take(int bits)
{
    const RSA *found = NULL;
    tt_lock();
    for (size_t i = 0; i < n_stock && !found; i++) {
        if (RSA_bits(stock[i]) != bits || tt_shared->ahead_taken[i])
            continue;
        tt_shared->ahead_taken[i] = true;
        found = stock[i];
    }
    tt_unlock();
    return found;
}

static int copy(RSA *to, const RSA *from)
{
    const BIGNUM *b[8];
    BIGNUM *own[8];
    RSA_get0_key(from, &b[0], &b[1], &b[2]);
    RSA_get0_factors(from, &b[3], &b[4]);
    RSA_get0_crt_params(from, &b[5], &b[6], &b[7]);
    for (size_t i = 0; i < 8; i++) {
        own[i] = BN_dup(b[i]);
        if (!own[i])
            abort();
    }
    return RSA_set0_key(to, own[0], own[1], own[2]) && RSA_set0_factors(to, own[3], own[4]) &&
           RSA_set0_crt_params(to, own[5], own[6], own[7]);
}

int RSA_generate_key_ex(RSA *rsa, int bits, BIGNUM *e, BN_GENCB *cb)
{
    static int (*draw)(RSA *, int, BIGNUM *, BN_GENCB *);
    const RSA *ready = BN_is_word(e, RSA_F4) ? take(bits) : NULL;
    if (ready)
        return copy(rsa, ready);
    if (!draw) {
        void *symbol = dlsym(RTLD_NEXT, "RSA_generate_key_ex");
        memcpy(&draw, &symbol, sizeof draw);
    }
    return draw ? draw(rsa, bits, e, cb) : 0;
}
