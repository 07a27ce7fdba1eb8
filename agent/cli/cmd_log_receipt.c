/* log receipt: the proof that one entry stands in the log, for people who haven't got the log. */
#include <string.h>
#include <unistd.h>

#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"
#include "crypto/encode.h"

#define HASH_HEX 64
#define RECEIPT_MAX (64 * 1024)

/* A number, or the SHA-256 of a PFX; nothing else. */
static pfx_result parse(const char *word, bool *ret_is_hash, uint64_t *ret_seq,
                        struct pfx_error *err)
{
    size_t len = strlen(word);
    *ret_is_hash = len == HASH_HEX && strspn(word, "0123456789abcdefABCDEF") == len;
    if (*ret_is_hash)
        return PFX_OK;
    uint64_t n = 0;
    if (len == 0 || len > 15 || strspn(word, "0123456789") != len)
        return pfx_fail(
            err, PFX_CLASS_USAGE, "", "", "",
            "an entry is named by its number in the log (pfx-agent log tail), or by the "
            "SHA-256 of the PFX that it released, 64 hex digits");
    for (size_t i = 0; i < len; i++)
        n = 10 * n + (uint64_t)(word[i] - '0');
    *ret_seq = n;
    return PFX_OK;
}

/* Is this the result that released that PFX? The bytes are looked at first: reading each entry of
 * a long log would take ten times as long. */
static bool released(struct pfx_bytes json, const char hex[HASH_HEX + 1])
{
    struct pfx_entry entry;
    struct pfx_error err = PFX_ERROR_NONE;
    return memmem(json.data, json.len, hex, HASH_HEX) &&
           pfx_ok(pfx_entry_read(json, &entry, &err)) &&
           pfx_entry_is(&entry, PFX_F_EVENT, "pfx.build") &&
           pfx_entry_int(&entry, PFX_F_PHASE) == PFX_PHASE_RESULT &&
           pfx_entry_int(&entry, PFX_F_OUTCOME) == PFX_OUTCOME_OK &&
           pfx_entry_is(&entry, PFX_F_OUT_SHA256, hex);
}

static pfx_result find(struct cli *cli, struct pfx_logdir *dir, const char *word, uint64_t count,
                       bool *ret_found, uint64_t *ret_seq, struct pfx_error *err)
{
    char hex[HASH_HEX + 1] = "";
    for (size_t i = 0; i < HASH_HEX; i++)
        hex[i] = (char)(word[i] >= 'A' && word[i] <= 'F' ? word[i] - 'A' + 'a' : word[i]);
    struct cli_progress progress = {.quiet = !cli_is_terminal(stderr)};
    (void)cli;
    *ret_found = false;
    cli_progress_start(&progress, "looking for the PFX");
    uint64_t first = pfx_logdir_first(dir);
    pfx_result r = PFX_OK;
    for (uint64_t seq = first; seq < count && pfx_ok(r); seq++) {
        struct pfx_bytes json;
        r = pfx_logdir_entry(dir, seq, &json, err);
        if (pfx_ok(r) && released(json, hex)) {
            *ret_found = true; /* a PFX that was built again: the newest counts */
            *ret_seq = seq;
        }
        if (seq % 4096 == 0)
            cli_progress_show(&progress, "looking for the PFX", (int64_t)(seq - first),
                              (int64_t)(count - first));
    }
    cli_progress_clear(&progress);
    return r;
}

static pfx_result check_covered(uint64_t seq, uint64_t count, uint64_t size, struct pfx_error *err)
{
    char object[64];
    (void)snprintf(object, sizeof(object), "entry %llu", (unsigned long long)seq);
    if (seq >= count)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "there is no entry %llu: the log has %llu, counted from 0",
                        (unsigned long long)seq, (unsigned long long)count);
    if (seq >= size)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "prove", object, "",
                        "no signed checkpoint covers it yet (the newest covers %llu entries). Ask "
                        "again in a moment; if it stays so, pfx-agent log status says why",
                        (unsigned long long)size);
    return PFX_OK;
}

static void say_which(uint64_t seq, struct pfx_bytes json, uint64_t size, const char *file)
{
    struct pfx_entry entry;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_bytes event = {NULL, 0};
    const char *outcome = "dropped here, its hash is kept";
    if (json.len > 0 && pfx_ok(pfx_entry_read(json, &entry, &err))) {
        event = pfx_entry_text(&entry, PFX_F_EVENT);
        outcome = pfx_outcome_name((enum pfx_outcome)pfx_entry_int(&entry, PFX_F_OUTCOME));
    }
    cli_say("receipt of entry %llu (%.*s%s%s) under the checkpoint of %llu entries%s%s",
            (unsigned long long)seq, (int)event.len, event.len ? (const char *)event.data : "",
            event.len ? " " : "", outcome, (unsigned long long)size, file ? ": " : "",
            file ? file : "");
}

static pfx_result locate(struct cli *cli, struct pfx_logdir *dir, uint64_t *ret_seq,
                         bool *ret_found, struct pfx_error *err)
{
    const struct pfx_checkpoint *checkpoint = NULL;
    const char *word = cli->operands[0];
    bool is_hash = false;
    uint64_t count = 0;
    *ret_found = true;
    PFX_TRY(parse(word, &is_hash, ret_seq, err));
    PFX_TRY(pfx_logdir_count(dir, &count, err));
    PFX_TRY(pfx_logdir_refresh(dir, err)); /* what was counted may be covered by now */
    (void)pfx_logdir_checkpoint(dir, &checkpoint);
    if (is_hash)
        PFX_TRY(find(cli, dir, word, count, ret_found, ret_seq, err));
    return *ret_found ? check_covered(*ret_seq, count, checkpoint->size, err) : PFX_OK;
}

int cli_do_log_receipt(struct cli *cli)
{
    struct pfx_logdir *dir CLI_AUTOLOG = NULL;
    struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(RECEIPT_MAX);
    struct pfx_buf json PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_ENTRY_MAX + 1);
    struct pfx_error err = PFX_ERROR_NONE;
    uint64_t seq = 0;
    bool found = false, fresh = false;
    pfx_result r = cli_log_open(cli, &dir, &err);
    if (pfx_ok(r))
        r = locate(cli, dir, &seq, &found, &err);
    if (pfx_ok(r) && !found) {
        cli_say("no PFX with that SHA-256 was released by this log%s",
                pfx_logdir_first(dir) > 0 ? ", as far as its entries are still here" : "");
        return CLI_EXIT_NO;
    }
    if (pfx_ok(r))
        r = pfx_logdir_receipt(dir, seq, &out, &json, &err);
    const char *file = cli->given[CLI_OUT] ? cli->values[CLI_OUT] : NULL;
    if (pfx_ok(r) && file)
        r = cli_file_put_bytes(NULL, file, pfx_buf_bytes(&out), &fresh, &err);
    if (pfx_failed(r))
        return cli_fail(&err);
    if (!file && fwrite(out.data, 1, out.len, stdout) != out.len) {
        cli_say("pfx-agent: the receipt can't be written");
        return CLI_EXIT_INTERNAL;
    }
    const struct pfx_checkpoint *checkpoint = NULL;
    (void)pfx_logdir_checkpoint(dir, &checkpoint);
    say_which(seq, pfx_buf_bytes(&json), checkpoint->size, file);
    return CLI_EXIT_OK;
}
