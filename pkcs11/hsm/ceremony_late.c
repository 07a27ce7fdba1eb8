/*
 * The page of a ceremony that didn't write its own: a process was killed, or failed on the way. What
 * the log has of it counts; what the mark kept under the MAC key is added to that, and what neither
 * knows is asked of the tokens that are open. The page says when it was written, and what of it is
 * whose word.
 */
#include "pkcs11/hsm/ceremony_late.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/generation.h"
#include "pkcs11/hsm/hsmlog.h"

/* As the process that ended would have, but for what its end made untrue. */
static void copy(struct pfx_minutes *to, const struct pfx_minutes_section *from)
{
    struct pfx_minutes_section *s = pfx_minutes_add(to, from->kind, from->name);
    for (size_t field = 0; field < PFX_MF_COUNT; field++)
        if (from->values[field])
            pfx_minutes_set(s, (enum pfx_minutes_field)field, from->values[field]);
}

static void note(struct pfx_record_maker *maker, const char *fmt, ...) PFX_PRINTF(2, 3);
static void note(struct pfx_record_maker *maker, const char *fmt, ...)
{
    char text[PFX_MINUTES_VALUE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    pfx_record_note(maker, text);
}

/* --- what the mark has ------------------------------------------------------------------------ */

/* Of a key whose end isn't sure, what was noted before it says too much. */
static bool untrue(const struct pfx_late_ops *ops, const char *text)
{
    for (size_t i = 0; i < ops->n; i++) {
        const struct pfx_late_op *op = &ops->list[i];
        size_t len = strlen(op->name);
        if (!op->done && op->destroys && strncmp(text, op->name, len) == 0 &&
            strncmp(text + len, ": ", 2) == 0)
            return true;
    }
    return false;
}

static void take_section(struct pfx_record_maker *maker, struct pfx_late_ops *ops,
                         const struct pfx_minutes_section *s)
{
    struct pfx_late_op *op;
    switch (s->kind) {
    case PFX_MK_WITNESS:
    case PFX_MK_ROLE:
    case PFX_MK_ATTESTATION:
        copy(&maker->record, s);
        break;
    case PFX_MK_NOTE:
        if (!untrue(ops, s->name))
            copy(&maker->record, s);
        break;
    case PFX_MK_KEY:
    case PFX_MK_CERTIFICATE:
        op = pfx_late_find(ops, pfx_minutes_get(s, PFX_MF_OPERATION));
        if (!op || (s->kind == PFX_MK_CERTIFICATE && !op->done))
            break;
        copy(&maker->record, s);
        if (s->kind == PFX_MK_CERTIFICATE) {
            op->certified = true;
            break;
        }
        op->told = true;
        if (!op->done)
            pfx_minutes_set(&maker->record.list[maker->record.n - 1], PFX_MF_HOW, "cut-off");
        break;
    default: /* its head is taken by itself; the rest is as it is now */
        break;
    }
}

/* --- what it lacks ---------------------------------------------------------------------------- */

/* Which key this name is, in whatever generation; false: the policy has none of this name. */
static bool standing_of(const struct pfx_hsm *hsm, const char *name, struct pfx_standing_key *ret,
                        size_t *ret_index)
{
    const char *dash = strrchr(name, '-');
    unsigned long number = dash ? strtoul(dash + 1, NULL, 10) : 0;
    if (number == 0 || number > 999999)
        return false;
    *ret_index = PFX_STANDING_MAX;
    pfx_standing_encryption(hsm->policy, (unsigned)number, ret);
    for (size_t i = 0; i < pfx_standing_count(hsm->policy) && strcmp(ret->name, name) != 0; i++) {
        if (pfx_standing_of_log(i))
            pfx_standing_log(hsm->policy, i, (unsigned)number, ret);
        else
            pfx_standing_generation(hsm->policy, i, (unsigned)number, ret);
        *ret_index = i;
    }
    return strcmp(ret->name, name) == 0;
}

static void op_of(const struct pfx_late_op *late, struct pfx_op *ret)
{
    struct pfx_buf id PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(sizeof ret->key.foreign_id);
    *ret = (struct pfx_op){.early = !late->has_intent, .intent = late->intent};
    snprintf(ret->ulid, sizeof ret->ulid, "%s", late->op);
    snprintf(ret->target.name, sizeof ret->target.name, "%.63s", late->name);
    snprintf(ret->key.algorithm, sizeof ret->key.algorithm, "%.15s", late->algorithm);
    if (!pfx_unhex(late->key_id, strlen(late->key_id), &id) || id.len == 0)
        return;
    memcpy(ret->key.foreign_id, id.data, id.len); /* one of ours has its own there, the same */
    ret->key.foreign_len = id.len;
}

/* Its certificate, where the file is the one that the log names. */
static void certificate(struct pfx_record_maker *maker, struct pfx_late_op *late, size_t index,
                        const struct pfx_standing_key *standing, const struct pfx_key *key)
{
    struct pfx_app app = {.pem = NULL};
    struct pfx_error ignored = PFX_ERROR_NONE;
    struct pfx_op op;
    char hex[65];
    if (!late->certificate[0] || late->certified || index < PFX_STANDING_CLIENT)
        return;
    pfx_result result =
        pfx_app_certificate_load(maker->hsm, index - PFX_STANDING_CLIENT, standing->generation,
                                 pfx_key_spki(key), &app, &ignored);
    late->certified =
        pfx_ok(result) &&
        strcmp(pfx_hex(app.x5t_s256, sizeof app.x5t_s256, hex), late->certificate) == 0;
    if (late->certified) {
        op_of(late, &op);
        memcpy(op.given.certificate, app.x5t_s256, sizeof op.given.certificate);
        pfx_record_certificate(maker, &op, app.not_after_ms);
    }
    free(app.pem);
}

/* On the token now, if that is open. *ret_asked: it answered. */
static pfx_result look(struct pfx_record_maker *maker, const struct pfx_standing_key *standing,
                       struct pfx_session **ret_session, struct pfx_key **ret_key, bool *ret_asked,
                       struct pfx_error *err)
{
    const struct pfx_role_state *role = &maker->hsm->roles[standing->role];
    *ret_asked = false;
    if (standing->role == PFX_ROLE_ENCRYPTION || !role->token || role->phase == PFX_ROLE_CLOSED)
        return PFX_OK;
    if (!pfx_minutes_find(&maker->record, PFX_MK_ROLE, pfx_role_name(standing->role)))
        pfx_record_role(maker, standing->role);
    PFX_TRY(pfx_session_acquire(role->token, false, ret_session, err));
    PFX_TRY(pfx_key_find(*ret_session, standing->use, &standing->id, false,
                         (struct pfx_bytes){NULL, 0}, ret_key, err));
    *ret_asked = true;
    return PFX_OK;
}

static void cut_off(struct pfx_record_maker *maker, const struct pfx_late_op *late, bool asked,
                    bool there)
{
    char now[PFX_TIME_SIZE];
    note(maker,
         "%s: %s (operation %s) %s. %s%s%s Whoever meant it gives the command again: that has a page of "
         "its own.",
         late->name, late->event, late->op,
         late->unknown ? "was cut off: the log doesn't say whether it was done"
                       : "failed, as the log says",
         !asked ? "Its token wasn't open when this page was written."
         : there ? "The key was in its token at "
                 : "The key wasn't found in its token at ",
         asked ? pfx_time_format(maker->at_ms, false, now) : "", asked ? "." : "");
}

static const char *how_of(const struct pfx_late_op *late, bool read)
{
    if (!late->done)
        return "cut-off";
    if (late->destroys)
        return strcmp(late->found, "nothing") == 0 ? "gone" : "destroyed";
    if (!read)
        return "logged";
    return strcmp(late->found, "key") == 0 ? "found" : "made";
}

static bool passes(pfx_result result)
{
    return result.cls == PFX_CLASS_DEVICE || result.cls == PFX_CLASS_TRANSIENT;
}

/* As the token shows it; what stands against reading it doesn't keep the page from being written,
 * unless it passes. */
static pfx_result add_read(struct pfx_record_maker *maker, const struct pfx_late_op *late,
                           struct pfx_session *session, const struct pfx_key *key,
                           const struct pfx_standing_key *standing, const struct pfx_op *op,
                           struct pfx_error *err)
{
    struct pfx_error why = PFX_ERROR_NONE;
    if (key && !late->destroys) {
        pfx_result result =
            pfx_record_key(maker, session, key, standing, op, how_of(late, true), &why);
        if (pfx_ok(result))
            return PFX_OK;
        if (passes(result)) {
            *err = why;
            return result;
        }
        note(maker, "%s: %.300s", late->name, why.text);
        if (pfx_minutes_find(&maker->record, PFX_MK_KEY, standing->name))
            return PFX_OK; /* its attestation alone wasn't to be had */
    }
    pfx_record_logged(maker, standing, op, how_of(late, false), late->spki);
    return PFX_OK;
}

static pfx_result add_key(struct pfx_record_maker *maker, struct pfx_late_op *late,
                          struct pfx_error *err)
{
    struct pfx_standing_key standing;
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_key *key PFX_AUTOKEY = NULL;
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_op op;
    size_t index;
    bool asked = false;
    if (late->told && late->done && (!late->certificate[0] || late->certified))
        return PFX_OK;
    if (!standing_of(maker->hsm, late->name, &standing, &index)) {
        note(maker, "%s: %s (operation %s) was done to it, and the policy has no key of this name now.",
             late->name, late->event, late->op);
        return PFX_OK;
    }
    op_of(late, &op);
    pfx_result looked = look(maker, &standing, &session, &key, &asked, &why);
    if (passes(looked)) {
        *err = why;
        return looked;
    }
    if (pfx_failed(looked))
        note(maker, "%s: %.300s", late->name, why.text);
    if (late->done && key && !late->destroys)
        certificate(maker, late, index, &standing, key);
    if (!late->done)
        cut_off(maker, late, asked, key != NULL);
    if (late->told || late->certifies)
        return PFX_OK;
    return add_read(maker, late, session, key, &standing, &op, err);
}

/* --- the whole of it -------------------------------------------------------------------------- */

static void add_head(struct pfx_record_maker *maker, const struct pfx_begun *begun,
                     const struct pfx_late_ops *ops)
{
    const struct pfx_hsm *hsm = maker->hsm;
    struct pfx_minutes_section *head = pfx_minutes_add(&maker->record, PFX_MK_HEAD, "");
    if (begun->vouched) {
        const struct pfx_minutes_section *was = &begun->record.list[0];
        for (size_t field = 0; field < PFX_MF_COUNT; field++)
            if (was->values[field])
                pfx_minutes_set(head, (enum pfx_minutes_field)field, was->values[field]);
    } else {
        pfx_minutes_set(head, PFX_MF_KIND, begun->kind);
        pfx_minutes_set_time(head, PFX_MF_TIME, ops->at_ms);
        pfx_minutes_set_int(head, PFX_MF_UID, ops->uid > 0 ? ops->uid : 0);
        pfx_record_host(hsm, head);
    }
    pfx_minutes_set_time(head, PFX_MF_LATE, maker->at_ms);
}

static void say_late(struct pfx_record_maker *maker, const struct pfx_begun *begun)
{
    pfx_record_note(maker, "Written late: the ceremony ended, or pfx-hsm did, before its page was "
                           "there. What isn't on it wasn't done, or isn't in the log.");
    pfx_record_note(maker,
                    begun->vouched
                        ? "Keys of the encryption token, and of what was destroyed, are as the "
                          "ceremony read and kept them; others were read when this was written."
                        : "Nothing that the ceremony kept of its own was left: this is the log's word, "
                          "with attributes read, and policy and program, as they were when this was "
                          "written. Witnesses aren't known.");
}

static void add_approvals(struct pfx_record_maker *maker, struct pfx_late_ops *ops)
{
    for (size_t i = 0; i < ops->n; i++) {
        struct pfx_late_op *late = &ops->list[i];
        struct pfx_approved approved = {.hsm = maker->hsm, .nonce = "", .weak = late->weak};
        struct pfx_op op;
        if (late->approvals.len == 0 && !late->weak)
            continue;
        approved.record = late->approvals; /* borrowed */
        op_of(late, &op);
        pfx_record_approved(maker, late->has_intent ? &op : NULL, &approved);
    }
}

/* Generations as they are now: pins, and those of the standing keys that were changed. */
static pfx_result add_states(struct pfx_record_maker *maker, const struct pfx_late_ops *ops,
                             struct pfx_error *err)
{
    PFX_CLEANUP(pfx_pins_done) struct pfx_pins pins = PFX_PINS_NONE;
    bool told[PFX_STANDING_MAX] = {false};
    struct pfx_standing_key standing;
    size_t index;
    if (ops->pins) {
        PFX_TRY(pfx_pins_of(maker->worker, &pins, err));
        pfx_record_pins(maker, &pins);
    }
    for (size_t i = 0; i < ops->n; i++) {
        if (!ops->list[i].overlaps ||
            !standing_of(maker->hsm, ops->list[i].name, &standing, &index) ||
            index >= PFX_STANDING_MAX || told[index])
            continue;
        told[index] = true;
        pfx_record_standing(maker, index);
    }
    return PFX_OK;
}

pfx_result pfx_record_late(struct pfx_record_maker *maker, const struct pfx_begun *begun,
                           uint64_t to, bool *ret_page, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_late_done) struct pfx_late_ops ops = {.n = 0};
    PFX_TRY(pfx_late_scan(maker->hsm->policy->log_dir, begun->name, begun->from, to, &ops, err));
    *ret_page = ops.happened && !ops.covered;
    if (!*ret_page)
        return PFX_OK;
    maker->at_ms = pfx_now_ms();
    snprintf(maker->name, sizeof maker->name, "%s", begun->name);
    snprintf(maker->kind, sizeof maker->kind, "%s", begun->kind);
    add_head(maker, begun, &ops);
    for (size_t i = 0; i < begun->record.n; i++)
        take_section(maker, &ops, &begun->record.list[i]);
    for (size_t i = 0; i < ops.n; i++)
        if (ops.list[i].names_key)
            PFX_TRY(add_key(maker, &ops.list[i], err));
    PFX_TRY(add_states(maker, &ops, err));
    add_approvals(maker, &ops);
    say_late(maker, begun);
    return PFX_OK;
}
