/* Entra ID's token endpoint: what its answers say. Pure. */
#ifndef PFX_UPLOADER_ENTRA_H
#define PFX_UPLOADER_ENTRA_H

#include "api/uploader/trouble.h"
#include "crypto/secret.h"

/* What to do about an AADSTS number, as a whole sentence; "" for one that isn't known here. */
const char *pfx_entra_advice(int64_t code);
void pfx_entra_explain(const struct pfx_answer *answer, struct pfx_told *told);
/* Entra gives passing troubles of its own a 4xx now and then: TRANSIENT for those, else judged. */
enum pfx_class pfx_entra_class(const struct pfx_answer *answer, enum pfx_class judged);
/* Reads an access token and its lifetime. The text of err never holds a part of it. */
PFX_MUST_USE pfx_result pfx_entra_token(const struct pfx_trouble *trouble,
                                        const struct pfx_answer *answer,
                                        struct pfx_secret **ret_token, int64_t *ret_lifetime_ms,
                                        struct pfx_error *err);
/* Appends the form body of a request for a token for resource ("https://graph.microsoft.com"). */
void pfx_entra_form(struct pfx_buf *out, const char *client_id, const char *resource,
                    const char *assertion);

#endif
