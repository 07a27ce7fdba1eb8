/* libcurl, as far as transfer.c and route.c use it: what they set, and what they are told. */
#ifndef PFX_FUZZ_RIG_CURL_H
#define PFX_FUZZ_RIG_CURL_H

#include <curl/curl.h>

struct rig_easy {
    curl_write_callback write, header, read;
    curl_prereq_callback prereq;
    void *write_ctx, *header_ctx, *read_ctx, *prereq_ctx;
    char *error;
    long status, connect_status;
};
extern struct rig_easy rig_easy; /* there is one request at a time */

#endif
