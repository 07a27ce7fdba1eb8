#include "api/conf/agent_conf.h"

#include <string.h>

#include "api/conf/product.h"
#include "api/conf/table.h"

#define AT(field) offsetof(struct pfx_agent_conf, field)
#define IN_RULE(field) offsetof(struct pfx_rule_conf, field)
#define IN_FIELD(field) offsetof(struct pfx_field_conf, field)

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
     .choices = PFX_PRODUCTS, .required = true, .sample = "secure_email_mailbox",
     .help = "what is ordered: a product of DigiCert, or internal for a CA of one's own (ca: cmp "
             "in uploader.yaml)"},
    {.path = "rules[].organization", .type = PFX_O_NUMBER, .offset = IN_RULE(organization),
     .min = 1, .max = (int64_t)1 << 52, .sample = "112233",
     .help = "id of the organization at DigiCert; required for secure_email_sponsor, "
             "secure_email_organization and the client_ products, for no other"},
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
     .min = PFX_PROFILE_MODERN, .choices = "modern|compat", .def = "modern",
     .help = "algorithms of the PFX file; users.profiles of hsm-policy.yaml has to allow it"},
    {.path = "rules[].profile_type", .type = PFX_O_WORD, .offset = IN_RULE(profile_type),
     .choices = "strict|multipurpose", .sample = "strict",
     .help = "profile of the S/MIME Baseline Requirements (default strict; the older products are "
             "multipurpose; internal has none)"},
    {.path = "rules[].common_name", .type = PFX_O_WORD, .offset = IN_RULE(common_name_indicator),
     .choices = "email_address|given_name_surname|pseudonym|organization_name",
     .sample = "given_name_surname",
     .help = "what DigiCert makes the common name of, where the product leaves a choice: "
             "email_address or organization_name for secure_email_organization (default "
             "organization_name), given_name_surname, pseudonym or, for secure_email_sponsor, "
             "email_address for a person (default given_name_surname)"},
    {.path = "rules[].client_auth", .type = PFX_O_BOOL, .offset = IN_RULE(client_auth),
     .def = "false", .help = "asks for the key usage client authentication too"},
    {.path = "rules[].non_repudiation", .type = PFX_O_BOOL, .offset = IN_RULE(non_repudiation),
     .def = "false",
     .help = "asks for the key usage non-repudiation too; think twice, the company keeps the key"},
    {.path = "rules[].custom_fields", .type = PFX_O_LIST, .offset = IN_RULE(fields),
     .count_offset = IN_RULE(n_fields), .size = sizeof(struct pfx_field_conf), .min = 1, .max = 16,
     .help = "custom fields of the order, as DigiCert's account has them (default: none)"},
    {.path = "rules[].custom_fields[].id", .type = PFX_O_NUMBER, .offset = IN_FIELD(id), .min = 1,
     .max = (int64_t)1 << 52, .required = true, .sample = "11",
     .help = "DigiCert's metadata_id of the field"},
    {.path = "rules[].custom_fields[].value", .type = PFX_O_TEXT, .offset = IN_FIELD(value),
     .min = 1, .max = 255, .required = true, .sample = "cost centre 4711",
     .help = "what stands in it"},
    {.path = "rules[].comment", .type = PFX_O_TEXT, .offset = IN_RULE(comment), .min = 1,
     .max = 200, .sample = "S/MIME for managed devices",
     .help = "goes into the order's comments, behind the mark by which a lost order is found"},
    {.path = "rules[].renewal", .type = PFX_O_BOOL, .offset = IN_RULE(renewal), .def = "false",
     .help = "tells DigiCert which order is renewed (renewal_of_order_id), where that is known"},
    {.path = "rules[].on_revoked", .type = PFX_O_ENUM, .offset = IN_RULE(on_revoked),
     .min = PFX_REVOKED_TELL, .choices = "tell|remove|enrol_again", .def = "tell",
     .help = "what follows when the CA revoked a delivered certificate: tell only; remove it from "
             "Intune; or enrol again, and remove the old one unless it opens old mail"},
    {.path = "rules[].shared_mailboxes", .type = PFX_O_BOOL, .offset = IN_RULE(shared_mailboxes),
     .def = "false",
     .help = "addresses of the shared mailboxes that the user may open stand in the certificate "
             "too (Exchange Online)"},
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
    {.path = "schedule.sweep_every", .type = PFX_O_DURATION, .offset = AT(sweep_every_ms),
     .min = 100, .max = PFX_DAYS(6), .def = "1d",
     .help = "how often the CA is asked, while no order is pending, whether it revoked a delivered "
             "certificate; its news reach back 7 days"},
    {.path = "schedule.mailboxes_every", .type = PFX_O_DURATION, .offset = AT(mailboxes_every_ms),
     .min = PFX_SECONDS(1), .max = PFX_DAYS(30), .def = "1d",
     .help = "how often shared mailboxes are read, where a rule uses them"},
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

static void check_organization(struct pfx_conf_reader *reader, const struct pfx_rule_conf *rule,
                               const struct pfx_product *product)
{
    unsigned line = pfx_reader_line(reader, rule, "rules[].organization");
    if (product->organization == PFX_NEED_NO && line > 0)
        pfx_reader_mistake(reader, line, "rules[].organization",
                           "%s has no organization; expected no such line, or another product",
                           product->name);
    else if (product->organization == PFX_NEED_MUST && line == 0)
        pfx_reader_mistake(reader, rule->line, "rules[].organization",
                           "it is missing; expected the organization's id at DigiCert for %s",
                           product->name);
}

static void finish_common_name(struct pfx_conf_reader *reader, struct pfx_rule_conf *rule,
                               const struct pfx_product *product)
{
    unsigned line = pfx_reader_line(reader, rule, "rules[].common_name");
    if (product->indicator == PFX_NEED_NO && line > 0)
        pfx_reader_mistake(reader, line, "rules[].common_name",
                           "%s leaves no choice of the common name; expected no such line, or "
                           "another product",
                           product->name);
    else if (line == 0 && product->default_indicator)
        rule->common_name_indicator = pfx_strdup(product->default_indicator);
    else if (line > 0 && rule->common_name_indicator &&
             !pfx_product_allows(product->indicators, rule->common_name_indicator))
        pfx_reader_mistake(reader, line, "rules[].common_name",
                           "%s doesn't take %s; expected one of %s", product->name,
                           rule->common_name_indicator, product->indicators);
}

static void finish_profile_type(struct pfx_conf_reader *reader, struct pfx_rule_conf *rule,
                                const struct pfx_product *product)
{
    unsigned line = pfx_reader_line(reader, rule, "rules[].profile_type");
    if (line == 0 && product->profile_types)
        rule->profile_type = pfx_strndup(product->profile_types,
                                         strcspn(product->profile_types, "|"));
    else if (line > 0 && !product->profile_types)
        pfx_reader_mistake(reader, line, "rules[].profile_type",
                           "%s has no profile type; expected no such line", product->name);
    else if (line > 0 && rule->profile_type &&
             !pfx_product_allows(product->profile_types, rule->profile_type))
        pfx_reader_mistake(reader, line, "rules[].profile_type", "%s is always %s; expected that",
                           product->name, product->profile_types);
}

/* S/MIME Baseline Requirements, 7.1.2.3: a strict certificate is for mail alone, and a key that
 * only decrypts signs nothing. */
static void check_usages(struct pfx_conf_reader *reader, const struct pfx_rule_conf *rule)
{
    if (rule->client_auth && rule->profile_type && strcmp(rule->profile_type, "strict") == 0)
        pfx_reader_mistake(reader, pfx_reader_line(reader, rule, "rules[].client_auth"),
                           "rules[].client_auth",
                           "a certificate of the profile strict is for mail alone; expected "
                           "profile_type: multipurpose in this rule, or client_auth: false");
    if (rule->non_repudiation && rule->purpose == PFX_PURPOSE_ENCRYPTION)
        pfx_reader_mistake(reader, pfx_reader_line(reader, rule, "rules[].non_repudiation"),
                           "rules[].non_repudiation",
                           "a certificate for encryption signs nothing; expected false, or another "
                           "purpose");
}

/* What only DigiCert's orders have. */
static void check_order(struct pfx_conf_reader *reader, const struct pfx_rule_conf *rule,
                        const struct pfx_product *product)
{
    const struct {
        const char *path;
        bool harmless; /* it says no, as the example file does */
    } only[] = {
        {"rules[].custom_fields", false},
        {"rules[].comment", false},
        {"rules[].payment", false},
        {"rules[].renewal", !rule->renewal},
        {"rules[].client_auth", !rule->client_auth},
        {"rules[].non_repudiation", !rule->non_repudiation},
    };
    if (strcmp(product->ca, "digicert") == 0)
        return;
    for (size_t i = 0; i < sizeof(only) / sizeof(only[0]); i++) {
        unsigned line = pfx_reader_line(reader, rule, only[i].path);
        if (line > 0 && !only[i].harmless)
            pfx_reader_mistake(reader, line, only[i].path,
                               "%s isn't ordered at DigiCert; expected no such line, or another "
                               "product",
                               product->name);
    }
}

static void check_fields(struct pfx_conf_reader *reader, const struct pfx_rule_conf *rule)
{
    for (size_t i = 1; i < rule->n_fields; i++) {
        for (size_t j = 0; j < i; j++) {
            if (rule->fields[i].id == 0 || rule->fields[j].id != rule->fields[i].id)
                continue;
            pfx_reader_mistake(
                reader, pfx_reader_line(reader, &rule->fields[i], "rules[].custom_fields[].id"),
                "rules[].custom_fields[].id",
                "%lld stands on line %u already; expected each field once",
                (long long)rule->fields[i].id,
                pfx_reader_line(reader, &rule->fields[j], "rules[].custom_fields[].id"));
            break;
        }
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

/* Of two rules for one group and Intune purpose the second would never hold: not what was meant. */
static void check_group(struct pfx_conf_reader *reader, const struct pfx_agent_conf *conf, size_t i)
{
    const struct pfx_rule_conf *rule = &conf->rules[i];
    for (size_t j = 0; j < i; j++) {
        const struct pfx_rule_conf *other = &conf->rules[j];
        if (!other->group || strcmp(other->group, rule->group) != 0 ||
            other->intune != rule->intune)
            continue;
        pfx_reader_mistake(reader, pfx_reader_line(reader, rule, "rules[].group"), "rules[].group",
                           "the rule on line %u has this group and Intune's purpose %s already, so "
                           "that this one would never hold; expected another group, another "
                           "purpose (intune), or one rule",
                           other->line, pfx_purpose_name(rule->intune));
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
        const struct pfx_product *product = rule->product ? pfx_product_find(rule->product) : NULL;
        if (product) {
            check_organization(reader, rule, product);
            finish_common_name(reader, rule, product);
            finish_profile_type(reader, rule, product);
            check_order(reader, rule, product);
        }
        check_usages(reader, rule);
        check_fields(reader, rule);
        finish_intune(reader, rule);
        if (rule->group)
            check_group(reader, conf, i);
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
