/* The memory that the libraries copy our secrets to. That it is wiped when it is given back is the
 * work of crypto/wipe.c, one of the program's sources. */
#ifndef PFX_UPLOADER_ALLOC_H
#define PFX_UPLOADER_ALLOC_H

#include "crypto/result.h"

/* Locks the process's memory (pfx_process_lock) and initialises libcurl. */
PFX_MUST_USE pfx_result pfx_alloc_setup(struct pfx_error *err);

#endif
