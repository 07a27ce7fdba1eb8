/* agent.yaml: defaults, every kind of mistake with its line, and the report of all of them. */
#include "conf_test.h"

#include "api/conf/agent_conf.h"
#include "api/conf/option.h"

static pfx_result load(const char *yaml, struct pfx_agent_conf **ret)
{
    test_write(path, yaml, 0600);
    err = PFX_ERROR_NONE;
    return pfx_agent_conf_load(path, ret, &err);
}

#define GROUP "00000000-0000-4000-8000-00000000000A"
#define OTHER "00000000-0000-4000-8000-00000000000B"
#define RULE "rules:\n  - name: staff\n    group: " GROUP "\n    product: secure_email_mailbox\n"

static void smallest(void **state)
{
    (void)state;
    struct pfx_agent_conf *conf = NULL;
    assert_ok(load(RULE, &conf), &err);
    assert_string_equal(conf->state_dir, "/var/lib/pfx-agent");
    assert_string_equal(conf->run_dir, "/run/pfx-agent");
    assert_int_equal(conf->n_rules, 1);
    const struct pfx_rule_conf *rule = &conf->rules[0];
    assert_string_equal(rule->name, "staff");
    assert_string_equal(rule->group, "00000000-0000-4000-8000-00000000000a");
    assert_int_equal(rule->organization, 0);
    assert_int_equal(rule->purpose, PFX_PURPOSE_SIGNING);
    assert_int_equal(rule->intune, PFX_PURPOSE_SIGNING);
    assert_int_equal(rule->years, 1);
    assert_int_equal(rule->days, 0);
    assert_int_equal(rule->key_type, PFX_KEY_RSA_2048);
    assert_int_equal(rule->profile, PFX_PROFILE_MODERN);
    assert_string_equal(rule->profile_type, "strict");
    assert_null(rule->common_name_indicator);
    assert_null(rule->payment_method);
    assert_false(rule->client_auth);
    assert_int_equal(rule->line, 2);
    assert_int_equal(conf->renew_before_ms, 30LL * 86400000);
    assert_int_equal(conf->max_orders_per_pass, 50);
    assert_int_equal(conf->max_orders_per_day, 200);
    assert_int_equal(conf->pass_every_ms, 6 * 3600000);
    assert_int_equal(conf->records_every_ms, 86400000);
    assert_int_equal(conf->poll_every_ms, 300000);
    assert_int_equal(conf->validation_every_ms, 1800000);
    assert_int_equal(conf->settle_grace_ms, 900000);
    assert_int_equal(conf->retry_min_ms, 5000);
    assert_int_equal(conf->retry_max_ms, 3600000);
    assert_int_equal(conf->reorder_after_ms, 7 * 86400000);
    assert_string_equal(conf->transliteration, "Any-Latin; de-ASCII; Latin-ASCII");
    assert_null(conf->operators_group);
    pfx_agent_conf_free(conf);
}

static void everything(void **state)
{
    (void)state;
    struct pfx_agent_conf *conf = NULL;
    assert_ok(load("# comment\n"
                   "state_dir: /srv/pfx/\n"
                   "schedule: {pass_every: never, poll_every: 500ms, retry_min: 100ms}\n"
                   "rules:\n"
                   "- name: a\n"
                   "  group: " GROUP "\n"
                   "  product: \"secure_email_sponsor\"\n"
                   "  organization: 112233\n"
                   "  purpose: dual\n"
                   "  intune: encryption\n"
                   "  validity: 824d\n"
                   "  key: ec-p384\n"
                   "  profile: compat\n"
                   "  profile_type: multipurpose\n"
                   "  client_auth: true\n"
                   "  payment: balance\n"
                   "-\n"
                   "  {name: b, group: " GROUP ", product: secure_email_organization,\n"
                   "   organization: 7, purpose: dual, validity: 2y}\n"
                   "- name: c\n"
                   "  group: " OTHER "\n"
                   "  product: secure_email_organization\n"
                   "  organization: 7\n"
                   "  purpose: encryption\n"
                   "  common_name: email_address\n"
                   "access:\n"
                   "names:\n"
                   "  transliteration: 'Any-Latin; Latin-ASCII'\n",
                   &conf),
              &err);
    assert_string_equal(conf->state_dir, "/srv/pfx");
    assert_int_equal(conf->pass_every_ms, 0);
    assert_int_equal(conf->poll_every_ms, 500);
    assert_int_equal(conf->n_rules, 3);
    const struct pfx_rule_conf *rule = conf->rules;
    assert_int_equal(rule[0].organization, 112233);
    assert_int_equal(rule[0].intune, PFX_PURPOSE_ENCRYPTION);
    assert_int_equal(rule[0].years, 0);
    assert_int_equal(rule[0].days, 824);
    assert_int_equal(rule[0].key_type, PFX_KEY_EC_P384);
    assert_int_equal(rule[0].profile, PFX_PROFILE_COMPAT);
    assert_int_equal(rule[1].profile, PFX_PROFILE_MODERN);
    assert_true(rule[0].client_auth);
    assert_string_equal(rule[0].common_name_indicator, "given_name_surname");
    assert_string_equal(rule[0].payment_method, "balance");
    assert_int_equal(rule[1].years, 2);
    assert_int_equal(rule[1].intune, PFX_PURPOSE_SIGNING);
    assert_string_equal(rule[1].common_name_indicator, "organization_name");
    assert_int_equal(rule[1].line, 18);
    assert_string_equal(rule[2].common_name_indicator, "email_address");
    assert_int_equal(rule[2].intune, PFX_PURPOSE_ENCRYPTION);
    pfx_agent_conf_free(conf);
}

/* Products, and what an order says besides: a list within a list. */
static void orders(void **state)
{
    (void)state;
    struct pfx_agent_conf *conf = NULL;
    assert_ok(load("rules:\n"
                   "- name: a\n"
                   "  group: " GROUP "\n"
                   "  product: client_premium\n"
                   "  organization: 7\n"
                   "  custom_fields:\n"
                   "  - id: 11\n"
                   "    value: cost centre 4711\n"
                   "  - {value: \"x: \\\"y\\\"\", id: 12}\n"
                   "  comment: 'S/MIME for all'\n"
                   "  renewal: true\n"
                   "  client_auth: true\n"
                   "  non_repudiation: true\n"
                   "  on_revoked: enrol_again\n"
                   "- {name: b, group: " OTHER ", product: class1_smime}\n"
                   "- {name: c, group: " OTHER ", product: client_authentication_plus,\n"
                   "   organization: 7, purpose: encryption, profile_type: strict}\n"
                   "- {name: d, group: " GROUP ", product: internal, purpose: encryption,\n"
                   "   on_revoked: remove, shared_mailboxes: true, client_auth: false,\n"
                   "   non_repudiation: false, renewal: false}\n"
                   "- {name: e, group: 00000000-0000-4000-8000-00000000000C,\n"
                   "   product: secure_email_sponsor, organization: 7, common_name: pseudonym}\n",
                   &conf),
              &err);
    const struct pfx_rule_conf *rule = conf->rules;
    assert_int_equal(rule[0].n_fields, 2);
    assert_int_equal(rule[0].fields[0].id, 11);
    assert_string_equal(rule[0].fields[0].value, "cost centre 4711");
    assert_int_equal(rule[0].fields[1].id, 12);
    assert_string_equal(rule[0].fields[1].value, "x: \"y\"");
    assert_string_equal(rule[0].comment, "S/MIME for all");
    assert_true(rule[0].renewal && rule[0].client_auth && rule[0].non_repudiation);
    assert_int_equal(rule[0].on_revoked, PFX_REVOKED_ENROL_AGAIN);
    assert_string_equal(rule[0].profile_type, "multipurpose");
    assert_string_equal(rule[0].common_name_indicator, "given_name_surname");
    assert_string_equal(rule[1].profile_type, "multipurpose");
    assert_null(rule[1].common_name_indicator);
    assert_int_equal(rule[1].n_fields, 0);
    assert_null(rule[1].fields);
    assert_null(rule[1].comment);
    assert_false(rule[1].renewal || rule[1].non_repudiation || rule[1].shared_mailboxes);
    assert_int_equal(rule[1].on_revoked, PFX_REVOKED_TELL);
    assert_string_equal(rule[2].profile_type, "strict");
    assert_null(rule[2].common_name_indicator);
    assert_null(rule[3].profile_type);
    assert_int_equal(rule[3].on_revoked, PFX_REVOKED_REMOVE);
    assert_true(rule[3].shared_mailboxes);
    assert_string_equal(rule[4].common_name_indicator, "pseudonym");
    pfx_agent_conf_free(conf);
}

/* What is printed is taken, as it stands and with each option in force. */
static void example(void **state)
{
    (void)state;
    struct pfx_agent_conf *conf = NULL;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1 << 20);
    struct pfx_buf report PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
    pfx_conf_example(PFX_CONF_AGENT, &text);
    test_write(path, pfx_buf_str(&text), 0600);
    assert_int_equal(pfx_conf_check(PFX_CONF_AGENT, path, &report), 0);
    assert_ok(load(pfx_buf_str(&text), &conf), &err);
    assert_int_equal(conf->n_rules, 1);
    assert_int_equal(conf->rules[0].n_fields, 0); /* a sample must not go into orders */
    pfx_agent_conf_free(conf);
    conf = NULL;
    /* "# name: value" and "# - name: value" become live; a comment isn't of that form. */
    char *s PFX_AUTOFREE = pfx_strdup(pfx_buf_str(&text));
    struct pfx_buf live PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1 << 20);
    for (char *line = s, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = 0;
        char *at = line + strspn(line, " ");
        size_t name = 0;
        if (strncmp(at, "# ", 2) == 0)
            name = strspn(at + 2, "- abcdefghijklmnopqrstuvwxyz_");
        char *colon = at + 2 + name;
        bool option = name > 0 && *colon == ':' && !memchr(at + 4, ' ', name - 2);
        pfx_buf_addf(&live, "%.*s%s\n", (int)(at - line), line, option ? at + 2 : at);
    }
    /* For the product of the sample some of them don't fit; all others do. */
    pfx_buf_reset(&report);
    test_write(path, pfx_buf_str(&live), 0600);
    (void)pfx_conf_check(PFX_CONF_AGENT, path, &report);
    static const char *const unfit[] = {"rules[].organization", "rules[].common_name",
                                        "rules[].intune"};
    char *lines PFX_AUTOFREE = pfx_strdup(pfx_buf_str(&report));
    size_t n = 0;
    for (char *line = lines, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, n++) {
        *end = 0;
        if (n >= 3 || !strstr(line, unfit[n]))
            fail_msg("%s", line);
    }
    assert_int_equal(n, 3);
}

static pfx_result load_bad(const char *yaml)
{
    struct pfx_agent_conf *conf = NULL;
    pfx_result r = load(yaml, &conf);
    assert_null(conf);
    return r;
}

static void mistakes(void **state)
{
    (void)state;
    static const struct mistake bad[] = {
        /* not what a file is */
        {"", 1, "rules", "missing"},
        {"# nothing\n", 1, "rules", "missing"},
        {"just text\n", 1, "", "isn't a map"},
        {"- a\n", 1, "", "isn't a map"},
        {RULE "\tx: 1\n", 5, "", "never tabs"},
        {RULE "access:\n\toperators: x\n", 6, "", "never tabs"},
        {RULE "state_dir: \"/a\n", 6, "", "not YAML"},
        {RULE "state_dir: [\n", 6, "", "not YAML"},
        {RULE "  bad indent: x\n: y\n", 5, "", "not YAML"},
        {RULE "state_dir: /a\xFF\n", 5, "", "not YAML"},
        {RULE "# a bell: \x07\n", 5, "", "not YAML"},
        {"%YAML 1.1\n---\n" RULE, 1, "", "directive"},
        {RULE "---\nstate_dir: /a\n", 6, "", "second document"},
        {RULE "...\n---\na: b\n", 7, "", "second document"},
        {"a: &x 1\n", 1, "", "anchor"},
        {RULE "names:\n  transliteration: *x\n", 6, "", "alias"},
        {"state_dir: !!str /a\n", 1, "", "tag"},
        {"state_dir: !x /a\n", 1, "", "tag"},
        {RULE "<<: {state_dir: /a}\n", 5, "<<", "merge keys"},
        {RULE "[a]: b\n", 5, "", "isn't a plain name"},
        {RULE "? {a: b}\n: c\n", 5, "", "isn't a plain name"},
        {RULE "\"a\\0b\": b\n", 5, "", "isn't a plain name"},

        /* names */
        {RULE "\nrenew_befor: 30d\n", 6, "renew_befor", "did you mean renew_before?"},
        {RULE "Renew_before: 30d\n", 5, "Renew_before", "did you mean renew_before?"},
        {RULE "pass_every: 6h\n", 5, "pass_every", "did you mean schedule.pass_every?"},
        {RULE "shedule:\n  pass_every: 6h\n", 5, "shedule", "did you mean schedule?"},
        {RULE "schedule:\n  pol_every: 5m\n", 6, "schedule.pol_every",
         "did you mean schedule.poll_every?"},
        {RULE "    grup: x\n", 5, "rules[].grup", "did you mean rules[].group?"},
        {RULE "zzzzzzzzzzzz: 1\n", 5, "zzzzzzzzzzzz", "config example"},
        {RULE "schedule.pass_every: 6h\n", 5, "schedule.pass_every", "nested"},
        {RULE "rules[]: x\n", 5, "rules[]", "nested"},
        {RULE "state_dir: /a\n\nstate_dir: /b\n", 7, "state_dir", "first one is on line 5"},
        {RULE "schedule:\n  poll_every: 5m\nschedule:\n  poll_every: 6m\n", 7, "schedule",
         "line 5"},
        {RULE "    name: again\n", 5, "rules[].name", "line 2"},
        {RULE "schedule: 5m\n", 5, "schedule", "it is a section"},
        {RULE "schedule: [5m]\n", 5, "schedule", "it is a section"},

        /* values */
        {RULE "state_dir:\n", 5, "state_dir", "no value (leave the line out"},
        {RULE "state_dir: ~\n", 5, "state_dir", "no value"},
        {RULE "state_dir: null\n", 5, "state_dir", "no value"},
        {RULE "state_dir: var/lib\n", 5, "state_dir", "\"var/lib\" isn't right; expected an abs"},
        {RULE "state_dir: /var/../etc\n", 5, "state_dir", ".."},
        {RULE "state_dir: [/a]\n", 5, "state_dir", "single value"},
        {RULE "state_dir: \"/a\\n\"\n", 5, "state_dir", "control character"},
        {RULE "state_dir: |\n  /a\n", 5, "state_dir", "control character or line feed"},
        {RULE "renew_before: 30\n", 5, "renew_before", "unit is missing"},
        {RULE "renew_before: 30 d\n", 5, "renew_before", "from 1d to 365d"},
        {RULE "renew_before: 0d\n", 5, "renew_before", "from 1d"},
        {RULE "renew_before: 366d\n", 5, "renew_before", "to 365d"},
        {RULE "renew_before: 1.5d\n", 5, "renew_before", "duration"},
        {RULE "renew_before: -1d\n", 5, "renew_before", "duration"},
        {RULE "renew_before: never\n", 5, "renew_before", "duration"},
        {RULE "renew_before: 99999999999999999d\n", 5, "renew_before", "duration"},
        {RULE "max_orders_per_pass: 0x10\n", 5, "max_orders_per_pass", "decimal"},
        {RULE "max_orders_per_pass: 010\n", 5, "max_orders_per_pass", "decimal"},
        {RULE "max_orders_per_pass: 0o10\n", 5, "max_orders_per_pass", "decimal"},
        {RULE "max_orders_per_pass: 1_000\n", 5, "max_orders_per_pass", "decimal"},
        {RULE "max_orders_per_pass: 1e3\n", 5, "max_orders_per_pass", "decimal"},
        {RULE "max_orders_per_pass: +5\n", 5, "max_orders_per_pass", "decimal"},
        {RULE "max_orders_per_pass: -5\n", 5, "max_orders_per_pass", "decimal"},
        {RULE "max_orders_per_pass: \"50\"\n", 5, "max_orders_per_pass", "quotes"},
        {RULE "max_orders_per_pass: 1000001\n", 5, "max_orders_per_pass", "to 1000000"},
        {RULE "    client_auth: yes\n", 5, "rules[].client_auth", "only true and false"},
        {RULE "    client_auth: Off\n", 5, "rules[].client_auth", "only true and false"},
        {RULE "    client_auth: True\n", 5, "rules[].client_auth", "only true and false"},
        {RULE "    client_auth: \"true\"\n", 5, "rules[].client_auth", "quotes"},
        {RULE "    client_auth: 1\n", 5, "rules[].client_auth", "true or false"},
        {RULE "    purpose: sign\n", 5, "rules[].purpose", "signing, encryption or dual"},
        {RULE "    key: rsa-1024\n", 5, "rules[].key", "rsa-2048, "},
        {RULE "    profile: legacy\n", 5, "rules[].profile", "expected modern or compat"},
        {RULE "    validity: 3y\n", 5, "rules[].validity", "1d to 824d"},
        {RULE "    validity: 825d\n", 5, "rules[].validity", "1d to 824d"},
        {RULE "    validity: 1\n", 5, "rules[].validity", "1y, 2y"},
        {RULE "access:\n  operators: -x\n", 6, "access.operators", "user or group"},
        {RULE "run_dir: /12345678901234567890123456789012345678901234567890123456789012345678"
              "9012345678901234567890\n",
         5, "run_dir", "at most 90"},

        /* rules */
        {"rules: []\n", 1, "rules", "too few"},
        {"rules: {}\n", 1, "rules", "isn't a list"},
        {"rules:\n  name: x\n", 2, "rules", "isn't a list"},
        {"rules:\n  - x\n", 2, "rules[]", "isn't a map"},
        {"rules:\n  - name: a\n    group: " GROUP "\n", 2, "rules[].product", "is missing"},
        {"rules:\n  - name: A\n", 2, "rules[].name", "a-z"},
        {"rules:\n  - name: a\n    group: 1234\n", 3, "rules[].group", "GUID"},
        {RULE "    organization: 5\n", 5, "rules[].organization", "no organization"},
        {"rules:\n\n  - name: a\n    group: " GROUP "\n    product: secure_email_sponsor\n", 3,
         "rules[].organization", "is missing"},
        {RULE "    intune: signing\n", 5, "rules[].intune", "purpose dual"},
        {RULE "    purpose: dual\n    intune: both\n", 6, "rules[].intune", "signing or encryption"},
        {RULE "    common_name: pseudonym\n", 5, "rules[].common_name", "mailbox"},
        {RULE "  - name: staff\n    group: " OTHER "\n    product: secure_email_mailbox\n", 5,
         "rules[].name", "the rule on line 2"},
        {RULE "  - name: b\n    group: " GROUP "\n    product: class1_smime\n", 6, "rules[].group",
         "the rule on line 2"},
        {RULE "    purpose: dual\n  - name: b\n    group: " GROUP "\n    product: class1_smime\n",
         7, "rules[].group", "purpose signing already"},

        /* products, and what their orders take */
        {"rules:\n- {name: a, group: " GROUP ", product: class1_smime, organization: 1}\n", 2,
         "rules[].organization", "class1_smime has no organization"},
        {"rules:\n- {name: a, group: " GROUP ", product: client_premium}\n", 2,
         "rules[].organization", "is missing"},
        {"rules:\n- {name: a, group: " GROUP ", product: client_authentication_plus}\n", 2,
         "rules[].organization", "is missing"},
        {"rules:\n- {name: a, group: " GROUP ", product: class1_smime,\n"
         "   common_name: pseudonym}\n", 3, "rules[].common_name", "no choice"},
        {"rules:\n- {name: a, group: " GROUP ", product: client_premium, organization: 1,\n"
         "   common_name: email_address}\n", 3, "rules[].common_name",
         "expected one of given_name_surname|pseudonym"},
        {"rules:\n- {name: a, group: " GROUP ", product: secure_email_sponsor, organization: 1,\n"
         "   common_name: organization_name}\n", 3, "rules[].common_name", "doesn't take"},
        {"rules:\n- {name: a, group: " GROUP ", product: secure_email_organization,\n"
         "   organization: 1, common_name: pseudonym}\n", 3, "rules[].common_name", "doesn't take"},
        {"rules:\n- {name: a, group: " GROUP ", product: client_email_security_plus,\n"
         "   organization: 1, profile_type: strict}\n", 3, "rules[].profile_type",
         "always multipurpose"},
        {"rules:\n- {name: a, group: " GROUP ", product: internal,\n   profile_type: strict}\n", 3,
         "rules[].profile_type", "no profile type"},
        {"rules:\n- {name: a, group: " GROUP ", product: internal,\n   payment: balance}\n", 3,
         "rules[].payment", "isn't ordered at DigiCert"},
        {"rules:\n- {name: a, group: " GROUP ", product: internal,\n   client_auth: true}\n", 3,
         "rules[].client_auth", "isn't ordered at DigiCert"},
        {"rules:\n- {name: a, group: " GROUP ", product: internal,\n"
         "   custom_fields: [{id: 1, value: x}]}\n", 3, "rules[].custom_fields", "isn't ordered"},
        {RULE "    client_auth: true\n", 5, "rules[].client_auth", "profile_type: multipurpose"},
        {RULE "    purpose: encryption\n    non_repudiation: true\n", 6, "rules[].non_repudiation",
         "signs nothing"},
        {RULE "    custom_fields:\n", 5, "rules[].custom_fields", "no value"},
        {RULE "    custom_fields: []\n", 5, "rules[].custom_fields", "too few"},
        {RULE "    custom_fields: 11\n", 5, "rules[].custom_fields", "isn't a list"},
        {RULE "    custom_fields:\n    - 11\n", 6, "rules[].custom_fields[]", "isn't a map"},
        {RULE "    custom_fields:\n    - id: 11\n", 6, "rules[].custom_fields[].value",
         "is missing"},
        {RULE "    custom_fields:\n    - id: x\n      value: y\n", 6, "rules[].custom_fields[].id",
         "decimal"},
        {RULE "    custom_fields:\n    - id: 1\n      value: \"\"\n", 7,
         "rules[].custom_fields[].value", "1 to 255"},
        {RULE "    custom_fields:\n    - id: 1\n      vale: y\n", 7, "rules[].custom_fields[].vale",
         "did you mean rules[].custom_fields[].value?"},
        {RULE "    custom_fields:\n    - {id: 1, value: x}\n    - {id: 1, value: y}\n", 7,
         "rules[].custom_fields[].id", "line 6 already"},
        {RULE "    comment: \"a\\nb\"\n", 5, "rules[].comment", "control character"},
        {RULE "    on_revoked: forget\n", 5, "rules[].on_revoked", "tell, remove or enrol_again"},

        /* across options */
        {RULE "schedule:\n  retry_max: 1s\n", 6, "schedule.retry_max", "less than"},
        {RULE "schedule:\n  retry_min: 1h\n  retry_max: 59m\n", 7, "schedule.retry_max",
         "less than"},
    };
    assert_told(bad, sizeof(bad) / sizeof(bad[0]), load_bad);
}

static void all_mistakes(void **state)
{
    (void)state;
    struct pfx_buf report PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(65536);
    test_write(path, "state_dir: x\nbogus: 1\nrules:\n  - name: a\n    purpose: b\n  - nam: a\n",
               0600);
    assert_int_equal(pfx_conf_check(PFX_CONF_AGENT, path, &report), 9);
    char *lines PFX_AUTOFREE = pfx_strdup(pfx_buf_str(&report));
    static const char *const expected[] = {":1: state_dir: ",     ":2: bogus: ",
                                           ":5: rules[].purpose", ":4: rules[].group",
                                           ":4: rules[].product", ":6: rules[].nam: ",
                                           ":6: rules[].name",    ":6: rules[].group",
                                           ":6: rules[].product"};
    size_t n = 0;
    for (char *line = lines, *end; *line; line = end + 1, n++) {
        end = strchr(line, '\n');
        assert_non_null(end);
        *end = 0;
        assert_memory_equal(line, path, strlen(path));
        assert_has(line, expected[n]);
    }
    assert_int_equal(n, 9);
    pfx_buf_reset(&report);
    test_write(path, RULE, 0600);
    assert_int_equal(pfx_conf_check(PFX_CONF_AGENT, path, &report), 0);
    assert_int_equal(report.len, 0);
    char *missing PFX_AUTOFREE = pfx_asprintf("%s/none", folder);
    assert_int_equal(pfx_conf_check(PFX_CONF_AGENT, missing, &report), 1);
    assert_has(pfx_buf_str(&report), "No such file");
}

/* A file that grows when it is read, or is nested without end, is a mistake and no more. */
static void hostile(void **state)
{
    (void)state;
    struct pfx_agent_conf *conf = NULL;
    size_t n = 20000;
    char *deep PFX_AUTOFREE = pfx_alloc(n + 1);
    memset(deep, '[', n);
    assert_class(load(deep, &conf), PFX_CLASS_USAGE, &err);
    memset(deep, '-', n);
    for (size_t i = 1; i < n; i += 2)
        deep[i] = ' ';
    assert_class(load(deep, &conf), PFX_CLASS_USAGE, &err);
    size_t large = 1024 * 1024 + 1;
    char *text PFX_AUTOFREE = pfx_alloc(large + 1);
    memset(text, '#', large);
    assert_class(load(text, &conf), PFX_CLASS_USAGE, &err);
    assert_has(err.text, "longer than");
    assert_class(load("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", &conf), PFX_CLASS_USAGE, &err);
    /* Each byte cut: never a crash. */
    char rule[] = RULE "schedule: {poll_every: 5m}\n";
    for (size_t len = strlen(rule); len-- > 0;) {
        rule[len] = 0;
        conf = NULL;
        pfx_result r = load(rule, &conf);
        assert_true(pfx_ok(r) == (conf != NULL));
        pfx_agent_conf_free(conf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest),     cmocka_unit_test(everything), cmocka_unit_test(orders),
        cmocka_unit_test(example),      cmocka_unit_test(mistakes),
        cmocka_unit_test(all_mistakes), cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
