/* log.rotate_key and log.reopen: other keys for the log, and another log after the loss of one. */
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/canon.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/ceremony.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/hsmlog_put.h"

#define MOST_SUCCESSORS 9999

struct change {
    struct pfx_worker *worker;
    struct pfx_task *task;
    struct pfx_hsm *hsm;
    struct pfx_record_maker *record; /* borrowed */
};

static void say_keys(struct change *change, const char *origin)
{
    const struct pfx_signer *signer = pfx_log_signer_ops(change->hsm->log->signer);
    for (size_t i = 0; i < signer->n_keys; i++) {
        char line[PFX_VKEY_LINE_SIZE];
        struct pfx_msg *item = pfx_task_item(change->task);
        pfx_msg_set_str(item, "kind", "key");
        pfx_msg_set_str(item, "vkey", pfx_vkey_line(&signer->keys[i], line));
        pfx_msg_set_str(item, "origin", origin);
        pfx_task_emit(change->task, item);
    }
}

struct making {
    struct change *change;
    struct pfx_standing_key standing;
    bool found;
};

static pfx_result make_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                            struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct making *making = ctx;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    (void)ret_reply;
    PFX_TRY(pfx_ceremony_make(worker, op, &making->standing, &making->found, &key, err));
    PFX_TRY(pfx_session_acquire(worker->hsm->roles[PFX_ROLE_LOG].token, false, &session, err));
    return pfx_record_key(making->change->record, session, key, &making->standing, op,
                          making->found ? "found" : "made", err);
}

static pfx_result make(struct change *change, size_t index, unsigned generation, bool early,
                       struct pfx_error *err)
{
    struct making making = {.change = change};
    struct pfx_op op = {
        .event = PFX_EVENT_CEREMONY_KEY, .actor = change->task->actor, .early = early};
    pfx_standing_log(change->hsm->policy, index, generation, &making.standing);
    snprintf(op.target.name, sizeof op.target.name, "%s", making.standing.name);
    pfx_op_key(&op, &making.standing.id, (struct pfx_bytes){NULL, 0}, making.standing.algorithm);
    PFX_TRY(pfx_op_run(change->worker, &op, make_work, &making, NULL, err));
    pfx_task_say(change->task, "step", "%s %s", making.standing.name,
        making.found ? "found, attributes checked" : "made, attributes read back");
    return PFX_OK;
}

/* Which keys are in force now isn't known here: the log says so when the role is opened anew. */
static void role_again(struct pfx_hsm *hsm, const struct pfx_error *why)
{
    struct pfx_role_state *state = &hsm->roles[PFX_ROLE_LOG];
    pfx_hsmlog_detach(hsm);
    state->phase = PFX_ROLE_LOGGED_IN;
    state->again = true;
    state->why = *why;
}

static pfx_result role_ready(struct change *change, struct pfx_error *err)
{
    struct pfx_role_state *state = &change->hsm->roles[PFX_ROLE_LOG];
    PFX_TRY(pfx_role_check(change->worker, PFX_ROLE_LOG, err));
    state->opening++; /* workers look for their keys anew */
    state->phase = PFX_ROLE_READY;
    state->again = false;
    pfx_hsmlog_ready(change->hsm, PFX_ROLE_LOG);
    pfx_hsmlog_settle(change->hsm);
    return PFX_OK;
}

/* --- other keys --- */

static pfx_result rotate(struct change *change, struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->hsm;
    struct pfx_hsmlog *log = hsm->log;
    PFX_TRY(pfx_hsm_needs(hsm, PFX_NEEDS(PFX_ROLE_LOG), err));
    unsigned next = hsm->log_generation + 1;
    pfx_record_role(change->record, PFX_ROLE_LOG);
    bool ed25519 = hsm->roles[PFX_ROLE_LOG].probe->eddsa;
    PFX_TRY(pfx_record_intend(change->record, err));
    PFX_TRY(make(change, PFX_STANDING_LOG, next, false, err));
    if (ed25519)
        PFX_TRY(make(change, PFX_STANDING_LOG_ED25519, next, false, err));

    PFX_CLEANUP(pfx_log_signer_freep) struct pfx_log_signer *fresh = NULL;
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    pfx_oplog_facts(log->writer, facts);
    PFX_TRY(pfx_log_signer_new(hsm, facts->origin, next, ed25519, &fresh, err));
    pfx_journal_rotate(&change->task->actor, pfx_log_signer_ops(fresh), draft);
    struct pfx_error why = PFX_ERROR_NONE;
    pfx_result rotated = pfx_oplog_rotate(log->writer, draft, pfx_log_signer_ops(fresh), &why);
    if (pfx_failed(rotated)) {
        role_again(hsm, &why);
        return pfx_fail(err, rotated.cls, why.op, why.object, why.code, "%s", why.text);
    }
    pfx_log_signer_free(log->signer);
    log->signer = PFX_TAKE(fresh);
    hsm->log_generation = next;
    change->worker->began = true;
    PFX_TRY(role_ready(change, err));
    pfx_task_say(change->task, "step",
        "the log %s is signed by these keys from now on; the checkpoint over the change has both "
        "signatures",
        facts->origin);
    say_keys(change, facts->origin);
    char *before PFX_AUTOFREE = pfx_asprintf(
        "The keys of generation %u sign this log no more. They stay in the token: nothing destroys "
        "them.",
        next - 1);
    pfx_record_note(change->record, before);
    pfx_record_end(change->record);
    pfx_task_say(change->task, "note",
        "Give the new key lines to the auditors: a copy that is older than the "
        "change is verified with the old ones, and the change under both.");
    return PFX_OK;
}

pfx_result pfx_do_log_rotate(struct pfx_worker *worker, struct pfx_task *task,
                             struct pfx_error *err)
{
    struct pfx_record_maker *record PFX_AUTORECORD = NULL;
    PFX_TRY(pfx_record_begin(worker, task, &record, err));
    struct change change = {worker, task, worker->hsm, record};
    return rotate(&change, err);
}

/* --- another log --- */

struct predecessor {
    unsigned number; /* of its origin; 0: not known */
    bool anchored;
    uint64_t anchor, size;
    struct pfx_buf checkpoint; /* its last one, as it stands */
};

static void predecessor_done(struct predecessor *before)
{
    pfx_buf_done(&before->checkpoint);
}

/* 0: it isn't an origin of this host. */
static unsigned number_of(const struct pfx_hsm_policy *policy, const char *text,
                          bool (*is)(const char *text, const char *origin))
{
    char origin[PFX_ORIGIN_SIZE];
    for (unsigned n = 1; n <= MOST_SUCCESSORS; n++) {
        pfx_hsmlog_origin(policy, n, origin);
        if (is(text, origin))
            return n;
    }
    return 0;
}

static bool is_origin(const char *text, const char *origin)
{
    return strcmp(text, origin) == 0;
}

static bool is_anchor(const char *text, const char *origin)
{
    return pfx_anchor_names(text, origin, NULL);
}

/* What the token says of the log that is gone. */
static pfx_result anchors_of(struct change *change, struct predecessor *before,
                             struct pfx_error *err)
{
    const struct pfx_hsm_policy *policy = change->hsm->policy;
    char labels[2][65], origin[PFX_ORIGIN_SIZE];
    PFX_TRY(pfx_anchors_read(change->hsm, labels, err));
    for (size_t i = 0; i < 2; i++) {
        unsigned n = labels[i][0] ? number_of(policy, labels[i], is_anchor) : 0;
        uint64_t size = 0;
        if (labels[i][0] && n == 0)
            pfx_task_say(change->task, "note", "an anchor of another log is overwritten: %s", labels[i]);
        if (n == 0)
            continue;
        pfx_hsmlog_origin(policy, n, origin);
        if (!pfx_anchor_names(labels[i], origin, &size))
            continue;
        if (n > before->number) {
            before->number = n;
            before->anchor = 0;
        }
        before->anchored = true;
        if (n == before->number && size > before->anchor)
            before->anchor = size;
    }
    return PFX_OK;
}

/* What the folder has of it; as much as can be read. */
static void folder_of(struct change *change, struct predecessor *before)
{
    struct pfx_hsm *hsm = change->hsm;
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *dir = NULL;
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    const struct pfx_checkpoint *parsed = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_oplog_status status;
    pfx_oplog_facts(hsm->log->writer, facts);
    pfx_oplog_status(hsm->log->writer, &status);
    before->size = status.size;
    if (facts->origin[0])
        before->number = number_of(hsm->policy, facts->origin, is_origin);
    pfx_result result = pfx_logdir_open(hsm->policy->log_dir, &dir, &why);
    if (pfx_ok(result))
        result = pfx_logdir_refresh(dir, &why);
    if (pfx_failed(result))
        return;
    struct pfx_bytes text = pfx_logdir_checkpoint(dir, &parsed);
    if (text.len == 0 || !pfx_buf_add(&before->checkpoint, text.data, text.len))
        return;
    /* This process has added its own start meanwhile: what was restored is what was signed. */
    before->size = parsed->size;
    if (before->number == 0)
        before->number = number_of(hsm->policy, parsed->origin, is_origin);
}

/* A reopen that was cut off has set the folder aside already: the newest one is the predecessor. */
static void aside_of(struct change *change, struct predecessor *before)
{
    const char *dir = change->hsm->policy->log_dir, *slash = strrchr(dir, '/');
    char *parent PFX_AUTOFREE = pfx_strndup(dir, slash ? (size_t)(slash - dir) + 1 : 0);
    char *prefix PFX_AUTOFREE = pfx_asprintf("%s.%u.", slash ? slash + 1 : dir, before->number);
    char newest[NAME_MAX + 1] = "", origin[PFX_ORIGIN_SIZE];
    DIR *folder = opendir(parent[0] ? parent : ".");
    for (struct dirent *e; folder && (e = readdir(folder));)
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && strcmp(e->d_name, newest) > 0)
            snprintf(newest, sizeof newest, "%s", e->d_name);
    if (folder)
        closedir(folder);
    if (!newest[0])
        return;
    PFX_CLEANUP(pfx_logdir_closep) struct pfx_logdir *log = NULL;
    char *path PFX_AUTOFREE = pfx_asprintf("%s%s", parent, newest);
    const struct pfx_checkpoint *parsed = NULL;
    struct pfx_error ignored = PFX_ERROR_NONE;
    if (pfx_failed(pfx_logdir_open(path, &log, &ignored)))
        return;
    struct pfx_bytes text = pfx_logdir_checkpoint(log, &parsed);
    pfx_hsmlog_origin(change->hsm->policy, before->number, origin);
    if (text.len == 0 || strcmp(parsed->origin, origin) != 0 ||
        !pfx_buf_add(&before->checkpoint, text.data, text.len))
        return;
    before->size = parsed->size;
    pfx_task_say(change->task, "note", "the predecessor's folder was set aside before: %s", path);
}

static pfx_result needed(struct change *change, struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->hsm;
    const struct pfx_role_state *role = &hsm->roles[PFX_ROLE_LOG];
    struct pfx_error why = PFX_ERROR_NONE;
    enum pfx_oplog_state state = pfx_oplog_state(hsm->log->writer, &why);
    if (state == PFX_OPLOG_CLOSED)
        return pfx_fail(err, why.cls, why.op, why.object, why.code,
                        "%s A successor wouldn't fare better.", why.text);
    if (state == PFX_OPLOG_OPEN && role->phase == PFX_ROLE_READY)
        return pfx_fail(err, PFX_CLASS_USAGE, "log reopen", hsm->policy->log_dir, "",
                        "The operation log is as it must be: there is no reason for a successor.");
    if (state == PFX_OPLOG_OPEN && role->token && role->why.cls != PFX_CLASS_INTEGRITY)
        return pfx_fail(err, PFX_CLASS_USAGE, "log reopen", hsm->policy->log_dir, role->why.code,
                        "The operation log isn't refused; the role log isn't ready for another "
                        "reason: %.400s",
                        role->why.text);
    return PFX_OK;
}

static pfx_result keys(struct change *change, bool ed25519, struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->hsm;
    unsigned generation;
    PFX_TRY(pfx_log_generation_free(hsm, &generation, err));
    PFX_TRY(make(change, PFX_STANDING_LOG, generation, true, err));
    if (ed25519)
        PFX_TRY(make(change, PFX_STANDING_LOG_ED25519, generation, true, err));
    PFX_TRY(make(change, PFX_STANDING_ANCHOR_A, 1, true, err));
    PFX_TRY(make(change, PFX_STANDING_ANCHOR_B, 1, true, err));
    hsm->log_generation = generation;
    return PFX_OK;
}

static struct pfx_bytes text_of(const char *text)
{
    return (struct pfx_bytes){(const uint8_t *)text, strlen(text)};
}

/* The old log is given up as it is: what people approve names both logs, and what gets lost. */
static pfx_result approved(struct change *change, const struct predecessor *before,
                           const char *origin, struct pfx_approved *ret, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf args = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
    char old[PFX_ORIGIN_SIZE];
    pfx_hsmlog_origin(change->hsm->policy, before->number, old);
    struct pfx_canon canon = pfx_canon_make(&args);
    pfx_canon_open(&canon, NULL, '{');
    pfx_canon_int(&canon, "anchored_entries", (int64_t)before->anchor);
    pfx_canon_str(&canon, "new_log", text_of(origin));
    pfx_canon_str(&canon, "old_log", text_of(old));
    pfx_canon_int(&canon, "restored_entries", (int64_t)before->size);
    pfx_canon_close(&canon, '}');
    return pfx_approvals_require(change->worker, change->task, "log.reopen", pfx_buf_bytes(&args),
                                 ret, err);
}

static void note_before(struct change *change, const struct predecessor *before)
{
    char old[PFX_ORIGIN_SIZE];
    pfx_hsmlog_origin(change->hsm->policy, before->number, old);
    char *text PFX_AUTOFREE = pfx_asprintf(
        "The log %.200s ends here: %" PRIu64 " entries of it were in the folder, and the token's "
        "anchor says %" PRIu64 ".",
        old, before->size, before->anchor);
    pfx_record_note(change->record, text);
}

static pfx_result reopen(struct change *change, struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->hsm;
    struct pfx_hsmlog *log = hsm->log;
    char origin[PFX_ORIGIN_SIZE], *where PFX_AUTOFREE = NULL;
    PFX_CLEANUP(predecessor_done)
    struct predecessor before = {.checkpoint = pfx_buf_make(PFX_SLOT_SIZE)};
    PFX_TRY(pfx_role_open(hsm, PFX_ROLE_LOG, NULL, err));
    PFX_TRY(pfx_role_probe(change->worker, PFX_ROLE_LOG, false, &change->task->actor, err));
    folder_of(change, &before);
    PFX_TRY(anchors_of(change, &before, err));
    if (before.number > 0 && before.checkpoint.len == 0)
        aside_of(change, &before);
    if (before.number == 0)
        return pfx_fail(err, PFX_CLASS_USAGE, "log reopen", hsm->policy->log_dir, "",
                        "There is no log of this host, neither in the folder nor in the token's "
                        "anchors: pfx-agent init begins the first one.");
    bool ed25519 = hsm->roles[PFX_ROLE_LOG].probe->eddsa;
    /* The token may have come back since the role was looked at. */
    struct pfx_error whole = PFX_ERROR_NONE;
    if (pfx_hsmlog_state(log) == PFX_OPLOG_OPEN &&
        pfx_ok(pfx_role_check(change->worker, PFX_ROLE_LOG, &whole))) {
        hsm->roles[PFX_ROLE_LOG].again = true;
        return pfx_fail(err, PFX_CLASS_USAGE, "log reopen", hsm->policy->log_dir, "",
                        "The operation log is as it must be: there is no reason for a successor.");
    }
    PFX_CLEANUP(pfx_approved_done) struct pfx_approved approval = {.nonce = ""};
    pfx_hsmlog_origin(hsm->policy, before.number + 1, origin);
    PFX_TRY(pfx_force_vouch(change->worker, &change->task->actor, err));
    PFX_TRY(approved(change, &before, origin, &approval, err));
    pfx_record_role(change->record, PFX_ROLE_LOG);
    note_before(change, &before);
    PFX_TRY(pfx_record_intend(change->record, err));
    pfx_hsmlog_detach(hsm);
    pfx_hsmlog_hush(log);
    PFX_TRY(keys(change, ed25519, err));
    if (pfx_hsmlog_state(log) != PFX_OPLOG_NONE) {
        PFX_TRY(pfx_oplog_set_aside(log->writer, &where, err));
        if (where) /* else an earlier try did that */
            pfx_task_say(change->task, "step", "the old folder is set aside as %s", where);
    }
    struct pfx_journal_begin first = {.origin = origin,
                                      .actor = &change->task->actor,
                                      .reopened = true,
                                      .has_anchor = before.anchored,
                                      .before = pfx_buf_bytes(&before.checkpoint),
                                      .anchor = before.anchor,
                                      .restored = before.size,
                                      .approved = &approval};
    PFX_TRY(pfx_hsmlog_begin(hsm, &first, ed25519, err));
    pfx_record_approved(change->record, NULL, &approval);
    pfx_approvals_spent(&approval);
    change->worker->began = true;
    PFX_TRY(role_ready(change, err));
    /* The successor knows from its beginning on which pins and standing keys are the latest. */
    if (hsm->roles[PFX_ROLE_USERS].phase == PFX_ROLE_READY)
        pfx_hsmlog_ready(hsm, PFX_ROLE_USERS);
    pfx_task_say(change->task, "step",
        "log %s begun: its first entry names the predecessor's last checkpoint (%" PRIu64
        " entries were here, the anchor says %" PRIu64 ")",
        origin, before.size, before.anchor);
    say_keys(change, origin);
    pfx_task_say(change->task, "note", "%sKeep the old folder for the auditors.",
        approval.weak ? "Who may use the admin socket could do this alone: the log and pfx-audit "
                        "call it weak. "
                      : "");
    return PFX_OK;
}

pfx_result pfx_do_log_reopen(struct pfx_worker *worker, struct pfx_task *task,
                             struct pfx_error *err)
{
    struct pfx_record_maker *record PFX_AUTORECORD = NULL;
    struct change change = {worker, task, worker->hsm, NULL};
    struct pfx_hsmlog *log = worker->hsm->log;
    PFX_TRY(needed(&change, err));
    PFX_TRY(pfx_record_begin(worker, task, &record, err));
    change.record = record;
    /* One that is open goes on with its notes until it is set aside. */
    if (pfx_hsmlog_state(log) != PFX_OPLOG_OPEN)
        pfx_hsmlog_hush(log);
    log->starting = true;
    pfx_result result = reopen(&change, err);
    log->starting = false;
    if (pfx_ok(result))
        pfx_record_end(record);
    /* Their probes were refused for the log's sake. */
    for (enum pfx_role role = PFX_ROLE_USERS; pfx_ok(result) && role < PFX_ROLE_COUNT; role++)
        if (worker->hsm->roles[role].phase == PFX_ROLE_LOGGED_IN)
            worker->hsm->roles[role].again = true;
    if (pfx_ok(result))
        PFX_TRY(pfx_roles_ready(worker, task, err));
    return result;
}
