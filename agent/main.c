/* pfx-agentd: decides. It holds no key, no secret in the clear, and opens no internet socket. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/counter.h"
#include "agent/desk.h"
#include "agent/notes_queue.h"
#include "agent/outbox.h"
#include "agent/pass.h"
#include "agent/run.h"
#include "agent/supervise.h"
#include "agent/timing.h"
#include "api/conf/account.h"
#include "api/conf/notify.h"
#include "api/conf/process.h"
#include "api/conf/sandbox.h"
#include "crypto/secret.h"

#define TICK_MS 100 /* while something moves */
#define IDLE_MS 1000
#define JOB_DEADLINE_S 360 /* pfx-uploader gives a job five minutes by default */
#define PATIENCE_S 60
#define MOST_S 86400

struct options {
    const char *config, *hsm_policy, *uploader_config;
    bool with_arms;
    long job_deadline_s, patience_s;
};

static void usage(FILE *out)
{
    fprintf(
        out,
        "usage: pfx-agentd [--config FILE] [--with-arms [--hsm-policy FILE] "
        "[--uploader-config FILE]]\n"
        "                  [--job-deadline SECONDS] [--patience SECONDS] [--version] [--help]\n"
        "\n"
        "  --config FILE           default /etc/pfx-agent/agent.yaml\n"
        "  --with-arms             start pfx-hsm and pfx-uploader too, and again when they end\n"
        "  --hsm-policy FILE       for pfx-hsm\n"
        "  --uploader-config FILE  for pfx-uploader\n"
        "  --job-deadline SECONDS  an arm without a sign of life from a job for so long is taken\n"
        "                          for hung and its line is closed (default %d)\n"
        "  --patience SECONDS      a run ends when the directory or the CA can't be asked for so\n"
        "                          long, or an arm is away for a third of it (default %d)\n",
        JOB_DEADLINE_S, PATIENCE_S);
}

static bool seconds(const char *name, const char *text, long *ret_s)
{
    char *end;
    long s = strtol(text, &end, 10);
    if (*end || end == text || s < 1 || s > MOST_S) {
        fprintf(stderr, "pfx-agentd: --%s %s: 1 to %d seconds\n", name, text, MOST_S);
        return false;
    }
    *ret_s = s;
    return true;
}

/* -1: go on; else the exit code. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'},
        {"with-arms", no_argument, NULL, 'a'},
        {"hsm-policy", required_argument, NULL, 'p'},
        {"uploader-config", required_argument, NULL, 'u'},
        {"job-deadline", required_argument, NULL, 'd'},
        {"patience", required_argument, NULL, 'w'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    *o = (struct options){.config = "/etc/pfx-agent/agent.yaml",
                          .job_deadline_s = JOB_DEADLINE_S,
                          .patience_s = PATIENCE_S};
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            o->config = optarg;
            break;
        case 'a':
            o->with_arms = true;
            break;
        case 'p':
            o->hsm_policy = optarg;
            break;
        case 'u':
            o->uploader_config = optarg;
            break;
        case 'd':
            if (!seconds("job-deadline", optarg, &o->job_deadline_s))
                return 2;
            break;
        case 'w':
            if (!seconds("patience", optarg, &o->patience_s))
                return 2;
            break;
        case 'v':
            printf("pfx-agentd %s\n", PFX_VERSION);
            return 0;
        case 'h':
            usage(stdout);
            return 0;
        default:
            usage(stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "pfx-agentd: %s: no arguments are taken\n", argv[optind]);
        return 2;
    }
    if (!o->with_arms && (o->hsm_policy || o->uploader_config)) {
        fprintf(stderr, "pfx-agentd: --hsm-policy and --uploader-config need --with-arms\n");
        return 2;
    }
    return -1;
}

/* Others must be able to pass through it where sockets are for others; each socket has its own mode
 * and asks the kernel who comes. */
static pfx_result make_run_dir(const char *dir, bool for_others, struct pfx_error *err)
{
    if (mkdir(dir, 0750) == 0) {
        if (chmod(dir, for_others ? 0755 : 0750) != 0)
            return pfx_fail_errno(err, errno, "chmod run_dir", dir, "check run_dir in agent.yaml");
        return PFX_OK;
    }
    if (errno != EEXIST)
        return pfx_fail_errno(err, errno, "make run_dir", dir,
                              "make its parent folder, or set run_dir in agent.yaml");
    struct stat st;
    if (stat(dir, &st) != 0)
        return pfx_fail_errno(err, errno, "read run_dir", dir, "check run_dir in agent.yaml");
    if (!S_ISDIR(st.st_mode) || access(dir, W_OK | X_OK) != 0)
        return pfx_fail(
            err, PFX_CLASS_USAGE, "run_dir", dir, "",
            "this isn't a folder that pfx-agentd can make its sockets in; check its owner "
            "and run_dir in agent.yaml");
    return PFX_OK;
}

struct daemon {
    struct pfx_agent agent;
    struct pfx_agent_conf *conf;
    struct pfx_children *children;
    int signals;
};

/* The store is open and the sockets are bound; nobody was heard yet. */
static pfx_result confine(const struct pfx_agent_conf *conf, struct pfx_error *err)
{
    struct pfx_sandbox *box PFX_CLEANUP(pfx_sandbox_freep) = pfx_sandbox_new(PFX_SANDBOX_AGENTD);
    pfx_sandbox_path(box, conf->state_dir, PFX_REACH_WRITE);
    pfx_sandbox_path(box, conf->run_dir, PFX_REACH_WRITE);
    pfx_sandbox_accounts(box);
    PFX_TRY(pfx_secret_memory(PFX_SECRET_LOCKED, err)); /* it has none, nor the call in its list */
    PFX_TRY(pfx_sandbox_files(box, err));
    return pfx_sandbox_calls(box, err);
}

static pfx_result set_up(struct daemon *d, const struct options *o, struct pfx_error *err)
{
    struct pfx_agent *a = &d->agent;
    uid_t uids[PFX_ARM_ROLES];
    gid_t operators, auditors;
    if (o->with_arms) /* while nothing is open that they could have */
        PFX_TRY(pfx_children_split(o->hsm_policy, o->uploader_config, &d->children, err));
    PFX_TRY(pfx_agent_conf_load(o->config, &d->conf, err));
    a->conf = d->conf;
    a->job_deadline_ms = (int64_t)o->job_deadline_s * PFX_SECOND;
    a->patience_ms = (int64_t)o->patience_s * PFX_SECOND;
    PFX_TRY(pfx_names_open(a->conf->transliteration, &a->names, err));
    static const char file[] = "agent.yaml";
    PFX_TRY(pfx_account_user(file, "access.hsm_user", a->conf->hsm_user, &uids[PFX_ARM_HSM], err));
    PFX_TRY(pfx_account_user(file, "access.uploader_user", a->conf->uploader_user,
                             &uids[PFX_ARM_UPLOADER], err));
    PFX_TRY(pfx_account_group(file, "access.operators", a->conf->operators_group, &operators, err));
    PFX_TRY(pfx_account_group(file, "access.auditors", a->conf->auditors_group, &auditors, err));
    PFX_TRY(pfx_store_open(a->conf->state_dir, &a->store, err));
    PFX_TRY(pfx_agent_init(a, err));
    PFX_TRY(make_run_dir(a->conf->run_dir,
                         a->conf->hsm_user || a->conf->uploader_user || a->conf->operators_group ||
                             a->conf->auditors_group,
                         err));
    pfx_guid_new(a->incarnation);
    PFX_TRY(pfx_process_signals(&d->signals, err));
    PFX_TRY(pfx_desk_open(a, uids, &a->desk, err));
    PFX_TRY(pfx_counter_open(a, operators, auditors, &a->counter, err));
    PFX_TRY(confine(a->conf, err));
    if (d->children)
        pfx_children_start(d->children);
    return PFX_OK;
}

static void tear_down(struct daemon *d)
{
    pfx_counter_close(d->agent.counter);
    pfx_notes_stop(&d->agent, pfx_now_ms());
    pfx_desk_close(d->agent.desk);
    pfx_children_stop(d->children);
    pfx_store_close(d->agent.store);
    pfx_names_close(d->agent.names);
    free(d->agent.evaluation);
    pfx_agent_conf_free(d->conf);
    if (d->signals >= 0)
        close(d->signals);
}

/* Until the next job leaves its back-off, or something else may be due. */
static int64_t until_next(struct daemon *d, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    int64_t next, out;
    int64_t wait = d->agent.run || d->agent.rebuild_since || d->agent.marking ? TICK_MS : IDLE_MS;
    if (pfx_ok(pfx_db_int(d->agent.store->db, &err, 0, &next,
                          "SELECT min(not_before) FROM job WHERE not_before > ?",
                          PFX_PARAMS(P_INT(now_ms)))) &&
        next && next - now_ms < wait)
        wait = next - now_ms;
    if (pfx_ok(pfx_db_int(d->agent.store->db, &err, 0, &out,
                          "SELECT EXISTS(SELECT 1 FROM job WHERE sent_at IS NOT NULL)",
                          PFX_NO_PARAMS)) &&
        out && wait > TICK_MS)
        wait = TICK_MS;
    return wait;
}

/* True: it was told to end. */
static bool serve(struct daemon *d)
{
    struct pollfd fds[2 + PFX_DESK_POLLFDS + PFX_COUNTER_POLLFDS];
    int64_t tick = 0;
    while (true) {
        int64_t uptime = pfx_uptime_ms();
        bool busy;
        size_t n = 0;
        fds[n++] = (struct pollfd){.fd = d->signals, .events = POLLIN};
        fds[n++] = (struct pollfd){.fd = pfx_children_fd(d->children), .events = POLLIN};
        n += pfx_desk_prepare(d->agent.desk, fds + n, &busy);
        n += pfx_counter_prepare(d->agent.counter, fds + n, &busy);
        int64_t wait = busy || pfx_run_busy(&d->agent) || pfx_pass_busy(&d->agent)
                           ? 0
                            : until_next(d, pfx_now_ms());
        int64_t rest = pfx_counter_wait(d->agent.counter);
        wait = rest < wait ? rest : wait;
        int64_t beat = pfx_notify_beat(true, uptime);
        wait = beat < wait ? beat : wait;
        if (poll(fds, n, (int)wait) < 0 && errno != EINTR)
            pfx_die("poll failed");
        if (fds[0].revents)
            return true;
        if (fds[1].revents) {
            pfx_log(PFX_LOG_ERROR, "the process that watches over pfx-hsm and pfx-uploader is gone: "
                                   "pfx-agentd ends, start it again");
            return false;
        }
        int64_t now_ms = pfx_now_ms();
        pfx_desk_step(d->agent.desk, now_ms);
        uptime = pfx_uptime_ms();
        if (uptime >= tick || pfx_pass_busy(&d->agent)) {
            pfx_agent_tick(&d->agent, now_ms);
            tick = uptime + TICK_MS;
        }
        pfx_counter_step(d->agent.counter, now_ms);
        pfx_run_step(&d->agent, now_ms);
        pfx_desk_hand_out(d->agent.desk, now_ms);
    }
}

int main(int argc, char **argv)
{
    struct options options;
    struct daemon d = {.signals = -1};
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_process_harden("pfx-agentd");
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is a full disk, no reason to die */
    int code = read_options(argc, argv, &options);
    if (code >= 0)
        return code;
    pfx_notify_setup();
    pfx_result r = set_up(&d, &options, &err);
    if (pfx_failed(r)) {
        pfx_log_error(&err, "pfx-agentd can't start");
        tear_down(&d);
        return pfx_class_exit(r.cls);
    }
    pfx_log(PFX_LOG_INFO, "pfx-agentd %s is ready: %zu rules, state in %s", PFX_VERSION,
            d.conf->n_rules, d.conf->state_dir);
    pfx_notes_start(&d.agent, pfx_now_ms());
    pfx_notify_ready("the sockets are open");
    bool told = serve(&d);
    pfx_notify_stopping();
    pfx_log(PFX_LOG_INFO, "pfx-agentd ends");
    tear_down(&d);
    return told ? 0 : pfx_class_exit(PFX_CLASS_INTERNAL);
}
