/* /etc/pfx-agent/uploader.yaml: root-owned; whom pfx-uploader speaks to. A job never names a host. */
#ifndef PFX_CONF_UPLOADER_CONF_H
#define PFX_CONF_UPLOADER_CONF_H

#include "crypto/result.h"

#include <stdint.h>

struct pfx_rate_conf { /* token bucket: `requests` in `window_ms`, rolling */
    unsigned requests;
    int64_t window_ms;
};
struct pfx_uploader_conf {
    char *agent_socket; /* /run/pfx-agent/uploader */
    char *hsm_socket;   /* /run/pfx-hsm/uploader */
    char *digicert_url; /* digicert.url: https://www.digicert.com/services/v2; https only */
    struct pfx_rate_conf digicert_short; /* digicert.rate_short: 100/5s */
    struct pfx_rate_conf digicert_long;  /* digicert.rate_long: 1000/3m */
    char *login_url; /* entra.url: https://login.microsoftonline.com */
    char *tenant;    /* entra.tenant: GUID */
    char *app;       /* entra.app: name of the app registration in hsm-policy.yaml (default "main") */
    char *graph_url; /* graph.url: https://graph.microsoft.com */
    struct pfx_rate_conf graph_writes; /* graph.rate_writes: 100/20s */
    struct pfx_rate_conf graph_any;    /* graph.rate_any: 1000/20s */
    char *ca_bundle;  /* tls.ca_bundle: PEM file; NULL: the system's */
    char *proxy;      /* proxy.url: http://host:port; NULL: none. User and password refused in it. */
    char *no_proxy;   /* proxy.except: comma-separated hosts */
    unsigned in_flight;        /* limits.in_flight: 16 */
    int64_t connect_timeout_ms; /* limits.connect_timeout: 10s */
    int64_t request_timeout_ms; /* limits.request_timeout: 60s */
    int64_t job_timeout_ms;     /* limits.job_timeout: 5m */
    int64_t max_body;           /* limits.max_body: bytes of an answer, 8 MiB */
    char *agent_user; /* access.agent_user: who must hold agent_socket; NULL: root or the own user */
    char *hsm_user;   /* access.hsm_user: who must hold hsm_socket; NULL: root or the own user */
    char *user_agent;           /* user_agent: pfx-agent/VERSION */
};
PFX_MUST_USE pfx_result pfx_uploader_conf_load(const char *path, struct pfx_uploader_conf **ret_conf,
                                               struct pfx_error *err);
void pfx_uploader_conf_free(struct pfx_uploader_conf *conf);

#endif
