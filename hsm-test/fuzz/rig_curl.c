#include "rig_curl.h"

#include <stdarg.h>
#include <string.h>

struct rig_easy rig_easy;

CURL *__wrap_curl_easy_init(void);
CURL *__wrap_curl_easy_init(void)
{
    memset(&rig_easy, 0, sizeof rig_easy);
    return (CURL *)&rig_easy;
}

void __wrap_curl_easy_cleanup(CURL *handle);
void __wrap_curl_easy_cleanup(CURL *handle)
{
    (void)handle;
}

CURLcode __wrap_curl_easy_setopt(CURL *handle, CURLoption option, ...);
CURLcode __wrap_curl_easy_setopt(CURL *handle, CURLoption option, ...)
{
    va_list args;
    va_start(args, option);
    (void)handle;
    switch (option) {
    case CURLOPT_WRITEFUNCTION:
        rig_easy.write = va_arg(args, curl_write_callback);
        break;
    case CURLOPT_WRITEDATA:
        rig_easy.write_ctx = va_arg(args, void *);
        break;
    case CURLOPT_HEADERFUNCTION:
        rig_easy.header = va_arg(args, curl_write_callback);
        break;
    case CURLOPT_HEADERDATA:
        rig_easy.header_ctx = va_arg(args, void *);
        break;
    case CURLOPT_READFUNCTION:
        rig_easy.read = va_arg(args, curl_write_callback);
        break;
    case CURLOPT_READDATA:
        rig_easy.read_ctx = va_arg(args, void *);
        break;
    case CURLOPT_PREREQFUNCTION:
        rig_easy.prereq = va_arg(args, curl_prereq_callback);
        break;
    case CURLOPT_PREREQDATA:
        rig_easy.prereq_ctx = va_arg(args, void *);
        break;
    case CURLOPT_ERRORBUFFER:
        rig_easy.error = va_arg(args, char *);
        break;
    default:
        break;
    }
    va_end(args);
    return CURLE_OK;
}

CURLcode __wrap_curl_easy_getinfo(CURL *handle, CURLINFO info, ...);
CURLcode __wrap_curl_easy_getinfo(CURL *handle, CURLINFO info, ...)
{
    va_list args;
    va_start(args, info);
    (void)handle;
    if (info == CURLINFO_RESPONSE_CODE)
        *va_arg(args, long *) = rig_easy.status;
    else if (info == CURLINFO_HTTP_CONNECTCODE)
        *va_arg(args, long *) = rig_easy.connect_status;
    else /* the certificates that a server showed */
        *va_arg(args, void **) = NULL;
    va_end(args);
    return CURLE_OK;
}
