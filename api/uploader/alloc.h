/* Memory that is wiped when it is released, for the libraries that copy our secrets. */
#ifndef PFX_UPLOADER_ALLOC_H
#define PFX_UPLOADER_ALLOC_H

#include "crypto/result.h"

/* Initialises libcurl with allocators that wipe, and sees to it that cJSON has its own; where the
 * process may lock memory without a limit, all of it is locked. Once, before either is used. */
PFX_MUST_USE pfx_result pfx_alloc_setup(struct pfx_error *err);

#endif
