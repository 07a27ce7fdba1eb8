/* One request to a daemon over its path socket, and the items that come back. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "api/conf/agent_conf.h"
#include "api/conf/option.h"
#include "api/conf/process.h"
#include "api/wire/conn.h"

#define AGENT_RUN_DIR "/run/pfx-agent"
#define HSM_SOCKET "/run/pfx-hsm/admin"
#define SLICE_MS 150 /* between two calls of idle */

static const char *peer_name(enum cli_peer peer)
{
    return peer == CLI_AGENT ? "pfx-agentd" : "pfx-hsm";
}

static pfx_result agent_socket(const struct cli *cli, char **ret_path, struct pfx_error *err)
{
    if (cli->given[CLI_RUN_DIR]) {
        *ret_path = pfx_asprintf("%s/cli", cli->values[CLI_RUN_DIR]);
        return PFX_OK;
    }
    const char *env = getenv("PFX_AGENT_SOCKET");
    if (!cli->given[CLI_CONFIG] && env && *env) {
        *ret_path = pfx_strdup(env);
        return PFX_OK;
    }
    /* Without --config the file is only a hint: not everyone who may ask may read it. */
    struct pfx_agent_conf *conf = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result r = pfx_agent_conf_load(cli->given[CLI_CONFIG] ? cli->values[CLI_CONFIG]
                                                              : pfx_conf_path(PFX_CONF_AGENT),
                                       &conf, &why);
    if (pfx_failed(r) && cli->given[CLI_CONFIG]) {
        *err = why;
        return r;
    }
    *ret_path = pfx_asprintf("%s/cli", pfx_ok(r) ? conf->run_dir : AGENT_RUN_DIR);
    if (pfx_ok(r))
        pfx_agent_conf_free(conf);
    return PFX_OK;
}

pfx_result cli_socket(const struct cli *cli, enum cli_peer peer, char **ret_path,
                      struct pfx_error *err)
{
    enum cli_option_id id = peer == CLI_AGENT ? CLI_CLI_SOCKET : CLI_ADMIN_SOCKET;
    if (cli->given[id]) {
        *ret_path = pfx_strdup(cli->values[id]);
        return PFX_OK;
    }
    if (peer == CLI_AGENT)
        return agent_socket(cli, ret_path, err);
    const char *env = getenv("PFX_HSM_SOCKET");
    *ret_path = pfx_strdup(env && *env ? env : HSM_SOCKET);
    return PFX_OK;
}

/* Why nobody answers there, and what starts it. */
static pfx_result unreachable(enum cli_peer peer, const char *path, const struct pfx_error *why,
                              int *ret_exit, struct pfx_error *err)
{
    const char *start = peer == CLI_AGENT
                            ? "systemctl start pfx-agentd (in a laboratory: pfx-agentd --with-arms)"
                            : "systemctl start pfx-hsm (in a laboratory pfx-agentd --with-arms "
                              "starts it); journalctl -u pfx-hsm says why it ended";
    struct stat st;
    int failed = stat(path, &st) == 0 ? 0 : errno;
    *ret_exit = CLI_EXIT_UNREACHABLE;
    if (why->cls == PFX_CLASS_USAGE) {
        *err = *why;
        *ret_exit = CLI_EXIT_USAGE;
        return (pfx_result){PFX_CLASS_USAGE};
    }
    if (failed == EACCES || (failed == 0 && access(path, W_OK) != 0 && errno == EACCES)) {
        *ret_exit = CLI_EXIT_REFUSED;
        return pfx_fail(err, PFX_CLASS_REFUSED, "", "", "EACCES",
                        "%s may not be asked by you: %s can't be opened. Take root, or an account "
                        "of the group that %s names",
                        peer_name(peer), path,
                        peer == CLI_AGENT ? "access.operators in agent.yaml"
                                          : "access.admins in hsm-policy.yaml");
    }
    if (failed == ENOENT || failed == ENOTDIR)
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "", "", "",
                        "%s isn't running: there is no socket %s. Start it: %s", peer_name(peer),
                        path, start);
    if (failed == 0 && !S_ISSOCK(st.st_mode))
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "", "", "",
                        "%s can't be reached: %s is there, but is no socket. Remove it, then: %s",
                        peer_name(peer), path, start);
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "", "", why->code,
                    "%s isn't running: the socket file %s is there, but nobody listens on it. "
                    "Start it: %s",
                    peer_name(peer), path, start);
}

static pfx_result gone(const struct cli_ask *ask, int *ret_exit, struct pfx_error *err)
{
    *ret_exit = CLI_EXIT_UNREACHABLE;
    return pfx_fail(err, PFX_CLASS_TRANSIENT, "", "", "",
                    "%s closed the line before it had answered \"%s\"; its log says why. What was "
                    "begun goes on from its store: look with pfx-agent status",
                    peer_name(ask->peer), ask->verb);
}

static pfx_result hostile(const struct cli_ask *ask, const struct pfx_error *why, int *ret_exit,
                          struct pfx_error *err)
{
    *ret_exit = CLI_EXIT_INTERNAL;
    return pfx_fail(err, PFX_CLASS_INTERNAL, "", "", "",
                    "%s answered \"%s\" with something this version can't read: %s. Are both "
                    "programs of one version?",
                    peer_name(ask->peer), ask->verb, why->text);
}

/* Takes one message apart; *ret_end once the answer is complete. */
static pfx_result take(const struct cli_ask *ask, const struct pfx_msg *msg, bool *ret_end,
                       int *ret_exit, struct pfx_error *err)
{
    const struct pfx_wire_pair *pair =
        pfx_wire_find(ask->peer == CLI_AGENT ? pfx_wire_agent : pfx_wire_admin, ask->verb);
    if (pfx_msg_is(msg, &pfx_s_bye)) {
        *ret_exit = CLI_EXIT_REFUSED;
        return pfx_fail(err, PFX_CLASS_REFUSED, "", "", "", "%s refuses: %s", peer_name(ask->peer),
                        pfx_msg_str(msg, "why"));
    }
    if (pfx_msg_is(msg, &pfx_s_end)) {
        *ret_end = true;
        *ret_exit = (int)pfx_msg_int(msg, "exit");
        if (pfx_msg_has(msg, "error"))
            pfx_msg_get_error(msg, "error", err);
        return PFX_OK;
    }
    struct pfx_msg *item PFX_AUTOMSG = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    if (!pair || !pair->result || pfx_failed(pfx_msg_body(msg, "body", pair->result, &item, &why)))
        return hostile(ask, &why, ret_exit, err);
    if (ask->item)
        ask->item(ask->ctx, item);
    return PFX_OK;
}

static pfx_result exchange(struct pfx_conn *conn, const struct cli_ask *ask, int *ret_exit,
                           struct pfx_error *err)
{
    int64_t heard = pfx_uptime_ms();
    for (bool lost = false;;) {
        for (bool end = false;;) {
            struct pfx_msg *msg PFX_AUTOMSG = NULL;
            struct pfx_error why = PFX_ERROR_NONE;
            if (pfx_failed(pfx_conn_next(conn, &msg, &why)))
                return hostile(ask, &why, ret_exit, err);
            if (!msg)
                break;
            heard = pfx_uptime_ms();
            PFX_TRY(take(ask, msg, &end, ret_exit, err));
            if (end)
                return PFX_OK;
        }
        if (lost)
            return gone(ask, ret_exit, err);
        if (pfx_uptime_ms() - heard > (int64_t)ask->silence_s * 1000) {
            *ret_exit = CLI_EXIT_UNREACHABLE;
            return pfx_fail(err, PFX_CLASS_TRANSIENT, "", "", "",
                            "%s has said nothing for %u seconds on \"%s\"; its log says why",
                            peer_name(ask->peer), ask->silence_s, ask->verb);
        }
        struct pollfd fd = {.fd = pfx_conn_fd(conn), .events = pfx_conn_events(conn)};
        if (poll(&fd, 1, SLICE_MS) == 0) {
            if (ask->idle)
                ask->idle(ask->ctx);
            continue;
        }
        struct pfx_error why = PFX_ERROR_NONE;
        lost = pfx_failed(pfx_conn_pump(conn, &why));
    }
}

/* What a person typed may be of any length, and in another encoding than UTF-8. */
static pfx_result request_of(const struct cli_ask *ask, struct pfx_msg *request, int *ret_exit,
                             struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_msg_set_int(request, "id", 1);
    pfx_msg_set_str(request, "verb", ask->verb);
    if (!ask->args)
        return PFX_OK;
    size_t most = pfx_msg_schema(ask->args)->ceiling;
    struct pfx_buf text PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(most);
    if (pfx_failed(pfx_msg_encode(ask->args, false, &text, &why))) {
        *ret_exit = CLI_EXIT_USAGE;
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "", "what was given can't be asked for: %s",
                        why.text);
    }
    pfx_msg_set_body_text(request, "args", pfx_buf_str(&text), text.len);
    return PFX_OK;
}

pfx_result cli_ask(const struct cli *cli, const struct cli_ask *ask, int *ret_exit,
                   struct pfx_error *err)
{
    static const struct pfx_wire_schema *const accepts[] = {&pfx_s_item, &pfx_s_end, &pfx_s_bye};
    char *path PFX_AUTOFREE = NULL;
    pfx_result r = cli_socket(cli, ask->peer, &path, err);
    if (pfx_failed(r)) {
        *ret_exit = pfx_class_exit(r.cls);
        return r;
    }
    struct pfx_msg *request PFX_AUTOMSG = pfx_msg_new(&pfx_s_req);
    PFX_TRY(request_of(ask, request, ret_exit, err));
    int fd = -1;
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_sock_connect(path, &fd, &why)))
        return unreachable(ask->peer, path, &why, ret_exit, err);
    struct pfx_conn *conn = pfx_conn_new(fd, accepts, sizeof(accepts) / sizeof(accepts[0]));
    r = pfx_conn_send(conn, request, err);
    if (pfx_failed(r))
        *ret_exit = pfx_class_exit(r.cls);
    else
        r = exchange(conn, ask, ret_exit, err);
    pfx_conn_free(conn);
    return r;
}

int cli_ask_report(const struct cli *cli, const struct cli_ask *ask)
{
    struct pfx_error err = PFX_ERROR_NONE;
    int code = CLI_EXIT_INTERNAL;
    pfx_result r = cli_ask(cli, ask, &code, &err);
    if (pfx_failed(r) || err.text[0])
        (void)cli_fail(&err);
    return code;
}

int cli_hsm_there(const struct cli *cli, unsigned silence_s)
{
    struct cli_ask ask = {CLI_HSM, "hsm.status", NULL, silence_s, NULL, NULL, NULL};
    struct pfx_error err = PFX_ERROR_NONE;
    int code = CLI_EXIT_OK;
    if (pfx_ok(cli_ask(cli, &ask, &code, &err)))
        return CLI_EXIT_OK;
    (void)cli_fail(&err);
    return code;
}

int cli_ask_each(const struct cli *cli, const struct cli_ask *ask, const char *const *operands,
                 size_t n,
                 void (*fill)(const struct cli *cli, const char *operand, struct pfx_msg *args))
{
    int worst = CLI_EXIT_OK, code = CLI_EXIT_OK;
    for (size_t i = 0; i < (n ? n : 1) && code != CLI_EXIT_UNREACHABLE; i++) {
        struct pfx_msg *args PFX_AUTOMSG = cli_args_new(ask->peer, ask->verb);
        fill(cli, n ? operands[i] : NULL, args);
        struct cli_ask one = *ask;
        one.args = args;
        code = cli_ask_report(cli, &one);
        worst = code > worst ? code : worst;
    }
    return worst;
}

struct pfx_msg *cli_args_new(enum cli_peer peer, const char *verb)
{
    const struct pfx_wire_pair *pair =
        pfx_wire_find(peer == CLI_AGENT ? pfx_wire_agent : pfx_wire_admin, verb);
    if (!pair || !pair->request)
        pfx_die("a verb of the command line isn't in the tables of the sockets");
    return pfx_msg_new(pair->request);
}
