/*
 * A CA of one's own by CMP: the jobs. An order is one transaction, which brings the certificate.
 *
 * Such a CA sells nothing and keeps no orders that could be looked up, so what got lost is settled
 * by the same request once more, under the same transaction id: both follow from the order's token,
 * as does the number by which pfx-agentd knows the order.
 */
#include "api/uploader/cmp.h"

#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "api/conf/product.h"
#include "api/uploader/finding.h"

/* Another CA's order must not end in a certificate of this one. */
#define ORDERED_ELSEWHERE                                                                          \
    "It was ordered from DigiCert, and uploader.yaml says ca: cmp. Let it come to its end with "   \
    "ca: digicert, or look there what became of it and cancel the enrolment."

struct order {
    const char *op;
    struct pfx_cmp *cmp;
    struct pfx_msg *(*result)(struct pfx_task *task, const struct order *order);
    void (*failed)(struct pfx_task *task, const struct pfx_error *err); /* NULL: the job fails */
    struct pfx_cmp_order ids; /* id 0: none, a general message */
    bool left; /* a request went out and wasn't rejected: the CA may have issued */
    unsigned generation, version; /* of the secret in use */
    bool retried;                 /* with a secret that was fetched anew */
    struct pfx_error doubt;       /* why it was */
    bool over;
};

static void order_done(void *own)
{
    struct order *order = own;
    pfx_cmp_free(order->cmp);
}

static void advance(struct pfx_task *task, enum pfx_cmp_next next);
static void fetch_secret(struct pfx_task *task);

/* TRANSIENT and REFUSED say to pfx-agentd that nothing was issued. */
static enum pfx_class when_left(enum pfx_class cls)
{
    switch (cls) {
    case PFX_CLASS_TRANSIENT:
    case PFX_CLASS_DEVICE:
        return PFX_CLASS_LOST; /* asked again by itself */
    case PFX_CLASS_REFUSED:
    case PFX_CLASS_USAGE:
        return PFX_CLASS_INTEGRITY; /* by a person */
    default:
        return cls;
    }
}

static void fail(struct pfx_task *task, pfx_result result, const struct pfx_error *err)
{
    struct order *order = pfx_task_get(task);
    struct pfx_error copy = *err;
    order->over = true;
    if (order->left)
        copy.cls = result.cls = when_left(result.cls);
    if (order->failed)
        order->failed(task, &copy);
    else
        pfx_task_fail(task, result, &copy);
}

/* How a request that isn't answered ends the job. A last word to the CA has no answer that matters:
 * OpenSSL then says why it was spoken. */
static void on_trouble(struct pfx_task *task, pfx_result result, const struct pfx_error *err)
{
    struct order *order = pfx_task_get(task);
    if (order->over)
        pfx_task_fail(task, result, err);
    else if (order->cmp && pfx_cmp_parting(order->cmp))
        advance(task, pfx_cmp_step(order->cmp, (struct pfx_bytes){0}));
    else
        fail(task, result, err);
}

static void on_message(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct order *order = pfx_task_get(task);
    order->left = true;
    advance(task, pfx_cmp_step(order->cmp, answer->body));
}

static void send_message(struct pfx_task *task)
{
    struct order *order = pfx_task_get(task);
    struct pfx_bytes message = pfx_cmp_out(order->cmp);
    struct pfx_call call = {
        .service = PFX_SERVICE_CA,
        .method = "POST",
        .url = pfx_strdup(pfx_task_up(task)->services[PFX_SERVICE_CA].url),
        .body = pfx_buf_make(message.len),
        .expect = PFX_EXPECT_CMP,
        .op = order->op,
        .reads = order->ids.id == 0, /* a general message */
        .otherwise = on_trouble,
    };
    pfx_buf_add(&call.body, message.data, message.len);
    pfx_task_call(task, &call, on_message);
}

static void on_woken(struct pfx_task *task)
{
    struct order *order = pfx_task_get(task);
    advance(task, pfx_cmp_step(order->cmp, (struct pfx_bytes){0}));
}

static void nap(struct pfx_task *task)
{
    struct order *order = pfx_task_get(task);
    const struct pfx_uploader_conf *conf = pfx_task_up(task)->conf;
    int64_t wait_ms = pfx_cmp_wait_ms(order->cmp);
    if (pfx_task_sleep(task, wait_ms, on_woken))
        return;
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = pfx_fail(&err, PFX_CLASS_LOST, order->op, conf->cmp_url, "waiting",
                            "The CA hasn't decided yet and wants to be asked again in %lld s, "
                            "which is past limits.job_timeout (%lld s) of uploader.yaml. The same "
                            "request is sent again later. If somebody has to approve it at the CA, "
                            "do that, or let the CA issue at once for this reference.",
                            (long long)wait_ms / 1000, (long long)conf->job_timeout_ms / 1000);
    fail(task, r, &err);
}

static void ended(struct pfx_task *task)
{
    struct order *order = pfx_task_get(task);
    struct pfx_error err;
    pfx_result r = pfx_cmp_error(order->cmp, &err);
    /* `secret set` may have changed it since: one try more if a fresh one differs. */
    if (pfx_cmp_secret_doubted(order->cmp) &&
        pfx_cred_refused(pfx_task_cred(task), order->generation, order->retried,
                         pfx_uptime_ms()) &&
        !order->retried) {
        order->retried = true;
        order->doubt = err;
        fetch_secret(task);
        return;
    }
    if (pfx_cmp_rejected(order->cmp))
        order->left = false;
    fail(task, r, &err);
}

static void advance(struct pfx_task *task, enum pfx_cmp_next next)
{
    struct order *order = pfx_task_get(task);
    switch (next) {
    case PFX_CMP_SEND:
        send_message(task);
        break;
    case PFX_CMP_WAIT:
        nap(task);
        break;
    case PFX_CMP_DONE:
        pfx_task_ok(task, order->result(task, order));
        break;
    case PFX_CMP_FAILED:
        ended(task);
        break;
    }
}

static void on_secret(struct pfx_task *task, const struct pfx_answer *none)
{
    (void)none;
    struct order *order = pfx_task_get(task);
    const struct pfx_msg *job = pfx_task_body(task);
    struct pfx_cred *cred = pfx_task_cred(task);
    const struct pfx_secret *secret = pfx_cred_want(cred, pfx_uptime_ms());
    if (secret && order->retried && cred->version == order->version) {
        (void)pfx_cred_refused(cred, cred->generation, true, pfx_uptime_ms());
        fail(task, (pfx_result){order->doubt.cls}, &order->doubt);
        return;
    }
    order->generation = cred->generation;
    order->version = cred->version;
    bool certificate = order->ids.id > 0; /* else it is setup */
    struct pfx_cmp_ask ask = {
        .conf = pfx_task_up(task)->conf,
        .trust = pfx_task_up(task)->ca,
        .secret = secret,
        .op = order->op,
        .csr = certificate ? pfx_msg_blob(job, "csr") : (struct pfx_bytes){0},
        .transaction = certificate ? order->ids.transaction : NULL,
    };
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_cmp_free(PFX_TAKE(order->cmp));
    pfx_result r = ask.secret ? pfx_cmp_new(&ask, &order->cmp, &err)
                              : pfx_fail(&err, PFX_CLASS_TRANSIENT, order->op, "secret cmp", "",
                                         "The shared secret was replaced at this moment.");
    if (pfx_failed(r))
        fail(task, r, &err);
    else
        advance(task, pfx_cmp_step(order->cmp, (struct pfx_bytes){0}));
}

/* The secret has to be there before OpenSSL can write the first message. */
static void fetch_secret(struct pfx_task *task)
{
    const struct order *order = pfx_task_get(task);
    struct pfx_call call = {
        .service = PFX_SERVICE_CA, .method = "POST", .op = order->op, .otherwise = on_trouble};
    pfx_task_call(task, &call, on_secret);
}

static struct order *begin(struct pfx_task *task, const char *op,
                           struct pfx_msg *(*result)(struct pfx_task *, const struct order *))
{
    struct order *order = pfx_task_state(task, sizeof *order, order_done);
    order->op = op;
    order->result = result;
    return order;
}

/* --- the jobs with a certificate in their answer --- */

static void set_certificate(struct pfx_msg *result, const struct order *order)
{
    const struct pfx_certs *chain = pfx_cmp_chain(order->cmp);
    struct pfx_bytes leaf = pfx_certs_at(chain, 0);
    pfx_msg_set_blob(result, "leaf", leaf.data, leaf.len);
    for (size_t i = 1; i < pfx_certs_count(chain); i++) {
        struct pfx_bytes link = pfx_certs_at(chain, i);
        pfx_msg_add_blob(result, "chain", link.data, link.len);
    }
}

static struct pfx_msg *ordered(struct pfx_task *task, const struct order *order)
{
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_int(result, "order_id", order->ids.id);
    pfx_msg_set_str(result, "status", "issued");
    set_certificate(result, order);
    return result;
}

static struct pfx_msg *settled(struct pfx_task *task, const struct order *order)
{
    struct pfx_msg *result = ordered(task, order);
    pfx_msg_set_bool(result, "found", true);
    return result;
}

static struct pfx_msg *downloaded(struct pfx_task *task, const struct order *order)
{
    struct pfx_msg *result = pfx_task_result(task);
    set_certificate(result, order);
    return result;
}

static bool is_internal(const struct pfx_msg *product)
{
    return strcmp(pfx_msg_str(product, "product"), "internal") == 0;
}

static void refuse(struct pfx_task *task, const char *op, const char *why)
{
    pfx_task_fail_as(task, PFX_CLASS_REFUSED, op, "ca: cmp", "", "%s", why);
}

static void order(struct pfx_task *task)
{
    const struct pfx_msg *job = pfx_task_body(task);
    if (!is_internal(job)) {
        refuse(task, "order", "The rule orders a product of DigiCert, and uploader.yaml says ca: "
                              "cmp. Set product: internal in this rule of agent.yaml, or ca: "
                              "digicert.");
        return;
    }
    begin(task, "order", ordered)->ids = pfx_cmp_order_of(pfx_msg_str(job, "token"));
    fetch_secret(task);
}

static void settle(struct pfx_task *task)
{
    const struct pfx_msg *job = pfx_task_body(task);
    if (!is_internal(job)) {
        refuse(task, "settle order", ORDERED_ELSEWHERE);
        return;
    }
    if (!pfx_msg_has(job, "csr")) {
        struct pfx_msg *result = pfx_task_result(task);
        pfx_msg_set_bool(result, "found", false);
        pfx_task_ok(task, result);
        return;
    }
    begin(task, "settle order", settled)->ids = pfx_cmp_order_of(pfx_msg_str(job, "token"));
    fetch_secret(task);
}

static void download(struct pfx_task *task)
{
    const struct pfx_msg *job = pfx_task_body(task);
    if (!pfx_msg_has(job, "csr") || !pfx_msg_has(job, "token")) {
        refuse(task, "download", "A CA that is spoken to by CMP sends the certificate in its "
                                 "answer to the order, and keeps none to be fetched: order again.");
        return;
    }
    struct order *order = begin(task, "download", downloaded);
    order->ids = pfx_cmp_order_of(pfx_msg_str(job, "token"));
    if (order->ids.id != pfx_msg_int(job, "order_id"))
        refuse(task, "download", ORDERED_ELSEWHERE);
    else
        fetch_secret(task);
}

/* --- the jobs that CMP has nothing for --- */

static void nothing(struct pfx_task *task)
{
    pfx_task_ok(task, pfx_task_result(task));
}

static void info(struct pfx_task *task)
{
    struct pfx_msg *result = pfx_task_result(task);
    pfx_msg_set_int(result, "order_id", pfx_msg_int(pfx_task_body(task), "order_id"));
    pfx_msg_set_str(result, "status", "issued"); /* an order that has a number has been issued */
    pfx_task_ok(task, result);
}

static void cancel(struct pfx_task *task)
{
    refuse(task, "cancel order", "CMP has no orders that could be canceled: what was asked for is "
                                 "issued at once. Revoke the certificate with the CA's own tools.");
}

static void resend(struct pfx_task *task)
{
    refuse(task, "resend mail", "This CA sends no mail: it issues without asking the user.");
}

static void revoke(struct pfx_task *task)
{
    refuse(task, "revoke", "Certificates of a CA of one's own are revoked with that CA's own "
                           "tools; pfx-agent doesn't ask for it by CMP.");
}

/* --- setup --- */

static void check_products(const struct pfx_msg *job, struct pfx_msg *result)
{
    for (size_t i = 0; i < pfx_msg_count(job, "products"); i++) {
        const struct pfx_msg *product = pfx_msg_obj_at(job, "products", i);
        char what[200];
        snprintf(what, sizeof what, "rule %s", pfx_msg_str(product, "rule"));
        if (is_internal(product))
            pfx_finding_add(result, what, "ok", "It orders from the CA of one's own.", NULL);
        else
            pfx_finding_add(result, what, "bad",
                    "It orders a product of DigiCert, and uploader.yaml says ca: cmp.",
                    "Set product: internal in this rule of agent.yaml.");
    }
}

static struct pfx_msg *found(struct pfx_task *task, const struct order *order)
{
    (void)order;
    struct pfx_msg *result = pfx_task_result(task);
    pfx_finding_add(result, "CMP server", "ok",
            "It answers, and both sides have the same reference and shared secret.", NULL);
    pfx_finding_add(result, "certificate profile", "warn",
            "CMP can't be asked what the CA will issue: the first order shows it.",
            "The profile has to take addresses, key usage and emailProtection from the request.");
    check_products(pfx_task_body(task), result);
    return result;
}

/* Whatever is wrong with the server is a finding like any other. */
static void on_setup_trouble(struct pfx_task *task, const struct pfx_error *err)
{
    const struct order *order = pfx_task_get(task);
    struct pfx_msg *reply = pfx_task_result(task);
    /* Many CAs don't know general messages, and say so in a message with the right protection. */
    bool known = order->cmp && pfx_cmp_rejected(order->cmp);
    bool simple = known && strcmp(err->code, "badRequest") == 0;
    char line[640];
    pfx_error_line(err, line, sizeof line);
    pfx_finding_add(reply, "CMP server", simple ? "ok" : known ? "warn" : "bad", line,
            simple  ? "It answers with the right protection; it doesn't do general messages."
            : known ? "It answers with the right protection, so reference and secret are right; "
                      "the first order shows more."
                    : NULL);
    check_products(pfx_task_body(task), reply);
    pfx_task_ok(task, reply);
}

static void setup(struct pfx_task *task)
{
    begin(task, "setup", found)->failed = on_setup_trouble;
    fetch_secret(task);
}

static const struct pfx_kind kinds[] = {
    {"up.order", order},
    {"up.order_settle", settle},
    {"up.order_changes", nothing},
    {"up.orders", nothing},
    {"up.order_info", info},
    {"up.order_validation", nothing},
    {"up.order_resend", resend},
    {"up.order_cancel", cancel},
    {"up.order_revoke", revoke},
    {"up.setup_ca", setup},
    {"up.download", download},
    {NULL, NULL},
};

static struct pfx_ca_conf ca_conf(const struct pfx_uploader_conf *conf)
{
    return (struct pfx_ca_conf){conf->cmp_url, {conf->cmp_rate}};
}

static pfx_result start(struct pfx_up *up, struct pfx_error *err)
{
    struct pfx_cmp_trust *trust;
    PFX_TRY(pfx_cmp_trust_load(up->conf, &trust, err));
    up->ca = trust;
    return PFX_OK;
}

static void stop(struct pfx_up *up)
{
    pfx_cmp_trust_free(up->ca);
    up->ca = NULL;
}

const struct pfx_ca pfx_ca_cmp = {
    .name = "CMP server",
    .url_option = "cmp.url",
    .secret = "cmp",
    .conf = ca_conf,
    .start = start,
    .stop = stop,
    .kinds = kinds,
};
