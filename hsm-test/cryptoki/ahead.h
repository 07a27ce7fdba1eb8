/* RSA keys drawn ahead, so that a benchmark doesn't measure how long primes were looked for. */
#ifndef TT_AHEAD_H
#define TT_AHEAD_H

/* Reads a file of private keys (PEM). From then on RSA_generate_key_ex, which SoftHSM makes its
 * keys with, hands out the next of the length that is asked for; without one left it draws as ever.
 * Call it before any application connects: all of them take from one stock, and none gets a key
 * twice. */
void tt_ahead_load(const char *file);

#endif
