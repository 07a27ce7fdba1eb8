/* pfx-hsm: whole operations with the keys of an HSM, for a pfx-agentd that it doesn't trust. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "api/conf/notify.h"
#include "api/conf/process.h"
#include "pkcs11/hsm/confine.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/hsm.h"
#include "pkcs11/hsm/loop.h"
#include "pkcs11/hsm/watchdog.h"

#define DEFAULT_POLICY "/etc/pfx-agent/hsm-policy.yaml"

static void usage(FILE *to)
{
    fputs("usage: pfx-hsm [--policy FILE] [--child] [--debug]\n"
          "\n"
          "  --policy FILE  what it does, whatever it is asked (" DEFAULT_POLICY ");\n"
          "                 owned by root or by the user it runs as\n"
          "  --child        end when the process that started it ends\n"
          "  --debug        one log line for each operation\n"
          "  --version, --help\n",
          to);
}

/* Set before the parent can have gone unnoticed: it is looked for once more afterwards. */
static void follow_parent(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent)
        exit(0);
}

static pfx_result run(const char *policy_path, struct pfx_error *err)
{
    struct pfx_hsm_policy *policy = NULL;
    struct pfx_hsm *hsm = NULL;
    int signal_fd;
    struct pfx_force force = {.there = false};
    PFX_TRY(pfx_hsm_policy_load(policy_path, &policy, err));
    pfx_result result = pfx_force_read(&policy, &force, err);
    if (pfx_ok(result))
        result = pfx_process_signals(&signal_fd, err); /* before any thread */
    if (pfx_ok(result)) {
        result = pfx_confine_files(policy, err); /* before any thread, too */
        if (pfx_ok(result))
            result = pfx_watchdog_start(policy->call_deadline_ms, err);
        if (pfx_ok(result)) {
            result = pfx_hsm_new(policy, &force, &hsm, err);
            if (pfx_ok(result))
                result = pfx_loop_run(hsm, signal_fd, err);
            /* Logging out and C_Finalize can hang as well: the watchdog still looks. */
            pfx_hsm_free(hsm);
            pfx_watchdog_stop();
        }
        close(signal_fd);
    }
    pfx_force_done(&force);
    pfx_hsm_policy_free(policy);
    return result;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"policy", required_argument, NULL, 'p'}, {"child", no_argument, NULL, 'c'},
        {"debug", no_argument, NULL, 'd'},        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    const char *policy = DEFAULT_POLICY;
    pid_t parent = getppid();
    int option;
    pfx_process_harden("pfx-hsm");
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'p':
            policy = optarg;
            break;
        case 'c':
            follow_parent(parent);
            break;
        case 'd':
            pfx_log_level_set(PFX_LOG_DEBUG);
            break;
        case 'v':
            puts("pfx-hsm " PFX_VERSION);
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
        usage(stderr);
        return 2;
    }
    pfx_notify_setup();
    pfx_process_lock(); /* OpenSSL and the modules have copies of secrets, too */
    struct pfx_error err = PFX_ERROR_NONE;
    pfx_result result = run(policy, &err);
    if (pfx_failed(result)) {
        pfx_log_error(&err, "pfx-hsm ends");
        return pfx_class_exit(result.cls);
    }
    pfx_log(PFX_LOG_INFO, "pfx-hsm ended");
    return 0;
}
