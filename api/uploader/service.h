/* A service as the scheduler sees it: its rates, its credential, and whether it wants to be left
 * alone for a while. Times are those of pfx_uptime_ms. */
#ifndef PFX_UPLOADER_SERVICE_H
#define PFX_UPLOADER_SERVICE_H

#include "api/uploader/bucket.h"
#include "api/uploader/cred.h"
#include "api/uploader/trouble.h"

/* What a call is for, where several app registrations share one service. */
enum pfx_use { PFX_USE_MAIN, PFX_USE_IMPORT, PFX_USE_MAIL, PFX_USE_COUNT };

struct pfx_service {
    enum pfx_service_id id;
    const char *name;       /* "DigiCert" */
    const char *url;        /* borrowed from the configuration, without a slash at its end */
    const char *url_option; /* its name there */
    struct pfx_bucket *any[2], *writes; /* owned; NULL: no limit of that kind */
    struct pfx_cred *creds[PFX_USE_COUNT]; /* borrowed, and may be the same; NULL: none */
    bool client_request_id;
    pfx_explain_fn explain;
    int64_t closed_until;   /* after a 429 */
    unsigned throttled;     /* 429s in a row */
};

void pfx_service_done(struct pfx_service *service);
/* How long until the rates leave a place for a read or a change: 0 now. */
int64_t pfx_service_wait(const struct pfx_service *service, bool read, int64_t now_ms);
void pfx_service_take(struct pfx_service *service, bool read, int64_t now_ms);
void pfx_service_give(struct pfx_service *service, bool read, int64_t now_ms);
/* It answered 429: no request before wait_ms is over (0 or less: it didn't say how long). */
void pfx_service_throttle(struct pfx_service *service, int64_t wait_ms, int64_t now_ms);

#endif
