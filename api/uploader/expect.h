/* What an answer has to be for the call that it answers. Pure. */
#ifndef PFX_UPLOADER_EXPECT_H
#define PFX_UPLOADER_EXPECT_H

#include "api/uploader/task.h"

/* Media types: those to ask for, and that of a body that is sent. */
const char *pfx_expect_accept(enum pfx_expect expect);
const char *pfx_expect_sends(enum pfx_expect expect);
/* Is a status other than 2xx one that the call takes too? */
bool pfx_expect_wanted(const struct pfx_call *call, const struct pfx_answer *answer);
/* Is the content of a 2xx answer of the kind that was asked for? */
bool pfx_expect_fits(const struct pfx_call *call, const struct pfx_answer *answer);

#endif
