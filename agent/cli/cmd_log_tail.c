/* log tail: the newest entries, and the coming ones as long as somebody watches. */
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/cli/cmd_log.h"
#include "agent/cli/text.h"

#define LINES 20
#define LINES_MOST 100000000
#define POLL_MS 300

struct tail {
    struct cli *cli;
    char *path;
    struct pfx_logdir *dir;
    dev_t dev; /* which folder is open: another one may take its name */
    ino_t ino;
    uint64_t next;    /* first entry that wasn't shown */
    uint64_t covered; /* by the newest checkpoint */
    bool open_shown;  /* entries were shown that weren't covered */
    char day[CLI_DAY_SIZE];
};

static void tail_done(struct tail *tail)
{
    pfx_logdir_close(tail->dir);
    free(tail->path);
}

static pfx_result lines_wanted(const struct cli *cli, uint64_t *ret, struct pfx_error *err)
{
    *ret = LINES;
    if (!cli->given[CLI_LINES])
        return PFX_OK;
    uint64_t n = 0;
    const char *p = cli->values[CLI_LINES];
    for (; *p >= '0' && *p <= '9' && n <= LINES_MOST; p++)
        n = 10 * n + (uint64_t)(*p - '0');
    if (*p || n > LINES_MOST)
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "--lines is how many entries to show: a whole number up to %d", LINES_MOST);
    *ret = n;
    return PFX_OK;
}

/* How many entries there are, and how many of them are covered: in this order, or entries that a
 * checkpoint covers already would look open. */
static pfx_result look(struct tail *tail, uint64_t *ret_count, struct pfx_error *err)
{
    const struct pfx_checkpoint *checkpoint = NULL;
    PFX_TRY(pfx_logdir_refresh(tail->dir, err)); /* a further segment may be there */
    PFX_TRY(pfx_logdir_count(tail->dir, ret_count, err));
    PFX_TRY(pfx_logdir_refresh(tail->dir, err));
    (void)pfx_logdir_checkpoint(tail->dir, &checkpoint);
    tail->covered = checkpoint->size;
    return PFX_OK;
}

static pfx_result open_log(struct tail *tail, struct pfx_error *err)
{
    struct stat st;
    bool there = stat(tail->path, &st) == 0;
    PFX_TRY(cli_log_open(tail->cli, &tail->dir, err));
    tail->dev = there ? st.st_dev : 0;
    tail->ino = there ? st.st_ino : 0;
    return PFX_OK;
}

static void show(struct tail *tail, uint64_t seq, struct pfx_bytes entry)
{
    if (tail->cli->given[CLI_JSON]) {
        (void)fwrite(entry.data, 1, entry.len, stdout);
        (void)fputc('\n', stdout);
        return;
    }
    char day[CLI_DAY_SIZE];
    if (cli_log_narrow(stdout) && strcmp(cli_log_day(entry, day), tail->day) != 0 && day[0]) {
        (void)printf("%s-- %s%s\n", cli_tone(stdout, CLI_DIM), day, cli_tone_end(stdout, CLI_DIM));
        memcpy(tail->day, day, sizeof(tail->day));
    }
    bool covered = seq < tail->covered;
    tail->open_shown = tail->open_shown || !covered;
    cli_log_line(stdout, seq, entry, covered);
}

static pfx_result show_up_to(struct tail *tail, uint64_t count, struct pfx_error *err)
{
    for (; tail->next < count && !ferror(stdout); tail->next++) {
        struct pfx_bytes entry;
        struct pfx_error why = PFX_ERROR_NONE;
        pfx_result r = pfx_logdir_entry(tail->dir, tail->next, &entry, &why);
        if (r.cls == PFX_CLASS_REFUSED && strcmp(why.code, "dropped") == 0) {
            /* By retention: before, or while this was reading. */
            PFX_TRY(pfx_logdir_refresh(tail->dir, err));
            uint64_t first = pfx_logdir_first(tail->dir);
            tail->next = (first > tail->next ? first : tail->next + 1) - 1;
            continue;
        }
        if (pfx_failed(r)) {
            (void)fflush(stdout);
            *err = why;
            return r;
        }
        show(tail, tail->next, entry);
    }
    (void)fflush(stdout);
    return PFX_OK;
}

/* log reopen sets the old folder aside and begins another log in its place. */
static pfx_result follow_name(struct tail *tail, struct pfx_error *err)
{
    struct stat st;
    if (stat(tail->path, &st) != 0 || (st.st_dev == tail->dev && st.st_ino == tail->ino))
        return PFX_OK; /* between two names there is none for a moment */
    struct pfx_logdir *old = PFX_TAKE(tail->dir);
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(open_log(tail, &why))) {
        tail->dir = old; /* not begun yet */
        (void)err;
        return PFX_OK;
    }
    pfx_logdir_close(old);
    tail->next = 0;
    tail->open_shown = false;
    const struct pfx_checkpoint *checkpoint = NULL;
    (void)pfx_logdir_checkpoint(tail->dir, &checkpoint);
    cli_say("another log begins here: %s", checkpoint->origin);
    return PFX_OK;
}

static pfx_result follow(struct tail *tail, struct pfx_error *err)
{
    const struct timespec pause = {0, POLL_MS * 1000000L};
    while (!ferror(stdout)) {
        uint64_t count = 0;
        (void)nanosleep(&pause, NULL);
        PFX_TRY(follow_name(tail, err));
        PFX_TRY(look(tail, &count, err));
        if (tail->open_shown && tail->covered >= tail->next) {
            if (!tail->cli->given[CLI_JSON])
                cli_say("all entries before %llu are covered now",
                        (unsigned long long)tail->covered);
            tail->open_shown = false;
        }
        PFX_TRY(show_up_to(tail, count, err));
    }
    return PFX_OK;
}

int cli_do_log_tail(struct cli *cli)
{
    struct tail tail PFX_CLEANUP(tail_done) = {.cli = cli, .path = cli_log_path(cli)};
    struct pfx_error err = PFX_ERROR_NONE;
    uint64_t wanted = 0, count = 0;
    pfx_result r = lines_wanted(cli, &wanted, &err);
    if (pfx_ok(r))
        r = open_log(&tail, &err);
    if (pfx_ok(r))
        r = look(&tail, &count, &err);
    if (pfx_failed(r))
        return cli_fail(&err);
    tail.next = count > wanted ? count - wanted : 0;
    if (!cli->given[CLI_JSON])
        cli_log_titles(stdout);
    r = show_up_to(&tail, count, &err);
    if (pfx_ok(r) && tail.open_shown && !cli->given[CLI_JSON])
        cli_say("* not covered by a signed checkpoint yet (the newest covers %llu entries)",
                (unsigned long long)tail.covered);
    if (pfx_ok(r) && cli->given[CLI_FOLLOW])
        r = follow(&tail, &err);
    return pfx_failed(r) ? cli_fail(&err) : CLI_EXIT_OK;
}
