/* agent.yaml: defaults, every kind of mistake with its line, and the report of all of them. */
#include "api_test.h"

#include "api/conf/agent_conf.h"
#include "api/conf/option.h"

static const char *folder;
static char *path;
static struct pfx_error err;

static pfx_result load(const char *yaml, struct pfx_agent_conf **ret)
{
    test_write(path, yaml, 0600);
    err = PFX_ERROR_NONE;
    return pfx_agent_conf_load(path, ret, &err);
}

#define GROUP "00000000-0000-4000-8000-00000000000A"
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
                   "  profile_type: multipurpose\n"
                   "  client_auth: true\n"
                   "  payment: balance\n"
                   "-\n"
                   "  {name: b, group: " GROUP ", product: secure_email_organization,\n"
                   "   organization: 7, purpose: dual, validity: 2y}\n"
                   "- name: c\n"
                   "  group: " GROUP "\n"
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
    assert_true(rule[0].client_auth);
    assert_string_equal(rule[0].common_name_indicator, "given_name_surname");
    assert_string_equal(rule[0].payment_method, "balance");
    assert_int_equal(rule[1].years, 2);
    assert_int_equal(rule[1].intune, PFX_PURPOSE_SIGNING);
    assert_string_equal(rule[1].common_name_indicator, "organization_name");
    assert_int_equal(rule[1].line, 17);
    assert_string_equal(rule[2].common_name_indicator, "email_address");
    assert_int_equal(rule[2].intune, PFX_PURPOSE_ENCRYPTION);
    pfx_agent_conf_free(conf);
}

static void mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        unsigned line;
        const char *option, *text;
    } bad[] = {
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
        {RULE "    profile: compat\n", 5, "rules[].profile", "expected modern"},
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
        {RULE "  - name: staff\n    group: " GROUP "\n    product: secure_email_mailbox\n", 5,
         "rules[].name", "the rule on line 2"},

        /* across options */
        {RULE "schedule:\n  retry_max: 1s\n", 6, "schedule.retry_max", "less than"},
        {RULE "schedule:\n  retry_min: 1h\n  retry_max: 59m\n", 7, "schedule.retry_max",
         "less than"},
    };
    size_t right = 0;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct pfx_agent_conf *conf = NULL;
        pfx_result r = load(bad[i].yaml, &conf);
        char *where PFX_AUTOFREE = pfx_asprintf("%s:%u", path, bad[i].line);
        if (r.cls != PFX_CLASS_USAGE || strcmp(err.object, where) != 0 ||
            strcmp(err.code, bad[i].option) != 0 || !strstr(err.text, bad[i].text) ||
            strcmp(err.op, "config") != 0)
            print_error("%s\n gave %s: %s: %s\n not %s: %s: %s\n", bad[i].yaml, err.object,
                        err.code, err.text, where, bad[i].option, bad[i].text);
        else
            right++;
        assert_null(conf);
    }
    assert_int_equal(right, sizeof(bad) / sizeof(bad[0]));
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

static int set_up(void **state)
{
    (void)state;
    folder = test_folder();
    path = pfx_asprintf("%s/agent.yaml", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(path);
    test_remove_folder(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smallest),     cmocka_unit_test(everything), cmocka_unit_test(mistakes),
        cmocka_unit_test(all_mistakes), cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
