/* /etc/pfx-agent/uploader.yaml: root-owned; whom pfx-uploader speaks to. A job never names a host. */
#ifndef PFX_CONF_UPLOADER_CONF_H
#define PFX_CONF_UPLOADER_CONF_H

#include "crypto/result.h"
#include "crypto/secret.h"

#include <stdint.h>

struct pfx_rate_conf { /* token bucket: `requests` in `window_ms`, rolling */
    unsigned requests;
    int64_t window_ms;
};
enum pfx_ca_choice { PFX_CA_DIGICERT, PFX_CA_CMP };
enum pfx_cloud { PFX_CLOUD_GLOBAL, PFX_CLOUD_USGOV, PFX_CLOUD_USGOV_DOD, PFX_CLOUD_CHINA };
enum pfx_sign_in { PFX_SIGN_IN_ASSERTION, PFX_SIGN_IN_AZURE_VM, PFX_SIGN_IN_AZURE_ARC };
enum pfx_proxy_auth { PFX_PROXY_BASIC, PFX_PROXY_DIGEST };

struct pfx_pin_conf { /* tls.pins[]: public keys that a host may have, besides a chain to a root */
    char *host;       /* tls.pins[].host */
    char *keys;       /* tls.pins[].keys: "sha256//BASE64;sha256//BASE64", as curl writes them */
};
struct pfx_uploader_conf {
    char *agent_socket; /* /run/pfx-agent/uploader */
    char *hsm_socket;   /* /run/pfx-hsm/uploader */
    enum pfx_ca_choice ca; /* ca: digicert (default) or cmp */
    char *cmp_url;       /* cmp.url: https://host/pkix; required for ca: cmp */
    char *cmp_recipient; /* cmp.recipient: the CA's subject, "/CN=..."; NULL: from cmp.ca_cert */
    char *cmp_reference; /* cmp.reference: sender KID of the shared secret "cmp" (secret set cmp) */
    char *cmp_ca_cert;   /* cmp.ca_cert: PEM of the CA that issues; required for ca: cmp */
    char *cmp_profile;   /* cmp.profile: certProfile (RFC 9480); NULL: none */
    struct pfx_rate_conf cmp_rate; /* cmp.rate: 20/1s */
    char *digicert_url; /* digicert.url: https://www.digicert.com/services/v2; https only */
    struct pfx_rate_conf digicert_short; /* digicert.rate_short: 100/5s */
    struct pfx_rate_conf digicert_long;  /* digicert.rate_long: 1000/3m */
    enum pfx_cloud cloud; /* entra.cloud: global (default), usgov, usgov-dod, china: defaults of
                           * entra.url, graph.url and exchange.url */
    enum pfx_sign_in sign_in; /* entra.sign_in: assertion (default), azure-vm, azure-arc */
    char *identity;  /* entra.identity: client id of a user-assigned identity; NULL: the machine's */
    char *login_url; /* entra.url: https://login.microsoftonline.com */
    char *tenant;    /* entra.tenant: GUID */
    char *app;       /* entra.app: name of the app registration in hsm-policy.yaml (default "main") */
    char *import_app;   /* entra.import_app: another app registration for Intune; default entra.app */
    char *mail_app;     /* entra.mail_app: another one for mail; default entra.app */
    char *exchange_app; /* entra.exchange_app: another one for Exchange; default entra.app */
    char *graph_url; /* graph.url: https://graph.microsoft.com */
    struct pfx_rate_conf graph_writes; /* graph.rate_writes: 100/20s */
    struct pfx_rate_conf graph_any;    /* graph.rate_any: 1000/20s */
    char *exchange_url; /* exchange.url: https://outlook.office365.com */
    struct pfx_rate_conf exchange_rate; /* exchange.rate: 10/1s */
    bool http2;       /* http2: true; Graph, Entra ID and Exchange. DigiCert is spoken to by HTTP/1.1: its
                       * API key would stay in the header table of an HTTP/2 connection */
    struct pfx_pin_conf *pins; /* tls.pins */
    size_t n_pins;
    char *ca_bundle;  /* tls.ca_bundle: PEM file; NULL: the system's */
    char *proxy;      /* proxy.url: http://host:port; NULL: none. User and password refused in it. */
    char *proxy_user; /* proxy.user; NULL: none. Its password is the secret "proxy" (secret set) */
    enum pfx_proxy_auth proxy_auth; /* proxy.auth: basic (default), digest */
    char *no_proxy;   /* proxy.except: comma-separated hosts */
    unsigned in_flight;        /* limits.in_flight: 16 */
    int64_t connect_timeout_ms; /* limits.connect_timeout: 10s */
    int64_t request_timeout_ms; /* limits.request_timeout: 60s */
    int64_t job_timeout_ms;     /* limits.job_timeout: 5m */
    int64_t max_body;           /* limits.max_body: bytes of an answer, 8 MiB */
    enum pfx_secret_memory secret_memory; /* sandbox.secret_memory: auto, locked, memfd_secret */
    char *agent_user; /* access.agent_user: who must hold agent_socket; NULL: root or the own user */
    char *hsm_user;   /* access.hsm_user: who must hold hsm_socket; NULL: root or the own user */
    char *user_agent;           /* user_agent: pfx-agent/VERSION */
};
PFX_MUST_USE pfx_result pfx_uploader_conf_load(const char *path, struct pfx_uploader_conf **ret_conf,
                                               struct pfx_error *err);
void pfx_uploader_conf_free(struct pfx_uploader_conf *conf);

#endif
