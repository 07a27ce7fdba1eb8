/* A call on its way through the application's process. */
#ifndef TT_CALL_H
#define TT_CALL_H

#include "hsm-test/cryptoki/faults.h"
#include "hsm-test/cryptoki/handles.h"

struct tt_call {
    struct tt_frame *in, *out;
    struct tt_arena arena;
    enum tt_function function;
    enum tt_action action;
    unsigned long value, record;
    unsigned position; /* object handles so far */
    CK_SESSION_HANDLE session;
    CK_RV refuse;      /* answered instead of what the module would say */
};

extern CK_FUNCTION_LIST *tt_p11; /* NULL before C_Initialize */
CK_RV tt_initialize(void);

/* Arguments; a forgotten handle sets call->refuse. */
CK_SESSION_HANDLE tt_take_session(struct tt_call *call);
CK_OBJECT_HANDLE tt_take_object(struct tt_call *call);
/* Outputs, altered as the rule wants it; after what the module did. */
void tt_give_object(struct tt_call *call, CK_OBJECT_HANDLE object);
void tt_give_session(struct tt_call *call, CK_SESSION_HANDLE session);
/* at NULL: only the length was asked. unit: bytes that one of len is. */
void tt_give_bytes(struct tt_call *call, CK_RV rv, void *at, CK_ULONG len, CK_ULONG room,
                   size_t unit);
void tt_give_structure(struct tt_call *call, CK_RV rv, void *at, size_t size);
void tt_give_values(struct tt_call *call, CK_RV rv, CK_ATTRIBUTE *at, CK_ULONG n,
                    const CK_ULONG *room);

/* Everything but C_Initialize: reads the arguments, calls the module, writes the outputs. */
CK_RV tt_do(struct tt_call *call);

#endif
