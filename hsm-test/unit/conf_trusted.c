/* uploader.yaml and hsm-policy.yaml: what they take, that they must belong to root or to us, and
 * that the example files which the tables write are taken. */
#include "conf_test.h"

#include "api/conf/agent_conf.h"
#include "api/conf/hsm_policy.h"
#include "api/conf/option.h"
#include "api/conf/pins.h"
#include "api/conf/uploader_conf.h"
#include "crypto/encode.h"

#define TENANT "entra:\n  tenant: 00000000-0000-4000-8000-000000000002\n"

#define PIN_A "sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define PIN_B "sha256//Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA="
#define PIN_NEXT(host, keys) "    - host: " host "\n      keys: \"" keys "\"\n"
#define PIN(host, keys) "tls:\n  pins:\n" PIN_NEXT(host, keys)

static pfx_result load_uploader(const char *yaml, struct pfx_uploader_conf **ret)
{
    test_write(path, yaml, 0644);
    err = PFX_ERROR_NONE;
    return pfx_uploader_conf_load(path, ret, &err);
}

static pfx_result load_policy(const char *yaml, struct pfx_hsm_policy **ret)
{
    test_write(path, yaml, 0600);
    err = PFX_ERROR_NONE;
    return pfx_hsm_policy_load(path, ret, &err);
}

static void uploader_defaults(void **state)
{
    (void)state;
    struct pfx_uploader_conf *conf = NULL;
    assert_ok(load_uploader(TENANT, &conf), &err);
    assert_string_equal(conf->agent_socket, "/run/pfx-agent/uploader");
    assert_string_equal(conf->hsm_socket, "/run/pfx-hsm/uploader");
    assert_string_equal(conf->digicert_url, "https://www.digicert.com/services/v2");
    assert_int_equal(conf->digicert_short.requests, 100);
    assert_int_equal(conf->digicert_short.window_ms, 5000);
    assert_int_equal(conf->digicert_long.requests, 1000);
    assert_int_equal(conf->digicert_long.window_ms, 180000);
    assert_string_equal(conf->login_url, "https://login.microsoftonline.com");
    assert_string_equal(conf->app, "main");
    assert_string_equal(conf->graph_url, "https://graph.microsoft.com");
    assert_int_equal(conf->graph_writes.window_ms, 20000);
    assert_null(conf->ca_bundle);
    assert_null(conf->proxy);
    assert_int_equal(conf->in_flight, 16);
    assert_int_equal(conf->max_body, 8 * 1024 * 1024);
    assert_int_equal(conf->job_timeout_ms, 300000);
    assert_string_equal(conf->user_agent, "pfx-agent/" PFX_VERSION);
    pfx_uploader_conf_free(conf);
    assert_ok(load_uploader(TENANT "  url: https://127.0.0.1:8443/login/\n"
                                   "graph:\n  url: https://[::1]:8443\n"
                                   "proxy: {url: 'http://proxy:3128', except: localhost}\n"
                                   "limits: {max_body: 64KiB, connect_timeout: 250ms}\n",
                            &conf),
              &err);
    assert_string_equal(conf->login_url, "https://127.0.0.1:8443/login");
    assert_string_equal(conf->graph_url, "https://[::1]:8443");
    assert_string_equal(conf->proxy, "http://proxy:3128");
    assert_int_equal(conf->max_body, 65536);
    pfx_uploader_conf_free(conf);
}

/* Microsoft's clouds: the hosts of each, and that a given one counts more. */
static void uploader_pins(void **state)
{
    (void)state;
    struct pfx_uploader_conf *conf = NULL;
    assert_ok(load_uploader(TENANT PIN("WWW.digicert.com", PIN_A ";" PIN_B)
                                PIN_NEXT("graph.microsoft.com", PIN_B) PIN_NEXT("p", PIN_A)
                                    "proxy: {url: 'https://p:3128'}\n", &conf), &err);
    char host[PFX_HOST_SIZE];
    assert_string_equal(pfx_pins_of(conf, pfx_conf_host(conf->digicert_url, host)),
                        PIN_A ";" PIN_B);
    assert_string_equal(pfx_pins_of(conf, pfx_conf_host("https://Graph.Microsoft.COM.:443/x", host)),
                        PIN_B);
    assert_string_equal(pfx_pins_of(conf, pfx_conf_host(conf->proxy, host)), PIN_A);
    assert_null(pfx_pins_of(conf, pfx_conf_host(conf->login_url, host)));
    assert_string_equal(pfx_conf_host("https://[::1]:8443/a", host), "::1");
    pfx_uploader_conf_free(conf);
}

static void uploader_clouds(void **state)
{
    (void)state;
    static const struct {
        const char *cloud;
        enum pfx_cloud choice;
        const char *login, *graph, *exchange;
    } rows[] = {
        {"global", PFX_CLOUD_GLOBAL, "https://login.microsoftonline.com",
         "https://graph.microsoft.com", "https://outlook.office365.com"},
        {"usgov", PFX_CLOUD_USGOV, "https://login.microsoftonline.us", "https://graph.microsoft.us",
         "https://outlook.office365.us"},
        {"usgov-dod", PFX_CLOUD_USGOV_DOD, "https://login.microsoftonline.us",
         "https://dod-graph.microsoft.us", "https://webmail.apps.mil"},
        {"china", PFX_CLOUD_CHINA, "https://login.partner.microsoftonline.cn",
         "https://microsoftgraph.chinacloudapi.cn", "https://partner.outlook.cn"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct pfx_uploader_conf *conf = NULL;
        char *yaml PFX_AUTOFREE = pfx_asprintf(TENANT "  cloud: %s\n", rows[i].cloud);
        assert_ok(load_uploader(yaml, &conf), &err);
        assert_int_equal(conf->cloud, rows[i].choice);
        assert_string_equal(conf->login_url, rows[i].login);
        assert_string_equal(conf->graph_url, rows[i].graph);
        assert_string_equal(conf->exchange_url, rows[i].exchange);
        pfx_uploader_conf_free(conf);
        char *own PFX_AUTOFREE = pfx_asprintf(
            TENANT "  cloud: %s\n  url: https://l.example\ngraph: {url: https://g.example}\n"
                   "exchange: {url: https://e.example}\n", rows[i].cloud);
        assert_ok(load_uploader(own, &conf), &err);
        assert_string_equal(conf->login_url, "https://l.example");
        assert_string_equal(conf->graph_url, "https://g.example");
        assert_string_equal(conf->exchange_url, "https://e.example");
        pfx_uploader_conf_free(conf);
    }
}

/* One app registration for everything unless others are named. */
static void uploader_apps(void **state)
{
    (void)state;
    struct pfx_uploader_conf *conf = NULL;
    assert_ok(load_uploader(TENANT "  app: one\n", &conf), &err);
    assert_int_equal(conf->sign_in, PFX_SIGN_IN_ASSERTION);
    assert_string_equal(conf->import_app, "one");
    assert_string_equal(conf->mail_app, "one");
    assert_string_equal(conf->exchange_app, "one");
    pfx_uploader_conf_free(conf);
    assert_ok(load_uploader(TENANT "  import_app: a\n  mail_app: b\n  exchange_app: c\n", &conf),
              &err);
    assert_string_equal(conf->app, "main");
    assert_string_equal(conf->import_app, "a");
    assert_string_equal(conf->mail_app, "b");
    assert_string_equal(conf->exchange_app, "c");
    pfx_uploader_conf_free(conf);
    assert_ok(load_uploader(TENANT "  sign_in: azure-vm\n"
                                   "  identity: 00000000-0000-4000-8000-00000000000F\n", &conf),
              &err);
    assert_int_equal(conf->sign_in, PFX_SIGN_IN_AZURE_VM);
    assert_string_equal(conf->identity, "00000000-0000-4000-8000-00000000000f");
    pfx_uploader_conf_free(conf);
}

static pfx_result load_bad_uploader(const char *yaml)
{
    struct pfx_uploader_conf *conf = NULL;
    pfx_result r = load_uploader(yaml, &conf);
    assert_null(conf);
    return r;
}

static void uploader_mistakes(void **state)
{
    (void)state;
    static const struct mistake bad[] = {
        {"# nothing\n", 1, "entra.tenant", "is missing"},
        {"\nentra:\n  app: main\n", 2, "entra.tenant", "is missing"},
        {TENANT "graph:\n  url: http://graph\n", 4, "graph.url", "http isn't taken"},
        {TENANT "graph:\n  url: graph.microsoft.com\n", 4, "graph.url", "https://host"},
        {TENANT "graph:\n  url: https://\n", 4, "graph.url", "https://host"},
        {TENANT "graph:\n  url: https://u:secret@h\n", 4, "graph.url", "user and password"},
        {TENANT "graph:\n  url: https://h/?a=b\n", 4, "graph.url", "query"},
        {TENANT "graph:\n  url: 'https://h/#a'\n", 4, "graph.url", "fragment"},
        {TENANT "graph:\n  url: https://h:0/\n", 4, "graph.url", "https://host"},
        {TENANT "graph:\n  url: https://h:65536/\n", 4, "graph.url", "https://host"},
        {TENANT "graph:\n  url: https://h a/\n", 4, "graph.url", "https://host"},
        {TENANT "graph:\n  url: https://h/%zz\n", 4, "graph.url", "https://host"},
        {TENANT "graph:\n  rate_any: 100\n", 4, "graph.rate_any", "such as 100/5s"},
        {TENANT "graph:\n  rate_any: 0/5s\n", 4, "graph.rate_any", "such as 100/5s"},
        {TENANT "graph:\n  rate_any: 5/5\n", 4, "graph.rate_any", "such as 100/5s"},
        {TENANT "graph:\n  rate_any: 100/5s/2\n", 4, "graph.rate_any", "such as 100/5s"},
        {TENANT "proxy:\n  url: socks5://h:1\n", 4, "proxy.url", "http://host:port"},
        {TENANT "proxy:\n  url: http://h\n", 4, "proxy.url", "http://host:port"},
        {TENANT "proxy:\n  url: http://u:secret@h:1\n", 4, "proxy.url", "user and password"},
        {TENANT "proxy:\n  except: localhost\n", 4, "proxy.except", "there is no proxy"},
        {TENANT "  cloud: germany\n", 3, "entra.cloud", "usgov-dod"},
        {TENANT "  sign_in: password\n", 3, "entra.sign_in", "azure-arc"},
        {TENANT "  import_app: Has Space\n", 3, "entra.import_app", ""},
        {TENANT "  sign_in: azure-arc\n  identity: 00000000-0000-4000-8000-00000000000f\n", 4,
         "entra.identity", "azure-vm"},
        {TENANT "  identity: 00000000-0000-4000-8000-00000000000f\n", 3, "entra.identity",
         "azure-vm"},
        {TENANT "proxy:\n  user: a:b\n  url: http://h:1\n", 4, "proxy.user", "colon"},
        {TENANT "proxy:\n  user: a\n  url: http://h:1\n  auth: ntlm\n", 6, "proxy.auth",
         "basic or digest"},
        {TENANT "proxy:\n  user: a\n", 4, "proxy.user", "there is no proxy"},
        {TENANT "proxy:\n  except: 10.0.0.0/8\n  url: http://h:1\n", 4, "proxy.except", "networks"},
        {TENANT PIN("www.digicert.com", PIN_A ";sha256//AAAA"), 6, "tls.pins[].keys", "32 bytes"},
        {TENANT PIN("www.digicert.com", PIN_A ";"), 6, "tls.pins[].keys", "32 bytes"},
        {TENANT PIN("www.digicert.com", PIN_A " "), 6, "tls.pins[].keys", "32 bytes"},
        {TENANT PIN("www.digicert.com", "/etc/ssl/certs/the-key-of-this-host-in-a-file-of-ours.pem"),
         6, "tls.pins[].keys", "32 bytes"},
        {TENANT PIN("www.digicert.com:443", PIN_A), 5, "tls.pins[].host", "without port"},
        {TENANT PIN("digicert.com", PIN_A), 5, "tls.pins[].host", "no URL"},
        {TENANT PIN("h", PIN_A) "proxy: {url: 'http://h:1'}\n", 5, "tls.pins[].host", "no URL"},
        {TENANT PIN("www.digicert.com", PIN_A) PIN_NEXT("www.digicert.com", PIN_B), 7,
         "tls.pins[].host", "already"},
        {TENANT "limits:\n  max_body: 8MB\n", 4, "limits.max_body", "from 64KiB to 64MiB"},
        {TENANT "limits:\n  max_body: 65MiB\n", 4, "limits.max_body", "from 64KiB to 64MiB"},
        {TENANT "limits:\n  in_flight: 0\n", 4, "limits.in_flight", "from 1 to 256"},
        {TENANT "limits:\n  request_timeout: 5s\n", 4, "limits.request_timeout", "less than"},
    };
    assert_told(bad, sizeof(bad) / sizeof(bad[0]), load_bad_uploader);
}

#define ROLE(name) "  " name ": {module: /lib/p11.so, token: 'pkcs11:token=" name "', "
#define HEAD_WITH(users)                                                                           \
    "entra:\n  tenant: 00000000-0000-4000-8000-000000000002\n"                                     \
    "  apps: [{client_id: 00000000-0000-4000-8000-00000000000F}]\n"                                \
    "users: {ca_roots: /etc/roots.pem" users "}\n"                                                 \
    "encryption_key: {provider: Vendor KSP}\n"
#define HEAD HEAD_WITH("")
#define TOKENS                                                                                     \
    "tokens:\n"                                                                                    \
    "  encryption: {module: /lib/p11.so, token: 'pkcs11:serial=01'}\n" ROLE(                       \
        "users") "pin_file: users-pin}\n" ROLE("service") "pin_file: /run/pin}\n" ROLE("log")      \
        "pin_file: log.pin, parameters: \"configdir='/x'\"}\n"
#define POLICY HEAD TOKENS /* lines 1 to 5, 6 to 10 */
#define ROTATED                                                                                    \
    TOKENS "entra:\n  tenant: 00000000-0000-4000-8000-000000000002\n"                             \
           "  apps: [{client_id: 00000000-0000-4000-8000-00000000000F}]\n"                         \
           "users: {ca_roots: /etc/roots.pem}\nencryption_key: {provider: x, rotate_every: "

static void policy_defaults(void **state)
{
    (void)state;
    struct pfx_hsm_policy *policy = NULL;
    char host[256] = "";
    assert_ok(load_policy(POLICY, &policy), &err);
    assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
    assert_string_equal(policy->host_id, host);
    assert_string_equal(policy->agent_socket, "/run/pfx-agent/hsm");
    assert_string_equal(policy->roles[PFX_ROLE_ENCRYPTION].uri, "pkcs11:serial=01");
    assert_null(policy->roles[PFX_ROLE_ENCRYPTION].pin_file);
    assert_string_equal(policy->roles[PFX_ROLE_SERVICE].pin_file, "/run/pin");
    assert_string_equal(policy->roles[PFX_ROLE_LOG].parameters, "configdir='/x'");
    assert_null(policy->roles[PFX_ROLE_USERS].parameters);
    assert_false(policy->rs256);
    assert_int_equal(policy->n_apps, 1);
    assert_string_equal(policy->apps[0].name, "main");
    assert_string_equal(policy->apps[0].client_id, "00000000-0000-4000-8000-00000000000f");
    for (int i = 0; i < PFX_KEY_TYPE_COUNT; i++)
        assert_true(policy->key_types[i]);
    assert_true(policy->profiles[PFX_PROFILE_MODERN]);
    assert_false(policy->profiles[PFX_PROFILE_COMPAT]);
    assert_false(policy->wrapped_keys);
    assert_int_equal(policy->lowest_tier, PFX_TIER_TRANSIT);
    assert_int_equal(policy->max_cert_days, 825);
    assert_int_equal(policy->encryption_type, PFX_KEY_RSA_3072);
    assert_int_equal(policy->seal_hash, PFX_HASH_SHA512);
    assert_int_equal(policy->rotate_every.months + policy->rotate_every.days, 0);
    assert_int_equal(policy->per_hour_keys, 2000);
    assert_int_equal(policy->per_hour_builds, 4000);
    assert_int_equal(policy->per_hour_assertions, 240);
    assert_int_equal(policy->per_hour_secrets, 240);
    assert_int_equal(policy->sessions, 2);
    assert_int_equal(policy->call_deadline_ms, 120000);
    assert_string_equal(policy->log_dir, "/var/lib/pfx-hsm/log");
    assert_int_equal(policy->log_segment_entries, 65536);
    assert_int_equal(policy->log_reserve_kib, 1024);
    assert_int_equal(policy->log_keep_days, 0);
    assert_int_equal(policy->log_anchor_entries, 10000);
    assert_int_equal(policy->log_anchor_every_ms, 3600000);
    assert_null(policy->auditors_group);
    uint8_t digest[32];
    assert_true(pfx_sha256(POLICY, strlen(POLICY), digest));
    assert_memory_equal(policy->sha256, digest, 32);
    assert_int_equal(policy->text.len, strlen(POLICY));
    assert_memory_equal(policy->text.data, POLICY, strlen(POLICY));
    pfx_hsm_policy_free(policy);
    assert_string_equal(pfx_role_name(PFX_ROLE_SERVICE), "service");
    assert_string_equal(pfx_tier_name(PFX_TIER_DIRECT), "direct");
}

static void policy_choices(void **state)
{
    (void)state;
    struct pfx_hsm_policy *policy = NULL;
    assert_ok(load_policy("host_id: h\nsessions: 32\n" TOKENS
                          "entra:\n  tenant: 00000000-0000-4000-8000-000000000002\n"
                          "  algorithm: RS256\n  apps:\n"
                          "  - {name: a, client_id: 00000000-0000-4000-8000-000000000001}\n"
                          "  - {name: b, client_id: 00000000-0000-4000-8000-000000000001}\n"
                          "users:\n  ca_roots: /r\n  keys: wrapped\n  lowest_tier: direct\n"
                          "  key_types:\n  - ec-p384\n  - rsa-2048\n"
                          "  profiles: [compat]\n"
                          "encryption_key: {provider: x, type: rsa-2048, oaep: sha256,"
                          " rotate_every: 18mo}\n",
                          &policy),
              &err);
    assert_int_equal(policy->rotate_every.months, 18);
    assert_int_equal(policy->rotate_every.days, 0);
    assert_true(policy->rs256 && policy->wrapped_keys);
    assert_int_equal(policy->n_apps, 2);
    assert_int_equal(policy->lowest_tier, PFX_TIER_DIRECT);
    assert_int_equal(policy->seal_hash, PFX_HASH_SHA256);
    assert_int_equal(policy->encryption_type, PFX_KEY_RSA_2048);
    assert_true(policy->key_types[PFX_KEY_EC_P384] && policy->key_types[PFX_KEY_RSA_2048]);
    assert_false(policy->key_types[PFX_KEY_RSA_3072] || policy->key_types[PFX_KEY_EC_P256]);
    assert_true(policy->profiles[PFX_PROFILE_COMPAT]);
    assert_false(policy->profiles[PFX_PROFILE_MODERN]);
    pfx_hsm_policy_free(policy);
}

static void policy_log(void **state)
{
    (void)state;
    struct pfx_hsm_policy *policy = NULL;
    assert_ok(load_policy("host_id: PKI-1.example_2\nstate_dir: /s\n" POLICY
                          "log: {segment_entries: 512, reserve: 64, keep: 730d, anchor_entries: 100,"
                          " anchor_every: 24h}\naccess: {auditors: root}\n",
                          &policy),
              &err);
    assert_string_equal(policy->host_id, "PKI-1.example_2");
    assert_string_equal(policy->log_dir, "/s/log");
    assert_int_equal(policy->log_segment_entries, 512);
    assert_int_equal(policy->log_reserve_kib, 64);
    assert_int_equal(policy->log_keep_days, 730);
    assert_int_equal(policy->log_anchor_entries, 100);
    assert_int_equal(policy->log_anchor_every_ms, 86400000);
    assert_string_equal(policy->auditors_group, "root");
    pfx_hsm_policy_free(policy);
    /* As long as an origin has room for. */
    assert_ok(load_policy("host_id: "
                          "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij1234\n" POLICY
                          "log: {dir: /elsewhere}\n",
                          &policy),
              &err);
    assert_int_equal(strlen(policy->host_id), 64);
    assert_string_equal(policy->log_dir, "/elsewhere");
    pfx_hsm_policy_free(policy);
}

static pfx_result load_bad_policy(const char *yaml)
{
    struct pfx_hsm_policy *policy = NULL;
    pfx_result r = load_policy(yaml, &policy);
    assert_null(policy);
    return r;
}

static void policy_mistakes(void **state)
{
    (void)state;
#define ENC(uri) HEAD "tokens:\n  encryption:\n    module: /m\n    token: " uri "\n"
    static const struct mistake bad[] = {
        {HEAD_WITH(", domains: [{domain: a.b}, {domain: '@a.b'}]") TOKENS, 4,
         "users.domains[].domain", "without an @"},
        {HEAD_WITH(", domains: [{domain: '*.a.b'}]") TOKENS, 4, "users.domains[].domain",
         "isn't a domain"},
        {HEAD_WITH(", domains: [a.b]"), 4, "users.domains[]", ""},
        {ENC("softhsm"), 9, "tokens.encryption.token", "RFC 7512"},
        {ENC("'pkcs11:'"), 9, "tokens.encryption.token", "neither serial nor token"},
        {ENC("'pkcs11:token='"), 9, "tokens.encryption.token", "neither serial nor token"},
        {ENC("'pkcs11:object=x'"), 9, "tokens.encryption.token", "neither serial nor token"},
        {ENC("'pkcs11:slot-id=1'"), 9, "tokens.encryption.token", "slot numbers change"},
        {ENC("'pkcs11:token=a?pin-value=secret'"), 9, "tokens.encryption.token", "a PIN"},
        {ENC("'pkcs11:token=a?pin_value=secret'"), 9, "tokens.encryption.token", "a PIN would stand"},
        {ENC("'pkcs11:token=a;x=y?a=b&pin-source=secret'"), 9, "tokens.encryption.token", "a PIN"},
        {ENC("'pkcs11:token=a'") "    pin_file: /x\n", 10, "tokens.encryption.pin_file",
         "for a ceremony"},
        {HEAD "tokens:\n  users: {module: m}\n", 7, "tokens.users.module", "absolute path"},
        {HEAD "tokens:\n  users: {pin_file: 'my secret!'}\n", 7, "tokens.users.pin_file",
         "systemd credential"},
        {POLICY "sessions: 33\n", 11, "sessions", "from 1 to 32"},
        {POLICY "entr: x\n", 11, "entr", "did you mean entra?"},
        {POLICY "call_deadline: 5m\ncall_deadline: 5m\n", 12, "call_deadline", "line 11"},
        {POLICY "access:\n  agent_user: 'a b'\n", 12, "access.agent_user", "user or group"},
        {POLICY "access:\n  auditors: 'a b'\n", 12, "access.auditors", "user or group"},
        {POLICY "host_id: a b\n", 11, "host_id", "can't name a log"},
        {POLICY "host_id: a+b\n", 11, "host_id", "can't name a log"},
        {POLICY "host_id: a/b\n", 11, "host_id", "can't name a log"},
        {POLICY "host_id: "
                "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij12345\n",
         11, "host_id", "1 to 64 bytes"},
        {ROTATED "13m}\n", 10, "encryption_key.rotate_every",
         "0d to 3650d, or calendar months from 1mo"},
        {ROTATED "0mo}\n", 10, "encryption_key.rotate_every", "to 120mo"},
        {ROTATED "121mo}\n", 10, "encryption_key.rotate_every", "to 120mo"},
        {ROTATED "3651d}\n", 10, "encryption_key.rotate_every", "to 3650d"},
        {ROTATED "-1mo}\n", 10, "encryption_key.rotate_every", "to 120mo"},
        {POLICY "log:\n  dir: log\n", 12, "log.dir", "absolute path"},
        {POLICY "log:\n  segment_entries: 300\n", 12, "log.segment_entries",
         "multiple of 256"},
        {POLICY "log:\n  segment_entries: 128\n", 12, "log.segment_entries", "from 256"},
        {POLICY "log:\n  reserve: 63\n", 12, "log.reserve", "from 64"},
        {POLICY "log:\n  keep: 729d\n", 12, "log.keep", "at least 730d"},
        {POLICY "log:\n  keep: 1d\n", 12, "log.keep", "0d (for ever)"},
        {POLICY "log:\n  anchor_entries: 99\n", 12, "log.anchor_entries", "from 100"},
        {POLICY "log:\n  anchor_every: 59s\n", 12, "log.anchor_every", "from 1m"},
        {POLICY "log:\n  anchor_every: 25h\n", 12, "log.anchor_every", "1d"},
    };
    assert_told(bad, sizeof(bad) / sizeof(bad[0]), load_bad_policy);
    struct pfx_buf report PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
    test_write(path, TOKENS "entra:\n  apps:\n  - {name: a}\n  - {name: a}\nusers:\n"
                            "  key_types: [rsa-2048, rsa-512, [x]]\n  keys: hsm\n"
                            "  profiles: [modern, rc2-40]\n",
               0600);
    assert_int_equal(pfx_conf_check(PFX_CONF_HSM_POLICY, path, &report), 10);
    assert_has(pfx_buf_str(&report), ":11: users.key_types: \"rsa-512\" isn't right");
    assert_has(pfx_buf_str(&report), ":13: users.profiles: \"rc2-40\" isn't right");
    assert_has(pfx_buf_str(&report),
               ":9: entra.apps[].name: \"a\" is the name of the app on line 8");
    assert_has(pfx_buf_str(&report), ":10: users.ca_roots: it is missing");
    assert_has(pfx_buf_str(&report), ":1: encryption_key.provider: it is missing");
}

static void trust(void **state)
{
    (void)state;
    struct pfx_uploader_conf *conf = NULL;
    struct pfx_buf report PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
    test_write(path, TENANT, 0664);
    err = PFX_ERROR_NONE;
    assert_class(pfx_uploader_conf_load(path, &conf, &err), PFX_CLASS_INTEGRITY, &err);
    assert_has(err.text, "chmod go-w");
    assert_int_equal(pfx_conf_check(PFX_CONF_UPLOADER, path, &report), 1);
    assert_has(pfx_buf_str(&report), "group or others may write");
    /* A file that nobody else may write, in a folder that everybody may. */
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    err = PFX_ERROR_NONE;
    assert_class(pfx_uploader_conf_load(path, &conf, &err), PFX_CLASS_INTEGRITY, &err);
    assert_string_equal(err.object, folder);
    assert_int_equal(chmod(folder, 01777), 0); /* sticky: as /tmp is */
    err = PFX_ERROR_NONE;
    assert_ok(pfx_uploader_conf_load(path, &conf, &err), &err);
    pfx_uploader_conf_free(conf);
    assert_int_equal(chmod(folder, 0700), 0);
    /* By a link in a folder that others may write to. */
    char *open_folder PFX_AUTOFREE = pfx_asprintf("%s/open", folder);
    char *link_path PFX_AUTOFREE = pfx_asprintf("%s/link", open_folder);
    assert_int_equal(mkdir(open_folder, 0700), 0);
    assert_int_equal(symlink(path, link_path), 0);
    err = PFX_ERROR_NONE;
    assert_ok(pfx_uploader_conf_load(link_path, &conf, &err), &err);
    pfx_uploader_conf_free(conf);
    assert_int_equal(chmod(open_folder, 0777), 0);
    err = PFX_ERROR_NONE;
    assert_class(pfx_uploader_conf_load(link_path, &conf, &err), PFX_CLASS_INTEGRITY, &err);
    if (geteuid() != 0)
        return;
    assert_int_equal(chown(path, 54321, (gid_t)-1), 0);
    err = PFX_ERROR_NONE;
    assert_class(pfx_uploader_conf_load(path, &conf, &err), PFX_CLASS_INTEGRITY, &err);
    assert_has(err.text, "user 54321");
    assert_int_equal(unlink(path), 0);
}

/* The example holds every option, so this reads every row; the manual page names every one. */
static void examples(void **state)
{
    (void)state;
    for (int file = PFX_CONF_AGENT; file <= PFX_CONF_HSM_POLICY; file++) {
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
        struct pfx_buf report PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
        struct pfx_buf man PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
        pfx_conf_example((enum pfx_conf_file)file, &text);
        test_write(path, pfx_buf_str(&text), 0600);
        if (pfx_conf_check((enum pfx_conf_file)file, path, &report) != 0)
            fail_msg("%s%s", pfx_buf_str(&text), pfx_buf_str(&report));
        for (const char *line = pfx_buf_str(&text); *line; line += strcspn(line, "\n") + 1)
            assert_true(strcspn(line, "\n") <= 100);
        pfx_conf_man((enum pfx_conf_file)file, &man);
        assert_has(pfx_buf_str(&man), ".SH OPTIONS\n.TP\n.B ");
        assert_false(text.over || man.over);
        assert_has(pfx_conf_path((enum pfx_conf_file)file), "/etc/pfx-agent/");
    }
    struct pfx_buf man PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
    pfx_conf_man(PFX_CONF_AGENT, &man);
    assert_has(pfx_buf_str(&man), ".B rules[].common_name\n");
    assert_has(pfx_buf_str(&man), "Default: 30d.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uploader_defaults), cmocka_unit_test(uploader_mistakes),
        cmocka_unit_test(uploader_clouds),   cmocka_unit_test(uploader_apps),
        cmocka_unit_test(policy_defaults),   cmocka_unit_test(policy_choices),
        cmocka_unit_test(policy_log),
        cmocka_unit_test(policy_mistakes),   cmocka_unit_test(examples),
        cmocka_unit_test(trust),             cmocka_unit_test(uploader_pins),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
