#include "api/conf/uploader_conf.h"

#include <string.h>

#include "api/conf/pins.h"
#include "api/conf/table.h"

#define AT(field) offsetof(struct pfx_uploader_conf, field)
#define IN_PIN(field) offsetof(struct pfx_pin_conf, field)

static const struct pfx_option rows[] = {
    {.path = "agent_socket", .type = PFX_O_PATH, .offset = AT(agent_socket), .max = 100,
     .def = "/run/pfx-agent/uploader", .help = "where pfx-agentd listens"},
    {.path = "hsm_socket", .type = PFX_O_PATH, .offset = AT(hsm_socket), .max = 100,
     .def = "/run/pfx-hsm/uploader", .help = "where pfx-hsm listens for assertions and secrets"},

    {.path = "ca", .type = PFX_O_ENUM, .offset = AT(ca), .min = PFX_CA_DIGICERT,
     .choices = "digicert|cmp", .def = "digicert",
     .help = "who issues the certificates: DigiCert CertCentral, or a CA of one's own by CMP (RFC "
             "4210); products: internal then"},

    {.path = "digicert.url", .type = PFX_O_URL, .offset = AT(digicert_url),
     .def = "https://www.digicert.com/services/v2",
     .help = "DigiCert's Services API; accounts in Europe: "
             "https://certcentral.digicert.eu/services/v2"},
    {.path = "digicert.rate_short", .type = PFX_O_RATE, .offset = AT(digicert_short),
     .def = "100/5s", .help = "short limit of the account"},
    {.path = "digicert.rate_long", .type = PFX_O_RATE, .offset = AT(digicert_long),
     .def = "1000/3m", .help = "long limit of the account"},

    {.path = "cmp.url", .type = PFX_O_URL, .offset = AT(cmp_url),
     .sample = "https://ca.example/pkix", .help = "the CA's CMP service; required for ca: cmp"},
    {.path = "cmp.ca_cert", .type = PFX_O_PATH, .offset = AT(cmp_ca_cert), .max = 1000,
     .sample = "/etc/pfx-agent/internal-ca.pem",
     .help = "PEM file of the CA certificate that issues; required for ca: cmp"},
    {.path = "cmp.reference", .type = PFX_O_TEXT, .offset = AT(cmp_reference), .min = 1, .max = 128,
     .sample = "pfx-agent",
     .help = "reference of the shared secret that protects messages; the secret itself: pfx-agent "
             "secret set cmp"},
    {.path = "cmp.recipient", .type = PFX_O_TEXT, .offset = AT(cmp_recipient), .min = 1, .max = 255,
     .sample = "/O=Example/CN=Internal CA",
     .help = "name of the CMP server (default: the subject in cmp.ca_cert)"},
    {.path = "cmp.profile", .type = PFX_O_TEXT, .offset = AT(cmp_profile), .min = 1, .max = 64,
     .sample = "smime", .help = "name of the CA's certificate profile, where it has several"},
    {.path = "cmp.rate", .type = PFX_O_RATE, .offset = AT(cmp_rate), .def = "20/1s",
     .help = "most requests to the CA"},

    {.path = "entra.cloud", .type = PFX_O_ENUM, .offset = AT(cloud), .min = PFX_CLOUD_GLOBAL,
     .choices = "global|usgov|usgov-dod|china", .def = "global",
     .help = "Microsoft's cloud: sets entra.url, graph.url and exchange.url"},
    {.path = "entra.url", .type = PFX_O_URL, .offset = AT(login_url),
     .sample = "https://login.microsoftonline.com", .help = "login host (default: by entra.cloud)"},
    {.path = "entra.sign_in", .type = PFX_O_ENUM, .offset = AT(sign_in),
     .min = PFX_SIGN_IN_ASSERTION, .choices = "assertion|azure-vm|azure-arc", .def = "assertion",
     .help = "how it signs in: an assertion signed in the HSM, or the managed identity of this "
             "Azure machine or Arc server"},
    {.path = "entra.identity", .type = PFX_O_GUID, .offset = AT(identity),
     .sample = "00000000-0000-4000-8000-000000000004",
     .help = "azure-vm only: client id of a user-assigned identity (default: the machine's own)"},
    {.path = "entra.tenant", .type = PFX_O_GUID, .offset = AT(tenant), .required = true,
     .sample = "00000000-0000-4000-8000-000000000002", .help = "tenant id"},
    {.path = "entra.app", .type = PFX_O_NAME, .offset = AT(app), .max = 32, .def = "main",
     .help = "app registration: its name in hsm-policy.yaml"},
    {.path = "entra.import_app", .type = PFX_O_NAME, .offset = AT(import_app), .max = 32,
     .sample = "import", .help = "another app registration for Intune (default: entra.app)"},
    {.path = "entra.mail_app", .type = PFX_O_NAME, .offset = AT(mail_app), .max = 32,
     .sample = "mail", .help = "another app registration for mail (default: entra.app)"},
    {.path = "entra.exchange_app", .type = PFX_O_NAME, .offset = AT(exchange_app), .max = 32,
     .sample = "exchange",
     .help = "another app registration for Exchange's shared mailboxes (default: entra.app)"},

    {.path = "graph.url", .type = PFX_O_URL, .offset = AT(graph_url),
     .sample = "https://graph.microsoft.com",
     .help = "Microsoft Graph (default: by entra.cloud)"},
    {.path = "graph.rate_writes", .type = PFX_O_RATE, .offset = AT(graph_writes),
     .def = "100/20s", .help = "most writes to Intune"},
    {.path = "graph.rate_any", .type = PFX_O_RATE, .offset = AT(graph_any), .def = "1000/20s",
     .help = "most requests to Intune"},

    {.path = "exchange.url", .type = PFX_O_URL, .offset = AT(exchange_url),
     .sample = "https://outlook.office365.com",
     .help = "Exchange Online, for shared mailboxes (default: by entra.cloud)"},
    {.path = "exchange.rate", .type = PFX_O_RATE, .offset = AT(exchange_rate), .def = "10/1s",
     .help = "most requests to Exchange"},

    {.path = "http2", .type = PFX_O_BOOL, .offset = AT(http2), .def = "true",
     .help = "speak HTTP/2 to Graph, Entra ID and Exchange where they offer it. DigiCert always "
             "gets HTTP/1.1: an HTTP/2 connection would keep its API key in a table"},

    {.path = "tls.ca_bundle", .type = PFX_O_PATH, .offset = AT(ca_bundle), .max = 1000,
     .sample = "/etc/ssl/certs/ca-certificates.crt",
     .help = "PEM file of the roots that servers may have (default: the system's)"},
    {.path = "tls.pins", .type = PFX_O_LIST, .offset = AT(pins), .count_offset = AT(n_pins),
     .size = sizeof(struct pfx_pin_conf), .min = 1, .max = 32,
     .help = "hosts whose public key is pinned, besides the chain to a root (default: none). "
             "Pin at least two keys of each host, the next one too"},
    {.path = "tls.pins[].host", .type = PFX_O_TEXT, .offset = IN_PIN(host), .min = 1, .max = 255,
     .required = true, .sample = "www.digicert.com", .help = "name of the host"},
    {.path = "tls.pins[].keys", .type = PFX_O_TEXT, .offset = IN_PIN(keys), .min = 52, .max = 1000,
     .required = true, .sample = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
     .help = "SHA-256 of the SubjectPublicKeyInfo in base64, each behind sha256//, with ; between"},

    {.path = "proxy.url", .type = PFX_O_PROXY, .offset = AT(proxy),
     .sample = "http://proxy.example:8080", .help = "HTTP proxy (default: none)"},
    {.path = "proxy.user", .type = PFX_O_TEXT, .offset = AT(proxy_user), .min = 1, .max = 255,
     .sample = "pfx-agent",
     .help = "name at the proxy; its password: pfx-agent secret set proxy (default: none)"},
    {.path = "proxy.auth", .type = PFX_O_ENUM, .offset = AT(proxy_auth), .min = PFX_PROXY_BASIC,
     .choices = "basic|digest", .def = "basic",
     .help = "how the proxy asks for them; basic shows it the password, in the clear unless "
             "proxy.url is https"},
    {.path = "proxy.except", .type = PFX_O_TEXT, .offset = AT(no_proxy), .min = 1, .max = 1000,
     .sample = "localhost,.example",
     .help = "hosts that are reached without it, with commas; a name stands for what is below it "
             "too"},

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

    {.path = "sandbox.secret_memory", .type = PFX_O_ENUM, .offset = AT(secret_memory),
     .min = PFX_SECRET_AUTO, .choices = PFX_SECRET_CHOICES, .def = "auto",
     .help = PFX_SECRET_HELP ". locked: for a host that hibernates"},

    {.path = "access.agent_user", .type = PFX_O_ACCOUNT, .offset = AT(agent_user),
     .sample = "pfx-agent", .help = "user of pfx-agentd (default: root or the own user)"},
    {.path = "access.hsm_user", .type = PFX_O_ACCOUNT, .offset = AT(hsm_user),
     .sample = "pfx-hsm", .help = "user of pfx-hsm (default: root or the own user)"},

    {.path = "user_agent", .type = PFX_O_TEXT, .offset = AT(user_agent), .min = 1, .max = 200,
     .def = "pfx-agent/" PFX_VERSION, .help = "User-Agent of every request"},
};

/* Public hosts of each cloud. */
static const struct cloud {
    const char *login, *graph, *exchange;
} clouds[] = {
    [PFX_CLOUD_GLOBAL] = {"https://login.microsoftonline.com", "https://graph.microsoft.com",
                          "https://outlook.office365.com"},
    [PFX_CLOUD_USGOV] = {"https://login.microsoftonline.us", "https://graph.microsoft.us",
                         "https://outlook.office365.us"},
    [PFX_CLOUD_USGOV_DOD] = {"https://login.microsoftonline.us", "https://dod-graph.microsoft.us",
                             "https://webmail.apps.mil"},
    [PFX_CLOUD_CHINA] = {"https://login.partner.microsoftonline.cn",
                         "https://microsoftgraph.chinacloudapi.cn",
                         "https://partner.outlook.cn"},
};

static void fill_default(char **field, const char *value)
{
    if (!*field)
        *field = pfx_strdup(value);
}

static void need_for(struct pfx_conf_reader *reader, const void *conf, const char *option,
                     const char *cause, const char *what)
{
    if (pfx_reader_line(reader, conf, option) == 0)
        pfx_reader_mistake(reader, pfx_reader_line(reader, conf, cause), option,
                           "it is missing; expected %s", what);
}

static void check_ca(struct pfx_conf_reader *reader, const struct pfx_uploader_conf *conf)
{
    if (conf->ca != PFX_CA_CMP)
        return;
    need_for(reader, conf, "cmp.url", "ca", "the CA's CMP service for ca: cmp");
    need_for(reader, conf, "cmp.ca_cert", "ca", "the CA's certificate for ca: cmp");
    need_for(reader, conf, "cmp.reference", "ca", "the reference of the shared secret for ca: cmp");
}

static void check_sign_in(struct pfx_conf_reader *reader, const struct pfx_uploader_conf *conf)
{
    unsigned identity = pfx_reader_line(reader, conf, "entra.identity");
    if (identity > 0 && conf->sign_in != PFX_SIGN_IN_AZURE_VM)
        pfx_reader_mistake(reader, identity, "entra.identity",
                           "only entra.sign_in: azure-vm has a choice of identities; expected no "
                           "such line");
}

static void check_proxy_user(struct pfx_conf_reader *reader, const struct pfx_uploader_conf *conf)
{
    unsigned user = pfx_reader_line(reader, conf, "proxy.user");
    if (conf->proxy_user && conf->proxy_auth == PFX_PROXY_BASIC && strchr(conf->proxy_user, ':'))
        pfx_reader_mistake(reader, user, "proxy.user",
                           "basic can't tell where a name with a colon ends; expected one without");
    if (conf->no_proxy && strchr(conf->no_proxy, '/'))
        pfx_reader_mistake(reader, pfx_reader_line(reader, conf, "proxy.except"), "proxy.except",
                           "networks aren't taken; expected names and addresses");
    if (user > 0 && pfx_reader_line(reader, conf, "proxy.url") == 0)
        pfx_reader_mistake(reader, user, "proxy.user",
                           "there is no proxy; expected proxy.url too, or no such line");
}

static void finish(struct pfx_conf_reader *reader, void *base)
{
    struct pfx_uploader_conf *conf = base;
    const struct cloud *cloud = &clouds[conf->cloud];
    fill_default(&conf->login_url, cloud->login);
    fill_default(&conf->graph_url, cloud->graph);
    fill_default(&conf->exchange_url, cloud->exchange);
    if (conf->app) {
        fill_default(&conf->import_app, conf->app);
        fill_default(&conf->mail_app, conf->app);
        fill_default(&conf->exchange_app, conf->app);
    }
    check_ca(reader, conf);
    check_sign_in(reader, conf);
    check_proxy_user(reader, conf);
    pfx_pins_check(reader, conf);
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
