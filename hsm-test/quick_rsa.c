/* Draws RSA keys for the tests' SoftHSM, which calls RSA_generate_key_ex, in a seventh of
 * libcrypto's time: what FIPS 186-4 and SP 800-56B ask of primes and keys isn't looked at. Loaded
 * by LD_PRELOAD where PFX_QUICK_RSA names it (tools/tokens.py); run.sh does, without --long. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/bn.h>
#include <openssl/rsa.h>
#include <stdbool.h>
#include <stdlib.h>

#define SMALL_MOST 8192
#define SMALL_N 1027 /* odd primes below it */
#define STEPS 20000  /* from one random number upwards */

static void must(bool ok)
{
    if (!ok)
        abort();
}

static unsigned small[SMALL_N];

__attribute__((constructor)) static void find_small(void)
{
    size_t n = 0;
    for (unsigned candidate = 3; candidate < SMALL_MOST; candidate += 2) {
        size_t i = 0;
        while (i < n && candidate % small[i] != 0)
            i++;
        if (i == n)
            small[n++] = candidate;
    }
    must(n == SMALL_N);
}

/* Fermat's test to the base 2, which a number drawn at random passes for no other reason. */
static bool is_prime(const BIGNUM *p, BN_CTX *ctx)
{
    BN_CTX_start(ctx);
    BIGNUM *two = BN_CTX_get(ctx), *less = BN_CTX_get(ctx), *power = BN_CTX_get(ctx);
    must(power && BN_set_word(two, 2) && BN_sub(less, p, BN_value_one()) &&
         BN_mod_exp_mont(power, two, less, p, ctx, NULL));
    bool passed = BN_is_one(power);
    BN_CTX_end(ctx);
    return passed;
}

/* The two highest bits are set, so that a product of two has twice the bits. */
static BIGNUM *prime(int bits, BN_CTX *ctx)
{
    unsigned rest[SMALL_N];
    BIGNUM *p = BN_new();
    for (;;) {
        must(p && BN_priv_rand(p, bits, BN_RAND_TOP_TWO, BN_RAND_BOTTOM_ODD));
        for (size_t i = 0; i < SMALL_N; i++)
            rest[i] = (unsigned)BN_mod_word(p, small[i]);
        unsigned done = 0;
        for (unsigned step = 0; step < STEPS; step += 2) {
            bool divided = false;
            for (size_t i = 0; i < SMALL_N && !divided; i++)
                divided = (rest[i] + step) % small[i] == 0;
            if (divided)
                continue;
            must(BN_add_word(p, step - done));
            done = step;
            if (is_prime(p, ctx) && BN_num_bits(p) == bits)
                return p;
        }
    }
}

/* False: the exponent doesn't fit these primes. */
static bool make(RSA *rsa, BIGNUM *p, BIGNUM *q, const BIGNUM *e, BN_CTX *ctx)
{
    BN_CTX_start(ctx);
    BIGNUM *p1 = BN_CTX_get(ctx), *q1 = BN_CTX_get(ctx), *phi = BN_CTX_get(ctx);
    must(phi && BN_sub(p1, p, BN_value_one()) && BN_sub(q1, q, BN_value_one()) &&
         BN_mul(phi, p1, q1, ctx));
    BIGNUM *d = BN_mod_inverse(NULL, e, phi, ctx);
    if (d) {
        BIGNUM *n = BN_new(), *dp = BN_new(), *dq = BN_new();
        must(n && dp && dq && BN_mul(n, p, q, ctx) && BN_mod(dp, d, p1, ctx) &&
             BN_mod(dq, d, q1, ctx) && RSA_set0_key(rsa, n, BN_dup(e), d) &&
             RSA_set0_factors(rsa, p, q) &&
             RSA_set0_crt_params(rsa, dp, dq, BN_mod_inverse(NULL, q, p, ctx)));
    }
    BN_CTX_end(ctx);
    return d != NULL;
}

int RSA_generate_key_ex(RSA *rsa, int bits, BIGNUM *e, BN_GENCB *cb)
{
    (void)cb;
    BN_CTX *ctx = BN_CTX_new();
    must(ctx && bits >= 1024 && bits % 2 == 0);
    for (;;) {
        BIGNUM *p = prime(bits / 2, ctx), *q = prime(bits / 2, ctx);
        if (BN_cmp(p, q) < 0)
            BN_swap(p, q);
        if (BN_cmp(p, q) != 0 && make(rsa, p, q, e, ctx))
            break;
        BN_free(p);
        BN_free(q);
    }
    BN_CTX_free(ctx);
    return 1;
}
