/*
 * The module's end of the socket: a connection for each call that runs, so that calls run side by
 * side as in a real module. PFX_TEST_TOKEN, or the text "pfx-test-token=PATH" in the parameters of
 * C_Initialize, says where pfx-test-token listens.
 */
#ifndef TT_LINK_H
#define TT_LINK_H

#include "hsm-test/cryptoki/wire.h"

struct tt_link; /* one connection */

/* Finds the token's process. True also when there is none: then no slot has a token, as with the
 * client of a network HSM that is down. */
CK_RV tt_link_up(const char *parameters);
void tt_link_down(void); /* C_Finalize was answered, or nobody is there to answer it */
bool tt_link_ready(void);  /* tt_link_up was called and tt_link_down wasn't since */
bool tt_link_nobody(void); /* ready, but no process was there at C_Initialize */

/* A call: take, write its arguments to out, ask, read the answer's outputs from in, give back. NULL
 * when the process is gone: what was begun there is lost (CKR_DEVICE_ERROR) until C_Finalize. */
struct tt_link *tt_link_take(enum tt_function function);
struct tt_frame *tt_link_out(struct tt_link *link);
struct tt_frame *tt_link_in(struct tt_link *link);
CK_RV tt_link_ask(struct tt_link *link);
void tt_link_give(struct tt_link *link);

#endif
