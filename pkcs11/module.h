/*
 * Modules: each library is loaded and initialised once in a process, whoever uses it.
 *
 * Locks, in this order: the registry (which modules and tokens there are), then a module's lock
 * (the bookkeeping of its tokens and sessions). Neither is held during a C_* call, but the registry
 * while a module is loaded or ended. C_Finalize needs the module to itself: every other use is
 * counted in `busy`, and `reopening` keeps new uses out.
 */
#ifndef PFX_PKCS11_MODULE_H
#define PFX_PKCS11_MODULE_H

#include <pthread.h>
#include <stdint.h>

#include "pkcs11/call.h"

struct pfx_module {
    struct pfx_module *next;
    unsigned refs;
    char *path, *parameters;
    void *library;
    CK_FUNCTION_LIST *functions;
    bool nss;  /* writes and wraps one at a time; EC keys need CKA_NSS_DB */
    bool ours; /* we initialised it, so we finalize it */
    char version[32], sha256[65];
    pthread_mutex_t lock;
    pthread_cond_t changed;    /* any of what follows */
    struct pfx_token *tokens;
    bool initialised, reopening;
    unsigned busy;
    uint64_t generation;       /* rises with each C_Initialize */
    int64_t reopened_ms;
    bool writing;              /* held by writer, writing_depth times */
    pthread_t writer;
    unsigned writing_depth;
    void *libp11;              /* client_cert.c: ends with C_Finalize, not before */
};

#define PFX_WAIT_MS 30000
int64_t pfx_monotonic_ms(void);

/* The registry: held while modules and tokens are opened and closed. */
void pfx_registry_lock(void);
void pfx_registry_unlock(void);

/* With the registry locked. */
PFX_MUST_USE pfx_result pfx_module_open(const char *path, const char *parameters,
                                        struct pfx_module **ret_module, struct pfx_error *err);
void pfx_module_close(struct pfx_module *module);

/* Waits on `changed` with the lock held; false after the deadline. */
PFX_MUST_USE bool pfx_module_wait(struct pfx_module *module, int64_t deadline_ms);
/* C_Finalize and C_Initialize, with the lock held (it is given up meanwhile), when nobody else is
 * in the module: TRANSIENT if that isn't so before the deadline. */
PFX_MUST_USE pfx_result pfx_module_reopen(struct pfx_module *module, int64_t deadline_ms,
                                          struct pfx_error *err);
/* One thread at a time where the module needs it (NSS); nothing elsewhere. A thread that has it
 * already may take it again. TRANSIENT after the deadline. */
PFX_MUST_USE pfx_result pfx_module_write_begin(struct pfx_module *module, struct pfx_error *err);
void pfx_module_write_end(struct pfx_module *module);

/* Every initialised token of the module, without a limit; *ret_list is an allocated array. */
struct pfx_slot_row {
    CK_SLOT_ID slot;
    CK_TOKEN_INFO info;
};
PFX_MUST_USE pfx_result pfx_slots_list(struct pfx_module *module, struct pfx_slot_row **ret_list,
                                       size_t *ret_n, struct pfx_error *err);
/* Exactly one token that fits the URI, else missing_class: USAGE at start, DEVICE later. */
PFX_MUST_USE pfx_result pfx_slots_find(struct pfx_module *module, const char *uri, const char *what,
                                       enum pfx_class missing_class, struct pfx_slot_row *ret_row,
                                       struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_uri_check(const char *uri, const char *what, struct pfx_error *err);
/* Copies a blank-padded Cryptoki string, without the blanks and without control characters. */
void pfx_padded(char *out, size_t size, const unsigned char *padded, size_t len);

/* client_cert.c: what libp11 holds of this module; only after C_Finalize. */
void pfx_libp11_drop(struct pfx_module *module);

#endif
