#include "api/uploader/setup_entra.h"

#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "api/uploader/exchange.h"
#include "api/uploader/finding.h"
#include "api/uploader/graph.h"
#include "api/uploader/text.h"
#include "api/uploader/token.h"

/* Findings that several functions write. */
#define RECORDS "Intune's list of certificates"
#define SHARED "Exchange's shared mailboxes"

/* What is done at Microsoft, with which credential, and which application role that takes. */
static const struct seat {
    const char *what;
    enum pfx_service_id service;
    enum pfx_use use;
    const char *roles[2];
} seats[] = {
    {"users and groups", PFX_SERVICE_GRAPH, PFX_USE_MAIN,
     {"User.Read.All", "GroupMember.Read.All"}},
    {"Intune", PFX_SERVICE_GRAPH, PFX_USE_IMPORT,
     {"DeviceManagementConfiguration.ReadWrite.All", NULL}},
    {"mail", PFX_SERVICE_GRAPH, PFX_USE_MAIL, {"Mail.Send", NULL}},
    {"Exchange", PFX_SERVICE_EXCHANGE, PFX_USE_MAIN, {"Exchange.ManageAsApp", NULL}},
};
enum { DIRECTORY, INTUNE, MAIL, EXCHANGE, N_SEATS };

struct setup {
    struct pfx_msg *result;
    bool wanted[N_SEATS];
    bool signed_in[N_SEATS]; /* its credential was got */
    char oid[N_SEATS][37];
    enum { SIGN_IN, GROUPS, LIST, MAILBOXES, DONE } phase;
    size_t at; /* seat, or group */
    bool cached;         /* the seat's token was there before */
    unsigned generation; /* of it */
    struct pfx_cmdlet cmdlet;
};

static void setup_done(void *state)
{
    struct setup *setup = state;
    pfx_msg_free(setup->result);
    pfx_cmdlet_done(&setup->cmdlet);
}

static void go_on(struct pfx_task *task);

/* --- findings --- */

/* next and command may be NULL. */
static void find(struct pfx_task *task, const char *level, const char *what, const char *text,
                 const char *next, const struct pfx_buf *command)
{
    struct setup *setup = pfx_task_get(task);
    struct pfx_msg *finding = pfx_finding_add(setup->result, what, level, text, next);
    if (command && command->len > 0)
        pfx_msg_set_str(finding, "command", pfx_buf_str(command));
}

static struct pfx_cred *cred_of(struct pfx_task *task, size_t seat)
{
    return pfx_task_up(task)->services[seats[seat].service].creds[seats[seat].use];
}

static bool by_identity(struct pfx_task *task)
{
    return pfx_task_up(task)->conf->sign_in != PFX_SIGN_IN_ASSERTION;
}

/* "app main (Intune)" */
static const char *name_of(struct pfx_task *task, size_t seat, char text[200])
{
    if (by_identity(task))
        snprintf(text, 200, "managed identity (%s)", seats[seat].what);
    else
        snprintf(text, 200, "app %s (%s)", pfx_token_app(cred_of(task, seat)), seats[seat].what);
    return text;
}

static struct pfx_setup_app app_of(struct pfx_task *task, size_t seat)
{
    const struct setup *setup = pfx_task_get(task);
    return (struct pfx_setup_app){
        .conf = pfx_task_up(task)->conf,
        .name = pfx_token_app(cred_of(task, seat)),
        .client_id = pfx_token_client_id(cred_of(task, seat)),
        .oid = setup->oid[seat],
    };
}

static struct pfx_buf command_buf(void)
{
    return pfx_buf_make(3900);
}

/* --- sign-in and roles --- */

/* Does this seat, which is wanted, share the credential of that one? */
static bool is_shared(struct pfx_task *task, size_t seat, size_t other)
{
    const struct setup *setup = pfx_task_get(task);
    return setup->wanted[seat] && cred_of(task, seat) == cred_of(task, other);
}

/* Roles that another seat with the same credential needs aren't superfluous here. */
static bool is_needed(struct pfx_task *task, size_t seat, const char *role)
{
    for (size_t i = 0; i < N_SEATS; i++)
        for (size_t k = 0; k < 2; k++)
            if (is_shared(task, i, seat) && seats[i].roles[k] &&
                strcmp(seats[i].roles[k], role) == 0)
                return true;
    return false;
}

static void look_at_role(struct pfx_task *task, size_t seat, const struct pfx_claims *claims,
                         const char *role)
{
    char what[200];
    char text[300];
    name_of(task, seat, what);
    if (pfx_claims_have(claims, role)) {
        snprintf(text, sizeof text, "It has the role %s.", role);
        find(task, "ok", what, text, NULL, NULL);
        return;
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf command = command_buf();
    struct pfx_setup_app app = app_of(task, seat);
    char next[400];
    pfx_setup_grant(&app, role, &command);
    snprintf(text, sizeof text, "It lacks the application role %s.", role);
    const char *first = pfx_setup_cloud(app.conf);
    if (by_identity(task))
        snprintf(next, sizeof next,
                 "%s%sThe command gives it; the portal can't, for a managed identity. Its token "
                 "keeps its roles for up to a day.", first, first[0] ? " " : "");
    else
        snprintf(next, sizeof next,
                 "%s%sApp registrations, API permissions, add %s as an application permission, "
                 "grant admin consent; or the command.", first, first[0] ? " " : "", role);
    find(task, "bad", what, text, next, &command);
}

static void look_for_more(struct pfx_task *task, size_t seat, const struct pfx_claims *claims)
{
    char more[420] = "";
    size_t at = 0;
    size_t untold = 0;
    for (size_t i = 0; i < claims->n_roles; i++) {
        if (!pfx_role_is_dangerous(claims->roles[i]) || is_needed(task, seat, claims->roles[i]))
            continue;
        if (at + 160 < sizeof more)
            at += (size_t)snprintf(more + at, sizeof more - at, "%s%s", at ? ", " : "",
                                   claims->roles[i]);
        else
            untold++;
    }
    if (at == 0)
        return;
    if (untold > 0)
        snprintf(more + at, sizeof more - at, " and %zu more", untold);
    char what[200];
    char text[600];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf command = command_buf();
    struct pfx_setup_app app = app_of(task, seat);
    pfx_setup_list_roles(&app, &command);
    snprintf(text, sizeof text, "It has roles that pfx-agent doesn't use and that can do harm: %s.",
             more);
    find(task, "warn", name_of(task, seat, what), text,
         "Enterprise applications, the app, Permissions: remove them. The command lists what it "
         "has; each is removed by DELETE on its id.", &command);
}

/* claims is NULL: they can't be read. */
static void look_at_token(struct pfx_task *task, size_t seat, const struct pfx_claims *claims)
{
    const struct pfx_cred *cred = cred_of(task, seat);
    char what[200];
    char text[300];
    name_of(task, seat, what);
    if (by_identity(task))
        snprintf(text, sizeof text, "A token was obtained; the identity's object id is %s.",
                 claims && claims->oid[0] ? claims->oid : "not shown");
    else
        snprintf(text, sizeof text, "A token was obtained for client id %s: the certificate is "
                                    "registered.", pfx_token_client_id(cred));
    find(task, "ok", what, text, NULL, NULL);
    if (!claims) {
        find(task, "warn", what, "The token's roles can't be read.",
             "See them in the Entra admin center: Enterprise applications, the app, Permissions.",
             NULL);
        return;
    }
    for (size_t i = 0; i < N_SEATS; i++)
        for (size_t k = 0; k < 2; k++)
            if (is_shared(task, i, seat) && seats[i].roles[k])
                look_at_role(task, seat, claims, seats[i].roles[k]);
    look_for_more(task, seat, claims);
}

static bool lacks_role(struct pfx_task *task, size_t seat, const struct pfx_claims *claims)
{
    for (size_t i = 0; i < N_SEATS; i++)
        for (size_t k = 0; k < 2; k++)
            if (is_shared(task, i, seat) && seats[i].roles[k] &&
                !pfx_claims_have(claims, seats[i].roles[k]))
                return true;
    return false;
}

static void spread(struct pfx_task *task, size_t seat)
{
    struct setup *setup = pfx_task_get(task);
    for (size_t i = 0; i < N_SEATS; i++) {
        if (cred_of(task, i) != cred_of(task, seat))
            continue;
        setup->signed_in[i] = true;
        memcpy(setup->oid[i], setup->oid[seat], sizeof setup->oid[i]);
    }
}

static void sign_in(struct pfx_task *task);

static void on_signed_in(struct pfx_task *task, const struct pfx_answer *answer)
{
    struct setup *setup = pfx_task_get(task);
    (void)answer;
    struct pfx_cred *cred = cred_of(task, setup->at);
    PFX_CLEANUP(pfx_claims_done) struct pfx_claims claims = {0};
    bool readable = cred->value && pfx_claims_read(cred->value, &claims);
    /* A token of before the role was given knows nothing of it: a fresh one is worth its price. */
    if (readable && setup->cached && cred->generation == setup->generation &&
        lacks_role(task, setup->at, &claims) &&
        pfx_cred_refused(cred, cred->generation, false, pfx_uptime_ms())) {
        sign_in(task);
        return;
    }
    snprintf(setup->oid[setup->at], sizeof setup->oid[setup->at], "%s", claims.oid);
    look_at_token(task, setup->at, readable ? &claims : NULL);
    spread(task, setup->at);
    setup->at++;
    go_on(task);
}

static void on_no_sign_in(struct pfx_task *task, pfx_result result, const struct pfx_error *err)
{
    struct setup *setup = pfx_task_get(task);
    (void)result;
    char what[200];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf command = command_buf();
    struct pfx_setup_app app = app_of(task, setup->at);
    pfx_setup_sign_in(&app, err->code, &command);
    char text[640];
    find(task, "bad", name_of(task, setup->at, what), pfx_error_line(err, text, sizeof text),
         pfx_setup_cloud(app.conf), &command);
    setup->at++;
    go_on(task);
}

/* The first seat with this credential asks for it; the others share what comes of it. */
static bool is_first(struct pfx_task *task, size_t seat)
{
    const struct setup *setup = pfx_task_get(task);
    for (size_t i = 0; i < seat; i++)
        if (setup->wanted[i] && cred_of(task, i) == cred_of(task, seat))
            return false;
    return true;
}

static void sign_in(struct pfx_task *task)
{
    struct setup *setup = pfx_task_get(task);
    const struct pfx_cred *cred = cred_of(task, setup->at);
    setup->cached = cred->value != NULL;
    setup->generation = cred->generation;
    struct pfx_call call = {
        .service = seats[setup->at].service,
        .use = seats[setup->at].use,
        .method = "GET",
        .op = "sign in",
        .otherwise = on_no_sign_in,
    };
    pfx_task_call(task, &call, on_signed_in);
}

/* --- groups, Intune's list, mailboxes --- */

static void group_what(struct pfx_task *task, char what[200])
{
    const struct setup *setup = pfx_task_get(task);
    snprintf(what, 200, "group %s", pfx_msg_str_at(pfx_task_body(task), "groups", setup->at));
}

static void next_group(struct pfx_task *task)
{
    struct setup *setup = pfx_task_get(task);
    setup->at++;
    go_on(task);
}

static void on_no_group(struct pfx_task *task, pfx_result result, const struct pfx_error *err)
{
    char what[200];
    char text[640];
    (void)result;
    group_what(task, what);
    find(task, "bad", what, pfx_error_line(err, text, sizeof text), NULL, NULL);
    next_group(task);
}

static void on_group(struct pfx_task *task, const struct pfx_answer *answer)
{
    char what[200];
    group_what(task, what);
    if (answer->status == 404) {
        find(task, "bad", what, "The tenant has no group with this object id.",
             "Mend the rule in agent.yaml; the Entra admin center shows the object id of each "
             "group under Groups.", NULL);
        next_group(task);
        return;
    }
    PFX_CLEANUP(pfx_doc_done) struct pfx_doc doc = {0};
    if (!pfx_task_json(task, answer, &doc))
        return;
    const char *name = pfx_doc_str(&doc, pfx_doc_root(&doc), "displayName", PFX_DOC_MAY);
    char clean[200];
    char text[300];
    if (doc.bad) {
        pfx_task_fail_content(task, answer, doc.why);
        return;
    }
    pfx_text_clean_str(clean, sizeof clean, name);
    snprintf(text, sizeof text, "It is there: \"%s\".", clean);
    find(task, "ok", what, text, NULL, NULL);
    next_group(task);
}

static void look_at_group(struct pfx_task *task)
{
    const struct setup *setup = pfx_task_get(task);
    const char *group = pfx_msg_str_at(pfx_task_body(task), "groups", setup->at);
    if (!pfx_text_is_guid(group)) {
        char what[200];
        group_what(task, what);
        find(task, "bad", what, "This isn't an object id.", "Mend the rule in agent.yaml.", NULL);
        next_group(task);
        return;
    }
    struct pfx_call call = {
        .service = PFX_SERVICE_GRAPH,
        .use = PFX_USE_MAIN,
        .method = "GET",
        .url = pfx_asprintf("%s/v1.0/groups/%s?$select=id,displayName",
                            pfx_task_up(task)->services[PFX_SERVICE_GRAPH].url, group),
        .expect = PFX_EXPECT_JSON,
        .want = PFX_WANT_404,
        .op = "look at group",
        .otherwise = on_no_group,
    };
    pfx_task_call(task, &call, on_group);
}

static void next_phase(struct pfx_task *task)
{
    struct setup *setup = pfx_task_get(task);
    setup->phase++;
    go_on(task);
}

static void on_no_list(struct pfx_task *task, pfx_result result, const struct pfx_error *err)
{
    char text[640];
    const char *next = "The tenant needs an Intune licence, and the app the role "
                       "DeviceManagementConfiguration.ReadWrite.All.";
    find(task, "bad", RECORDS, pfx_error_line(err, text, sizeof text),
         result.cls == PFX_CLASS_REFUSED ? next : NULL, NULL);
    next_phase(task);
}

static void on_list(struct pfx_task *task, const struct pfx_answer *answer)
{
    (void)answer;
    find(task, "ok", RECORDS, "It can be read.", NULL, NULL);
    next_phase(task);
}

static void look_at_list(struct pfx_task *task)
{
    struct pfx_call call = {
        .service = PFX_SERVICE_GRAPH,
        .use = PFX_USE_IMPORT,
        .method = "GET",
        .url = pfx_asprintf("%s" PFX_GRAPH_RECORDS,
                            pfx_task_up(task)->services[PFX_SERVICE_GRAPH].url),
        .expect = PFX_EXPECT_JSON,
        .op = "list records",
        .otherwise = on_no_list,
    };
    pfx_task_call(task, &call, on_list);
}

static void on_no_mailboxes(struct pfx_task *task, pfx_result result, const struct pfx_error *err)
{
    (void)result;
    char text[640];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf command = command_buf();
    struct pfx_setup_app app = app_of(task, EXCHANGE);
    bool denied = pfx_trouble_denied(err);
    if (denied)
        pfx_setup_grant_reader(&app, &command);
    find(task, "bad", SHARED, pfx_error_line(err, text, sizeof text),
         denied ? "Entra admin center, Roles and administrators, Global Reader, Add assignments, "
                  "the app; or the command." : NULL, &command);
    next_phase(task);
}

static void on_mailboxes(struct pfx_task *task, const struct pfx_answer *answer)
{
    (void)answer;
    find(task, "ok", SHARED, "They can be read.", NULL, NULL);
    next_phase(task);
}

/* --- one after the other --- */

static void skip(struct pfx_task *task, const char *what)
{
    find(task, "warn", what, "It wasn't looked at, since the sign-in for it failed.", NULL, NULL);
}

/* Starts the next check, or ends the task. */
static void go_on(struct pfx_task *task)
{
    struct setup *setup = pfx_task_get(task);
    while (setup->phase == SIGN_IN) {
        if (setup->at == N_SEATS) {
            setup->phase = GROUPS;
            setup->at = 0;
        } else if (setup->wanted[setup->at] && is_first(task, setup->at)) {
            sign_in(task);
            return;
        } else {
            setup->at++;
        }
    }
    if (setup->phase == GROUPS) {
        size_t n = pfx_msg_count(pfx_task_body(task), "groups");
        if (setup->signed_in[DIRECTORY] && setup->at < n) {
            look_at_group(task);
            return;
        }
        if (n > 0 && !setup->signed_in[DIRECTORY])
            skip(task, "the rules' groups");
        setup->phase = LIST;
    }
    if (setup->phase == LIST) {
        if (setup->signed_in[INTUNE]) {
            look_at_list(task);
            return;
        }
        skip(task, RECORDS);
        setup->phase = MAILBOXES;
    }
    if (setup->phase == MAILBOXES && setup->wanted[EXCHANGE]) {
        if (setup->signed_in[EXCHANGE]) {
            pfx_exchange_try(task, &setup->cmdlet, on_mailboxes, on_no_mailboxes);
            return;
        }
        skip(task, SHARED);
    }
    pfx_task_ok(task, PFX_TAKE(setup->result));
}

static void setup_entra(struct pfx_task *task)
{
    struct setup *setup = pfx_task_state(task, sizeof *setup, setup_done);
    setup->result = pfx_task_result(task);
    setup->wanted[DIRECTORY] = true;
    setup->wanted[INTUNE] = true;
    setup->wanted[MAIL] = pfx_msg_bool(pfx_task_body(task), "mail");
    setup->wanted[EXCHANGE] = pfx_msg_bool(pfx_task_body(task), "mailboxes");
    pfx_cmdlet_init(&setup->cmdlet, "Get-Mailbox", pfx_task_up(task)->conf->tenant);
    go_on(task);
}

const struct pfx_kind pfx_setup_entra_kinds[] = {
    {"up.setup_entra", setup_entra},
    {NULL, NULL},
};
