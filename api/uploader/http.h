/*
 * HTTP by libcurl's multi interface: starts requests, and hands over how each one ended.
 *
 * The engine enforces what holds for every request, whoever sends it: https only, the peer
 * verified, TLS 1.2 at least, pinned keys, no redirects, no cookies, no netrc, no proxy from the
 * environment, ceilings for headers and body, time-outs. It knows no service and never sends
 * anything twice: whatever the server answers, by HTTP/1.1 or HTTP/2, a request with a body starts
 * once.
 *
 * One request at a time on each connection, with HTTP/2 too: a lost connection takes one change
 * with it whose fate has to be looked up, never several. By HTTP/1.1 an answer belongs to a request
 * by its place alone: a server, or what stands before it, that answers twice makes each later
 * request on the connection get the answer of an earlier one. So a request may want a connection to
 * itself, and where a service repeats our client-request-id, another one ends the connection.
 *
 * Behind a proxy with a name, a request waits here for the proxy's password. The proxy gets CONNECT
 * with that name and password, and no header of the request.
 *
 * What was sent and received stays in the buffers of a connection until the next request. So one
 * whose answer is secret has its connection to itself, and connections are closed when nothing was
 * sent for REST_MS (http.c): with wipe.c nothing of them remains.
 */
#ifndef PFX_UPLOADER_HTTP_H
#define PFX_UPLOADER_HTTP_H

#include <curl/curl.h>

#include "api/conf/uploader_conf.h"
#include "api/uploader/proxy.h"
#include "api/uploader/route.h"
#include "crypto/encode.h"
#include "crypto/mem.h"
#include "crypto/result.h"
#include "crypto/secret.h"

struct pfx_http;
struct pfx_flight; /* a request on its way */

struct pfx_answer { /* borrowed for the call of done */
    int curl_code;   /* CURLcode; 0: status, headers and body are whole */
    char curl_text[CURL_ERROR_SIZE];
    bool begun;      /* there was a connection, and the request began on it */
    bool sent;       /* a byte of the request's body may have left; meaningless without a body */
    bool foreign;    /* cut off: it repeats another request's client-request-id */
    const struct pfx_error *unsent; /* it couldn't even be begun, and why; NULL: it was */
    bool proxied;    /* it was to go through the proxy */
    long connect_status; /* of the proxy; 0: it wasn't asked, or said nothing */
    char pin[PFX_PIN_SIZE]; /* after CURLE_SSL_PINNEDPUBKEYNOTMATCH: what the server showed */
    bool too_big;    /* cut off at a ceiling */
    long status;     /* 0: none came */
    struct pfx_bytes body;
    const char *url; /* of the request */
    char content_type[96]; /* media type in lower case without parameters; "" if absent */
    char retry_after[64], retry_after_ms[32];
    char date[64];         /* the server's clock */
    char location[160];    /* of a redirect that wasn't followed, without query */
    char challenge[320];   /* WWW-Authenticate */
    char request_id[64];   /* Graph's or Entra's */
    char client_request_id[PFX_GUID_SIZE]; /* ours; "" where the service takes none */
};
typedef void (*pfx_http_done_fn)(void *ctx, const struct pfx_answer *answer);

struct pfx_http_request {
    const char *method; /* GET, POST, PUT, PATCH, DELETE */
    const char *url;
    const char *accept; /* media types */
    const char *content_type;  /* with a body */
    struct pfx_buf *body;      /* taken over; NULL: none */
    const char *auth_header;   /* "Authorization: Bearer " or "X-DC-DEVKEY: "; NULL: none */
    const struct pfx_secret *auth; /* what follows it */
    bool http2;                /* may go by HTTP/2, if the configuration says so. Only a credential
                                * in Authorization may: nghttp2 puts other headers, DigiCert's
                                * X-DC-DEVKEY too, into a table that lives with the connection */
    bool client_request_id;    /* send a fresh GUID as client-request-id */
    bool echoed;               /* the service repeats it: an answer with another one isn't ours */
    const char *const *headers; /* further header lines, ends with NULL; NULL: none */
    bool identity;             /* for a managed identity's token: HTTP without TLS and without a
                                * proxy, and only to one of its two addresses (identity.h) */
    bool secret;               /* the answer holds a secret: wiped when done */
    bool alone;                /* nothing before it and nothing after it on its connection */
    pfx_http_done_fn done;     /* called once, from pfx_http_step, unless cancelled */
    void *ctx;
};

PFX_MUST_USE pfx_result pfx_http_new(const struct pfx_uploader_conf *conf,
                                     struct pfx_http **ret_http, struct pfx_error *err);
void pfx_http_free(struct pfx_http *http); /* cancels what is on its way; NULL is fine */
/* Borrowed, and outlives http; NULL: the proxy wants no password. Before the first request. */
void pfx_http_set_proxy(struct pfx_http *http, struct pfx_proxy *proxy);
/* May another request start? (limits.in_flight) */
bool pfx_http_room(const struct pfx_http *http);
/* Everything but body is copied. On failure the body stays the caller's, and nothing was sent. */
PFX_MUST_USE pfx_result pfx_http_start(struct pfx_http *http,
                                       const struct pfx_http_request *request,
                                       struct pfx_flight **ret_flight, struct pfx_error *err);
void pfx_http_cancel(struct pfx_flight *flight);
/* Sleeps until something happens on our connections or fds, at most timeout_ms. */
void pfx_http_wait(struct pfx_http *http, struct curl_waitfd *fds, unsigned n_fds, int timeout_ms);
/* Moves every request on, and calls done for those that ended. */
void pfx_http_step(struct pfx_http *http);

#endif
