/* How a failed exchange reads: class, code, sentence, next step, and the ids that a support desk
 * asks for. Pure: what is in the answer and in the configuration goes in, a struct pfx_error comes
 * out. */
#ifndef PFX_UPLOADER_TROUBLE_H
#define PFX_UPLOADER_TROUBLE_H

#include "api/uploader/http.h"
#include "api/uploader/retry.h"

/* What a service said about a failure; filled by its explain function from the body of an error. */
struct pfx_told {
    char code[64];     /* its own code, "" if none */
    char message[240]; /* cleaned */
    char next[320];    /* what to do, a whole sentence; "" if nothing special */
    char ids[200];     /* "request-id ..., activity id ..." */
};
typedef void (*pfx_explain_fn)(const struct pfx_answer *answer, struct pfx_told *told);

struct pfx_trouble {
    const char *op;      /* "order" */
    const char *service; /* "DigiCert" */
    const char *url_option; /* "digicert.url" in uploader.yaml */
    pfx_explain_fn explain;
    const char *expected; /* "JSON", also for NULL */
    bool repeats;         /* a lost request is sent again; else it is looked up first */
    const struct pfx_uploader_conf *conf;
};

bool pfx_trouble_is_html(const struct pfx_answer *answer);
bool pfx_trouble_is_json(const struct pfx_answer *answer); /* by its media type */

/* Of an error that pfx_trouble_write wrote: does the service say that we may not (401, 403)? */
bool pfx_trouble_denied(const struct pfx_error *err);

/* What follows from an answer (pfx_retry_judge; now_ms is of the wall clock). A HTML 4xx isn't
 * the service's but a proxy's: a read is TRANSIENT. A change that left is LOST, since a proxy that
 * inspects answers may have put its page in the place of the service's 201. */
struct pfx_verdict pfx_trouble_judge(enum pfx_service_id service, bool read,
                                     const struct pfx_answer *answer, int64_t now_ms);

/* Writes *err for an answer that can't be used; cls and wait_ms as judged. */
PFX_MUST_USE pfx_result pfx_trouble_write(const struct pfx_trouble *trouble,
                                          const struct pfx_answer *answer, enum pfx_class cls,
                                          int64_t wait_ms, struct pfx_error *err);
/* The same for an answer whose status is good and whose content isn't: why says what is wrong. */
PFX_MUST_USE pfx_result pfx_trouble_content(const struct pfx_trouble *trouble,
                                            const struct pfx_answer *answer, enum pfx_class cls,
                                            const char *why, struct pfx_error *err);

#endif
