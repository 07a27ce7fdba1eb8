/* key.list, key.show, key.export_public: the standing keys, the pinned generations, and how many
 * user keys there are. Nothing here opens the encryption token. */
#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"
#include "pkcs11/hsm/generation.h"
#include "pkcs11/hsm/roles.h"
#include "pkcs11/hsm/verbs.h"

#define USER_KEYS "user-keys" /* their row's name */

static void set_id(struct pfx_msg *item, const struct pfx_key_id *id)
{
    char hex[2 * PFX_KEY_ID_SIZE + 1];
    pfx_msg_set_str(item, "id", pfx_hex(id->bytes, sizeof id->bytes, hex));
}

static void set_sha256(struct pfx_msg *item, struct pfx_bytes spki)
{
    uint8_t digest[32];
    char hex[65];
    if (spki.len > 0 && pfx_sha256(spki.data, spki.len, digest))
        pfx_msg_set_str(item, "sha256", pfx_hex(digest, sizeof digest, hex));
}

static struct pfx_msg *standing_item(const struct pfx_hsm *hsm, struct pfx_task *task,
                                     const struct pfx_standing_key *standing, struct pfx_bytes spki)
{
    char text[128];
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_str(item, "role", pfx_role_name(standing->role));
    pfx_msg_set_str(item, "name", standing->name);
    pfx_msg_set_str(item, "algorithm", standing->algorithm);
    set_id(item, &standing->id);
    if (hsm->roles[standing->role].token)
        pfx_msg_set_str(item, "token", pfx_token_text(hsm->roles[standing->role].token, text));
    set_sha256(item, spki);
    return item;
}

static struct pfx_msg *pin_item(const struct pfx_hsm *hsm, struct pfx_task *task,
                                const struct pfx_pinned *pin)
{
    struct pfx_standing_key standing;
    enum pfx_key_type type;
    struct pfx_error ignored = PFX_ERROR_NONE;
    pfx_standing_encryption(hsm->policy, pin->generation, &standing);
    if (pin->spki.len > 0 && pfx_ok(pfx_spki_type(pfx_buf_bytes(&pin->spki), &type, &ignored)))
        snprintf(standing.algorithm, sizeof standing.algorithm, "%s", pfx_key_type_name(type));
    struct pfx_msg *item = standing_item(hsm, task, &standing, pfx_buf_bytes(&pin->spki));
    pfx_msg_set_str(item, "state", pfx_key_state_name(pin->state));
    pfx_msg_set_int(item, "generation", pin->generation);
    return item;
}

struct counting {
    int64_t n;
};

static bool count_user_key(void *ctx, const struct pfx_key_row *row)
{
    struct counting *counting = ctx;
    counting->n += row->object_class == CKO_PRIVATE_KEY &&
                   strncmp(row->label, PFX_USER_LABEL, strlen(PFX_USER_LABEL)) == 0;
    return true;
}

static pfx_result user_keys(const struct pfx_hsm *hsm, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_token *token = hsm->roles[PFX_ROLE_USERS].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct counting counting = {0};
    char text[128];
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    PFX_TRY(pfx_keys_list(session, count_user_key, &counting, err));
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_str(item, "role", pfx_role_name(PFX_ROLE_USERS));
    pfx_msg_set_str(item, "name", USER_KEYS);
    pfx_msg_set_str(item, "algorithm", "various");
    pfx_msg_set_str(item, "token", pfx_token_text(token, text));
    pfx_msg_set_int(item, "count", counting.n);
    pfx_task_emit(task, item);
    return PFX_OK;
}

pfx_result pfx_do_key_list(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    PFX_TRY(pfx_pins_of(worker, &pins, err));
    for (size_t i = 0; i < pins.n; i++)
        pfx_task_emit(task, pin_item(hsm, task, &pins.list[i]));
    for (size_t i = 0; i < pfx_standing_count(hsm->policy); i++) {
        struct pfx_standing_key standing;
        pfx_hsm_standing(hsm, i, &standing);
        /* The optional one is there exactly if its public half was seen. */
        if (hsm->roles[standing.role].phase != PFX_ROLE_READY ||
            (standing.optional && hsm->standing_spki[i].len == 0))
            continue;
        pfx_task_emit(task,
                      standing_item(hsm, task, &standing, pfx_buf_bytes(&hsm->standing_spki[i])));
    }
    return user_keys(hsm, task, err);
}

static void add_attribute(void *ctx, const char *text)
{
    pfx_msg_add_str(ctx, "attributes", text);
}

static pfx_result show_standing(struct pfx_worker *worker, struct pfx_task *task, size_t index,
                                const struct pfx_standing_key *standing, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key;
    PFX_TRY(pfx_hsm_needs(hsm, PFX_NEEDS(standing->role), err));
    PFX_TRY(pfx_session_acquire(hsm->roles[standing->role].token, false, &session, err));
    PFX_TRY(pfx_ring_key(hsm, &worker->ring, session, index, &key, err));
    struct pfx_msg *item PFX_AUTOMSG = standing_item(hsm, task, standing, pfx_key_spki(key));
    PFX_TRY(pfx_key_attributes(session, key, add_attribute, item, err));
    if (index >= PFX_STANDING_CLIENT && hsm->apps[index - PFX_STANDING_CLIENT].pem)
        pfx_msg_set_str(item, "certificate", hsm->apps[index - PFX_STANDING_CLIENT].pem);
    pfx_task_emit(task, PFX_TAKE(item));
    return PFX_OK;
}

/* A user key by its CKA_ID: is it in the token at this moment? */
static pfx_result show_user(struct pfx_worker *worker, struct pfx_task *task,
                            const struct pfx_key_id *id, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_token *token = hsm->roles[PFX_ROLE_USERS].token;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    char text[128];
    PFX_TRY(pfx_hsm_needs(hsm, PFX_NEEDS(PFX_ROLE_USERS), err));
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    PFX_TRY(pfx_key_find(session, PFX_USE_USER, id, true, (struct pfx_bytes){NULL, 0}, &key, err));
    struct pfx_msg *item PFX_AUTOMSG = pfx_task_item(task);
    enum pfx_key_type type = PFX_KEY_RSA_2048;
    if (key)
        PFX_TRY(pfx_spki_type(pfx_key_spki(key), &type, err));
    pfx_msg_set_str(item, "role", pfx_role_name(PFX_ROLE_USERS));
    pfx_msg_set_str(item, "name", "user key");
    pfx_msg_set_str(item, "algorithm", key ? pfx_key_type_name(type) : "unknown");
    pfx_msg_set_str(item, "state", key ? "there" : "not found");
    set_id(item, id);
    pfx_msg_set_str(item, "token", pfx_token_text(token, text));
    if (key) {
        set_sha256(item, pfx_key_spki(key));
        PFX_TRY(pfx_key_attributes(session, key, add_attribute, item, err));
    }
    pfx_task_emit(task, PFX_TAKE(item));
    return PFX_OK;
}

static bool key_id_of(const char *name, struct pfx_key_id *ret_id)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(PFX_KEY_ID_SIZE);
    if (strlen(name) != 2 * PFX_KEY_ID_SIZE || !pfx_unhex(name, 2 * PFX_KEY_ID_SIZE, &bytes))
        return false;
    memcpy(ret_id->bytes, bytes.data, PFX_KEY_ID_SIZE);
    return true;
}

static const struct pfx_pinned *pin_named(const struct pfx_hsm *hsm, const struct pfx_pins *pins,
                                          const char *name)
{
    for (size_t i = 0; i < pins->n; i++) {
        struct pfx_standing_key standing;
        pfx_standing_encryption(hsm->policy, pins->list[i].generation, &standing);
        if (strcmp(standing.name, name) == 0)
            return &pins->list[i];
    }
    return NULL;
}

static pfx_result unknown(struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_USAGE, "find key", "name", "",
                    "There is no such key: pfx-agent key list shows the names.");
}

pfx_result pfx_do_key_show(struct pfx_worker *worker, struct pfx_task *task, struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    const char *name = pfx_msg_str(task->args, "name");
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    if (!name)
        return unknown(err);
    for (size_t i = 0; i < pfx_standing_count(hsm->policy); i++) {
        struct pfx_standing_key standing;
        pfx_hsm_standing(hsm, i, &standing);
        if (strcmp(standing.name, name) == 0)
            return show_standing(worker, task, i, &standing, err);
    }
    struct pfx_key_id id;
    if (key_id_of(name, &id))
        return show_user(worker, task, &id, err);
    PFX_TRY(pfx_pins_of(worker, &pins, err));
    const struct pfx_pinned *pin = pin_named(hsm, &pins, name);
    if (!pin)
        return unknown(err);
    struct pfx_msg *item = pin_item(hsm, task, pin);
    char *names PFX_AUTOFREE = pfx_asprintf("keyName %s", pin->key_name);
    char *provider PFX_AUTOFREE = pfx_asprintf("providerName %s", pin->provider_name);
    pfx_msg_add_str(item, "attributes", names);
    pfx_msg_add_str(item, "attributes", provider);
    pfx_msg_add_str(item, "attributes", "read back in the ceremony: its token is closed now");
    pfx_task_emit(task, item);
    return PFX_OK;
}

struct exporting {
    struct pfx_task *task;
    const char *name;
};

static pfx_result export_work(struct pfx_worker *worker, struct pfx_op *op, void *ctx,
                              struct pfx_msg **ret_reply, struct pfx_error *err)
{
    struct exporting *exporting = ctx;
    struct pfx_hsm *hsm = worker->hsm;
    struct pfx_task *task = exporting->task;
    struct pfx_msg *item PFX_AUTOMSG = NULL;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pem = pfx_buf_make(32768);
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    struct pfx_bytes spki = {NULL, 0};
    PFX_TRY(pfx_pins_of(worker, &pins, err));
    const struct pfx_pinned *pin =
        exporting->name ? pin_named(hsm, &pins, exporting->name) : pfx_pins_active(&pins);
    if (pin && pin->spki.len > 0) {
        spki = pfx_buf_bytes(&pin->spki);
        item = pin_item(hsm, task, pin);
        op->out.generation = pin->generation;
    }
    for (size_t i = 0; !item && exporting->name && i < pfx_standing_count(hsm->policy); i++) {
        struct pfx_standing_key standing;
        pfx_hsm_standing(hsm, i, &standing);
        if (strcmp(standing.name, exporting->name) != 0)
            continue;
        PFX_TRY(pfx_hsm_needs(hsm, PFX_NEEDS(standing.role), err));
        spki = pfx_buf_bytes(&hsm->standing_spki[i]);
        item = standing_item(hsm, task, &standing, spki);
        if (i >= PFX_STANDING_CLIENT)
            pfx_msg_set_str(item, "certificate", hsm->apps[i - PFX_STANDING_CLIENT].pem);
    }
    if (!item)
        return unknown(err);
    if (spki.len == 0 || !pfx_spki_pem(spki, &pem))
        return pfx_fail(err, PFX_CLASS_USAGE, "export public key",
                        exporting->name ? exporting->name : "", "", "This key has no public half.");
    pfx_msg_set_str(item, "pem", pfx_buf_str(&pem));
    pfx_op_out(op, spki);
    *ret_reply = PFX_TAKE(item);
    return PFX_OK;
}

/* Without a name: the active generation of the encryption key. */
pfx_result pfx_do_key_export(struct pfx_worker *worker, struct pfx_task *task,
                             struct pfx_error *err)
{
    struct exporting exporting = {task, pfx_msg_str(task->args, "name")};
    struct pfx_op op = {.event = PFX_EVENT_KEY_EXPORT, .actor = task->actor};
    struct pfx_msg *reply PFX_AUTOMSG = NULL;
    if (exporting.name)
        snprintf(op.target.name, sizeof op.target.name, "%s", exporting.name);
    PFX_TRY(pfx_op_run(worker, &op, export_work, &exporting, &reply, err));
    pfx_task_emit(task, PFX_TAKE(reply));
    return PFX_OK;
}
