/* secret.set, secret.status, and the uploader's request for one. */
#include "pkcs11/hsm/secrets.h"

#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "crypto/oaep.h"
#include "pkcs11/hsm/verbs.h"

struct secret_ctx {
    struct pfx_task *task;
    const char *name; /* static */
};

static void fingerprint(struct pfx_bytes spki, char hex[65])
{
    uint8_t digest[32];
    if (!pfx_sha256(spki.data, spki.len, digest))
        pfx_die("SHA-256 isn't available");
    pfx_hex(digest, sizeof digest, hex);
}

static struct pfx_msg *status_of(struct pfx_task *task, const char *name,
                                 const struct pfx_sealed *sealed)
{
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_str(item, "name", name);
    pfx_msg_set_bool(item, "set", sealed != NULL);
    if (sealed) {
        pfx_msg_set_int(item, "changed", sealed->changed_ms);
        pfx_msg_set_str(item, "sealed_to", sealed->sealed_to);
    }
    return item;
}

/* Sealing needs no token: the public half was read when the role became ready. What doesn't fit
 * into one block goes into as many as it takes, in order. */
static pfx_result seal(struct pfx_bytes spki, const char *value, size_t len,
                       struct pfx_sealed *sealed, struct pfx_error *err)
{
    size_t room = pfx_oaep_room(384, PFX_HASH_SHA256);
    for (size_t at = 0; at < len; at += room) {
        struct pfx_secret *part PFX_AUTOSECRET = NULL;
        size_t n = len - at < room ? len - at : room;
        PFX_TRY(pfx_secret_copy(value + at, n, &part, err));
        PFX_TRY(pfx_oaep_seal(spki, PFX_HASH_SHA256, part, &sealed->blocks[sealed->n_blocks], err));
        sealed->n_blocks++;
    }
    return PFX_OK;
}

static pfx_result set_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                           struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct secret_ctx *secret = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_bytes spki = pfx_buf_bytes(&hsm->standing_spki[PFX_STANDING_SECRETS]);
    const char *value = pfx_msg_str(secret->task->args, "value");
    struct pfx_standing_key standing;
    pfx_hsm_standing(hsm, PFX_STANDING_SECRETS, &standing);
    pfx_op_token(op, hsm->roles[PFX_ROLE_SERVICE].token);
    pfx_op_key(op, &standing.id, spki, standing.algorithm);
    PFX_CLEANUP(pfx_sealed_done) struct pfx_sealed sealed;
    pfx_sealed_init(&sealed);
    snprintf(sealed.name, sizeof sealed.name, "%s", secret->name);
    sealed.changed_ms = pfx_now_ms();
    fingerprint(spki, sealed.sealed_to);
    PFX_TRY(seal(spki, value, strlen(value), &sealed, err));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(16384);
    if (!pfx_sealed_write(&sealed, &text))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "write sealed secret", secret->name, "",
                        "It is too long.");
    char *file PFX_AUTOFREE = pfx_asprintf("%s.sealed", secret->name);
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, file);
    PFX_TRY(pfx_file_replace(path, text.data, text.len, 0600, err));
    *ret_reply = status_of(secret->task, secret->name, &sealed);
    return PFX_OK;
}

pfx_result pfx_do_secret_set(struct pfx_worker *worker, struct pfx_task *task,
                             struct pfx_error *err)
{
    const struct pfx_secret_name *name = pfx_secret_find(pfx_msg_str(task->args, "name"));
    const char *value = pfx_msg_str(task->args, "value");
    if (!name)
        return pfx_secret_unknown(err);
    PFX_TRY(pfx_secret_fits(name, (struct pfx_bytes){(const uint8_t *)value, strlen(value)}, err));
    struct secret_ctx secret = {task, name->name};
    struct pfx_op op = {.event = PFX_EVENT_SECRET_SEAL, .actor = task->actor};
    snprintf(op.target.name, sizeof op.target.name, "%s", secret.name);
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    PFX_TRY(pfx_op_run(worker, &op, set_work, &secret, &reply, err));
    pfx_task_emit(task, PFX_TAKE(reply));
    return PFX_OK;
}

pfx_result pfx_do_secret_status(struct pfx_worker *worker, struct pfx_task *task,
                                struct pfx_error *err)
{
    for (const struct pfx_secret_name *row = pfx_secret_names; row->name; row++) {
        PFX_CLEANUP(pfx_sealed_done) struct pfx_sealed sealed;
        bool present = false;
        pfx_sealed_init(&sealed);
        PFX_TRY(pfx_sealed_load(worker->hsm, row->name, &sealed, &present, err));
        pfx_task_emit(task, status_of(task, row->name, present ? &sealed : NULL));
    }
    return PFX_OK;
}

/* All blocks in one text, as long as it is under one roof: the message takes a C string. */
static pfx_result open_blocks(struct pfx_session *session, struct pfx_key *key,
                              const struct pfx_sealed *sealed, struct pfx_secret **ret_text,
                              struct pfx_error *err)
{
    struct pfx_secret *text PFX_AUTOSECRET = NULL;
    size_t len = 0;
    PFX_TRY(pfx_secret_new(PFX_SECRET_MAX + 1, &text, err));
    for (size_t i = 0; i < sealed->n_blocks; i++) {
        struct pfx_secret *part PFX_AUTOSECRET = NULL;
        PFX_TRY(pfx_key_open_oaep(session, key, PFX_HASH_SHA256, pfx_buf_bytes(&sealed->blocks[i]),
                                  &part, err));
        size_t n = pfx_secret_len(part);
        if (n > PFX_SECRET_MAX - len || memchr(pfx_secret_bytes(part), '\0', n))
            return pfx_fail(err, PFX_CLASS_INTEGRITY, "open secret", sealed->name, "",
                            "What came out isn't a secret that was set: set it again.");
        memcpy(pfx_secret_data(text) + len, pfx_secret_bytes(part), n);
        len += n;
    }
    *ret_text = PFX_TAKE(text);
    return PFX_OK;
}

static pfx_result open_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                            struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct secret_ctx *secret = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_token *token = hsm->roles[PFX_ROLE_SERVICE].token;
    PFX_CLEANUP(pfx_sealed_done) struct pfx_sealed sealed;
    bool present = false;
    pfx_sealed_init(&sealed);
    pfx_op_token(op, token);
    PFX_TRY(pfx_sealed_load(hsm, secret->name, &sealed, &present, err));
    if (!present) /* the uploader asks again: as soon as an operator has set it, all goes on */
        return pfx_fail(err, PFX_CLASS_TRANSIENT, "open secret", secret->name, "",
                        "It was never set: run pfx-agent secret set %s.", secret->name);
    char now[65];
    fingerprint(pfx_buf_bytes(&hsm->standing_spki[PFX_STANDING_SECRETS]), now);
    if (strcmp(now, sealed.sealed_to) != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "open secret", secret->name, "",
                        "It was sealed to another secrets key than the service token has: set it "
                        "again with pfx-agent secret set %s.",
                        secret->name);
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key;
    struct pfx_secret *text PFX_AUTOSECRET = NULL;
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, PFX_STANDING_SECRETS, &key, err));
    pfx_op_key(op, pfx_key_id(key), pfx_key_spki(key), "rsa-3072");
    PFX_TRY(open_blocks(session, key, &sealed, &text, err));
    /* The log gets no hash of it: a guessable secret could be found from that. */
    struct pfx_msg *reply = pfx_task_item(secret->task);
    pfx_msg_set_str(reply, "value", (const char *)pfx_secret_bytes(text));
    *ret_reply = reply;
    return PFX_OK;
}

pfx_result pfx_do_secret_open(struct pfx_worker *worker, struct pfx_task *task,
                              struct pfx_error *err)
{
    const struct pfx_secret_name *name = pfx_secret_find(pfx_msg_str(task->args, "name"));
    if (!name)
        return pfx_reclass(pfx_secret_unknown(err), PFX_CLASS_USAGE, PFX_CLASS_REFUSED, err);
    struct secret_ctx secret = {task, name->name};
    struct pfx_op op = {.event = PFX_EVENT_SECRET_OPEN, .actor = task->actor};
    snprintf(op.target.name, sizeof op.target.name, "%s", secret.name);
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    PFX_TRY(pfx_op_run(worker, &op, open_work, &secret, &reply, err));
    pfx_task_emit(task, PFX_TAKE(reply));
    return PFX_OK;
}
