/*
 * The protocol between the test module and the process that holds the token: one frame for a call,
 * one for its answer, over a Unix socket of this machine. A frame is a u64 length and then numbers
 * (u64) and byte strings (u64 length, bytes, filled up to 8), all in the host's own order, so that
 * values lie aligned for the module that reads them in place.
 *
 *   call    function, its arguments in the order of the standard
 *   answer  CK_RV, then the outputs; none where the call was failed on the way
 *
 * Frames hold PINs and keys: whatever held one is wiped.
 */
#ifndef TT_WIRE_H
#define TT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#include "hsm-test/cryptoki/names.h"

#define TT_FRAME_MAX (16u << 20)

struct tt_frame {
    unsigned char *at;
    size_t len, cap, pos;
    bool bad; /* read past its end, or too large: what was read since is zero */
};

void tt_begin(struct tt_frame *frame); /* empty, to be written */
void tt_done(struct tt_frame *frame);  /* wiped and freed */
void tt_put(struct tt_frame *frame, uint64_t value);
/* bytes NULL is another thing than an empty string. */
void tt_put_bytes(struct tt_frame *frame, const void *bytes, size_t len);
uint64_t tt_get(struct tt_frame *frame);
/* Inside of the frame; NULL for NULL, and at its end. */
unsigned char *tt_get_bytes(struct tt_frame *frame, size_t *ret_len);
bool tt_more(const struct tt_frame *frame);
bool tt_send(int fd, const struct tt_frame *frame);
/* False at the end, and for what isn't a frame. */
bool tt_receive(int fd, struct tt_frame *frame);

/* Memory that lives as long as one call, wiped behind it. */
struct tt_arena {
    struct tt_chunk *last;
};
void *tt_alloc(struct tt_arena *arena, size_t size); /* zeroed, aligned */
void tt_free(struct tt_arena *arena);

/* Templates, with the nested ones (CKA_WRAP_TEMPLATE and its like). With values for what is given;
 * without for C_GetAttributeValue, which says only how much room there is. */
void tt_put_template(struct tt_frame *frame, const CK_ATTRIBUTE *at, CK_ULONG n, bool values);
CK_ATTRIBUTE *tt_get_template(struct tt_frame *frame, struct tt_arena *arena, CK_ULONG *ret_n,
                              bool values);
bool tt_is_nested(const CK_ATTRIBUTE *at);

/* Mechanisms, with what their parameters point to. NULL is a mechanism, too. */
void tt_put_mechanism(struct tt_frame *frame, const CK_MECHANISM *mechanism);
CK_MECHANISM *tt_get_mechanism(struct tt_frame *frame, struct tt_arena *arena);

#endif
