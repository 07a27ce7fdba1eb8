/* Handles that an application has seen, and those that are to be forgotten. */
#ifndef TT_HANDLES_H
#define TT_HANDLES_H

#include <stdbool.h>

#include <p11-kit/pkcs11.h>

enum tt_handles { TT_OBJECTS, TT_SESSIONS };

void tt_learn(enum tt_handles what, CK_ULONG handle);
void tt_forget(enum tt_handles what, CK_ULONG handle);
bool tt_forgotten(enum tt_handles what, CK_ULONG handle);
/* Another one that is alive, the newest: an object of the same class and key type if there is, then of the same
 * class; the handle itself where there is none. */
CK_ULONG tt_other(CK_FUNCTION_LIST *p11, enum tt_handles what, CK_SESSION_HANDLE session,
                  CK_ULONG handle);

#endif
