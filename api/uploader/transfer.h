/*
 * One request as libcurl has it: what goes out, what comes in, and the rules of http.h that hold
 * for each. When it leaves, and which others do, is http.c's.
 */
#ifndef PFX_UPLOADER_TRANSFER_H
#define PFX_UPLOADER_TRANSFER_H

#include "api/uploader/http.h"

struct pfx_transfer {
    CURL *easy;
    struct curl_slist *headers;
    char *url;
    struct pfx_buf out; /* the request's body */
    size_t out_at;
    struct pfx_buf in;
    size_t header_bytes;
    bool alone, echoed;
    bool head_done; /* the empty line behind the headers has come */
    struct pfx_route route;
    struct pfx_answer answer;
};

/* Prepares *t, which is zero and stays where it is. False: libcurl didn't take it all, so it
 * mustn't be sent. Either way the request's body is t->out now, until the caller takes it back. */
PFX_MUST_USE bool pfx_transfer_init(struct pfx_transfer *t, const struct pfx_uploader_conf *conf,
                                    const struct pfx_http_request *request);
/* libcurl is done with it: completes t->answer, which borrows from *t. */
void pfx_transfer_end(struct pfx_transfer *t, CURLcode code);
void pfx_transfer_done(struct pfx_transfer *t);

#endif
