#include "api/conf/agent_conf.h"

#include <string.h>

#include "api/conf/table.h"

#define AT(field) offsetof(struct pfx_agent_conf, field)
#define IN_RULE(field) offsetof(struct pfx_rule_conf, field)
#define PRODUCTS "secure_email_mailbox|secure_email_sponsor|secure_email_organization"

static const struct pfx_option rows[] = {
    {.path = "state_dir", .type = PFX_O_PATH, .offset = AT(state_dir), .max = 1000,
     .def = "/var/lib/pfx-agent", .help = "folder of the store"},
    {.path = "run_dir", .type = PFX_O_PATH, .offset = AT(run_dir), .max = 90,
     .def = "/run/pfx-agent", .help = "folder of the sockets cli, hsm and uploader"},

    {.path = "rules", .type = PFX_O_LIST, .offset = AT(rules), .count_offset = AT(n_rules),
     .size = sizeof(struct pfx_rule_conf), .min = 1, .max = 1000, .required = true,
     .help = "who gets which certificate; of two rules for one user and purpose the first holds"},
    {.path = "rules[].name", .type = PFX_O_NAME, .offset = IN_RULE(name), .max = 64,
     .required = true, .sample = "all-staff", .help = "how the rule is called in lists; unique"},
    {.path = "rules[].group", .type = PFX_O_GUID, .offset = IN_RULE(group), .required = true,
     .sample = "00000000-0000-4000-8000-000000000001",
     .help = "object id of the Entra ID group; members of groups in it count too"},
    {.path = "rules[].product", .type = PFX_O_WORD, .offset = IN_RULE(product),
     .choices = PRODUCTS, .required = true, .sample = "secure_email_mailbox",
     .help = "what is ordered at DigiCert"},
    {.path = "rules[].organization", .type = PFX_O_NUMBER, .offset = IN_RULE(organization),
     .min = 1, .max = (int64_t)1 << 52, .sample = "112233",
     .help = "id of the organization at DigiCert; for _sponsor and _organization only, required "
             "there"},
    {.path = "rules[].purpose", .type = PFX_O_ENUM, .offset = IN_RULE(purpose),
     .min = PFX_PURPOSE_SIGNING, .choices = "signing|encryption|dual", .def = "signing",
     .help = "what the certificate is for"},
    {.path = "rules[].intune", .type = PFX_O_ENUM, .offset = IN_RULE(intune),
     .min = PFX_PURPOSE_SIGNING, .choices = "signing|encryption", .sample = "signing",
     .help = "purpose dual only: what Intune's record says, since it keeps one record for each "
             "certificate (default signing)"},
    {.path = "rules[].validity", .type = PFX_O_VALIDITY, .offset = IN_RULE(years), .def = "1y",
     .help = "how long the certificate is ordered for"},
    {.path = "rules[].key", .type = PFX_O_ENUM, .offset = IN_RULE(key_type),
     .min = PFX_KEY_RSA_2048, .choices = "rsa-2048|rsa-3072|rsa-4096|ec-p256|ec-p384",
     .def = "rsa-2048", .help = "type of the user's key"},
    {.path = "rules[].profile", .type = PFX_O_ENUM, .offset = IN_RULE(profile),
     .min = PFX_PROFILE_MODERN, .choices = "modern", .def = "modern",
     .help = "algorithms of the PFX file"},
    {.path = "rules[].profile_type", .type = PFX_O_WORD, .offset = IN_RULE(profile_type),
     .choices = "strict|multipurpose", .def = "strict",
     .help = "profile of the S/MIME Baseline Requirements"},
    {.path = "rules[].common_name", .type = PFX_O_WORD, .offset = IN_RULE(common_name_indicator),
     .choices = "email_address|given_name_surname|pseudonym|organization_name",
     .sample = "given_name_surname",
     .help = "what DigiCert makes the common name of; not for _mailbox (default "
             "given_name_surname for _sponsor, organization_name for _organization)"},
    {.path = "rules[].client_auth", .type = PFX_O_BOOL, .offset = IN_RULE(client_auth),
     .def = "false", .help = "asks for the key usage client authentication too"},
    {.path = "rules[].payment", .type = PFX_O_WORD, .offset = IN_RULE(payment_method),
     .choices = "profile|balance", .sample = "balance",
     .help = "how DigiCert is paid (default: as the account has it)"},

    {.path = "renew_before", .type = PFX_O_DURATION, .offset = AT(renew_before_ms),
     .min = PFX_DAYS(1), .max = PFX_DAYS(365), .def = "30d",
     .help = "a certificate that ends within this time is renewed"},
    {.path = "max_orders_per_pass", .type = PFX_O_COUNT, .offset = AT(max_orders_per_pass),
     .min = 0, .max = 1000000, .def = "50",
     .help = "most orders in one pass; the rest is held until an operator releases it"},
    {.path = "max_orders_per_day", .type = PFX_O_COUNT, .offset = AT(max_orders_per_day),
     .min = 0, .max = 1000000, .def = "200", .help = "most orders in a day (UTC)"},

    {.path = "schedule.pass_every", .type = PFX_O_DURATION, .offset = AT(pass_every_ms),
     .min = 0, .max = PFX_DAYS(30), .def = "6h",
     .help = "how often the groups are read; never: by command only"},
    {.path = "schedule.records_every", .type = PFX_O_DURATION, .offset = AT(records_every_ms),
     .min = PFX_SECONDS(1), .max = PFX_DAYS(30), .def = "1d",
     .help = "how often Intune's list is read"},
    {.path = "schedule.poll_every", .type = PFX_O_DURATION, .offset = AT(poll_every_ms),
     .min = 100, .max = PFX_DAYS(1), .def = "5m", .help = "how often the CA is asked for news"},
    {.path = "schedule.validation_every", .type = PFX_O_DURATION,
     .offset = AT(validation_every_ms), .min = 100, .max = PFX_DAYS(7), .def = "30m",
     .help = "how often the unvalidated addresses of an order are looked up"},
    {.path = "schedule.settle_grace", .type = PFX_O_DURATION, .offset = AT(settle_grace_ms),
     .min = 100, .max = PFX_DAYS(1), .def = "15m",
     .help = "how long an order whose answer was lost is looked for"},
    {.path = "schedule.retry_min", .type = PFX_O_DURATION, .offset = AT(retry_min_ms), .min = 10,
     .max = PFX_HOURS(1), .def = "5s", .help = "wait before the first repetition; doubles"},
    {.path = "schedule.retry_max", .type = PFX_O_DURATION, .offset = AT(retry_max_ms), .min = 10,
     .max = PFX_DAYS(7), .def = "1h", .help = "longest wait between repetitions"},
    {.path = "schedule.reorder_after", .type = PFX_O_DURATION, .offset = AT(reorder_after_ms),
     .min = 100, .max = PFX_DAYS(90), .def = "7d",
     .help = "wait after an order that ended without a certificate; doubles with each, up to 90 "
             "days"},

    {.path = "names.transliteration", .type = PFX_O_TEXT, .offset = AT(transliteration), .min = 1,
     .max = 255, .def = "Any-Latin; de-ASCII; Latin-ASCII",
     .help = "ICU transform that makes ASCII of names"},

    {.path = "access.operators", .type = PFX_O_ACCOUNT, .offset = AT(operators_group),
     .sample = "pfx-operators", .help = "group that may use every command (default: root only)"},
    {.path = "access.auditors", .type = PFX_O_ACCOUNT, .offset = AT(auditors_group),
     .sample = "pfx-auditors", .help = "group that may see status and lists (default: root only)"},
    {.path = "access.hsm_user", .type = PFX_O_ACCOUNT, .offset = AT(hsm_user),
     .sample = "pfx-hsm", .help = "user of pfx-hsm (default: the daemon's own user)"},
    {.path = "access.uploader_user", .type = PFX_O_ACCOUNT, .offset = AT(uploader_user),
     .sample = "pfx-uploader", .help = "user of pfx-uploader (default: the daemon's own user)"},
};

static void check_organization(struct pfx_conf_reader *reader, const struct pfx_rule_conf *rule)
{
    unsigned line = pfx_reader_line(reader, rule, "rules[].organization");
    bool mailbox = strcmp(rule->product, "secure_email_mailbox") == 0;
    if (mailbox && line > 0)
        pfx_reader_mistake(reader, line, "rules[].organization",
                           "secure_email_mailbox has no organization; expected no such line, or "
                           "another product");
    else if (!mailbox && line == 0)
        pfx_reader_mistake(reader, rule->line, "rules[].organization",
                           "it is missing; expected the organization's id at DigiCert for %s",
                           rule->product);
}

static void finish_common_name(struct pfx_conf_reader *reader, struct pfx_rule_conf *rule)
{
    unsigned line = pfx_reader_line(reader, rule, "rules[].common_name");
    if (strcmp(rule->product, "secure_email_mailbox") == 0) {
        if (line > 0)
            pfx_reader_mistake(reader, line, "rules[].common_name",
                               "secure_email_mailbox has always the address; expected no such "
                               "line, or another product");
    } else if (line == 0) {
        rule->common_name_indicator = pfx_strdup(
            strcmp(rule->product, "secure_email_sponsor") == 0 ? "given_name_surname"
                                                               : "organization_name");
    }
}

/* One record in Intune has one purpose: of a dual certificate one of both, else the purpose. */
static void finish_intune(struct pfx_conf_reader *reader, struct pfx_rule_conf *rule)
{
    unsigned line = pfx_reader_line(reader, rule, "rules[].intune");
    if (rule->purpose != PFX_PURPOSE_DUAL && line > 0)
        pfx_reader_mistake(reader, line, "rules[].intune",
                           "only a rule of purpose dual has a choice; expected no such line, or "
                           "purpose: dual");
    if (line == 0)
        rule->intune = rule->purpose == PFX_PURPOSE_ENCRYPTION ? PFX_PURPOSE_ENCRYPTION
                                                               : PFX_PURPOSE_SIGNING;
}

static void check_unique(struct pfx_conf_reader *reader, const struct pfx_agent_conf *conf,
                         size_t i)
{
    for (size_t j = 0; j < i; j++) {
        if (!conf->rules[j].name || strcmp(conf->rules[j].name, conf->rules[i].name) != 0)
            continue;
        pfx_reader_mistake(reader, pfx_reader_line(reader, &conf->rules[i], "rules[].name"),
                           "rules[].name",
                           "\"%s\" is the name of the rule on line %u already; expected another",
                           conf->rules[i].name, conf->rules[j].line);
        return;
    }
}

/* Fields that hold a mistake are NULL or 0 here. */
static void finish(struct pfx_conf_reader *reader, void *base)
{
    struct pfx_agent_conf *conf = base;
    for (size_t i = 0; i < conf->n_rules; i++) {
        struct pfx_rule_conf *rule = &conf->rules[i];
        rule->line = pfx_reader_line(reader, rule, "rules[]");
        if (rule->name)
            check_unique(reader, conf, i);
        if (rule->product) {
            check_organization(reader, rule);
            finish_common_name(reader, rule);
        }
        finish_intune(reader, rule);
    }
    if (conf->retry_max_ms > 0 && conf->retry_min_ms > conf->retry_max_ms) {
        unsigned max = pfx_reader_line(reader, conf, "schedule.retry_max");
        unsigned min = pfx_reader_line(reader, conf, "schedule.retry_min");
        pfx_reader_mistake(reader, max > 0 ? max : min, "schedule.retry_max",
                           "it is less than schedule.retry_min; expected at least that");
    }
}

const struct pfx_option_table pfx_agent_table = {
    .name = "agent.yaml",
    .about = "What pfx-agentd decides by.",
    .rows = rows,
    .n_rows = sizeof(rows) / sizeof(rows[0]),
    .size = sizeof(struct pfx_agent_conf),
    .finish = finish,
};

pfx_result pfx_agent_conf_load(const char *path, struct pfx_agent_conf **ret_conf,
                               struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_CONF_FILE_MAX);
    void *conf;
    PFX_TRY(pfx_table_load(&pfx_agent_table, path, &text, &conf, err));
    *ret_conf = conf;
    return PFX_OK;
}

void pfx_agent_conf_free(struct pfx_agent_conf *conf)
{
    pfx_table_free(&pfx_agent_table, conf);
}
