/* pfx-uploader's own points: before each request to a service, and after its answer. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "api/uploader/http.h"
#include "kill_points.h"

#define FLIGHTS 256

static struct flight {
    pfx_http_done_fn done; /* NULL: free */
    void *ctx;
    char label[KILL_NAME_SIZE / 2];
} flights[FLIGHTS];
static unsigned next;

/* "POST services/v2/order/certificate/x": no host, no query, ids as "*". */
static void label_of(const struct pfx_http_request *request, char *label, size_t size)
{
    const char *at = strstr(request->url, "://");
    at = at ? strchr(at + 3, '/') : NULL;
    size_t len = (size_t)snprintf(label, size, "%s ", request->method);
    while (at && *at == '/' && len + 2 < size) {
        size_t n = strcspn(++at, "/?"), digits = 0;
        for (size_t i = 0; i < n; i++)
            digits += isdigit((unsigned char)at[i]) != 0;
        if (digits > 2 || (digits > 0 && digits == n))
            len += (size_t)snprintf(label + len, size - len, "*");
        else
            len += (size_t)snprintf(label + len, size - len, "%.*s", (int)n, at);
        at += n;
        if (*at == '/' && len + 2 < size)
            label[len++] = '/', label[len] = '\0';
    }
}

static void done(void *ctx, const struct pfx_answer *answer)
{
    struct flight flight = *(struct flight *)ctx;
    ((struct flight *)ctx)->done = NULL;
    kill_point("%s answered %ld", flight.label, answer->status);
    flight.done(flight.ctx, answer);
}

KILL_WRAP(pfx_result, pfx_http_start, struct pfx_http *http, const struct pfx_http_request *request,
          struct pfx_flight **ret_flight, struct pfx_error *err)
{
    /* One that was cancelled keeps its place until all others were used. */
    struct flight *flight = &flights[next++ % FLIGHTS];
    struct pfx_http_request hooked = *request;
    *flight = (struct flight){.done = request->done, .ctx = request->ctx};
    label_of(request, flight->label, sizeof flight->label);
    hooked.done = done;
    hooked.ctx = flight;
    kill_point("%s before", flight->label);
    return __real_pfx_http_start(http, &hooked, ret_flight, err);
}
