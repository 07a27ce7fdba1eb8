#include "api/uploader/expect.h"

#include <string.h>

#define PKIXCMP "application/pkixcmp" /* RFC 6712 section 3.4 */

const char *pfx_expect_sends(enum pfx_expect expect)
{
    return expect == PFX_EXPECT_CMP ? PKIXCMP : "application/json";
}

const char *pfx_expect_accept(enum pfx_expect expect)
{
    return expect == PFX_EXPECT_CERTIFICATES ? "*/*" : pfx_expect_sends(expect);
}

bool pfx_expect_wanted(const struct pfx_call *call, const struct pfx_answer *answer)
{
    long status = answer->status;
    if (answer->curl_code != 0 || answer->too_big || pfx_trouble_is_html(answer))
        return false;
    if ((call->want & PFX_WANT_404) && status == 404)
        return true;
    if ((call->want & PFX_WANT_CONFLICT) && (status == 400 || status == 409))
        return true;
    return (call->want & PFX_WANT_4XX) && status >= 400 && status < 500 && status != 401 &&
           status != 403 && status != 407 && status != 408 && status != 429;
}

bool pfx_expect_fits(const struct pfx_call *call, const struct pfx_answer *answer)
{
    if (pfx_trouble_is_html(answer))
        return false;
    if (call->expect == PFX_EXPECT_CMP)
        return strcmp(answer->content_type, PKIXCMP) == 0;
    if (call->expect != PFX_EXPECT_JSON || answer->status == 204)
        return true;
    return pfx_trouble_is_json(answer);
}
