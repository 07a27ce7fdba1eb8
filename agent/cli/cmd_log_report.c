/* What log export says when it is done: on stdout what there is, on stderr what there isn't. */
#include <stdarg.h>
#include <string.h>

#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

#define SHOWN_HEX 16

static void line(const char *name, const char *fmt, ...) PFX_PRINTF(2, 3);
static void line(const char *name, const char *fmt, ...)
{
    char text[1024];
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    cli_clean(text, &clean);
    (void)printf("  %s%-8s%s %s\n", cli_tone(stdout, CLI_DIM), name, cli_tone_end(stdout, CLI_DIM),
                 pfx_buf_str(&clean));
}

/* A word for a shell. */
static char *quoted(const char *word)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/+:,@%=";
    if (*word && word[strspn(word, plain)] == '\0')
        return pfx_strdup(word);
    struct pfx_buf out = pfx_buf_make(16 * 1024);
    (void)pfx_buf_add_str(&out, "'");
    for (const char *p = word; *p; p++)
        (void)(*p == '\'' ? pfx_buf_add_str(&out, "'\\''") : pfx_buf_add(&out, p, 1));
    (void)pfx_buf_add_str(&out, "'");
    return (char *)out.data;
}

/* The keys that signed the checkpoint, as far as the folder has their lines. */
static void show_keys(struct cli_export *export, struct pfx_buf *command)
{
    const struct pfx_checkpoint *checkpoint = &export->checkpoint;
    for (size_t i = 0; i < checkpoint->n_signatures; i++) {
        char id[16], hex[2 * PFX_HASH_SIZE + 1];
        struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(CLI_NOTE_MAX);
        struct pfx_vkey key PFX_CLEANUP(pfx_vkey_done) = {0};
        struct pfx_error why = PFX_ERROR_NONE;
        bool there = false;
        char *name PFX_AUTOFREE =
            pfx_asprintf("keys/%s.vkey", pfx_hex(checkpoint->signatures[i].id, 4, id));
        if (pfx_failed(cli_folder_read(&export->folder, name, CLI_NOTE_MAX, &text, &there, &why)) ||
            !there)
            continue;
        char *copy PFX_AUTOFREE = pfx_strdup(pfx_buf_str(&text));
        copy[strcspn(copy, "\n")] = '\0';
        if (pfx_failed(pfx_vkey_parse(copy, &key, &why)))
            continue;
        line("key", "%s %s, SHA-256 of the public key %s", id,
             key.type == PFX_NOTE_P256 ? "P-256" : "Ed25519",
             pfx_hex(key.spki_sha256, sizeof(key.spki_sha256), hex));
        char *path PFX_AUTOFREE = pfx_asprintf("%s/%s", export->folder.path, name);
        char *word PFX_AUTOFREE = quoted(path);
        (void)pfx_buf_addf(command, " --key %s", word);
    }
}

static void report(struct cli_export *export)
{
    const struct pfx_checkpoint *now = &export->checkpoint;
    uint64_t fresh = now->size - (export->earlier ? export->had.size : 0);
    char root[2 * PFX_HASH_SIZE + 1];
    struct pfx_buf command PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(16 * 1024);
    char *dir PFX_AUTOFREE = quoted(export->folder.path);
    (void)pfx_hex(now->root.bytes, PFX_HASH_SIZE, root);
    (void)printf("%sexported%s %s\n", cli_tone(stdout, CLI_BOLD), cli_tone_end(stdout, CLI_BOLD),
                 export->folder.path);
    line("origin", "%s", now->origin);
    if (export->earlier)
        line("size", "%llu entries, %llu of them new here", (unsigned long long)now->size,
             (unsigned long long)fresh);
    else
        line("size", "%llu entries", (unsigned long long)now->size);
    line("root", "%.*s...", SHOWN_HEX, root);
    if (export->first > 0)
        line("dropped", "entries before %llu: their hashes are here",
             (unsigned long long)export->first);
    if (export->uncovered > 0)
        line("tail", "%llu entries that no checkpoint covers yet",
             (unsigned long long)export->uncovered);
    if (export->has_anchor)
        line("anchor", "%llu entries", (unsigned long long)export->anchor.size);
    if (export->names >= 0)
        line("names", "%lld users in names.jsonl: personal data, readable for you only",
             (long long)export->names);
    line("files", "%llu written", (unsigned long long)export->folder.written);
    show_keys(export, &command);
    (void)printf("next: pfx-audit verify %s%s\n", dir, pfx_buf_str(&command));
    (void)fflush(stdout);
    cli_say("An auditor takes the key from elsewhere than the export, or compares its SHA-256 with "
            "the one that they noted.");
}

static void report_json(const struct cli_export *export)
{
    struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64 * 1024);
    const struct pfx_checkpoint *now = &export->checkpoint;
    char root[2 * PFX_HASH_SIZE + 1];
    (void)pfx_buf_add_str(&out, "{\"schema\":\"pfx-agent/log-export/1\",\"dir\":");
    cli_json_str(&out, export->folder.path);
    (void)pfx_buf_add_str(&out, ",\"origin\":");
    cli_json_str(&out, now->origin);
    (void)pfx_buf_addf(
        &out,
        ",\"size\":%llu,\"new\":%llu,\"root\":\"%s\",\"first\":%llu,\"uncovered\":%llu,"
        "\"damaged_bundles\":%llu,\"files\":%llu",
        (unsigned long long)now->size,
        (unsigned long long)(now->size - (export->earlier ? export->had.size : 0)),
        pfx_hex(now->root.bytes, PFX_HASH_SIZE, root), (unsigned long long)export->first,
        (unsigned long long)export->uncovered, (unsigned long long)export->damaged,
        (unsigned long long)export->folder.written);
    if (export->names >= 0)
        (void)pfx_buf_addf(&out, ",\"names\":%lld", (long long)export->names);
    if (export->has_anchor)
        (void)pfx_buf_addf(&out, ",\"anchor\":%llu", (unsigned long long)export->anchor.size);
    (void)printf("%s}\n", pfx_buf_str(&out));
}

/* What isn't in it, and why. */
static void remarks(struct cli_export *export)
{
    bool old = export->names < 0 && cli_folder_has(&export->folder, "names.jsonl");
    if (export->cli->given[CLI_NO_NAMES] && old) {
        (void)cli_folder_remove(&export->folder, "names.jsonl");
        cli_say("note: names.jsonl of the earlier export was removed, as --no-names says");
    } else if (export->names_why[0])
        cli_say("note: %s: %s",
                old ? "names.jsonl is that of the earlier export"
                    : "there is no name map, users stand as hashes",
                export->names_why);
    if (!export->has_anchor)
        cli_say("note: no anchor: the head of this log was never written to the token");
    if (export->damaged > 0)
        cli_say("pfx-agent: %llu bundles of 256 entries, the first from entry %llu on, aren't what "
                "was signed and were left out of this export; copies made earlier have them. Keep "
                "%s as it is",
                (unsigned long long)export->damaged, (unsigned long long)export->first_damaged,
                export->log_path);
}

void cli_export_report(struct cli_export *export)
{
    if (export->cli->given[CLI_JSON])
        report_json(export);
    else
        report(export);
    remarks(export);
}
