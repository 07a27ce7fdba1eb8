/* backup create, backup verify. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/cmd_backup.h"
#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"
#include "api/conf/agent_conf.h"
#include "api/conf/hsm_policy.h"
#include "api/conf/option.h"
#include "api/conf/process.h"
#include "api/conf/uploader_conf.h"
#include "crypto/encode.h"

#define STORE_SILENCE_S 600 /* a store of millions of rows is copied in one piece */
#define LOG_SILENCE_S 120
#define KEY_FILE_MAX (64 * 1024)

/* --- create --- */

struct creating {
    struct cli *cli;
    struct backup_sources sources;
    int64_t made_ms;
    uint8_t manifest[32];
    uint64_t seq;
    struct pfx_buf text, entry, receipt;
};

static void creating_done(struct creating *c)
{
    struct backup_sources *s = &c->sources;
    for (size_t i = 0; i < sizeof(s->config) / sizeof(s->config[0]); i++)
        free(s->config[i]);
    free(s->config_dir);
    free(s->agent_dir);
    free(s->hsm_dir);
    free(s->log_dir);
    free(s->store);
    pfx_buf_done(&c->text);
    pfx_buf_done(&c->entry);
    pfx_buf_done(&c->receipt);
}

char *backup_config_path(const struct cli *cli)
{
    const char *given =
        cli->given[CLI_CONFIG] ? cli->values[CLI_CONFIG] : pfx_conf_path(PFX_CONF_AGENT);
    char *real = realpath(given, NULL);
    return real ? real : pfx_strdup(given);
}

static void add_config(struct backup_sources *s, size_t *n, const char *path)
{
    for (size_t i = 0; path && i < *n; i++)
        if (strcmp(s->config[i], path) == 0)
            return; /* one file with the CAs of both sides, say */
    if (path)
        s->config[(*n)++] = pfx_strdup(path);
}

/* Where everything is: agent.yaml, and the two others beside it. */
static pfx_result find_sources(struct creating *c, struct pfx_error *err)
{
    struct backup_sources *s = &c->sources;
    struct pfx_agent_conf *agent = NULL;
    struct pfx_hsm_policy *policy = NULL;
    struct pfx_uploader_conf *uploader = NULL;
    size_t n = 0;
    char *path PFX_AUTOFREE = backup_config_path(c->cli);
    s->config_dir = backup_parent(path);
    char *hsm PFX_AUTOFREE = pfx_asprintf("%s/hsm-policy.yaml", s->config_dir);
    char *up PFX_AUTOFREE = pfx_asprintf("%s/uploader.yaml", s->config_dir);
    pfx_result r = pfx_agent_conf_load(path, &agent, err);
    if (pfx_ok(r))
        r = pfx_hsm_policy_load(hsm, &policy, err);
    if (pfx_ok(r))
        r = pfx_uploader_conf_load(up, &uploader, err);
    if (pfx_ok(r)) {
        add_config(s, &n, path);
        add_config(s, &n, hsm);
        add_config(s, &n, up);
        add_config(s, &n, policy->ca_roots);
        add_config(s, &n, policy->roster);
        add_config(s, &n, uploader->ca_bundle);
        add_config(s, &n, uploader->cmp_ca_cert);
        s->agent_dir = pfx_strdup(agent->state_dir);
        s->hsm_dir = pfx_strdup(policy->state_dir);
        s->log_dir = policy->log_dir ? pfx_strdup(policy->log_dir)
                                     : pfx_asprintf("%s/log", policy->state_dir);
    }
    if (agent)
        pfx_agent_conf_free(agent);
    if (policy)
        pfx_hsm_policy_free(policy);
    if (uploader)
        pfx_uploader_conf_free(uploader);
    return r;
}

static void store_item(void *ctx, const struct pfx_msg *item)
{
    struct creating *c = ctx;
    free(c->sources.store);
    c->sources.store = pfx_strdup(pfx_msg_str(item, "file"));
    c->made_ms = pfx_msg_int(item, "made");
}

static void log_item(void *ctx, const struct pfx_msg *item)
{
    (void)ctx;
    if (strcmp(pfx_msg_str(item, "kind"), "note") == 0)
        cli_say("note: %s", pfx_msg_str(item, "text"));
}

/* The daemon's reason is ours; a finding has none. */
static pfx_result ask(struct cli *cli, const struct cli_ask *what, struct pfx_error *err)
{
    int code = 0;
    PFX_TRY(cli_ask(cli, what, &code, err));
    if (code == CLI_EXIT_OK)
        return PFX_OK;
    if (err->text[0])
        return (pfx_result){err->cls};
    return pfx_fail(err, PFX_CLASS_INTERNAL, what->verb, "", "",
                    "it ended with exit code %d, and no reason", code);
}

/* pfx-agentd names a file of its own folder, nothing else. */
static pfx_result take_store(struct creating *c, struct pfx_error *err)
{
    struct cli_ask store = {.peer = CLI_AGENT,
                            .verb = "backup.store",
                            .silence_s = STORE_SILENCE_S,
                            .item = store_item,
                            .ctx = c};
    PFX_TRY(ask(c->cli, &store, err));
    const char *name = c->sources.store;
    if (name && backup_part_ok(name, strlen(name)))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "backup.store", "pfx-agentd", "",
                    "it didn't name a copy of the store");
}

static bool is_ours(const struct creating *c, struct pfx_bytes json)
{
    struct pfx_entry entry;
    struct pfx_error ignored = PFX_ERROR_NONE;
    uint8_t digest[32];
    return pfx_ok(pfx_entry_read(json, &entry, &ignored)) &&
           pfx_entry_is(&entry, PFX_F_EVENT, "backup.create") &&
           pfx_entry_int(&entry, PFX_F_PHASE) == PFX_PHASE_RESULT &&
           pfx_entry_hash(&entry, PFX_F_OUT_SHA256, digest) &&
           memcmp(digest, c->manifest, sizeof(digest)) == 0;
}

/* pfx-hsm has answered, so the entry is there, behind the log of the archive, and covered. */
static pfx_result take_proof(struct creating *c, uint64_t from, struct pfx_error *err)
{
    struct pfx_logdir *log CLI_AUTOLOG = NULL;
    uint64_t count = 0;
    PFX_TRY(pfx_logdir_open(c->sources.log_dir, &log, err));
    PFX_TRY(pfx_logdir_count(log, &count, err));
    PFX_TRY(pfx_logdir_refresh(log, err));
    for (uint64_t seq = from; seq < count; seq++) {
        struct pfx_bytes json;
        PFX_TRY(pfx_logdir_entry(log, seq, &json, err));
        if (!is_ours(c, json))
            continue;
        c->seq = seq;
        return pfx_logdir_receipt(log, seq, &c->receipt, &c->entry, err);
    }
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "backup.create", c->sources.log_dir, "",
                    "pfx-hsm says that the backup stands in its log, and it isn't in this one: "
                    "does hsm-policy.yaml beside agent.yaml name the log that pfx-hsm writes?");
}

static pfx_result note_manifest(struct creating *c, struct backup_writer *writer,
                                struct pfx_error *err)
{
    struct backup_manifest *m = backup_writer_manifest(writer);
    if (!backup_manifest_write(m, &c->text))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write manifest", c->cli->operands[0], "",
                        "a path has characters that can't stand in it, or there is too much");
    if (!pfx_sha256(c->text.data, c->text.len, c->manifest))
        pfx_die("no SHA-256");
    struct pfx_msg *args PFX_AUTOMSG = cli_args_new(CLI_HSM, "backup.create");
    pfx_msg_set_blob(args, "manifest", c->manifest, sizeof(c->manifest));
    struct cli_ask log = {.peer = CLI_HSM,
                          .verb = "backup.create",
                          .args = args,
                          .silence_s = LOG_SILENCE_S,
                          .item = log_item,
                          .ctx = c};
    PFX_TRY(ask(c->cli, &log, err));
    return take_proof(c, m->log_size, err);
}

static pfx_result create(struct creating *c, struct backup_writer *writer, struct pfx_error *err)
{
    PFX_TRY(take_store(c, err));
    backup_writer_manifest(writer)->made_ms = c->made_ms;
    PFX_TRY(backup_collect(writer, &c->sources, err));
    PFX_TRY(note_manifest(c, writer, err));
    PFX_TRY(backup_put_plain(writer, BACKUP_MANIFEST, pfx_buf_bytes(&c->text), err));
    PFX_TRY(backup_put_plain(writer, BACKUP_ENTRY, pfx_buf_bytes(&c->entry), err));
    PFX_TRY(backup_put_plain(writer, BACKUP_RECEIPT, pfx_buf_bytes(&c->receipt), err));
    return backup_writer_finish(writer, err);
}

static void say_made(const struct creating *c, struct backup_writer *writer)
{
    const struct backup_manifest *m = backup_writer_manifest(writer);
    char hex[65];
    size_t files = 0;
    for (size_t i = 0; i < m->n; i++)
        files += !m->items[i].folder;
    pfx_hex(c->manifest, sizeof(c->manifest), hex);
    if (c->cli->given[CLI_JSON]) {
        struct pfx_buf file PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(8192);
        struct pfx_buf origin PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1024);
        cli_json_str(&file, c->cli->operands[0]);
        cli_json_str(&origin, m->origin);
        (void)printf("{\"schema\":\"pfx-agent/backup-create/1\",\"file\":%s,\"files\":%zu,"
                     "\"manifest\":\"%s\",\"entry\":%llu,\"origin\":%s,\"log\":%llu}\n",
                     pfx_buf_str(&file), files, hex, (unsigned long long)c->seq,
                     pfx_buf_str(&origin), (unsigned long long)m->log_size);
        return;
    }
    (void)printf("%s%s%s %s: %zu files, %llu entries of the log\n", cli_tone(stdout, CLI_GOOD),
                 cli_utf8() ? "✓" : "*", cli_tone_end(stdout, CLI_GOOD), c->cli->operands[0], files,
                 (unsigned long long)m->log_size);
    (void)printf("  manifest %s\n  entry    %llu of %s\n", hex, (unsigned long long)c->seq,
                 m->origin);
    cli_say("keep it where this host's loss doesn't reach it; PINs and token objects aren't in it");
}

int cli_do_backup_create(struct cli *cli)
{
    PFX_CLEANUP(creating_done)
    struct creating c = {.cli = cli,
                         .text = pfx_buf_make(BACKUP_MANIFEST_MAX),
                         .entry = pfx_buf_make(PFX_ENTRY_MAX + 1),
                         .receipt = pfx_buf_make(BACKUP_RECEIPT_MAX)};
    struct backup_writer *writer = NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result r = find_sources(&c, &err);
    if (pfx_ok(r))
        r = backup_writer_new(cli->operands[0], &writer, &err);
    if (pfx_ok(r))
        r = create(&c, writer, &err);
    if (pfx_ok(r))
        say_made(&c, writer);
    backup_writer_free(writer);
    return pfx_ok(r) ? CLI_EXIT_OK : cli_fail(&err);
}

/* --- verify --- */

/* Key lines of a file, one a line; what isn't one is an error. */
static pfx_result keys_of_file(const char *path, struct backup_keys *keys, struct pfx_error *err)
{
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(KEY_FILE_MAX);
    PFX_TRY(pfx_file_read(path, KEY_FILE_MAX, &text, err));
    char *copy PFX_AUTOFREE = pfx_strndup(pfx_buf_str(&text), text.len), *line = copy;
    while (line && *line) {
        char *next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (*line && keys->n < BACKUP_KEYS) {
            PFX_TRY(pfx_vkey_parse(line, &keys->keys[keys->n], err));
            keys->n++;
        }
        line = next;
    }
    return keys->n > 0 ? PFX_OK
                       : pfx_fail(err, PFX_CLASS_USAGE, "read key", path, "",
                                  "it has no key line (name+id+key) of a log");
}

void backup_keys_done(struct backup_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++)
        pfx_vkey_done(&keys->keys[i]);
    keys->n = 0;
}

pfx_result backup_trust(const struct cli *cli, const struct backup *backup, bool *ret_known,
                        struct pfx_error *err)
{
    PFX_CLEANUP(backup_keys_done) struct backup_keys keys = {.n = 0};
    *ret_known = true;
    if (cli->given[CLI_VKEY])
        PFX_TRY(keys_of_file(cli->values[CLI_VKEY], &keys, err));
    else
        backup_host_keys(cli, backup, &keys);
    if (keys.n > 0)
        return backup_signed(backup, keys.keys, keys.n, err);
    *ret_known = false;
    return backup_signed(backup, backup->keys, backup->n_keys, err);
}

void backup_show(const struct backup *backup, bool known)
{
    const struct backup_manifest *m = &backup->manifest;
    char when[PFX_TIME_SIZE], span[32], hex[65], line[PFX_VKEY_LINE_SIZE];
    static const char *const titles[] = {"", "", NULL};
    struct cli_table *facts CLI_AUTOTABLE = cli_table_new(titles, 1u << 1);
    size_t files = 0;
    cli_table_wrap(facts);
    for (size_t i = 0; i < m->n; i++)
        files += !m->items[i].folder;
    int64_t now = pfx_now_ms();
    bool ahead = now < m->made_ms;
    cli_table_add(facts, "made", CLI_PLAIN);
    cli_table_addf(facts, CLI_PLAIN, "%s UTC, %s%s", cli_time(m->made_ms, when),
                   ahead ? "later than this host's clock" : cli_span(m->made_ms, now, span),
                   ahead ? "" : " ago");
    cli_table_add(facts, "origin", CLI_PLAIN);
    cli_table_add(facts, m->origin, CLI_PLAIN);
    cli_table_add(facts, "log", CLI_PLAIN);
    cli_table_addf(facts, CLI_PLAIN, "%llu entries", (unsigned long long)m->log_size);
    cli_table_add(facts, "files", CLI_PLAIN);
    cli_table_addf(facts, CLI_PLAIN, "%zu, %llu KiB", files,
                   (unsigned long long)backup->bytes / 1024);
    cli_table_add(facts, "manifest", CLI_PLAIN);
    cli_table_add(facts, pfx_hex(backup->manifest_sha256, 32, hex), CLI_PLAIN);
    cli_table_add(facts, "entry", CLI_PLAIN);
    cli_table_addf(facts, CLI_PLAIN, "%llu, under the checkpoint of %llu entries",
                   (unsigned long long)backup->seq, (unsigned long long)backup->proof.size);
    cli_table_add(facts, "signed", CLI_PLAIN);
    cli_table_add(facts,
                  known ? "by a key that is known here"
                        : "by a key of the archive's own: nothing here says whose it is",
                  known ? CLI_PLAIN : CLI_WARN);
    for (size_t i = 0; !known && i < backup->n_keys; i++) {
        cli_table_add(facts, "key", CLI_PLAIN);
        cli_table_add(facts, pfx_vkey_line(&backup->keys[i], line), CLI_PLAIN);
    }
    cli_table_print_bare(facts, stdout);
    (void)fflush(stdout);
}

void backup_json(const struct backup *backup, const char *schema, bool known)
{
    const struct backup_manifest *m = &backup->manifest;
    char made[PFX_TIME_SIZE], hex[65];
    struct pfx_buf origin PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1024);
    cli_json_str(&origin, m->origin); /* it comes from the archive */
    (void)printf("{\"schema\":\"pfx-agent/%s/1\",\"made\":\"%s\",\"origin\":%s,"
                 "\"log\":%llu,\"manifest\":\"%s\",\"entry\":%llu,\"checkpoint\":%llu,"
                 "\"known\":%s}\n",
                 schema, pfx_time_format(m->made_ms, true, made), pfx_buf_str(&origin),
                 (unsigned long long)m->log_size, pfx_hex(backup->manifest_sha256, 32, hex),
                 (unsigned long long)backup->seq, (unsigned long long)backup->proof.size,
                 known ? "true" : "false");
}

int cli_do_backup_verify(struct cli *cli)
{
    PFX_CLEANUP(backup_freep) struct backup *backup = pfx_alloc(sizeof(*backup));
    struct pfx_error err = PFX_ERROR_NONE;
    bool known = false;
    backup->fd = -1;
    pfx_result r = backup_read(cli->operands[0], backup, &err);
    if (pfx_ok(r))
        r = backup_trust(cli, backup, &known, &err);
    if (pfx_failed(r))
        return cli_fail(&err);
    if (cli->given[CLI_JSON])
        backup_json(backup, "backup-verify", known);
    else
        backup_show(backup, known);
    backup_host_later(cli, backup);
    if (!known)
        cli_say("every file is as it was made, but by whom isn't shown: give --vkey with the log's "
                "key line, as the auditors have it or another copy of the log");
    return known ? CLI_EXIT_OK : CLI_EXIT_NO;
}
