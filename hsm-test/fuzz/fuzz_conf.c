/*
 * The three configuration files. The first line says which: agent, uploader or policy; the rest is
 * the file. What is refused is said by line; what is taken is within its option's bounds.
 */
#include <ctype.h>
#include <stdio.h>

#include "agent/audit/policy.h"
#include "api/conf/agent_conf.h"
#include "api/conf/hsm_policy.h"
#include "api/conf/option.h"
#include "api/conf/pins.h"
#include "api/conf/table.h"
#include "api/conf/uploader_conf.h"
#include "fuzz.h"

#define REPORT ((size_t)4 * 1024 * 1024)

/* The loaders read their file from here. */
static struct pfx_bytes on_disk;

/* Each line: "file:line: ...", a line that the file has, nothing that a terminal would obey. */
static void must_report(struct pfx_bytes report, size_t n, size_t n_lines)
{
    size_t seen = 0;
    must(pfx_utf8_valid((const char *)report.data, report.len));
    while (report.len > 0) {
        PFX_AUTOFREE char *text = text_of(take_until(&report, '\n'));
        unsigned line = 0;
        must(sscanf(text, "f:%u: ", &line) == 1 || strncmp(text, "f: ", 3) == 0);
        must(line <= n_lines + 1);
        for (const char *c = text; *c; c++)
            must(!iscntrl((unsigned char)*c));
        seen++;
    }
    must(seen == n);
}

static void must_be_host(const char *url, bool plain)
{
    must(!url || strncmp(url, "https://", 8) == 0 || (plain && strncmp(url, "http://", 7) == 0));
    must(!url || (!strchr(url, '@') && !strpbrk(url, " \t\"")));
    char host[PFX_HOST_SIZE];
    must(!url || pfx_conf_host(url, host)[0] != '\0');
}

static void try_uploader(const struct pfx_uploader_conf *conf)
{
    must_be_host(conf->digicert_url, false);
    must_be_host(conf->graph_url, false);
    must_be_host(conf->exchange_url, false);
    must_be_host(conf->login_url, false);
    must_be_host(conf->cmp_url, false);
    must_be_host(conf->proxy, true);
    must(conf->in_flight > 0 && conf->max_body > 0 && strlen(conf->tenant) == 36);
    must(conf->ca != PFX_CA_CMP || (conf->cmp_url && conf->cmp_ca_cert));
    for (size_t i = 0; i < conf->n_pins; i++)
        must(strncmp(conf->pins[i].keys, "sha256//", 8) == 0);
}

static void try_policy(const struct pfx_hsm_policy *policy)
{
    must(policy->host_id && policy->ca_roots && policy->state_dir && policy->log_dir);
    must_be_host(policy->login_url, false);
    must(policy->roles[PFX_ROLE_ENCRYPTION].pin_file == NULL);
    for (size_t i = 0; i < PFX_ROLE_COUNT; i++) {
        const struct pfx_role_conf *role = &policy->roles[i];
        must(role->module[0] == '/' && strncmp(role->uri, "pkcs11:", 7) == 0);
        must(!strcasestr(role->uri, "pin-value") && !strcasestr(role->uri, "pin-source"));
    }
    must(policy->sessions >= 1 && policy->sessions <= 32);
    must(policy->log_keep_days == 0 || policy->log_keep_days >= 730);
}

/* What pfx-audit's own reader is sure of is what the policy says. */
static void try_reader(const struct pfx_hsm_policy *policy)
{
    struct pfx_policy_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    pfx_policy_read(on_disk, facts);
    must(facts->read || (facts->mode == 0 && facts->needed == 0 && facts->n_connectors == 0));
    if (!facts->read || !policy)
        return;
    must(facts->mode == (policy->approvals == PFX_APPROVALS_SSH   ? PFX_POLICY_SSH
                         : policy->approvals == PFX_APPROVALS_UID ? PFX_POLICY_UID
                                                                  : PFX_POLICY_NO_APPROVALS));
    must(facts->needed == (facts->mode == PFX_POLICY_NO_APPROVALS ? 0 : policy->approvers));
    must(facts->n_connectors == policy->n_connectors);
    for (size_t i = 0; i < facts->n_connectors; i++)
        must(strcmp(facts->connectors[i], policy->connectors[i].name) == 0);
}

static void try_agent(const struct pfx_agent_conf *conf)
{
    must(conf->state_dir[0] == '/' && conf->run_dir[0] == '/' && conf->transliteration);
    must(conf->retry_min_ms <= conf->retry_max_ms);
    for (size_t i = 0; i < conf->n_rules; i++) {
        const struct pfx_rule_conf *rule = &conf->rules[i];
        must(rule->name && strlen(rule->group) == 36 && rule->product);
        must((rule->years > 0) != (rule->days > 0) && rule->days <= 824);
        for (size_t k = 0; k < i; k++)
            must(strcmp(conf->rules[k].name, rule->name) != 0);
    }
}

static size_t try_file(size_t which, struct pfx_bytes text)
{
    static const struct pfx_option_table *const tables[] = {&pfx_agent_table, &pfx_uploader_table,
                                                            &pfx_policy_table};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf report = pfx_buf_make(REPORT);
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_conf_reader *reader = pfx_reader_new("f", &report, &err);
    void *conf = pfx_reader_fill(reader, tables[which], text);
    size_t mistakes = pfx_reader_mistakes(reader);
    pfx_reader_free(reader);
    size_t n_lines = 1; /* at most: U+0085, U+2028 and U+2029 end one, too */
    for (size_t i = 0; i < text.len; i++)
        n_lines += text.data[i] == '\n' || text.data[i] == '\r' || text.data[i] >= 0x80;
    must(!report.over);
    must_report(pfx_buf_bytes(&report), mistakes, n_lines);
    if (mistakes > 0) {
        must(err.cls == PFX_CLASS_USAGE);
        must_say(&err);
    }
    pfx_table_free(tables[which], conf);
    return mistakes;
}

pfx_result __wrap_pfx_file_read(const char *path, size_t max, struct pfx_buf *out,
                                struct pfx_error *err);
pfx_result __wrap_pfx_file_read(const char *path, size_t max, struct pfx_buf *out,
                                struct pfx_error *err)
{
    (void)max;
    (void)err;
    must(strcmp(path, "f") == 0 && pfx_buf_add(out, on_disk.data, on_disk.len));
    return PFX_OK;
}

pfx_result __wrap_pfx_file_read_trusted(const char *path, size_t max, struct pfx_buf *out,
                                        struct pfx_error *err);
pfx_result __wrap_pfx_file_read_trusted(const char *path, size_t max, struct pfx_buf *out,
                                        struct pfx_error *err)
{
    return __wrap_pfx_file_read(path, max, out, err);
}

/* What a program does with the file. */
static bool loads(size_t which)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_agent_conf *agent = NULL;
    struct pfx_uploader_conf *uploader = NULL;
    struct pfx_hsm_policy *policy = NULL;
    pfx_result r = which == 0   ? pfx_agent_conf_load("f", &agent, &err)
                   : which == 1 ? pfx_uploader_conf_load("f", &uploader, &err)
                                : pfx_hsm_policy_load("f", &policy, &err);
    must(pfx_ok(r) == (agent || uploader || policy));
    if (which == 2) { /* as it stands in pfx-hsm's state folder */
        struct pfx_hsm_policy *kept = NULL;
        struct pfx_error why = PFX_ERROR_NONE;
        must(pfx_ok(pfx_hsm_policy_parse("f", on_disk, &kept, &why)) == (policy != NULL));
        pfx_hsm_policy_free(kept);
    }
    if (agent)
        try_agent(agent);
    if (uploader)
        try_uploader(uploader);
    if (which == 2)
        try_reader(policy);
    if (policy) {
        try_policy(policy);
        must(same(pfx_buf_bytes(&policy->text), on_disk));
    }
    pfx_agent_conf_free(agent);
    pfx_uploader_conf_free(uploader);
    pfx_hsm_policy_free(policy);
    return pfx_ok(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"agent", "uploader", "policy"};
    struct pfx_bytes rest = {data, size};
    struct pfx_bytes word = take_until(&rest, '\n');
    size_t which = any_of(word, 3);
    for (size_t i = 0; i < 3; i++)
        if (is_word(word, names[i]))
            which = i;
    on_disk = rest;
    must(loads(which) == (try_file(which, rest) == 0));
    return 0;
}
