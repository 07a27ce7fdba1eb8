/* pfx-uploader: the arm that speaks to the network. It holds no key and decides nothing. */
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "api/conf/account.h"
#include "api/conf/notify.h"
#include "api/conf/process.h"
#include "api/conf/sandbox.h"
#include "api/conf/uploader_conf.h"
#include "api/uploader/alloc.h"
#include "api/uploader/ca.h"
#include "api/uploader/entra.h"
#include "api/uploader/exchange.h"
#include "api/uploader/graph.h"
#include "api/uploader/identity.h"
#include "api/uploader/setup_entra.h"
#include "api/uploader/token.h"
#include "api/uploader/url.h"

#define DEFAULT_CONFIG "/etc/pfx-agent/uploader.yaml"
/* Jobs that wait for one service must not keep those of another from being handed out. */
#define JOBS_PER_FLIGHT 4
#define MAX_KINDS 32

struct uploader {
    struct pfx_uploader_conf *conf;
    const struct pfx_ca *ca;
    const struct pfx_kind *kinds[MAX_KINDS];
    size_t n_kinds;
    struct pfx_up up;
    struct pfx_broker *broker;
    struct pfx_proxy *proxy;
    struct pfx_tokens *tokens;
    struct pfx_apikey *apikey;
    int signals;
    bool online;
    char told[700]; /* the last reason for being offline that was logged */
};

static const char usage[] =
    "Usage: pfx-uploader [--config FILE] [--child]\n"
    "Speaks to the certification authority, Entra ID and Microsoft Graph for pfx-agentd.\n"
    "\n"
    "  --config FILE  configuration (" DEFAULT_CONFIG ")\n"
    "  --child        end when the process that started it ends\n"
    "  --version      print the version and end\n"
    "  --help         print this and end\n";

static void collect_kinds(struct uploader *u)
{
    const struct pfx_kind *const tables[] = {pfx_graph_kinds, pfx_exchange_kinds,
                                             pfx_setup_entra_kinds, u->ca->kinds};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const struct pfx_kind *kind = tables[i]; kind->name; kind++) {
            if (u->n_kinds == MAX_KINDS)
                pfx_die("more kinds of jobs than MAX_KINDS");
            u->kinds[u->n_kinds++] = kind;
        }
}

static void on_job(void *ctx, const struct pfx_arm_job *job)
{
    struct uploader *u = ctx;
    for (size_t i = 0; i < u->n_kinds; i++)
        if (strcmp(u->kinds[i]->name, job->kind) == 0) {
            pfx_task_begin(&u->up, job, u->kinds[i]->begin);
            return;
        }
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = pfx_fail(&err, PFX_CLASS_USAGE, "take job", job->kind, "",
                            "pfx-uploader doesn't do jobs of this kind.");
    pfx_arm_done(u->up.arm, job->job, job->lease, r, &err, NULL);
}

static void on_online(void *ctx, bool online)
{
    struct uploader *u = ctx;
    if (online)
        pfx_log(PFX_LOG_INFO, "online: pfx-agentd on %s", u->conf->agent_socket);
    u->online = online;
    u->told[0] = '\0';
}

/* Why there is no line: once for each reason, not at each try. */
static void tell_trouble(struct uploader *u)
{
    const char *why = pfx_arm_trouble(u->up.arm);
    if (u->online || !*why || strcmp(why, u->told) == 0)
        return;
    pfx_log(PFX_LOG_WARN, "offline: %s", why);
    snprintf(u->told, sizeof u->told, "%s", why);
}

static void set_services(struct uploader *u)
{
    const struct pfx_uploader_conf *conf = u->conf; /* its URLs end without a slash */
    const struct pfx_ca_conf ca = u->ca->conf(conf);
    struct pfx_service *services = u->up.services;
    services[PFX_SERVICE_CA] = (struct pfx_service){
        .id = PFX_SERVICE_CA,
        .name = u->ca->name,
        .url = ca.url,
        .url_option = u->ca->url_option,
        .any = {pfx_bucket_new(ca.rates[0].requests, ca.rates[0].window_ms),
                pfx_bucket_new(ca.rates[1].requests, ca.rates[1].window_ms)},
        .creds = {pfx_apikey_cred(u->apikey)},
        .explain = u->ca->explain,
    };
    services[PFX_SERVICE_GRAPH] = (struct pfx_service){
        .id = PFX_SERVICE_GRAPH,
        .name = "Graph",
        .url = conf->graph_url,
        .url_option = "graph.url",
        .any = {pfx_bucket_new(conf->graph_any.requests, conf->graph_any.window_ms), NULL},
        .writes = pfx_bucket_new(conf->graph_writes.requests, conf->graph_writes.window_ms),
        .creds = {
            [PFX_USE_MAIN] = pfx_tokens_cred(u->tokens, conf->app, conf->graph_url),
            [PFX_USE_IMPORT] = pfx_tokens_cred(u->tokens, conf->import_app, conf->graph_url),
            [PFX_USE_MAIL] = pfx_tokens_cred(u->tokens, conf->mail_app, conf->graph_url),
        },
        .client_request_id = true,
        .explain = pfx_graph_explain,
    };
    services[PFX_SERVICE_EXCHANGE] = (struct pfx_service){
        .id = PFX_SERVICE_EXCHANGE,
        .name = "Exchange",
        .url = conf->exchange_url,
        .url_option = "exchange.url",
        .any = {pfx_bucket_new(conf->exchange_rate.requests, conf->exchange_rate.window_ms), NULL},
        .creds = {pfx_tokens_cred(u->tokens, conf->exchange_app, conf->exchange_url)},
        .client_request_id = true,
        .explain = pfx_exchange_explain,
    };
    services[PFX_SERVICE_ENTRA] = (struct pfx_service){
        .id = PFX_SERVICE_ENTRA,
        .name = "Entra ID",
        .url = conf->login_url,
        .url_option = "entra.url",
        .explain = pfx_entra_explain,
    };
    if (conf->sign_in != PFX_SIGN_IN_ASSERTION) {
        bool arc = conf->sign_in == PFX_SIGN_IN_AZURE_ARC;
        services[PFX_SERVICE_ENTRA] = (struct pfx_service){
            .id = PFX_SERVICE_ENTRA,
            .name = arc ? "the Azure Arc agent" : "Azure's metadata service",
            .url = arc ? PFX_IDENTITY_ARC : PFX_IDENTITY_VM,
            .url_option = "entra.sign_in",
            .explain = pfx_identity_explain,
        };
    }
}

static void make_arm(struct uploader *u)
{
    static const struct pfx_arm_ops ops = {.job = on_job, .online = on_online};
    const char *names[MAX_KINDS];
    for (size_t i = 0; i < u->n_kinds; i++)
        names[i] = u->kinds[i]->name;
    u->up.arm = pfx_arm_new("uploader", u->conf->agent_socket, names, u->n_kinds,
                            u->conf->in_flight * JOBS_PER_FLIGHT, &ops, u);
}

/* Nothing was read yet but the configuration. There is no file that it could write, and no library
 * that it could still load. */
static pfx_result confine(const struct pfx_uploader_conf *conf, struct pfx_error *err)
{
    const char *urls[] = {conf->proxy,     conf->digicert_url, conf->cmp_url,
                          conf->login_url, conf->graph_url,    conf->exchange_url};
    struct pfx_sandbox *box PFX_CLEANUP(pfx_sandbox_freep) =
        pfx_sandbox_new(PFX_SANDBOX_UPLOADER);
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
        pfx_sandbox_url(box, urls[i]);
    pfx_sandbox_url(box, "tcp://name-server:53"); /* an answer that is too long for a datagram */
    if (conf->sign_in != PFX_SIGN_IN_ASSERTION)
        pfx_sandbox_url(box, conf->sign_in == PFX_SIGN_IN_AZURE_ARC ? PFX_IDENTITY_ARC
                                                                   : PFX_IDENTITY_VM);
    if (conf->sign_in == PFX_SIGN_IN_AZURE_ARC)
        pfx_sandbox_path(box, PFX_IDENTITY_KEYS, PFX_REACH_READ);
    if (conf->ca_bundle) {
        pfx_sandbox_folder_of(box, conf->ca_bundle, PFX_REACH_READ);
    } else {
        /* Links to where the authorities are. */
        pfx_sandbox_path(box, "/etc/ssl/certs", PFX_REACH_READ);
        pfx_sandbox_path(box, "/usr/share/ca-certificates", PFX_REACH_READ);
        pfx_sandbox_path(box, "/usr/local/share/ca-certificates", PFX_REACH_READ);
    }
    pfx_sandbox_path(box, "/etc/ssl/openssl.cnf", PFX_REACH_READ);
    pfx_sandbox_resolver(box);
    PFX_TRY(pfx_sandbox_files(box, err));
    return pfx_sandbox_calls(box, err);
}

static pfx_result start(struct uploader *u, const char *path, struct pfx_error *err)
{
    PFX_TRY(pfx_uploader_conf_load(path, &u->conf, err));
    PFX_TRY(pfx_secret_memory(u->conf->secret_memory, err));
    PFX_TRY(pfx_alloc_setup(err));
    PFX_TRY(pfx_process_signals(&u->signals, err));
    u->ca = u->conf->ca == PFX_CA_CMP ? &pfx_ca_cmp : &pfx_ca_digicert;
    u->up.conf = u->conf;
    if (u->ca->start)
        PFX_TRY(u->ca->start(&u->up, err));
    PFX_TRY(pfx_http_new(u->conf, &u->up.http, err));
    uid_t agent, hsm;
    PFX_TRY(pfx_account_user("uploader.yaml", "access.agent_user", u->conf->agent_user, &agent, err));
    PFX_TRY(pfx_account_user("uploader.yaml", "access.hsm_user", u->conf->hsm_user, &hsm, err));
    u->broker = pfx_broker_new(u->conf->hsm_socket, hsm == (uid_t)-1 ? geteuid() : hsm);
    if (u->conf->proxy_user) {
        char host[300];
        u->proxy = pfx_proxy_new(u->broker, pfx_url_host(u->conf->proxy, host, sizeof host));
        pfx_http_set_proxy(u->up.http, u->proxy);
    }
    u->tokens = pfx_tokens_new(&u->up, u->broker);
    u->apikey = pfx_apikey_new(u->broker, u->ca->secret, u->ca->auth_header);
    set_services(u);
    collect_kinds(u);
    make_arm(u);
    pfx_arm_expect(u->up.arm, agent == (uid_t)-1 ? geteuid() : agent);
    PFX_TRY(confine(u->conf, err));
    char text[PFX_SANDBOX_TEXT];
    pfx_sandbox_text(text, sizeof text);
    pfx_arm_sandbox(u->up.arm, text);
    return PFX_OK;
}

static void stop(struct uploader *u)
{
    pfx_up_done(&u->up);
    if (u->ca && u->ca->stop)
        u->ca->stop(&u->up);
    pfx_tokens_free(u->tokens);
    pfx_apikey_free(u->apikey);
    pfx_arm_free(u->up.arm);
    pfx_http_free(u->up.http);
    pfx_proxy_free(u->proxy);
    pfx_broker_free(u->broker);
    pfx_uploader_conf_free(u->conf);
    if (u->signals >= 0)
        close(u->signals);
    curl_global_cleanup();
}

static void add_fd(struct curl_waitfd *fds, unsigned *n, const struct pollfd *from)
{
    if (from->fd < 0)
        return;
    fds[(*n)++] = (struct curl_waitfd){
        .fd = from->fd,
        .events = (short)((from->events & POLLIN ? CURL_WAIT_POLLIN : 0) |
                          (from->events & POLLOUT ? CURL_WAIT_POLLOUT : 0)),
    };
}

static int shorter(int a, int64_t b)
{
    if (b > INT_MAX)
        b = INT_MAX;
    return a < 0 || b < a ? (int)(b > 0 ? b : 0) : a;
}

/* Sleeps until there is something to do. */
static void sleep_on(struct uploader *u)
{
    struct pollfd line;
    struct curl_waitfd fds[3];
    unsigned n = 0;
    int sleep = shorter(60000, pfx_arm_prepare(u->up.arm, &line));
    add_fd(fds, &n, &line);
    int ask = pfx_broker_prepare(u->broker, &line);
    if (ask >= 0)
        sleep = shorter(sleep, ask);
    add_fd(fds, &n, &line);
    add_fd(fds, &n, &(struct pollfd){.fd = u->signals, .events = POLLIN});
    sleep = shorter(sleep, pfx_notify_beat(true, pfx_uptime_ms()));
    int64_t next = pfx_up_next(&u->up);
    if (next < INT64_MAX)
        sleep = shorter(sleep, next - pfx_uptime_ms());
    pfx_http_wait(u->up.http, fds, n, sleep);
}

static void run(struct uploader *u)
{
    for (;;) {
        struct signalfd_siginfo info;
        if (read(u->signals, &info, sizeof info) == (ssize_t)sizeof info) {
            pfx_log(PFX_LOG_INFO, "stopping: signal %u", info.ssi_signo);
            return;
        }
        pfx_arm_step(u->up.arm);
        tell_trouble(u);
        pfx_broker_step(u->broker);
        pfx_http_step(u->up.http);
        pfx_tokens_step(u->tokens);
        pfx_up_step(&u->up);
        sleep_on(u);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"child", no_argument, NULL, 'p'},
        {"version", no_argument, NULL, 'v'},      {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    pfx_process_harden("pfx-uploader");
    const char *config = DEFAULT_CONFIG;
    int option;
    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            config = optarg;
            break;
        case 'p':
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            break;
        case 'v':
            puts("pfx-uploader " PFX_VERSION);
            return 0;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs("Try `pfx-uploader --help`.\n", stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "pfx-uploader: %s: no such argument; try `pfx-uploader --help`.\n",
                argv[optind]);
        return 2;
    }
    pfx_notify_setup();
    struct uploader u = {.signals = -1};
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = start(&u, config, &err);
    if (pfx_ok(r)) {
        pfx_log(PFX_LOG_INFO, "pfx-uploader %s starts, incarnation %s", PFX_VERSION,
                pfx_arm_incarnation(u.up.arm));
        pfx_notify_ready("serving pfx-agentd");
        run(&u);
        pfx_notify_stopping();
    } else {
        pfx_log_error(&err, "pfx-uploader can't start");
    }
    stop(&u);
    return pfx_class_exit(r.cls);
}
