#include "api/uploader/alloc.h"

#include <stdlib.h>

#include <curl/curl.h>

#include "api/conf/process.h"

pfx_result pfx_alloc_setup(struct pfx_error *err)
{
    pfx_process_lock();
    /* libcurl would write the keys of every connection to the file that it names. */
    unsetenv("SSLKEYLOGFILE");
    CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (code != CURLE_OK)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "start", "libcurl", "", "%s",
                        curl_easy_strerror(code));
    return PFX_OK;
}
