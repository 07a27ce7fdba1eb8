#include "api/uploader/proxy.h"

#include <string.h>

#include <openssl/rand.h>

#include "api/conf/process.h"
#include "api/uploader/cred.h"
#include "crypto/encode.h"

/* Each fetch is an opening by the HSM and an entry in its log; as with the API key. */
#define IDLE_MS (5 * 60 * 1000)
/* How soon pfx-hsm is asked whether a refused password was changed; doubles. */
#define FIRST_PAUSE_MS 5000
#define MAX_PAUSE_MS 60000

/* It may have been changed at the proxy: after a while without use it proves itself anew. */
#define PROOF_MS 5000

#define MARK_SIZE 32

struct pfx_proxy {
    struct pfx_cred cred; /* first: begin gets this address */
    struct pfx_broker *broker;
    char *host;
    uint8_t salt[16]; /* of the marks, by which a password is known again without being kept */
    uint8_t mark[MARK_SIZE], bad_mark[MARK_SIZE];
    bool any_bad;
    bool proved;       /* the one in cred, */
    int64_t proved_at; /* last then */
    bool tried;        /* it is on its way for the first time */
    unsigned tried_by; /* ticket */
    unsigned tickets, before; /* those up to `before` had another password */
    unsigned bad_looks;
    int64_t look_at;   /* any_bad: not before */
};

pfx_result pfx_proxy_refusal(const char *host, bool login, struct pfx_error *err)
{
    if (!login)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "connect", host, "HTTP 407",
                        "The proxy wants a name and a password, so nothing was sent: set "
                        "proxy.user in uploader.yaml, and run `pfx-agent secret set proxy`; or "
                        "have it let this host through without. Until then everything waits.");
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "connect", host, "HTTP 407",
                    "The proxy doesn't take the name or the password, so nothing was sent: check "
                    "proxy.user and proxy.auth in uploader.yaml, and give the password again with "
                    "`pfx-agent secret set proxy`. The same password isn't tried again; everything "
                    "waits for another one.");
}

static bool make_mark(const struct pfx_proxy *proxy, const char *value, uint8_t ret[MARK_SIZE])
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
    text.wipe = true;
    return pfx_buf_add(&text, proxy->salt, sizeof proxy->salt) && pfx_buf_add_str(&text, value) &&
           pfx_sha256(text.data, text.len, ret);
}

static void on_password(void *ctx, pfx_result result, bool away, const struct pfx_msg *item,
                        const struct pfx_error *err)
{
    struct pfx_proxy *proxy = ctx;
    int64_t now = pfx_uptime_ms();
    if (pfx_failed(result)) {
        pfx_cred_denied(&proxy->cred, away, err, now);
        return;
    }
    const char *value = pfx_msg_str(item, "value");
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_secret *password = NULL;
    if (!make_mark(proxy, value, proxy->mark))
        pfx_die("SHA-256 isn't available");
    if (proxy->any_bad && memcmp(proxy->mark, proxy->bad_mark, MARK_SIZE) == 0) {
        int64_t pause = FIRST_PAUSE_MS << (proxy->bad_looks > 4 ? 4 : proxy->bad_looks);
        proxy->bad_looks++;
        proxy->look_at = now + (pause > MAX_PAUSE_MS ? MAX_PAUSE_MS : pause);
        why.cls = pfx_proxy_refusal(proxy->host, true, &why).cls;
        pfx_cred_fail(&proxy->cred, &why, now);
        return;
    }
    if (pfx_failed(pfx_secret_copy(value, strlen(value) + 1, &password, &why))) {
        pfx_cred_fail(&proxy->cred, &why, now);
        return;
    }
    proxy->any_bad = false;
    proxy->bad_looks = 0;
    proxy->proved = false;
    proxy->tried = false;
    proxy->before = proxy->tickets;
    pfx_cred_put(&proxy->cred, password, INT64_MAX, now);
}

static void begin(struct pfx_cred *cred)
{
    struct pfx_proxy *proxy = (struct pfx_proxy *)cred;
    pfx_broker_ask(proxy->broker, "secret", "name", "proxy", on_password, proxy);
}

struct pfx_proxy *pfx_proxy_new(struct pfx_broker *broker, const char *host)
{
    struct pfx_proxy *proxy = pfx_alloc(sizeof *proxy);
    proxy->cred.what = "the password for the proxy";
    proxy->cred.begin = begin;
    proxy->cred.idle_ms = IDLE_MS;
    proxy->broker = broker;
    proxy->host = pfx_strdup(host);
    if (RAND_bytes(proxy->salt, sizeof proxy->salt) != 1)
        pfx_die("no randomness");
    return proxy;
}

void pfx_proxy_free(struct pfx_proxy *proxy)
{
    if (!proxy)
        return;
    pfx_cred_done(&proxy->cred);
    free(proxy->host);
    free(proxy);
}

unsigned pfx_proxy_failures(const struct pfx_proxy *proxy)
{
    return proxy->cred.failures;
}

enum pfx_proxy_turn pfx_proxy_want(struct pfx_proxy *proxy, unsigned failures, int64_t now,
                                   struct pfx_pass *ret_pass, struct pfx_error *err)
{
    struct pfx_cred *cred = &proxy->cred;
    const struct pfx_secret *password = NULL;
    if (proxy->any_bad && !cred->busy && now < proxy->look_at) {
        err->cls = pfx_proxy_refusal(proxy->host, true, err).cls;
        return PFX_PROXY_NO;
    }
    if (cred->failures == failures)
        password = pfx_cred_want(cred, now);
    if (cred->failures != failures) {
        *err = cred->trouble;
        return PFX_PROXY_NO;
    }
    if (proxy->proved && now - proxy->proved_at > PROOF_MS)
        proxy->proved = false;
    if (!password || (!proxy->proved && proxy->tried)) {
        *err = cred->trouble;
        return PFX_PROXY_WAIT;
    }
    *ret_pass = (struct pfx_pass){password, ++proxy->tickets, !proxy->proved};
    if (!proxy->proved) {
        proxy->tried = true;
        proxy->tried_by = proxy->tickets;
    }
    return PFX_PROXY_GO;
}

void pfx_proxy_told(struct pfx_proxy *proxy, unsigned ticket, long status, int64_t now)
{
    if (ticket <= proxy->before)
        return;
    bool first = proxy->tried && ticket == proxy->tried_by;
    if (first)
        proxy->tried = false;
    if (status >= 200 && status <= 299 && !proxy->any_bad) {
        proxy->proved = true;
        proxy->proved_at = now;
    }
    /* Of several that left with a password that was good until then, the first one counts. */
    if (status == 407 && !proxy->any_bad) {
        proxy->proved = false;
        proxy->any_bad = true;
        memcpy(proxy->bad_mark, proxy->mark, MARK_SIZE);
        proxy->look_at = now + FIRST_PAUSE_MS;
        (void)pfx_cred_refused(&proxy->cred, proxy->cred.generation, false, now);
    }
}

int64_t pfx_proxy_next(const struct pfx_proxy *proxy)
{
    if (proxy->cred.value) /* the end of the first request with it wakes the loop */
        return INT64_MAX;
    return pfx_cred_next(&proxy->cred);
}

void pfx_proxy_tidy(struct pfx_proxy *proxy, int64_t now)
{
    pfx_cred_tidy(&proxy->cred, now);
}
