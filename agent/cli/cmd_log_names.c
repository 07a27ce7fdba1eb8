/*
 * The name map of an export: which user hides behind which hash. Personal data, so it is a file of
 * its own that its owner alone can read; the log is whole without it.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"
#include "crypto/canon.h"

#define FILE_NAME "names.jsonl"
#define SILENCE_S 60
#define LINE_BYTES (64 * 1024)
#define USER_HEX 64

struct name_line {
    char user[USER_HEX + 1];
    char *json;
};
struct names {
    struct name_line *lines;
    size_t n, cap;
    bool bad; /* something that canonical JSON can't hold */
    struct cli_progress *progress;
};

static void names_done(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->lines[i].json);
    free(names->lines);
}

static struct pfx_bytes text_of(const char *text)
{
    return (struct pfx_bytes){(const uint8_t *)text, strlen(text)};
}

static void take(void *ctx, const struct pfx_msg *item)
{
    struct names *names = ctx;
    struct pfx_buf out PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(LINE_BYTES);
    struct pfx_canon canon = pfx_canon_make(&out);
    pfx_canon_open(&canon, NULL, '{');
    pfx_canon_open(&canon, "addresses", '[');
    for (size_t i = 0; i < pfx_msg_count(item, "addresses"); i++)
        pfx_canon_str(&canon, NULL, text_of(pfx_msg_str_at(item, "addresses", i)));
    pfx_canon_close(&canon, ']');
    pfx_canon_str(&canon, "id", text_of(pfx_msg_str(item, "id")));
    pfx_canon_str(&canon, "salt", text_of(pfx_msg_str(item, "salt")));
    pfx_canon_str(&canon, "upn", text_of(pfx_msg_has(item, "upn") ? pfx_msg_str(item, "upn") : ""));
    pfx_canon_str(&canon, "user", text_of(pfx_msg_str(item, "user")));
    pfx_canon_close(&canon, '}');
    if (!pfx_buf_add_str(&out, "\n")) {
        names->bad = true;
        return;
    }
    if (names->n == names->cap) {
        names->cap = names->cap ? 2 * names->cap : 256;
        names->lines = pfx_grow(names->lines, names->cap, sizeof(names->lines[0]));
    }
    struct name_line *line = &names->lines[names->n++];
    (void)snprintf(line->user, sizeof(line->user), "%s", pfx_msg_str(item, "user"));
    line->json = pfx_strdup(pfx_buf_str(&out));
}

static void idle(void *ctx)
{
    cli_progress_tick(((struct names *)ctx)->progress);
}

static int by_user(const void *a, const void *b)
{
    const struct name_line *x = a, *y = b;
    return strcmp(x->user, y->user);
}

static pfx_result write_lines(struct cli_export *export, const struct names *names,
                              struct pfx_error *err)
{
    int fd = -1;
    struct pfx_buf block PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4 * LINE_BYTES);
    PFX_TRY(cli_folder_stage(&export->folder, FILE_NAME, 0600, &fd, err));
    pfx_result r = PFX_OK;
    for (size_t i = 0; i < names->n && pfx_ok(r); i++) {
        (void)pfx_buf_add_str(&block, names->lines[i].json);
        if (block.len < LINE_BYTES && i + 1 < names->n)
            continue;
        r = cli_folder_write(&export->folder, fd, FILE_NAME, pfx_buf_bytes(&block), err);
        pfx_buf_reset(&block);
    }
    if (pfx_ok(r))
        return cli_folder_staged(&export->folder, fd, FILE_NAME, err);
    (void)close(fd);
    cli_folder_unstage(&export->folder, FILE_NAME);
    return r;
}

pfx_result cli_export_names(struct cli_export *export, struct pfx_error *err)
{
    struct names names PFX_CLEANUP(names_done) = {.progress = &export->progress};
    struct pfx_error why = PFX_ERROR_NONE;
    struct cli_ask ask = {CLI_AGENT, "log.names", NULL, SILENCE_S, take, idle, &names};
    int code = CLI_EXIT_INTERNAL;
    cli_progress_show(&export->progress, "names", 0, 0);
    pfx_result r = cli_ask(export->cli, &ask, &code, &why);
    if (pfx_failed(r) || code != CLI_EXIT_OK || names.bad) {
        (void)snprintf(export->names_why, sizeof(export->names_why), "%s",
                       why.text[0] ? why.text : "pfx-agentd's answer can't be used");
        return PFX_OK;
    }
    if (names.n > 0)
        qsort(names.lines, names.n, sizeof(names.lines[0]), by_user);
    PFX_TRY(write_lines(export, &names, err));
    export->names = (int64_t)names.n;
    return PFX_OK;
}
