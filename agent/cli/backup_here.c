/* What the log on this host says of a backup: whose keys it has, and whether it is the last one. */
#include <string.h>

#include "agent/cli/cmd_backup.h"
#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

/* NULL: there is none, or one of another origin. */
static struct pfx_logdir *log_of(const struct cli *cli, const struct backup *backup)
{
    struct pfx_logdir *log CLI_AUTOLOG = NULL;
    const struct pfx_checkpoint *checkpoint = NULL;
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (pfx_failed(cli_log_open(cli, &log, &ignored)))
        return NULL;
    (void)pfx_logdir_checkpoint(log, &checkpoint);
    return strcmp(checkpoint->origin, backup->manifest.origin) == 0 ? PFX_TAKE(log) : NULL;
}

void backup_host_keys(const struct cli *cli, const struct backup *backup, struct backup_keys *keys)
{
    struct pfx_logdir *log CLI_AUTOLOG = log_of(cli, backup);
    struct pfx_error ignored = PFX_ERROR_NONE;
    char **names = NULL;
    size_t n = 0;
    if (!log || pfx_failed(pfx_logdir_list(log, "keys", &names, &n, &ignored)))
        return;
    for (size_t i = 0; i < n; i++) {
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_VKEY_LINE_SIZE);
        char *name PFX_AUTOFREE = pfx_asprintf("keys/%s", names[i]);
        free(names[i]);
        if (keys->n == BACKUP_KEYS ||
            pfx_failed(pfx_logdir_file(log, name, PFX_VKEY_LINE_SIZE, &text, &ignored)))
            continue;
        char *line PFX_AUTOFREE = pfx_strndup(pfx_buf_str(&text), text.len);
        line[strcspn(line, "\n")] = '\0';
        keys->n += pfx_ok(pfx_vkey_parse(line, &keys->keys[keys->n], &ignored));
    }
    free(names);
}

/* When the last backup after this one was made; 0: none is known. */
static int64_t last_made(struct pfx_logdir *log, uint64_t from, uint64_t count)
{
    int64_t made_ms = 0;
    for (uint64_t seq = from; seq < count; seq++) {
        struct pfx_bytes json;
        struct pfx_entry entry;
        struct pfx_error ignored = PFX_ERROR_NONE;
        if (pfx_ok(pfx_logdir_entry(log, seq, &json, &ignored)) &&
            pfx_ok(pfx_entry_read(json, &entry, &ignored)) &&
            pfx_entry_is(&entry, PFX_F_EVENT, "backup.create") &&
            pfx_entry_int(&entry, PFX_F_PHASE) == PFX_PHASE_RESULT &&
            pfx_entry_int(&entry, PFX_F_OUTCOME) == PFX_OUTCOME_OK)
            made_ms = pfx_entry_time(&entry, PFX_F_TIME);
    }
    return made_ms;
}

void backup_host_later(const struct cli *cli, const struct backup *backup)
{
    struct pfx_logdir *log CLI_AUTOLOG = log_of(cli, backup);
    struct pfx_error ignored = PFX_ERROR_NONE;
    uint64_t count = 0, from = backup->seq + 1;
    char when[PFX_TIME_SIZE];
    if (!log || pfx_failed(pfx_logdir_count(log, &count, &ignored)) || count <= from)
        return;
    cli_say("note: the log that is here has %llu entries after this backup: what they tell of "
            "isn't in it",
            (unsigned long long)(count - from));
    int64_t made_ms = last_made(log, from, count);
    if (made_ms > 0)
        cli_say("note: this isn't the last backup of this host: a later one was made %s UTC",
                cli_time(made_ms, when));
}
