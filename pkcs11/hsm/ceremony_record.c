/* What goes into a ceremony's record, as the ceremony does it. */
#include "pkcs11/hsm/ceremony_record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/conf/account.h"
#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/hsmlog.h"
#include "pkcs11/hsm/rotation.h"

/* 0750 for the auditors' group, whatever the umask says. Under systemd there is no chown(), only
 * fchownat(). */
static pfx_result folder_make(struct pfx_record_maker *maker, struct pfx_error *err)
{
    const struct pfx_hsm_policy *policy = maker->hsm->policy;
    struct stat st;
    maker->folder = pfx_hsm_path(maker->hsm, "ceremonies");
    PFX_TRY(pfx_account_group("the policy", "access.auditors", policy->auditors_group,
                              &maker->readers, err));
    if (mkdir(maker->folder, 0750) < 0 && errno != EEXIST)
        return pfx_fail_errno(err, errno, "make folder", maker->folder, "");
    if (lstat(maker->folder, &st) < 0)
        return pfx_fail_errno(err, errno, "look at folder", maker->folder, "");
    if (!S_ISDIR(st.st_mode))
        return pfx_fail(err, PFX_CLASS_USAGE, "look at folder", maker->folder, "",
                        "The records of ceremonies go there, and it isn't a folder: move it away.");
    if (((st.st_mode & 07777) != 0750 && chmod(maker->folder, 0750) < 0) ||
        (maker->readers != (gid_t)-1 && st.st_gid != maker->readers &&
         fchownat(AT_FDCWD, maker->folder, (uid_t)-1, maker->readers, AT_SYMLINK_NOFOLLOW) < 0))
        return pfx_fail_errno(err, errno, "open folder to auditors", maker->folder, "");
    return PFX_OK;
}

void pfx_record_host(const struct pfx_hsm *hsm, struct pfx_minutes_section *head)
{
    pfx_minutes_set(head, PFX_MF_HOST, hsm->policy->host_id);
    pfx_minutes_set_hex(head, PFX_MF_POLICY, hsm->policy->sha256, sizeof hsm->policy->sha256);
    pfx_minutes_set(head, PFX_MF_VERSION, PFX_VERSION);
    if (hsm->log->software.has_exe)
        pfx_minutes_set_hex(head, PFX_MF_EXE, hsm->log->software.exe,
                           sizeof hsm->log->software.exe);
}

static void begin_head(struct pfx_record_maker *maker, const char *const *witnesses)
{
    const struct pfx_hsm *hsm = maker->hsm;
    struct pfx_minutes_section *head = pfx_minutes_add(&maker->record, PFX_MK_HEAD, "");
    int64_t uid = maker->task->actor.uid;
    pfx_minutes_set(head, PFX_MF_KIND, maker->kind);
    pfx_minutes_set_time(head, PFX_MF_TIME, maker->at_ms);
    pfx_minutes_set_int(head, PFX_MF_UID, uid > 0 ? uid : 0);
    pfx_record_host(hsm, head);
    for (size_t i = 0; witnesses && witnesses[i]; i++)
        (void)pfx_minutes_add(&maker->record, PFX_MK_WITNESS, witnesses[i]);
}

/* "20261123T130000123Z-init" */
static void name_of(struct pfx_record_maker *maker)
{
    char time[PFX_TIME_SIZE];
    size_t n = 0;
    pfx_time_format(maker->at_ms, true, time);
    for (const char *at = time; *at; at++)
        if (!strchr("-:.", *at))
            maker->name[n++] = *at;
    snprintf(maker->name + n, sizeof maker->name - n, "-%s", maker->kind);
}

pfx_result pfx_record_maker_new(struct pfx_worker *worker, struct pfx_task *task,
                                struct pfx_record_maker **ret_maker, struct pfx_error *err)
{
    struct pfx_record_maker *maker PFX_AUTORECORD = pfx_alloc(sizeof *maker);
    maker->worker = worker;
    maker->hsm = worker->hsm;
    maker->task = task;
    if (task)
        maker->actor = task->actor;
    PFX_TRY(folder_make(maker, err));
    *ret_maker = PFX_TAKE(maker);
    return PFX_OK;
}

pfx_result pfx_record_begin(struct pfx_worker *worker, struct pfx_task *task,
                            struct pfx_record_maker **ret_maker, struct pfx_error *err)
{
    struct pfx_record_maker *maker PFX_AUTORECORD = NULL;
    PFX_TRY(pfx_record_maker_new(worker, task, &maker, err));
    pfx_record_complete(worker, task);
    maker->at_ms = pfx_now_ms();
    snprintf(maker->kind, sizeof maker->kind, "%s", task->name);
    name_of(maker);
    begin_head(maker, pfx_msg_strs(task->args, "witnesses"));
    *ret_maker = PFX_TAKE(maker);
    return PFX_OK;
}

pfx_result pfx_record_intend(struct pfx_record_maker *maker, struct pfx_error *err)
{
    struct pfx_oplog_facts *facts PFX_AUTOFREE = pfx_alloc(sizeof *facts);
    struct pfx_oplog_status status;
    if (!maker)
        return PFX_OK;
    pfx_oplog_facts(maker->hsm->log->writer, facts);
    pfx_oplog_status(maker->hsm->log->writer, &status);
    maker->from = facts->origin[0] ? status.size : 0;
    snprintf(maker->origin, sizeof maker->origin, "%s", facts->origin);
    pfx_minutes_set(&maker->record.list[0], PFX_MF_LOG, facts->origin[0] ? facts->origin : "-");
    PFX_TRY(pfx_begun_write(maker, err));
    maker->begun = true;
    return PFX_OK;
}

/* What can't be read again later: should this process end, the page has it all the same. That it
 * couldn't be kept is no reason to end a ceremony in the middle. */
static void keep(struct pfx_record_maker *maker)
{
    struct pfx_error why = PFX_ERROR_NONE;
    if (maker->begun && pfx_failed(pfx_begun_write(maker, &why)))
        pfx_log_error(&why, "what a ceremony has seen so far can't be kept");
}

void pfx_record_maker_free(struct pfx_record_maker *maker)
{
    if (!maker)
        return;
    if (maker->begun)
        pfx_record_complete(maker->worker, maker->task);
    pfx_minutes_done(&maker->record);
    free(maker->folder);
    free(maker);
}

void pfx_record_role(struct pfx_record_maker *maker, enum pfx_role role)
{
    if (!maker)
        return;
    const struct pfx_token_facts *facts = pfx_token_facts(maker->hsm->roles[role].token);
    struct pfx_minutes_section *s =
        pfx_minutes_add(&maker->record, PFX_MK_ROLE, pfx_role_name(role));
    char *device PFX_AUTOFREE = pfx_asprintf("%s %s, firmware %s", facts->manufacturer,
                                             facts->model, facts->firmware);
    char *module PFX_AUTOFREE = pfx_asprintf("%s, version %s", facts->module, facts->module_version);
    pfx_minutes_set(s, PFX_MF_TOKEN, facts->label[0] ? facts->label : "-");
    pfx_minutes_set(s, PFX_MF_SERIAL, facts->serial[0] ? facts->serial : "-");
    pfx_minutes_set(s, PFX_MF_DEVICE, device);
    pfx_minutes_set(s, PFX_MF_MODULE, module);
    if (strlen(facts->module_sha256) == 64)
        pfx_minutes_set(s, PFX_MF_MODULE_SHA256, facts->module_sha256);
}

/* --- keys ------------------------------------------------------------------------------------- */

/* What a secret key can't show, said once on a page that has one. */
static const char no_fingerprint[] =
    "Secret keys have no public half, so no fingerprint: CKA_ID and label name them, and prove "
    "nothing. CKA_CHECK_VALUE is left out: 24 bits don't tell keys apart, and a MAC key's begin a "
    "plain hash of it.";

struct attributes {
    struct pfx_buf is, is_not, unknown, mechanisms;
    char label[128];
};

static void attributes_init(struct attributes *found)
{
    found->is = found->is_not = found->unknown = found->mechanisms =
        pfx_buf_make(PFX_MINUTES_VALUE);
    found->label[0] = '\0';
}

static void attributes_done(struct attributes *found)
{
    pfx_buf_done(&found->is);
    pfx_buf_done(&found->is_not);
    pfx_buf_done(&found->unknown);
    pfx_buf_done(&found->mechanisms);
}

/* "CKA_SENSITIVE true", "CKA_ALLOWED_MECHANISMS CKM_ECDSA": a line of pfx_key_attributes. */
static void take_line(void *ctx, const char *line)
{
    struct attributes *found = ctx;
    size_t len = strcspn(line, " ");
    const char *value = line + len + (line[len] == ' ');
    const char *name = strncmp(line, "CKA_", 4) == 0 ? line + 4 : line;
    if (strncmp(name, "ALLOWED_MECHANISMS", 18) == 0) {
        (void)pfx_buf_add_str(&found->mechanisms, value);
        return;
    }
    struct pfx_buf *list = strcmp(value, "true") == 0    ? &found->is
                           : strcmp(value, "false") == 0 ? &found->is_not
                                                         : &found->unknown;
    (void)pfx_buf_addf(list, "%s%.*s", list->len > 0 ? " " : "",
                       (int)(len - (size_t)(name - line)), name);
}

static struct pfx_minutes_section *add_key(struct pfx_record_maker *maker,
                                          const struct pfx_standing_key *standing,
                                          const struct pfx_op *op, const char *how)
{
    if (!standing->pair && standing->use != PFX_USE_ANCHOR)
        pfx_record_note(maker, no_fingerprint);
    struct pfx_minutes_section *s = pfx_minutes_add(&maker->record, PFX_MK_KEY, standing->name);
    pfx_minutes_set(s, PFX_MF_ROLE, pfx_role_name(standing->role));
    pfx_minutes_set(s, PFX_MF_ALGORITHM,
                   op->key.algorithm[0] ? op->key.algorithm : standing->algorithm);
    pfx_minutes_set(s, PFX_MF_HOW, how);
    if (op->key.foreign_len > 0)
        pfx_minutes_set_hex(s, PFX_MF_ID, op->key.foreign_id, op->key.foreign_len);
    else
        pfx_minutes_set_hex(s, PFX_MF_ID, standing->id.bytes, sizeof standing->id.bytes);
    pfx_minutes_set(s, PFX_MF_OPERATION, op->ulid);
    if (!op->early)
        pfx_minutes_set_int(s, PFX_MF_INTENT, (int64_t)op->intent);
    return s;
}

static void set_attributes(struct pfx_minutes_section *s, struct attributes *found)
{
    pfx_minutes_set(s, PFX_MF_LABEL, found->label);
    pfx_minutes_set(s, PFX_MF_IS, pfx_buf_str(&found->is));
    pfx_minutes_set(s, PFX_MF_IS_NOT, pfx_buf_str(&found->is_not));
    pfx_minutes_set(s, PFX_MF_UNKNOWN, pfx_buf_str(&found->unknown));
    pfx_minutes_set(s, PFX_MF_MECHANISMS, pfx_buf_str(&found->mechanisms));
}

/* As the token shows them now. */
static pfx_result read_back(struct pfx_session *session, const struct pfx_key *key,
                            struct attributes *found, struct pfx_error *err)
{
    struct pfx_key *k = (struct pfx_key *)(uintptr_t)key; /* only its cached handle may change */
    PFX_TRY(pfx_key_attributes(session, key, take_line, found, err));
    return pfx_key_label(session, k, found->label, sizeof found->label, err);
}

static void set_spki(struct pfx_minutes_section *s, struct pfx_bytes spki)
{
    uint8_t digest[32];
    if (spki.len == 0)
        return;
    if (!pfx_sha256(spki.data, spki.len, digest))
        pfx_die("SHA-256 isn't available");
    pfx_minutes_set_hex(s, PFX_MF_SPKI, digest, sizeof digest);
}

pfx_result pfx_record_key(struct pfx_record_maker *maker, struct pfx_session *session,
                          const struct pfx_key *key, const struct pfx_standing_key *standing,
                          const struct pfx_op *op, const char *how, struct pfx_error *err)
{
    if (!maker)
        return PFX_OK;
    struct attributes found PFX_CLEANUP(attributes_done);
    attributes_init(&found);
    PFX_TRY(read_back(session, key, &found, err));
    struct pfx_minutes_section *s = add_key(maker, standing, op, how);
    set_spki(s, pfx_key_spki(key));
    set_attributes(s, &found);
    PFX_TRY(pfx_record_attest(maker, session, key, standing, err));
    if (standing->role == PFX_ROLE_ENCRYPTION) /* the others' tokens stay open */
        keep(maker);
    return PFX_OK;
}

void pfx_record_logged(struct pfx_record_maker *maker, const struct pfx_standing_key *standing,
                       const struct pfx_op *op, const char *how, const char *spki)
{
    struct pfx_minutes_section *s = add_key(maker, standing, op, how);
    pfx_minutes_set(s, PFX_MF_SPKI, spki);
}

void pfx_record_pinned(struct pfx_record_maker *maker, const struct pfx_standing_key *standing,
                       const struct pfx_op *op, struct pfx_bytes spki)
{
    if (maker)
        set_spki(add_key(maker, standing, op, "pinned"), spki);
}

void pfx_record_certificate(struct pfx_record_maker *maker, const struct pfx_op *op,
                            int64_t not_after_ms)
{
    if (!maker)
        return;
    struct pfx_minutes_section *s =
        pfx_minutes_add(&maker->record, PFX_MK_CERTIFICATE, op->target.name);
    pfx_minutes_set_hex(s, PFX_MF_SHA256, op->given.certificate, sizeof op->given.certificate);
    pfx_minutes_set(s, PFX_MF_OPERATION, op->ulid);
    pfx_minutes_set_time(s, PFX_MF_UNTIL, not_after_ms);
}

pfx_result pfx_record_adopted(struct pfx_record_maker *maker, struct pfx_session *session,
                              const struct pfx_standing_key *standing, const struct pfx_op *op,
                              const struct pfx_adopted *adopted, struct pfx_error *err)
{
    if (!maker)
        return PFX_OK;
    struct attributes found PFX_CLEANUP(attributes_done);
    bool there;
    attributes_init(&found);
    PFX_TRY(pfx_adopted_attributes(session,
                                   (struct pfx_bytes){op->key.foreign_id, op->key.foreign_len},
                                   take_line, &found, found.label, sizeof found.label, &there, err));
    struct pfx_minutes_section *s = add_key(maker, standing, op, "adopted");
    set_spki(s, pfx_buf_bytes(&adopted->spki));
    set_attributes(s, &found);
    for (size_t i = 0; i < adopted->n_deviations; i++) {
        char *text PFX_AUTOFREE = pfx_asprintf("%s: otherwise than a key of ours: %s",
                                               standing->name, adopted->deviations[i]);
        pfx_record_note(maker, text);
    }
    PFX_TRY(pfx_record_attest(maker, session, NULL, standing, err));
    keep(maker);
    return PFX_OK;
}

/* What stood against reading a key doesn't keep it from being destroyed. */
static void add_destroyed(struct pfx_record_maker *maker, const struct pfx_standing_key *standing,
                          const struct pfx_op *op, struct pfx_bytes spki, bool there,
                          struct attributes *found, const struct pfx_error *why)
{
    char token[128];
    struct pfx_minutes_section *s = add_key(maker, standing, op, there ? "destroyed" : "gone");
    set_spki(s, spki);
    set_attributes(s, found);
    char *text PFX_AUTOFREE = pfx_asprintf(
        "%s: %s the token %s. Backups and clones of the HSM aren't seen from here.", standing->name,
        there ? "the attributes above were read before it was destroyed; looked for behind that, and "
                "not found any more in"
              : "looked for, and not found in",
        pfx_token_text(maker->hsm->roles[standing->role].token, token));
    pfx_record_note(maker, text);
    if (why->text[0]) {
        char *unread PFX_AUTOFREE = pfx_asprintf(
            "%s: its attributes couldn't be read before: %.300s", standing->name, why->text);
        pfx_record_note(maker, unread);
    }
    keep(maker);
}

void pfx_record_destroyed(struct pfx_record_maker *maker, struct pfx_session *session,
                          const struct pfx_key *key, const struct pfx_standing_key *standing,
                          const struct pfx_op *op, struct pfx_bytes spki)
{
    struct pfx_error why = PFX_ERROR_NONE;
    if (!maker)
        return;
    struct attributes found PFX_CLEANUP(attributes_done);
    attributes_init(&found);
    if (key)
        (void)!pfx_ok(read_back(session, key, &found, &why));
    add_destroyed(maker, standing, op, key ? pfx_key_spki(key) : spki, key != NULL, &found, &why);
}

void pfx_record_adopted_destroyed(struct pfx_record_maker *maker, struct pfx_session *session,
                                  const struct pfx_standing_key *standing, const struct pfx_op *op,
                                  struct pfx_bytes spki)
{
    bool there = false;
    struct pfx_error why = PFX_ERROR_NONE;
    if (!maker)
        return;
    struct attributes read PFX_CLEANUP(attributes_done);
    attributes_init(&read);
    (void)!pfx_ok(pfx_adopted_attributes(
        session, (struct pfx_bytes){op->key.foreign_id, op->key.foreign_len}, take_line, &read,
        read.label, sizeof read.label, &there, &why));
    add_destroyed(maker, standing, op, spki, there, &read, &why);
}

/* --- what is in force ------------------------------------------------------------------------- */

void pfx_record_standing(struct pfx_record_maker *maker, size_t index)
{
    struct pfx_overlap list[PFX_OVERLAP_MOST];
    struct pfx_standing_key key;
    if (!maker)
        return;
    const struct pfx_hsm *hsm = maker->hsm;
    pfx_standing_describe(hsm->policy, index, &key);
    size_t n = pfx_rotation_of(hsm->rotation, key.stem, list);
    for (size_t i = 0; i < n; i++) {
        if (list[i].state == PFX_OVERLAP_MAKING) /* a cut-off one: there may be no key */
            continue;
        pfx_standing_generation(hsm->policy, index, list[i].number, &key);
        struct pfx_minutes_section *s =
            pfx_minutes_add(&maker->record, PFX_MK_STANDING, key.name);
        pfx_minutes_set(s, PFX_MF_STATE, pfx_overlap_state_name(list[i].state));
        if (list[i].since_ms > 0)
            pfx_minutes_set_time(s, PFX_MF_SINCE, list[i].since_ms);
    }
}

static void add_pin(struct pfx_record_maker *maker, const struct pfx_pinned *pin)
{
    char *name PFX_AUTOFREE = pfx_asprintf("encryption-%u", pin->generation);
    struct pfx_minutes_section *s = pfx_minutes_add(&maker->record, PFX_MK_PIN, name);
    pfx_minutes_set_int(s, PFX_MF_GENERATION, pin->generation);
    pfx_minutes_set(s, PFX_MF_STATE, pfx_key_state_name(pin->state));
    pfx_minutes_set(s, PFX_MF_KEY_NAME, pin->key_name[0] ? pin->key_name : "-");
    pfx_minutes_set(s, PFX_MF_PROVIDER, pin->provider_name[0] ? pin->provider_name : "-");
    set_spki(s, pfx_buf_bytes(&pin->spki));
}

void pfx_record_pins(struct pfx_record_maker *maker, const struct pfx_pins *pins)
{
    for (size_t i = 0; maker && i < pins->n; i++)
        if (pins->list[i].spki.len > 0)
            add_pin(maker, &pins->list[i]);
}

void pfx_record_note(struct pfx_record_maker *maker, const char *text)
{
    if (maker && !pfx_minutes_find(&maker->record, PFX_MK_NOTE, text))
        (void)pfx_minutes_add(&maker->record, PFX_MK_NOTE, text);
}
