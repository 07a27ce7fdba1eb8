/*
 * `init`: tokens opened, probed, and compared with the state folder first; only when nothing stands
 * against it are keys made, and only those that are missing. What is there is checked and never
 * replaced, so it can be run again at any time.
 */
#include "pkcs11/hsm/ceremony.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/halves.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/rotation.h"
#include "pkcs11/hsm/status.h"

void pfx_ceremony_say(struct pfx_ceremony *ceremony, const char *kind, enum pfx_role role,
                      const char *name, const char *fmt, ...)
{
    char text[900];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct pfx_msg *item = pfx_task_item(ceremony->task);
    pfx_msg_set_str(item, "kind", kind);
    if (role < PFX_ROLE_COUNT)
        pfx_msg_set_str(item, "role", pfx_role_name(role));
    if (name)
        pfx_msg_set_str(item, "name", name);
    pfx_msg_set_str(item, "text", text);
    pfx_task_emit(ceremony->task, item);
}

struct pfx_msg *pfx_ceremony_key_item(struct pfx_ceremony *ceremony,
                                      const struct pfx_standing_key *standing,
                                      struct pfx_bytes spki, const char *text)
{
    struct pfx_msg *item = pfx_task_item(ceremony->task);
    pfx_msg_set_str(item, "kind", "key");
    pfx_msg_set_str(item, "role", pfx_role_name(standing->role));
    pfx_msg_set_str(item, "name", standing->name);
    pfx_msg_set_str(item, "algorithm", standing->algorithm);
    pfx_msg_set_str(item, "text", text);
    if (spki.len > 0) {
        uint8_t digest[32];
        char hex[65];
        if (!pfx_sha256(spki.data, spki.len, digest))
            pfx_die("SHA-256 isn't available");
        pfx_msg_set_str(item, "sha256", pfx_hex(digest, sizeof digest, hex));
    }
    return item;
}

static void remark(struct pfx_ceremony *ceremony, enum pfx_role role, const char *text)
{
    char *noted PFX_AUTOFREE = role < PFX_ROLE_COUNT
                                   ? pfx_asprintf("%s: %s", pfx_role_name(role), text)
                                   : pfx_strdup(text);
    pfx_ceremony_say(ceremony, "note", role, NULL, "%s", text);
    pfx_record_note(ceremony->record, noted);
}

/* Tokens and probes of all roles. Every role is looked at before the first refusal counts. */
static pfx_result look(struct pfx_ceremony *ceremony, const struct pfx_secret *pin,
                       struct pfx_error *err)
{
    struct pfx_hsm *hsm = ceremony->hsm;
    pfx_result worst = PFX_OK;
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        char text[128];
        struct pfx_error why = PFX_ERROR_NONE;
        if (role == PFX_ROLE_ENCRYPTION && !pin)
            continue;
        pfx_result result =
            pfx_role_open(hsm, role, role == PFX_ROLE_ENCRYPTION ? pin : NULL, &why);
        if (pfx_ok(result)) {
            struct pfx_token *token = hsm->roles[role].token;
            pfx_ceremony_say(ceremony, "step", role, NULL, "token %s, module %s",
                             pfx_token_text(token, text), pfx_token_facts(token)->module);
            pfx_record_role(ceremony->record, role);
            result = pfx_role_probe(ceremony->worker, role, role == PFX_ROLE_ENCRYPTION,
                                    &ceremony->task->actor, &why);
        }
        const struct pfx_probe *probe = hsm->roles[role].probe;
        for (size_t i = 0; pfx_ok(result) && probe && i < probe->n_conflicts; i++)
            remark(ceremony, role, probe->conflicts[i]);
        if (pfx_failed(result)) {
            char line[900];
            pfx_ceremony_say(ceremony, "note", role, NULL, "not usable: %s",
                             pfx_error_line(&why, line, sizeof line));
            if (pfx_ok(worst)) {
                worst = result;
                if (err)
                    *err = why;
            }
        }
    }
    return worst;
}

/* The stock of a role before anything is made: keys that are there must be as they ought to be, and
 * what the state folder says must not name a key that is gone (another token was put in its place:
 * making new keys on it would orphan everything that hangs on the old ones). */
static pfx_result stock(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    struct pfx_hsm *hsm = ceremony->hsm;
    for (size_t i = 0; i < pfx_standing_count(hsm->policy); i++) {
        struct pfx_standing_key standing;
        struct pfx_session *session PFX_AUTOSESSION = NULL;
        struct pfx_key *key PFX_AUTOKEY = NULL;
        pfx_hsm_standing(hsm, i, &standing);
        PFX_TRY(pfx_session_acquire(hsm->roles[standing.role].token, false, &session, err));
        PFX_TRY(pfx_key_find(session, standing.use, &standing.id, true, (struct pfx_bytes){NULL, 0},
                             &key, err));
        if (key)
            continue;
        char text[128];
        pfx_token_text(hsm->roles[standing.role].token, text);
        if (i == PFX_STANDING_MAC && pfx_pins_exist(hsm))
            return pfx_fail(
                err, PFX_CLASS_INTEGRITY, "init", standing.name, "",
                "There are pins, but the token %s has no MAC key: is it the right token? "
                "Restore it from its backup, or start with an empty state folder.",
                text);
        if (i >= PFX_STANDING_CLIENT) {
            char *path PFX_AUTOFREE = pfx_app_certificate_path(hsm, i - PFX_STANDING_CLIENT);
            if (access(path, F_OK) == 0)
                return pfx_fail(
                    err, PFX_CLASS_INTEGRITY, "init", standing.name, "",
                    "There is a certificate %s, but the token %s has no key for it: is it "
                    "the right token? Restore it from its backup, or move the certificate "
                    "away for a new key.",
                    path, text);
        }
    }
    return pfx_ceremony_encryption_precheck(ceremony, err);
}

struct standing_ctx {
    struct pfx_ceremony *ceremony;
    size_t index;
    struct pfx_standing_key standing;
};

pfx_result pfx_ceremony_make(struct pfx_worker *worker, struct pfx_op *op,
                             const struct pfx_standing_key *standing, bool *ret_found,
                             struct pfx_key **ret_key, struct pfx_error *err)
{
    struct pfx_token *token = worker->hsm->roles[standing->role].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    pfx_op_token(op, token);
    PFX_TRY(pfx_session_acquire(token, true, &session, err));
    PFX_TRY(pfx_key_find(session, standing->use, &standing->id, true, (struct pfx_bytes){NULL, 0},
                         &key, err));
    bool found = key != NULL;
    op->out.found = found ? "key" : NULL;
    if (!found) {
        if (standing->pair)
            PFX_TRY(pfx_lone_publics_destroy(session, &standing->id, err));
        PFX_TRY(pfx_key_make(session, standing->use, standing->type, &standing->id, standing->label,
                             true, &key, err));
    }
    pfx_op_key(op, &standing->id, pfx_key_spki(key), standing->algorithm);
    *ret_found = found;
    *ret_key = PFX_TAKE(key);
    return PFX_OK;
}

static pfx_result standing_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                                struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct standing_ctx *made = ctx;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    bool found;
    PFX_TRY(pfx_ceremony_make(worker, op, &made->standing, &found, &key, err));
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(pfx_session_acquire(worker->hsm->roles[made->standing.role].token, false, &session,
                                err));
    PFX_TRY(pfx_record_key(made->ceremony->record, session, key, &made->standing, op,
                           found ? "found" : "made", err));
    *ret_reply =
        pfx_ceremony_key_item(made->ceremony, &made->standing, pfx_key_spki(key),
                              found ? "found, attributes checked" : "made, attributes read back");
    return PFX_OK;
}

pfx_result pfx_ceremony_standing(struct pfx_ceremony *ceremony, size_t index, bool early,
                                 struct pfx_error *err)
{
    struct standing_ctx ctx = {.ceremony = ceremony, .index = index};
    pfx_hsm_standing(ceremony->hsm, index, &ctx.standing);
    struct pfx_op op = {
        .event = PFX_EVENT_CEREMONY_KEY, .actor = ceremony->task->actor, .early = early};
    snprintf(op.target.name, sizeof op.target.name, "%s", ctx.standing.name);
    pfx_op_key(&op, &ctx.standing.id, (struct pfx_bytes){NULL, 0}, ctx.standing.algorithm);
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    PFX_TRY(pfx_op_run(ceremony->worker, &op, standing_work, &ctx, &reply, err));
    pfx_task_emit(ceremony->task, PFX_TAKE(reply));
    return PFX_OK;
}

static pfx_result standing_keys(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    struct pfx_hsm *hsm = ceremony->hsm;
    for (size_t i = 0; i < pfx_standing_count(hsm->policy); i++) {
        if (pfx_standing_of_log(i) && ceremony->log_begun)
            continue;
        /* The log says which keys sign it: another one comes by a rotation, not by the way. */
        if (i == PFX_STANDING_LOG_ED25519 && pfx_log_signer_ops(hsm->log->signer)->n_keys < 2)
            continue;
        PFX_TRY(pfx_ceremony_standing(ceremony, i, false, err));
    }
    return PFX_OK;
}

static pfx_result certificate_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                                   struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct standing_ctx *made = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    size_t app = made->index - PFX_STANDING_CLIENT;
    struct pfx_token *token = hsm->roles[PFX_ROLE_SERVICE].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    pfx_op_token(op, token);
    PFX_TRY(pfx_session_acquire(token, true, &session, err));
    PFX_TRY(pfx_key_find(session, PFX_USE_CLIENT, &made->standing.id, true,
                         (struct pfx_bytes){NULL, 0}, &key, err));
    if (!key)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "make certificate", made->standing.name, "",
                        "The key that was there a moment ago isn't found.");
    pfx_op_key(op, &made->standing.id, pfx_key_spki(key), made->standing.algorithm);
    char *path PFX_AUTOFREE = pfx_app_certificate_path(hsm, app);
    bool found = access(path, F_OK) == 0;
    if (!found) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf made_pem = pfx_buf_make(32768);
        PFX_TRY(pfx_app_certificate_make(hsm, app, made->standing.generation, session, key,
                                         &made_pem, err));
        pfx_op_out(op, pfx_buf_bytes(&made_pem));
    }
    PFX_TRY(pfx_app_certificate_read(hsm, app, pfx_key_spki(key), err));

    char hex[65], until[PFX_TIME_SIZE], text[200];
    char *file PFX_AUTOFREE = pfx_app_certificate_name(hsm, app, made->standing.generation);
    snprintf(text, sizeof text, "%s, valid until %s; goes to the app registration %s",
             found ? "found, compared with its key" : "made",
             pfx_time_format(hsm->apps[app].not_after_ms, false, until),
             hsm->policy->apps[app].client_id);
    struct pfx_msg *item = pfx_task_item(made->ceremony->task);
    pfx_msg_set_str(item, "kind", "certificate");
    pfx_msg_set_str(item, "role", pfx_role_name(PFX_ROLE_SERVICE));
    pfx_msg_set_str(item, "name", made->standing.name);
    pfx_msg_set_str(item, "text", text);
    pfx_msg_set_str(item, "sha256", pfx_hex(hsm->apps[app].x5t_s256, 32, hex));
    pfx_msg_set_str(item, "file", file);
    pfx_msg_set_str(item, "pem", hsm->apps[app].pem);
    op->given.has_certificate = true;
    memcpy(op->given.certificate, hsm->apps[app].x5t_s256, sizeof op->given.certificate);
    pfx_record_certificate(made->ceremony->record, op, hsm->apps[app].not_after_ms);
    *ret_reply = item;
    return PFX_OK;
}

static pfx_result certificates(struct pfx_ceremony *ceremony, struct pfx_error *err)
{
    for (size_t i = PFX_STANDING_CLIENT; i < pfx_standing_count(ceremony->hsm->policy); i++) {
        struct standing_ctx ctx = {.ceremony = ceremony, .index = i};
        pfx_hsm_standing(ceremony->hsm, i, &ctx.standing);
        struct pfx_op op = {.event = PFX_EVENT_CEREMONY_CERT, .actor = ceremony->task->actor};
        snprintf(op.target.name, sizeof op.target.name, "%s", ctx.standing.name);
        struct pfx_msg *reply PFX_AUTOMSG = NULL;
        PFX_TRY(pfx_op_run(ceremony->worker, &op, certificate_work, &ctx, &reply, err));
        char *path PFX_AUTOFREE = pfx_app_certificate_path(ceremony->hsm, i - PFX_STANDING_CLIENT);
        if (chmod(path, 0644) < 0)
            return pfx_fail_errno(err, errno, "release certificate", path, "");
        pfx_task_emit(ceremony->task, PFX_TAKE(reply));
    }
    return PFX_OK;
}

/* Which keys are looked for, or made, is known under the MAC key. */
static pfx_result generations(struct pfx_hsm *hsm, struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(pfx_session_acquire(hsm->roles[PFX_ROLE_USERS].token, false, &session, err));
    return pfx_rotation_load(hsm, session, err);
}

static void note(void *ctx, const char *text)
{
    remark(ctx, PFX_ROLE_COUNT, text);
}

static pfx_result run(struct pfx_ceremony *ceremony, const struct pfx_secret *pin,
                      struct pfx_error *err)
{
    struct pfx_hsm *hsm = ceremony->hsm;
    pfx_result result;
    PFX_TRY(pfx_ceremony_log_precheck(ceremony, err));
    PFX_TRY(look(ceremony, pin, err));
    PFX_TRY(pfx_hsmlog_generation(hsm, err));
    PFX_TRY(generations(hsm, err));
    PFX_TRY(stock(ceremony, err));
    PFX_TRY(pfx_record_intend(ceremony->record, err));
    PFX_TRY(pfx_ceremony_log(ceremony, err));
    PFX_TRY(standing_keys(ceremony, err));
    PFX_TRY(certificates(ceremony, err));
    if (ceremony->encryption_open)
        PFX_TRY(pfx_ceremony_encryption(ceremony, err));
    for (enum pfx_role role = PFX_ROLE_USERS; role < PFX_ROLE_COUNT; role++) {
        PFX_TRY(pfx_role_check(ceremony->worker, role, err));
        hsm->roles[role].phase = PFX_ROLE_READY;
        hsm->roles[role].again = false;
        pfx_hsmlog_ready(hsm, role);
    }
    if (!ceremony->encryption_open)
        PFX_TRY(pfx_ceremony_encryption_export(ceremony, err));
    pfx_status_notes(hsm, note, ceremony);
    result = pfx_record_finish(ceremony->record, err);
    pfx_hsmlog_settle(hsm);
    return result;
}

pfx_result pfx_do_init(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_secret *pin PFX_AUTOSECRET = NULL;
    const char *given = pfx_msg_str(task->args, "encryption_pin");
    if (given)
        PFX_TRY(pfx_secret_copy(given, strlen(given), &pin, err));
    if (!given && !pfx_pins_exist(hsm))
        return pfx_fail(err, PFX_CLASS_USAGE, "init", "encryption", "",
                        "The encryption key has to be made: give the PIN of the encryption token.");
    struct pfx_record_maker *record PFX_AUTORECORD = NULL;
    PFX_TRY(pfx_record_begin(worker, task, &record, err));
    pfx_msg_free(PFX_TAKE(task->args)); /* wiped: the ceremony takes a while */
    struct pfx_ceremony ceremony = {worker, task, hsm, pin != NULL, false, record};
    pfx_result result = run(&ceremony, pin, err);
    pfx_role_close(hsm, PFX_ROLE_ENCRYPTION);
    if (pin)
        pfx_ceremony_say(&ceremony, "step", PFX_ROLE_ENCRYPTION, NULL,
                         "logged out, sessions closed");
    if (pfx_failed(result))
        pfx_log_error(err, "init ended early");
    else
        pfx_log(PFX_LOG_INFO, "init done");
    return result;
}
