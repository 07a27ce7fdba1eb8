#include "api/conf/uploader_conf.h"

#include <string.h>

#include "api/conf/table.h"

#define AT(field) offsetof(struct pfx_uploader_conf, field)

static const struct pfx_option rows[] = {
    {.path = "agent_socket", .type = PFX_O_PATH, .offset = AT(agent_socket), .max = 100,
     .def = "/run/pfx-agent/uploader", .help = "where pfx-agentd listens"},
    {.path = "hsm_socket", .type = PFX_O_PATH, .offset = AT(hsm_socket), .max = 100,
     .def = "/run/pfx-hsm/uploader", .help = "where pfx-hsm listens for assertions and secrets"},

    {.path = "digicert.url", .type = PFX_O_URL, .offset = AT(digicert_url),
     .def = "https://www.digicert.com/services/v2", .help = "DigiCert's Services API"},
    {.path = "digicert.rate_short", .type = PFX_O_RATE, .offset = AT(digicert_short),
     .def = "100/5s", .help = "short limit of the account"},
    {.path = "digicert.rate_long", .type = PFX_O_RATE, .offset = AT(digicert_long),
     .def = "1000/3m", .help = "long limit of the account"},

    {.path = "entra.url", .type = PFX_O_URL, .offset = AT(login_url),
     .def = "https://login.microsoftonline.com",
     .help = "login host; another one in national clouds"},
    {.path = "entra.tenant", .type = PFX_O_GUID, .offset = AT(tenant), .required = true,
     .sample = "00000000-0000-4000-8000-000000000002", .help = "tenant id"},
    {.path = "entra.app", .type = PFX_O_NAME, .offset = AT(app), .max = 32, .def = "main",
     .help = "app registration: its name in hsm-policy.yaml"},

    {.path = "graph.url", .type = PFX_O_URL, .offset = AT(graph_url),
     .def = "https://graph.microsoft.com",
     .help = "Microsoft Graph; another host in national clouds"},
    {.path = "graph.rate_writes", .type = PFX_O_RATE, .offset = AT(graph_writes),
     .def = "100/20s", .help = "most writes to Intune"},
    {.path = "graph.rate_any", .type = PFX_O_RATE, .offset = AT(graph_any), .def = "1000/20s",
     .help = "most requests to Intune"},

    {.path = "tls.ca_bundle", .type = PFX_O_PATH, .offset = AT(ca_bundle), .max = 1000,
     .sample = "/etc/ssl/certs/ca-certificates.crt",
     .help = "PEM file of the roots that servers may have (default: the system's)"},

    {.path = "proxy.url", .type = PFX_O_PROXY, .offset = AT(proxy),
     .sample = "http://proxy.example:8080", .help = "HTTP proxy (default: none)"},
    {.path = "proxy.except", .type = PFX_O_TEXT, .offset = AT(no_proxy), .min = 1, .max = 1000,
     .sample = "localhost,.example", .help = "hosts that are reached without it, with commas"},

    {.path = "limits.in_flight", .type = PFX_O_COUNT, .offset = AT(in_flight), .min = 1,
     .max = 256, .def = "16", .help = "most requests at once"},
    {.path = "limits.connect_timeout", .type = PFX_O_DURATION, .offset = AT(connect_timeout_ms),
     .min = 100, .max = PFX_MINUTES(5), .def = "10s", .help = "longest wait for a connection"},
    {.path = "limits.request_timeout", .type = PFX_O_DURATION, .offset = AT(request_timeout_ms),
     .min = 100, .max = PFX_MINUTES(30), .def = "60s", .help = "longest time of one request"},
    {.path = "limits.job_timeout", .type = PFX_O_DURATION, .offset = AT(job_timeout_ms),
     .min = 100, .max = PFX_HOURS(1), .def = "5m",
     .help = "longest time of one job with its repetitions"},
    {.path = "limits.max_body", .type = PFX_O_SIZE, .offset = AT(max_body), .min = 64 * 1024,
     .max = 64 * 1024 * 1024, .def = "8MiB", .help = "longest answer that is read"},

    {.path = "access.agent_user", .type = PFX_O_ACCOUNT, .offset = AT(agent_user),
     .sample = "pfx-agent", .help = "user of pfx-agentd (default: root or the own user)"},
    {.path = "access.hsm_user", .type = PFX_O_ACCOUNT, .offset = AT(hsm_user),
     .sample = "pfx-hsm", .help = "user of pfx-hsm (default: root or the own user)"},

    {.path = "user_agent", .type = PFX_O_TEXT, .offset = AT(user_agent), .min = 1, .max = 200,
     .def = "pfx-agent/" PFX_VERSION, .help = "User-Agent of every request"},
};

static void finish(struct pfx_conf_reader *reader, void *base)
{
    const struct pfx_uploader_conf *conf = base;
    unsigned except = pfx_reader_line(reader, conf, "proxy.except");
    if (except > 0 && pfx_reader_line(reader, conf, "proxy.url") == 0)
        pfx_reader_mistake(reader, except, "proxy.except",
                           "there is no proxy; expected proxy.url too, or no such line");
    if (conf->connect_timeout_ms > conf->request_timeout_ms && conf->request_timeout_ms > 0) {
        unsigned request = pfx_reader_line(reader, conf, "limits.request_timeout");
        unsigned connect = pfx_reader_line(reader, conf, "limits.connect_timeout");
        pfx_reader_mistake(reader, request > 0 ? request : connect, "limits.request_timeout",
                           "it is less than limits.connect_timeout; expected at least that");
    }
}

const struct pfx_option_table pfx_uploader_table = {
    .name = "uploader.yaml",
    .about = "Whom pfx-uploader speaks to. Owned by root: a job never names a host.",
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .size = sizeof(struct pfx_uploader_conf),
    .trusted = true,
    .finish = finish,
};

pfx_result pfx_uploader_conf_load(const char *path, struct pfx_uploader_conf **ret_conf,
                                  struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_CONF_FILE_MAX);
    void *conf;
    PFX_TRY(pfx_table_load(&pfx_uploader_table, path, &text, &conf, err));
    *ret_conf = conf;
    return PFX_OK;
}

void pfx_uploader_conf_free(struct pfx_uploader_conf *conf)
{
    pfx_table_free(&pfx_uploader_table, conf);
}
