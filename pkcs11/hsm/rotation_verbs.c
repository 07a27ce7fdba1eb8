/*
 * standing.rotate, .activate, .destroy: the next generation of a standing key is made beside
 * the one in force, put in force, and the earlier one destroyed. Each ends with a write of the file
 * of rotation.h; what a cut-off leaves is taken up again by the same command.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "api/conf/process.h"
#include "crypto/canon.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/ceremony.h"
#include "pkcs11/hsm/force.h"
#include "pkcs11/hsm/roles.h"
#include "pkcs11/hsm/rotation.h"
#include "pkcs11/hsm/verbs.h"

struct change {
    struct pfx_worker *worker;
    struct pfx_task *task;
    struct pfx_hsm *hsm;
    size_t index; /* of the key */
    struct pfx_standing_key key;
    struct pfx_overlap list[PFX_OVERLAP_MOST]; /* its generations */
    size_t n;
    enum pfx_overlap_move move;
    struct pfx_overlap_needs needs;
    char *file; /* a client key's certificate */
    struct pfx_approved approved;
    struct pfx_record_maker *record; /* borrowed; NULL: nothing is made or destroyed */
};

static bool is_client(const struct change *change)
{
    return change->index >= PFX_STANDING_CLIENT;
}

static size_t app_of(const struct change *change)
{
    return change->index - PFX_STANDING_CLIENT;
}

/* "client-main", and "client-main-2" where a generation has to be named. */
static pfx_result find(struct change *change, const char *op, const char *name, bool generation,
                       struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->hsm;
    for (size_t i = 0; name && i < pfx_standing_count(hsm->policy); i++) {
        struct pfx_standing_key key;
        if (!pfx_standing_rotates(i))
            continue;
        pfx_standing_describe(hsm->policy, i, &key);
        size_t n = pfx_rotation_of(hsm->rotation, key.stem, change->list);
        bool found = !generation && strcmp(name, key.stem) == 0;
        for (size_t k = 0; generation && !found && k < n; k++) {
            pfx_standing_generation(hsm->policy, i, change->list[k].number, &key);
            found = strcmp(name, key.name) == 0;
        }
        if (!found)
            continue;
        change->index = i;
        change->key = key;
        change->n = n;
        return PFX_OK;
    }
    return pfx_fail(err, PFX_CLASS_USAGE, op, "name", "",
                    "There is no such key: pfx-agent standing list shows the names%s.",
                    generation ? "" : "; give it without its number");
}

/* Reasons as an error, and all but the first as notes before it. */
static pfx_result ask_rules(struct change *change, const char *op, unsigned number,
                            struct pfx_error *err)
{
    struct pfx_reasons *why PFX_AUTOFREE = pfx_alloc(sizeof *why);
    change->needs.name = change->key.stem;
    if (pfx_overlap_allows(change->list, change->n, number, change->move, &change->needs, why))
        return PFX_OK;
    for (size_t i = 1; i < why->n; i++)
        pfx_task_say(change->task, "note", "%s", why->text[i]);
    return pfx_fail(err, PFX_CLASS_REFUSED, op, change->key.stem, "", "%s", why->text[0]);
}

/* Its token has to be open; the role needn't be ready, or a key that is lost had no way out. */
static pfx_result token_open(const struct change *change, struct pfx_error *err)
{
    const struct pfx_role_state *role = &change->hsm->roles[change->key.role];
    if (role->token && role->phase != PFX_ROLE_CLOSED)
        return PFX_OK;
    return pfx_hsm_needs(change->hsm, PFX_NEEDS(change->key.role), err);
}

/* The page that says what is made or destroyed here. */
static pfx_result record_begin(struct change *change, struct pfx_record_maker **ret_record,
                               struct pfx_error *err)
{
    PFX_TRY(pfx_record_begin(change->worker, change->task, ret_record, err));
    change->record = *ret_record;
    pfx_record_role(change->record, change->key.role);
    return PFX_OK;
}

/* The list as it is now into the file. */
static pfx_result store(struct change *change, struct pfx_op *op, struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->hsm;
    struct pfx_rotation *next PFX_AUTOFREE = pfx_alloc(sizeof *next);
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    *next = *hsm->rotation;
    if (!pfx_rotation_put(next, change->key.stem, change->list, change->n))
        return pfx_fail(err, PFX_CLASS_REFUSED, "write standing keys", change->key.name, "",
                        "There are %d generations, and no more are kept.", PFX_ROTATION_MOST);
    PFX_TRY(pfx_session_acquire(hsm->roles[PFX_ROLE_USERS].token, false, &session, err));
    PFX_TRY(pfx_rotation_store(hsm, session, next, err));
    op->out.standing_serial = next->serial;
    return PFX_OK;
}

/* The epoch of rotation.h has to grow, whatever the clock does. */
static void move(struct change *change)
{
    int64_t now = pfx_now_ms(), epoch = pfx_rotation_epoch(change->hsm->rotation);
    if (change->move == PFX_OVERLAP_ACTIVATE && !is_client(change) && now <= epoch)
        now = epoch + 1;
    pfx_overlap_apply(change->list, change->n, change->key.generation, change->move, now);
}

/* Pins and policy in force under the MAC key that is active now. */
static pfx_result files_anew(struct change *change, struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->hsm;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    struct pfx_key *mac;
    if (change->index != PFX_STANDING_MAC)
        return PFX_OK;
    PFX_TRY(pfx_session_acquire(hsm->roles[PFX_ROLE_USERS].token, false, &session, err));
    PFX_TRY(pfx_ring_key(hsm, &change->worker->ring, session, PFX_STANDING_MAC, &mac, err));
    PFX_TRY(pfx_force_check(hsm, session, mac, err));
    if (!pfx_pins_exist(hsm))
        return PFX_OK;
    PFX_TRY(pfx_pins_load(hsm, session, mac, &pins, err));
    return pfx_pins_store(hsm, session, mac, &pins, err);
}

static const struct pfx_overlap *at_of(const struct change *change)
{
    return &change->list[change->key.generation - 1];
}

/* One operation about one generation; the reply is its item. */
static pfx_result run(struct change *change, enum pfx_event event, pfx_op_work work,
                      struct pfx_error *err)
{
    static const enum pfx_overlap_state becomes[] = {[PFX_OVERLAP_ROTATE] = PFX_OVERLAP_STAGED,
                                                     [PFX_OVERLAP_ACTIVATE] = PFX_OVERLAP_ACTIVE,
                                                     [PFX_OVERLAP_DESTROY] = PFX_OVERLAP_DESTROYED};
    struct pfx_op op = {.event = event, .actor = change->task->actor};
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    snprintf(op.target.name, sizeof op.target.name, "%s", change->key.name);
    pfx_op_key(&op, &change->key.id, (struct pfx_bytes){NULL, 0}, change->key.algorithm);
    op.out.standing_state = pfx_overlap_state_name(becomes[change->move]);
    if (change->approved.hsm)
        op.approved = &change->approved;
    PFX_TRY(pfx_record_intend(change->record, err));
    PFX_TRY(pfx_op_run(change->worker, &op, work, change, &reply, err));
    pfx_task_emit(change->task, PFX_TAKE(reply));
    pfx_record_approved(change->record, &op, &change->approved);
    pfx_record_standing(change->record, change->index);
    pfx_record_end(change->record);
    return PFX_OK;
}

/* --- rotate --- */

static pfx_result certificate(struct change *change, struct pfx_op *op, struct pfx_key *key,
                              struct pfx_msg *item, struct pfx_error *err)
{
    struct pfx_hsm *hsm = change->hsm;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pem = pfx_buf_make(32768);
    struct pfx_app made = {.pem = NULL};
    char hex[65];
    PFX_TRY(pfx_session_acquire(hsm->roles[PFX_ROLE_SERVICE].token, true, &session, err));
    PFX_TRY(pfx_app_certificate_make(hsm, app_of(change), change->key.generation, session, key,
                                     &pem, err));
    PFX_TRY(pfx_app_certificate_load(hsm, app_of(change), change->key.generation, pfx_key_spki(key),
                                     &made, err));
    pfx_op_out(op, pfx_buf_bytes(&pem));
    op->given.has_certificate = true;
    memcpy(op->given.certificate, made.x5t_s256, sizeof op->given.certificate);
    pfx_record_certificate(change->record, op, made.not_after_ms);
    pfx_msg_set_str(item, "sha256", pfx_hex(made.x5t_s256, sizeof made.x5t_s256, hex));
    pfx_msg_set_str(item, "file", change->file);
    pfx_msg_set_str(item, "pem", made.pem);
    free(made.pem);
    return PFX_OK;
}

static pfx_result record_made(struct change *change, const struct pfx_op *op, struct pfx_key *key,
                              bool found, struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(pfx_session_acquire(change->hsm->roles[change->key.role].token, false, &session, err));
    return pfx_record_key(change->record, session, key, &change->key, op, found ? "found" : "made",
                          err);
}

static pfx_result rotate_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                              struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct change *change = ctx;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    bool found;
    /* Its row comes first: a key on the token that nothing speaks of isn't taken for one of ours.
     */
    if (change->key.generation > change->n) {
        change->list[change->n++] =
            (struct pfx_overlap){change->key.generation, PFX_OVERLAP_MAKING, pfx_now_ms()};
        PFX_TRY(store(change, op, err));
    }
    PFX_TRY(pfx_ceremony_make(worker, op, &change->key, &found, &key, err));
    PFX_TRY(record_made(change, op, key, found, err));
    struct pfx_overlap staged = {change->key.generation, PFX_OVERLAP_STAGED, pfx_now_ms()};
    struct pfx_msg *item PFX_AUTOMSG =
        pfx_standing_item(change->hsm, change->task, &change->key, &staged,
                 found ? "found as an earlier try left it, attributes checked: nothing uses it yet"
                       : "made, attributes read back: nothing uses it yet");
    if (is_client(change))
        PFX_TRY(certificate(change, op, key, item, err));
    move(change);
    PFX_TRY(store(change, op, err));
    *ret_reply = PFX_TAKE(item);
    return PFX_OK;
}

pfx_result pfx_do_standing_rotate(struct pfx_worker *worker, struct pfx_task *task,
                                  struct pfx_error *err)
{
    struct change change = {
        .worker = worker, .task = task, .hsm = worker->hsm, .move = PFX_OVERLAP_ROTATE};
    struct pfx_record_maker *record PFX_AUTORECORD = NULL;
    PFX_TRY(find(&change, "standing rotate", pfx_msg_str(task->args, "name"), false, err));
    PFX_TRY(token_open(&change, err));
    unsigned number = pfx_overlap_in(change.list, change.n, PFX_OVERLAP_MAKING);
    PFX_TRY(ask_rules(&change, "standing rotate", number, err));
    PFX_TRY(record_begin(&change, &record, err));
    pfx_standing_generation(worker->hsm->policy, change.index,
                            number > 0 ? number : (unsigned)change.n + 1, &change.key);
    if (is_client(&change))
        change.file = pfx_app_certificate_name(worker->hsm, app_of(&change), change.key.generation);
    char *file PFX_AUTOFREE = change.file;
    PFX_TRY(run(&change, PFX_EVENT_STANDING_ROTATE, rotate_work, err));
    if (!file)
        return PFX_OK;
    char *path PFX_AUTOFREE = pfx_hsm_path(worker->hsm, file);
    if (chmod(path, 0644) < 0)
        return pfx_fail_errno(err, errno, "release certificate", path, "");
    return PFX_OK;
}

/* --- activate --- */

static pfx_result activate_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                                struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct change *change = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_token *token = hsm->roles[change->key.role].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_app app = {.pem = NULL};
    char text[128];
    pfx_op_token(op, token);
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    PFX_TRY(pfx_key_find(session, change->key.use, &change->key.id, true,
                         (struct pfx_bytes){NULL, 0}, &key, err));
    if (!key)
        return pfx_fail(
            err, PFX_CLASS_INTEGRITY, "find key", change->key.name, "",
            "The token %s has no such key any more: restore it from its backup, or make "
            "another generation.",
            pfx_token_text(token, text));
    struct pfx_bytes spki = pfx_key_spki(key);
    pfx_op_key(op, &change->key.id, spki, change->key.algorithm);
    if (is_client(change))
        PFX_TRY(
            pfx_app_certificate_load(hsm, app_of(change), change->key.generation, spki, &app, err));
    move(change);
    pfx_result stored = store(change, op, err);
    if (pfx_failed(stored)) {
        free(app.pem);
        return stored;
    }
    pfx_buf_reset(&hsm->standing_spki[change->index]);
    (void)!pfx_buf_add(&hsm->standing_spki[change->index], spki.data, spki.len);
    if (app.pem) {
        free(hsm->apps[app_of(change)].pem);
        hsm->apps[app_of(change)] = app;
    }
    PFX_TRY(files_anew(change, err));
    hsm->roles[change->key.role].again = true; /* what was wrong with it may have been this key */
    *ret_reply = pfx_standing_item(hsm, change->task, &change->key, at_of(change),
                          "all that is new is made with it from now on; the one before stays, and "
                          "may be activated again, until it is destroyed");
    return PFX_OK;
}

/* When the certificate of this generation ended; a missing file shows itself when it is used. */
static int64_t expired(const struct change *change)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_error ignored = PFX_ERROR_NONE;
    struct pfx_app app = {.pem = NULL};
    pfx_result result =
        pfx_session_acquire(change->hsm->roles[change->key.role].token, false, &session, &ignored);
    if (pfx_ok(result))
        result = pfx_key_find(session, change->key.use, &change->key.id, true,
                              (struct pfx_bytes){NULL, 0}, &key, &ignored);
    if (pfx_ok(result) && key)
        result = pfx_app_certificate_load(change->hsm, app_of(change), change->key.generation,
                                          pfx_key_spki(key), &app, &ignored);
    free(app.pem);
    return app.not_after_ms > 0 && app.not_after_ms <= pfx_now_ms() ? app.not_after_ms : 0;
}

pfx_result pfx_do_standing_activate(struct pfx_worker *worker, struct pfx_task *task,
                                    struct pfx_error *err)
{
    struct change change = {
        .worker = worker, .task = task, .hsm = worker->hsm, .move = PFX_OVERLAP_ACTIVATE};
    PFX_TRY(find(&change, "standing activate", pfx_msg_str(task->args, "name"), true, err));
    PFX_TRY(token_open(&change, err));
    if (is_client(&change))
        change.needs.expired_ms = expired(&change);
    PFX_TRY(ask_rules(&change, "standing activate", change.key.generation, err));
    return run(&change, PFX_EVENT_STANDING_ACTIVATE, activate_work, err);
}

/* --- destroy --- */

static pfx_result destroy_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                               struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct change *change = ctx;
    struct pfx_token *token = worker->hsm->roles[change->key.role].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    char text[128], line[400];
    pfx_op_token(op, token);
    PFX_TRY(files_anew(change, err)); /* a cut-off activation may have left them */
    PFX_TRY(pfx_session_acquire(token, true, &session, err));
    /* Not strict: whatever became of its attributes, it goes. */
    PFX_TRY(pfx_key_find(session, change->key.use, &change->key.id, false,
                         (struct pfx_bytes){NULL, 0}, &key, err));
    bool found = key != NULL;
    op->out.found = found ? "key" : "nothing";
    pfx_record_destroyed(change->record, session, key, &change->key, op,
                         (struct pfx_bytes){NULL, 0});
    if (found) {
        pfx_op_key(op, &change->key.id, pfx_key_spki(key), change->key.algorithm);
        PFX_TRY(pfx_key_destroy(session, key, err));
    }
    move(change);
    PFX_TRY(store(change, op, err));
    snprintf(line, sizeof line,
             "%s the token %s has no key with its CKA_ID; copies in the token's backups aren't "
             "known here",
             found ? "destroyed, looked for and not found:" : "it was gone already:",
             pfx_token_text(token, text));
    *ret_reply = pfx_standing_item(worker->hsm, change->task, &change->key, at_of(change), line);
    return PFX_OK;
}

static void add_str(struct pfx_canon *canon, const char *name, const char *text)
{
    pfx_canon_str(canon, name, (struct pfx_bytes){(const uint8_t *)text, strlen(text)});
}

/* How many user keys still need it is pfx-agentd's word alone: were it a lie, they would be lost
 * for ever. So two people look at the count themselves. Members in the order of their names:
 * canonical. */
static pfx_result approve(struct change *change, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf args = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
    struct pfx_canon canon = pfx_canon_make(&args);
    char id[2 * PFX_KEY_ID_SIZE + 1], token[128];
    if (is_client(change) || at_of(change)->state != PFX_OVERLAP_PREVIOUS)
        return PFX_OK;
    pfx_canon_open(&canon, NULL, '{');
    add_str(&canon, "key", change->key.name);
    add_str(&canon, "key_id", pfx_hex(change->key.id.bytes, sizeof change->key.id.bytes, id));
    add_str(&canon, "loses", "every user key, and every ticket, that only this key reads");
    add_str(&canon, "token", pfx_token_text(change->hsm->roles[change->key.role].token, token));
    pfx_canon_close(&canon, '}');
    return pfx_approvals_require(change->worker, change->task, "standing.destroy",
                                 pfx_buf_bytes(&args), &change->approved, err);
}

static void change_done(struct change *change)
{
    pfx_approved_done(&change->approved);
}

pfx_result pfx_do_standing_destroy(struct pfx_worker *worker, struct pfx_task *task,
                                   struct pfx_error *err)
{
    PFX_CLEANUP(change_done)
    struct change change = {
        .worker = worker, .task = task, .hsm = worker->hsm, .move = PFX_OVERLAP_DESTROY};
    struct pfx_record_maker *record PFX_AUTORECORD = NULL;
    PFX_TRY(find(&change, "standing destroy", pfx_msg_str(task->args, "name"), true, err));
    PFX_TRY(token_open(&change, err));
    change.needs.holds = !is_client(&change);
    /* A count that was made before another key was put in force says nothing. */
    change.needs.known =
        pfx_msg_has(task->args, "rows") &&
        pfx_msg_int(task->args, "epoch") == pfx_rotation_epoch(worker->hsm->rotation);
    change.needs.rows = pfx_msg_int(task->args, "rows");
    PFX_TRY(ask_rules(&change, "standing destroy", change.key.generation, err));
    PFX_TRY(record_begin(&change, &record, err));
    PFX_TRY(approve(&change, err));
    return run(&change, PFX_EVENT_STANDING_DESTROY, destroy_work, err);
}
