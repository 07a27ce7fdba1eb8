/* What every verb prints the same way: errors, JSON lines, progress, and files it writes. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "agent/cli/text.h"
#include "api/conf/process.h"

#define LINE_MAX_BYTES 8192
#define JSON_MAX (4 * 1024 * 1024)
#define PLAIN_EVERY_MS 15000
#define BAR 24

static void line_out(const char *text)
{
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(2 * LINE_MAX_BYTES);
    cli_clean(text, &clean);
    (void)fprintf(stderr, "%s\n", pfx_buf_str(&clean));
}

void cli_say(const char *fmt, ...)
{
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    line_out(text);
}

int cli_fail(const struct pfx_error *err)
{
    char line[LINE_MAX_BYTES];
    /* A usage mistake of the command line has a sentence only. */
    if (err->op[0] || err->object[0] || err->code[0])
        (void)pfx_error_line(err, line, sizeof(line));
    else
        (void)snprintf(line, sizeof(line), "%s", err->text);
    (void)fprintf(stderr, "%spfx-agent:%s ", cli_tone(stderr, CLI_BAD),
                  cli_tone_end(stderr, CLI_BAD));
    line_out(line[0] == ' ' ? line + 1 : line);
    return pfx_class_exit(err->cls);
}

int cli_confirm(const struct cli *cli, const char *question)
{
    if (cli->given[CLI_YES])
        return CLI_EXIT_OK;
    struct pfx_error err = PFX_ERROR_NONE;
    char name[64];
    if (!isatty(STDIN_FILENO) || !cli_is_terminal(stderr)) {
        (void)!pfx_ok(pfx_fail(&err, PFX_CLASS_USAGE, "", "", "",
                               "%s asks before it goes on; where there is no terminal, say --yes",
                               cli_verb_name(cli->verb, name)));
        return cli_fail(&err);
    }
    (void)fprintf(stderr, "%s Type yes to go on: ", question);
    (void)fflush(stderr);
    char answer[16] = "";
    if (fgets(answer, sizeof(answer), stdin) && strcasecmp(answer, "yes\n") == 0)
        return CLI_EXIT_OK;
    cli_say("nothing was done");
    return CLI_EXIT_NO;
}

void cli_json_item(const char *name, const struct pfx_msg *item)
{
    struct pfx_buf body PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(JSON_MAX);
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_msg_encode(item, false, &body, &err))) {
        (void)cli_fail(&err);
        return;
    }
    const char *text = pfx_buf_str(&body);
    bool empty = strcmp(text, "{}") == 0;
    (void)printf("{\"schema\":\"pfx-agent/%s/1\"%s%s\n", name, empty ? "" : ",", text + 1);
    (void)fflush(stdout);
}

/* A terminal gets the bar in place; everything else a line when the phase changes, and every few
 * seconds while it lasts. */
static void draw(struct cli_progress *progress, bool changed, bool other_phase)
{
    int64_t now = pfx_uptime_ms();
    if (progress->quiet)
        return;
    if (!cli_is_terminal(stderr)) {
        if (!other_phase && now - progress->drawn_ms < PLAIN_EVERY_MS)
            return;
        if (progress->total > 0)
            cli_say("%s: %lld of %lld%s", progress->phase, (long long)progress->done,
                    (long long)progress->total, progress->more);
        else
            cli_say("%s", progress->phase);
        progress->drawn_ms = now;
        return;
    }
    if (!changed && progress->on_screen && now - progress->drawn_ms < 200)
        return;
    char bar[BAR * 4 + 1] = "";
    size_t used = 0;
    int64_t filled = progress->total > 0 ? progress->done * BAR / progress->total : 0;
    for (int i = 0; progress->total > 0 && i < BAR; i++) {
        const char *piece = cli_utf8() ? (i < filled ? "━" : "─") : (i < filled ? "#" : ".");
        used += (size_t)snprintf(bar + used, sizeof(bar) - used, "%s", piece);
    }
    char line[512], span[32];
    if (progress->total > 0)
        (void)snprintf(line, sizeof(line), "%s %lld/%lld  %s%s  %s", bar, (long long)progress->done,
                       (long long)progress->total, progress->phase, progress->more,
                       cli_span(progress->started_ms, now, span));
    else
        (void)snprintf(line, sizeof(line), "%s  %s", progress->phase,
                       cli_span(progress->started_ms, now, span));
    struct pfx_buf clean PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(2048);
    struct pfx_buf cut PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(2048);
    cli_clean(line, &clean);
    cli_cut(pfx_buf_str(&clean), cli_columns(stderr) - 1, &cut);
    (void)fprintf(stderr, "\r%s\033[K", pfx_buf_str(&cut));
    (void)fflush(stderr);
    progress->on_screen = true;
    progress->drawn_ms = now;
}

void cli_progress_start(struct cli_progress *progress, const char *phase)
{
    bool quiet = progress->quiet;
    *progress = (struct cli_progress){.started_ms = pfx_uptime_ms(), .quiet = quiet};
    (void)snprintf(progress->phase, sizeof(progress->phase), "%s", phase);
    draw(progress, true, true);
}

void cli_progress_show(struct cli_progress *progress, const char *phase, int64_t done,
                       int64_t total)
{
    bool other_phase = strcmp(progress->phase, phase) != 0;
    bool changed = other_phase || progress->done != done || progress->total != total;
    (void)snprintf(progress->phase, sizeof(progress->phase), "%s", phase);
    progress->done = done;
    progress->total = total;
    draw(progress, changed, other_phase);
}

void cli_progress_tick(struct cli_progress *progress)
{
    draw(progress, false, false);
}

void cli_progress_clear(struct cli_progress *progress)
{
    if (progress->on_screen)
        (void)fprintf(stderr, "\r\033[K");
    (void)fflush(stderr);
    progress->on_screen = false;
}

/* A name that stays in its folder, whatever the other side sent. */
static bool name_is_plain(const char *name)
{
    if (!*name || *name == '.' || strlen(name) > 64)
        return false;
    for (; *name; name++)
        if (!((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
              (*name >= '0' && *name <= '9') || strchr("._-", *name)))
            return false;
    return true;
}

static bool same_content(const char *path, struct pfx_bytes content)
{
    struct pfx_buf now PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1024 * 1024);
    struct pfx_error err = PFX_ERROR_NONE;
    return pfx_ok(pfx_file_read(path, 1024 * 1024, &now, &err)) && now.len == content.len &&
           memcmp(pfx_buf_str(&now), content.data, now.len) == 0;
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return fsync(fd);
}

pfx_result cli_file_put(const char *dir, const char *name, const char *text, bool *ret_fresh,
                        struct pfx_error *err)
{
    struct pfx_bytes content = {(const uint8_t *)text, strlen(text)};
    return cli_file_put_bytes(dir, name, content, ret_fresh, err);
}

static size_t two_lines(const char *text)
{
    const char *one = strchr(text, '\n'), *two = one ? strchr(one + 1, '\n') : NULL;
    return two ? (size_t)(two - text) + 1 : 0;
}

pfx_result cli_file_renew(const char *dir, const char *name, const char *text, bool *ret_fresh,
                          struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s/%s", dir, name);
    struct pfx_buf now PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(1024 * 1024);
    struct pfx_error none = PFX_ERROR_NONE;
    struct stat st;
    size_t head = two_lines(text);
    if (head > 0 && name_is_plain(name) && lstat(path, &st) == 0 && S_ISREG(st.st_mode) &&
        pfx_ok(pfx_file_read(path, 1024 * 1024, &now, &none)) && now.len >= head &&
        memcmp(now.data, text, head) == 0 && strcmp(pfx_buf_str(&now), text) != 0 &&
        unlink(path) != 0)
        return pfx_fail_errno(err, errno, "replace", path, "choose another place with --out");
    return cli_file_put(dir, name, text, ret_fresh, err);
}

pfx_result cli_file_put_bytes(const char *dir, const char *name, struct pfx_bytes content,
                              bool *ret_fresh, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = dir ? pfx_asprintf("%s/%s", dir, name) : pfx_strdup(name);
    if (dir && !name_is_plain(name))
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "write", name, "",
                        "that isn't a plain file name; nothing was written");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0 && errno == EEXIST) {
        *ret_fresh = false;
        if (same_content(path, content))
            return PFX_OK;
        return pfx_fail(err, PFX_CLASS_REFUSED, "write", path, "EEXIST",
                        "another file is there already, and isn't overwritten. Move it away, or "
                        "choose another place with --out");
    }
    if (fd < 0)
        return pfx_fail_errno(err, errno, "write", path, "choose another place with --out");
    /* Public data: the program's umask of 077 is for what isn't. */
    if (write_all(fd, content.data, content.len) != 0 || fchmod(fd, 0644) != 0) {
        int failed = errno;
        (void)close(fd);
        (void)unlink(path); /* made by this call: half a file helps nobody */
        return pfx_fail_errno(err, failed, "write", path, "choose another place with --out");
    }
    (void)close(fd);
    *ret_fresh = true;
    return PFX_OK;
}
