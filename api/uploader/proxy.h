/*
 * The password for the proxy: opened by pfx-hsm when a request wants it, forgotten when none does.
 *
 * A proxy may lock an account after a few wrong passwords. So a password that hasn't proved itself
 * is tried by one request alone while the others wait, and one that was refused isn't shown to the
 * proxy again until `secret set proxy` changed it, or this program starts anew.
 */
#ifndef PFX_UPLOADER_PROXY_H
#define PFX_UPLOADER_PROXY_H

#include "api/uploader/broker.h"
#include "api/uploader/route.h"
#include "crypto/secret.h"

struct pfx_proxy;
/* host is for errors; copied. */
struct pfx_proxy *pfx_proxy_new(struct pfx_broker *broker, const char *host);
void pfx_proxy_free(struct pfx_proxy *proxy); /* NULL is fine */

enum pfx_proxy_turn { PFX_PROXY_GO, PFX_PROXY_WAIT, PFX_PROXY_NO };
/* May a request leave that has waited since `failures` (pfx_proxy_failures then)? GO: with this
 * pass; pfx_proxy_told has to follow with its ticket. WAIT and NO: err says for what or why, if it
 * is known. */
PFX_MUST_USE enum pfx_proxy_turn pfx_proxy_want(struct pfx_proxy *proxy, unsigned failures,
                                                int64_t now_ms, struct pfx_pass *ret_pass,
                                                struct pfx_error *err);
unsigned pfx_proxy_failures(const struct pfx_proxy *proxy);
/* What the proxy said to that request's CONNECT; 0: nothing, or none was sent. */
void pfx_proxy_told(struct pfx_proxy *proxy, unsigned ticket, long status, int64_t now_ms);
/* When it makes sense to ask again although nothing happened; INT64_MAX: never. */
int64_t pfx_proxy_next(const struct pfx_proxy *proxy);
void pfx_proxy_tidy(struct pfx_proxy *proxy, int64_t now_ms); /* forgets an idle password */
/* What a 407 means, for err; host: "proxy.example:8080"; login: a password was given. TRANSIENT:
 * nothing got to the service, so that no order has to be held because of it. */
PFX_MUST_USE pfx_result pfx_proxy_refusal(const char *host, bool login, struct pfx_error *err);

#endif
