#include "api/conf/hsm_policy.h"

#include <string.h>
#include <unistd.h>

#include "api/conf/sandbox.h"
#include "api/conf/table.h"
#include "crypto/encode.h"

#define HOST_ID_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define DOMAIN_CHARACTERS                                                                         \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-"
#define LOG_TILE 256
#define APPROVERS_LEAST 2
#define LOG_KEEP_LEAST_DAYS 730 /* CA/Browser Forum, S/MIME 5.4.3: two years */

#define AT(field) offsetof(struct pfx_hsm_policy, field)
#define IN_APP(field) offsetof(struct pfx_app_conf, field)
#define IN_DOMAIN(field) offsetof(struct pfx_domain_conf, field)
#define IN_CONNECTOR(field) offsetof(struct pfx_connector_conf, field)
#define IN_PERSON(field) offsetof(struct pfx_person_conf, field)
#define IN_FOLDER(field) offsetof(struct pfx_folder_conf, field)
#define ROLE(name, role, token_sample)                                                             \
    {.path = "tokens." name ".module", .type = PFX_O_PATH, .offset = AT(roles[role].module),       \
     .max = 1000, .required = true, .sample = "/usr/lib/softhsm/libsofthsm2.so",                   \
     .help = "PKCS#11 library of the role " name},                                                 \
    {.path = "tokens." name ".parameters", .type = PFX_O_TEXT,                                     \
     .offset = AT(roles[role].parameters), .min = 1, .max = 1000,                                  \
     .sample = "\"configdir='/etc/pfx-agent/nss'\"",                                               \
     .help = "string for C_Initialize, where the library wants one (NSS)"},                        \
    {.path = "tokens." name ".token", .type = PFX_O_TOKEN, .offset = AT(roles[role].uri),          \
     .required = true, .sample = token_sample,                                                     \
     .help = "the token, by serial or label; never by slot"},                                      \
    {.path = "tokens." name ".attestation", .type = PFX_O_TEXT,                                    \
     .offset = AT(roles[role].attestation), .min = 4, .max = 1000, .def = "none",                  \
     .help = "what the HSM says of its keys goes with the record of a ceremony: none; "            \
             "objects:LABEL, certificates and data on the token (* and ? are patterns); "          \
             "attribute:0x80..., a vendor's attribute of the key; file:/PATH, of a vendor's "      \
             "tool. {id} and {name} are the key's"}
#define PIN_FILE(name, role)                                                                       \
    {.path = "tokens." name ".pin_file", .type = PFX_O_PIN_FILE,                                   \
     .offset = AT(roles[role].pin_file), .max = 1000, .required = true, .sample = name "-pin",     \
     .help = "file with the PIN; a bare name is a systemd credential"}
#define PER_HOUR(name, field, most, text)                                                          \
    {.path = "ceilings." name, .type = PFX_O_COUNT, .offset = AT(field), .min = 1,                 \
     .max = 10000000, .def = most, .help = text}

static const struct pfx_option rows[] = {
    {.path = "host_id", .type = PFX_O_TEXT, .offset = AT(host_id), .min = 1, .max = 64,
     .sample = "pki1.example", .help = "names this host in the operation log (default: its name)"},
    {.path = "state_dir", .type = PFX_O_PATH, .offset = AT(state_dir), .max = 1000,
     .def = "/var/lib/pfx-hsm", .help = "folder of operation log and pins"},
    {.path = "run_dir", .type = PFX_O_PATH, .offset = AT(run_dir), .max = 90,
     .def = "/run/pfx-hsm", .help = "folder of the sockets admin and uploader"},
    {.path = "agent_socket", .type = PFX_O_PATH, .offset = AT(agent_socket), .max = 100,
     .def = "/run/pfx-agent/hsm", .help = "where pfx-agentd listens"},

    ROLE("encryption", PFX_ROLE_ENCRYPTION, "pkcs11:token=encryption"),
    {.path = "tokens.encryption.pin_file", .type = PFX_O_NEVER,
     .help = "an operator gives this PIN for a ceremony, and it is kept nowhere"},
    ROLE("users", PFX_ROLE_USERS, "pkcs11:token=users"),
    PIN_FILE("users", PFX_ROLE_USERS),
    ROLE("service", PFX_ROLE_SERVICE, "pkcs11:token=service"),
    PIN_FILE("service", PFX_ROLE_SERVICE),
    ROLE("log", PFX_ROLE_LOG, "pkcs11:token=log"),
    PIN_FILE("log", PFX_ROLE_LOG),

    {.path = "entra.url", .type = PFX_O_URL, .offset = AT(login_url),
     .def = "https://login.microsoftonline.com",
     .help = "host in the audience of assertions; US Government: https://login.microsoftonline.us; "
             "21Vianet: https://login.partner.microsoftonline.cn"},
    {.path = "entra.tenant", .type = PFX_O_GUID, .offset = AT(tenant), .required = true,
     .sample = "00000000-0000-4000-8000-000000000002", .help = "tenant id"},
    {.path = "entra.algorithm", .type = PFX_O_FLAG, .offset = AT(rs256),
     .choices = "PS256|RS256", .def = "PS256", .help = "signature of assertions"},
    {.path = "entra.apps", .type = PFX_O_LIST, .offset = AT(apps), .count_offset = AT(n_apps),
     .size = sizeof(struct pfx_app_conf), .min = 1, .max = 16, .required = true,
     .help = "app registrations; each has its own client key"},
    {.path = "entra.apps[].name", .type = PFX_O_NAME, .offset = IN_APP(name), .max = 32,
     .def = "main", .help = "how it is called here; unique"},
    {.path = "entra.apps[].client_id", .type = PFX_O_GUID, .offset = IN_APP(client_id),
     .required = true, .sample = "00000000-0000-4000-8000-000000000003",
     .help = "application (client) id"},

    {.path = "users.key_types", .type = PFX_O_SET, .offset = AT(key_types),
     .choices = "rsa-2048|rsa-3072|rsa-4096|ec-p256|ec-p384",
     .def = "rsa-2048, rsa-3072, rsa-4096, ec-p256, ec-p384",
     .help = "types of user keys that are made"},
    {.path = "users.keys", .type = PFX_O_FLAG, .offset = AT(wrapped_keys),
     .choices = "token|wrapped", .def = "token",
     .help = "user keys as objects in the token, or as blobs under the wrapping key (many users)"},
    {.path = "users.after_delivery.signing", .type = PFX_O_FLAG,
     .offset = AT(destroys[PFX_PURPOSE_SIGNING]), .choices = "keep|destroy", .def = "keep",
     .help = "a signing key once its certificate is in Intune; destroyed, it can't be packed again: a "
             "record that Intune loses is enrolled anew"},
    {.path = "users.after_delivery.encryption", .type = PFX_O_FLAG,
     .offset = AT(destroys[PFX_PURPOSE_ENCRYPTION]), .choices = "keep", .def = "keep",
     .help = "without these keys nobody reads old mail after a lost record, so they are kept"},
    {.path = "users.after_delivery.dual", .type = PFX_O_FLAG,
     .offset = AT(destroys[PFX_PURPOSE_DUAL]), .choices = "keep", .def = "keep",
     .help = "the same for keys that sign and decrypt"},
    {.path = "users.domains", .type = PFX_O_LIST, .offset = AT(domains),
     .count_offset = AT(n_domains), .size = sizeof(struct pfx_domain_conf), .min = 1, .max = 1000,
     .help = "mail domains that the addresses of users may have, each with its own entry (default: "
             "any, so that pfx-agentd is believed)"},
    {.path = "users.domains[].domain", .type = PFX_O_TEXT, .offset = IN_DOMAIN(domain), .min = 1,
     .max = 253, .required = true, .sample = "contoso.com",
     .help = "what stands behind the @, in ASCII; without its subdomains"},
    {.path = "users.profiles", .type = PFX_O_SET, .offset = AT(profiles),
     .choices = "modern|compat", .def = "modern",
     .help = "profiles of PFX files that are built; compat (triple DES, SHA-1) is for readers that "
             "know nothing newer"},
    {.path = "users.lowest_tier", .type = PFX_O_ENUM, .offset = AT(lowest_tier),
     .min = PFX_TIER_TRANSIT, .choices = "transit|direct", .def = "transit",
     .help = "lowest export tier that a PFX may be built by"},
    {.path = "users.ca_roots", .type = PFX_O_PATH, .offset = AT(ca_roots), .max = 1000,
     .required = true, .sample = "/etc/pfx-agent/ca-roots.pem",
     .help = "PEM file of the roots that users' certificates must chain to"},
    {.path = "users.max_validity", .type = PFX_O_DAYS, .offset = AT(max_cert_days), .min = 1,
     .max = 3650, .def = "825d", .help = "longest validity of a user's certificate"},

    {.path = "encryption_key.type", .type = PFX_O_ENUM, .offset = AT(encryption_type),
     .min = PFX_KEY_RSA_2048, .choices = "rsa-2048|rsa-3072|rsa-4096", .def = "rsa-3072",
     .help = "type of the encryption key"},
    {.path = "encryption_key.name", .type = PFX_O_TEXT, .offset = AT(encryption_name), .min = 1,
     .max = 128, .def = "pfx-agent-encryption",
     .help = "Intune's keyName: as the connector finds it"},
    {.path = "encryption_key.provider", .type = PFX_O_TEXT, .offset = AT(provider_name),
     .min = 1, .max = 256, .required = true, .sample = "\"Vendor Key Storage Provider\"",
     .help = "Intune's providerName: the connector's CNG provider of this HSM"},
    {.path = "encryption_key.oaep", .type = PFX_O_ENUM, .offset = AT(seal_hash),
     .min = PFX_HASH_SHA256, .choices = "sha256|sha384|sha512", .def = "sha512",
     .help = "hash of RSA-OAEP for sealed passwords"},
    {.path = "encryption_key.rotate_every", .type = PFX_O_PERIOD, .offset = AT(rotate_every),
     .min = 0, .max = 3650, .def = "0d",
     .help = "how long a generation is to be in use: days, or calendar months such as 12mo. From 30 "
             "days before its end status and journal warn, and pfx-agent key rotate --if-due stages "
             "the next one; 0d: never"},

    {.path = "connectors", .type = PFX_O_LIST, .offset = AT(connectors),
     .count_offset = AT(n_connectors), .size = sizeof(struct pfx_connector_conf), .min = 1,
     .max = 32,
     .help = "hosts of Microsoft's certificate connector: a new encryption key is activated once "
             "each has shown that it can open what is sealed to it (default: none, so that nobody is "
             "asked)"},
    {.path = "connectors[].name", .type = PFX_O_NAME, .offset = IN_CONNECTOR(name), .max = 63,
     .required = true, .sample = "connector1", .help = "how the host is called here; unique"},

    PER_HOUR("keys_per_hour", per_hour_keys, "2000", "most user keys made"),
    PER_HOUR("builds_per_hour", per_hour_builds, "4000", "most PFX files built"),
    PER_HOUR("assertions_per_hour", per_hour_assertions, "240", "most assertions signed"),
    PER_HOUR("secrets_per_hour", per_hour_secrets, "240", "most service secrets opened"),
    PER_HOUR("destroys_per_hour", per_hour_destroys, "2000", "most user keys destroyed"),

    {.path = "sessions", .type = PFX_O_COUNT, .offset = AT(sessions), .min = 1, .max = 32,
     .def = "2", .help = "operations at the users token at once, with one session each"},
    {.path = "call_deadline", .type = PFX_O_DURATION, .offset = AT(call_deadline_ms),
     .min = PFX_SECONDS(1), .max = PFX_HOURS(1), .def = "2m",
     .help = "a Cryptoki operation that takes longer ends the process"},

    {.path = "log.dir", .type = PFX_O_PATH, .offset = AT(log_dir), .max = 1000,
     .sample = "/var/lib/pfx-hsm/log",
     .help = "folder of the operation log (default: log in state_dir)"},
    {.path = "log.segment_entries", .type = PFX_O_COUNT, .offset = AT(log_segment_entries),
     .min = LOG_TILE, .max = 1048576, .def = "65536",
     .help = "entries in one file of the operation log, a multiple of 256"},
    {.path = "log.reserve", .type = PFX_O_COUNT, .offset = AT(log_reserve_kib), .min = 64,
     .max = 1048576, .def = "1024",
     .help = "KiB kept free on disk for refusals, shutdown and recovery"},
    {.path = "log.keep", .type = PFX_O_DAYS, .offset = AT(log_keep_days), .min = 0, .max = 36500,
     .def = "0d",
     .help = "entries go after so many days that the host ran; 0d: never, else at least 730d"},
    {.path = "log.anchor_entries", .type = PFX_O_COUNT, .offset = AT(log_anchor_entries),
     .min = 100, .max = 10000000, .def = "10000",
     .help = "the log's head is written to the token after so many entries"},
    {.path = "log.anchor_every", .type = PFX_O_DURATION, .offset = AT(log_anchor_every_ms),
     .min = PFX_SECONDS(60), .max = PFX_HOURS(24), .def = "1h",
     .help = "... and after so long, when there are new entries"},

    {.path = "sandbox.profile", .type = PFX_O_FLAG, .offset = AT(network_hsm),
     .choices = "local|network-hsm", .def = "local",
     .help = "network-hsm: the PKCS#11 library reaches its HSM by TCP or UDP; local: pfx-hsm has no "
             "socket but Unix ones"},
    {.path = "sandbox.folders", .type = PFX_O_LIST, .offset = AT(folders),
     .count_offset = AT(n_folders), .size = sizeof(struct pfx_folder_conf), .min = 1, .max = 32,
     .help = "what the PKCS#11 library needs besides /usr, /opt and its own folder: its "
             "configuration, token files, devices (default: none; SoftHSM, NSS and opencryptoki are "
             "known)"},
    {.path = "sandbox.folders[].path", .type = PFX_O_PATH, .offset = IN_FOLDER(path), .max = 1000,
     .required = true, .sample = "/etc/vendor-hsm", .help = "file or folder; it must be there at the start"},
    {.path = "sandbox.folders[].access", .type = PFX_O_ENUM, .offset = IN_FOLDER(reach),
     .min = PFX_REACH_READ, .choices = "read|write|device", .def = "read",
     .help = "device: write, and ioctl on devices"},
    {.path = "sandbox.late_libraries", .type = PFX_O_FLAG, .offset = AT(late_libraries),
     .choices = "refused|allowed", .def = "refused",
     .help = "may the PKCS#11 library load others after C_Initialize at the start"},
    {.path = "sandbox.secret_memory", .type = PFX_O_ENUM, .offset = AT(secret_memory),
     .min = PFX_SECRET_AUTO, .choices = PFX_SECRET_CHOICES, .def = "auto",
     .help = PFX_SECRET_HELP ". locked: for a PKCS#11 library whose driver can't reach such pages, "
             "and for a host that hibernates"},

    {.path = "approvals.mode", .type = PFX_O_ENUM, .offset = AT(approvals),
     .min = PFX_APPROVALS_SSH, .choices = "ssh|uid", .sample = "ssh",
     .help = "dangerous commands need two people (default: most of them are refused). ssh: their "
             "signatures; uid: users of this host, without signatures, for laboratories: weak"},
    {.path = "approvals.roster", .type = PFX_O_PATH, .offset = AT(roster), .max = 1000,
     .sample = "/etc/pfx-agent/approvers",
     .help = "mode ssh: who may approve, as ssh-keygen's allowed-signers file; one person a line"},
    {.path = "approvals.needed", .type = PFX_O_COUNT, .offset = AT(approvers),
     .min = APPROVERS_LEAST, .max = 4, .sample = "2",
     .help = "so many people, beside who asks (default: 2)"},
    {.path = "approvals.valid", .type = PFX_O_DURATION, .offset = AT(approvals_valid_ms),
     .min = PFX_SECONDS(5), .max = PFX_HOURS(24), .sample = "1h",
     .help = "from the question until the command is done (default: 1h)"},
    {.path = "approvals.uids", .type = PFX_O_LIST, .offset = AT(people),
     .count_offset = AT(n_people), .size = sizeof(struct pfx_person_conf), .min = 1, .max = 256,
     .help = "mode ssh: which user of this host is which person, since who asks can't approve; one "
             "who doesn't stand here can't ask"},
    {.path = "approvals.uids[].uid", .type = PFX_O_COUNT, .offset = IN_PERSON(uid), .min = 0,
     .max = 4294967294, .required = true, .sample = "1001", .help = "of a user of this host"},
    {.path = "approvals.uids[].principal", .type = PFX_O_TEXT, .offset = IN_PERSON(principal),
     .min = 1, .max = 128, .required = true, .sample = "ann@contoso.com",
     .help = "first word of that person's lines in the roster"},

    {.path = "access.agent_user", .type = PFX_O_ACCOUNT, .offset = AT(agent_user),
     .sample = "pfx-agent", .help = "user of pfx-agentd (default: root or the own user)"},
    {.path = "access.uploader_user", .type = PFX_O_ACCOUNT, .offset = AT(uploader_user),
     .sample = "pfx-uploader", .help = "user of pfx-uploader (default: root or the own user)"},
    {.path = "access.admins", .type = PFX_O_ACCOUNT, .offset = AT(admins_group),
     .sample = "pfx-admins", .help = "group that may use the admin socket (default: root only)"},
    {.path = "access.auditors", .type = PFX_O_ACCOUNT, .offset = AT(auditors_group),
     .sample = "pfx-auditors", .help = "group that may read the operation log (default: none)"},
};

const char *pfx_role_name(enum pfx_role role)
{
    static const char *const names[PFX_ROLE_COUNT] = {
        [PFX_ROLE_ENCRYPTION] = "encryption",
        [PFX_ROLE_USERS] = "users",
        [PFX_ROLE_SERVICE] = "service",
        [PFX_ROLE_LOG] = "log",
    };
    return (unsigned)role < PFX_ROLE_COUNT ? names[role] : "unknown";
}

const char *pfx_tier_name(enum pfx_tier tier)
{
    switch (tier) {
    case PFX_TIER_DIRECT:
        return "direct";
    case PFX_TIER_TRANSIT:
        return "transit";
    case PFX_TIER_NONE:
        break;
    }
    return "none";
}

static void finish_approvals(struct pfx_conf_reader *reader, struct pfx_hsm_policy *policy)
{
    bool by_ssh = policy->approvals == PFX_APPROVALS_SSH;
    if (policy->approvers == 0)
        policy->approvers = APPROVERS_LEAST;
    if (policy->approvals_valid_ms == 0)
        policy->approvals_valid_ms = PFX_HOURS(1);
    if (!by_ssh && policy->roster)
        pfx_reader_mistake(reader, pfx_reader_line(reader, policy, "approvals.roster"),
                           "approvals.roster", "only mode ssh has one; expected 'mode: ssh'");
    unsigned line = pfx_reader_line(reader, policy, "approvals.mode");
    if (by_ssh && !policy->roster)
        pfx_reader_mistake(reader, line, "approvals.roster",
                           "it is missing; expected the path of the approvers' file");
    if (by_ssh && policy->n_people == 0)
        pfx_reader_mistake(reader, line, "approvals.uids",
                           "it is missing; expected who may ask, since who asks can't approve");
    for (size_t i = 0; i < policy->n_people; i++)
        for (size_t j = 0; j < i; j++)
            if (policy->people[i].uid == policy->people[j].uid)
                pfx_reader_mistake(
                    reader,
                    pfx_reader_line(reader, &policy->people[i], "approvals.uids[].uid"),
                    "approvals.uids[].uid", "%u stands there already; expected one person for it",
                    policy->people[i].uid);
}

static bool attestation_ok(const char *how)
{
    if (!how || strcmp(how, "none") == 0)
        return true;
    if (strncmp(how, "objects:", 8) == 0)
        return how[8] != '\0';
    if (strncmp(how, "attribute:0x", 12) == 0)
        return strlen(how + 12) == 8 && how[12] >= '8' &&
               strspn(how + 12, "0123456789abcdefABCDEF") == 8;
    const char *slash = strrchr(how, '/'), *brace = strchr(how, '{');
    return strncmp(how, "file:/", 6) == 0 && slash[1] && (!brace || brace > slash);
}

static void finish(struct pfx_conf_reader *reader, void *base)
{
    struct pfx_hsm_policy *policy = base;
    finish_approvals(reader, policy);
    if (pfx_reader_line(reader, policy, "host_id") == 0) {
        char host[129] = "";
        if (gethostname(host, sizeof(host) - 1) != 0 || !*host)
            pfx_reader_mistake(reader, 1, "host_id",
                               "this host has no name; expected one here");
        policy->host_id = pfx_strdup(host);
    }
    /* Key lines of verifiers take no space and no '+' in a name; a file's name no '/'. */
    if (policy->host_id && policy->host_id[strspn(policy->host_id, HOST_ID_CHARS)] != '\0')
        pfx_reader_mistake(reader, pfx_reader_line(reader, policy, "host_id"), "host_id",
                           "\"%s\" can't name a log; expected letters, digits, '.', '_' and '-'",
                           policy->host_id);
    if (!policy->log_dir && policy->state_dir)
        policy->log_dir = pfx_asprintf("%s/log", policy->state_dir);
    if (policy->log_segment_entries % LOG_TILE != 0)
        pfx_reader_mistake(reader, pfx_reader_line(reader, policy, "log.segment_entries"),
                           "log.segment_entries", "%u isn't a multiple of %d; expected one",
                           policy->log_segment_entries, LOG_TILE);
    if (policy->log_keep_days > 0 && policy->log_keep_days < LOG_KEEP_LEAST_DAYS)
        pfx_reader_mistake(reader, pfx_reader_line(reader, policy, "log.keep"), "log.keep",
                           "%dd is too short; expected 0d (for ever) or at least %dd",
                           (int)policy->log_keep_days, LOG_KEEP_LEAST_DAYS);
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        char *option PFX_AUTOFREE = pfx_asprintf("tokens.%s.attestation", pfx_role_name(role));
        if (!attestation_ok(policy->roles[role].attestation))
            pfx_reader_mistake(reader, pfx_reader_line(reader, policy, option), option,
                               "\"%s\" names no attestation; expected none, objects:LABEL, "
                               "attribute:0x80000000 or above, or file:/PATH with {id} and {name} "
                               "in the last part only",
                               policy->roles[role].attestation);
    }
    for (size_t i = 0; i < policy->n_domains; i++) {
        const struct pfx_domain_conf *row = &policy->domains[i];
        if (row->domain && row->domain[strspn(row->domain, DOMAIN_CHARACTERS)] != '\0')
            pfx_reader_mistake(reader, pfx_reader_line(reader, row, "users.domains[].domain"),
                               "users.domains[].domain",
                               "\"%s\" isn't a domain; expected letters, digits, '.' and '-', "
                               "without an @ or a *", row->domain);
    }
    for (size_t i = 0; i < policy->n_apps; i++) {
        const struct pfx_app_conf *app = &policy->apps[i];
        for (size_t j = 0; j < i && app->name; j++) {
            const struct pfx_app_conf *other = &policy->apps[j];
            if (!other->name || strcmp(other->name, app->name) != 0)
                continue;
            unsigned line = pfx_reader_line(reader, app, "entra.apps[].name");
            pfx_reader_mistake(reader,
                               line > 0 ? line : pfx_reader_line(reader, app, "entra.apps[]"),
                               "entra.apps[].name",
                               "\"%s\" is the name of the app on line %u already; expected "
                               "another",
                               app->name, pfx_reader_line(reader, other, "entra.apps[]"));
            break;
        }
    }
}

const struct pfx_option_table pfx_policy_table = {
    .name = "hsm-policy.yaml",
    .about = "What pfx-hsm does, whatever it is asked. Owned by root.",
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .size = sizeof(struct pfx_hsm_policy),
    .trusted = true,
    .finish = finish,
};

pfx_result pfx_hsm_policy_load(const char *path, struct pfx_hsm_policy **ret_policy,
                               struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_CONF_FILE_MAX);
    void *conf;
    PFX_TRY(pfx_table_load(&pfx_policy_table, path, &text, &conf, err));
    struct pfx_hsm_policy *policy = conf;
    if (!pfx_sha256(text.data, text.len, policy->sha256)) {
        pfx_hsm_policy_free(policy);
        return pfx_fail(err, PFX_CLASS_INTERNAL, "read policy", path, "", "SHA-256 failed");
    }
    policy->text = text;
    text = pfx_buf_make(0);
    *ret_policy = policy;
    return PFX_OK;
}

pfx_result pfx_hsm_policy_parse(const char *name, struct pfx_bytes text,
                                struct pfx_hsm_policy **ret_policy, struct pfx_error *err)
{
    struct pfx_conf_reader *reader = pfx_reader_new(name, NULL, err);
    struct pfx_hsm_policy *policy = pfx_reader_fill(reader, &pfx_policy_table, text);
    bool fine = pfx_reader_mistakes(reader) == 0;
    pfx_reader_free(reader);
    policy->text = pfx_buf_make(PFX_CONF_FILE_MAX);
    if (!fine || !pfx_buf_add(&policy->text, text.data, text.len) ||
        !pfx_sha256(text.data, text.len, policy->sha256)) {
        pfx_hsm_policy_free(policy);
        return pfx_fail(err, PFX_CLASS_USAGE, "read policy", name, "", "It can't be used.");
    }
    *ret_policy = policy;
    return PFX_OK;
}

void pfx_hsm_policy_free(struct pfx_hsm_policy *policy)
{
    if (policy)
        pfx_buf_done(&policy->text);
    pfx_table_free(&pfx_policy_table, policy);
}
