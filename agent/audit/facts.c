#include "agent/audit/facts.h"

#include <stdio.h>
#include <string.h>

#include "agent/audit/text.h"
#include "crypto/encode.h"

#define SHORT 8 /* digits of a hash or id that a table shows */

/* A text member with its escapes resolved; the size is enough for what pfx_entry_read lets pass. */
static void copy(const struct pfx_entry *entry, enum pfx_field field, char *ret, size_t size)
{
    struct pfx_bytes text = pfx_entry_text(entry, field);
    ret[0] = '\0';
    if (text.len == 0)
        return;
    struct pfx_buf plain PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_ENTRY_MAX + 1);
    if (entry->values[field].escaped) {
        struct pfx_canon_value value = {
            .kind = PFX_CANON_STR, .raw = text, .text = text, .escaped = true};
        if (!pfx_canon_unescape(&value, &plain))
            return;
        text = pfx_buf_bytes(&plain);
    }
    size_t used = 0;
    for (size_t i = 0; i < text.len && used + 1 + !text.data[i] < size; i++) {
        if (text.data[i] == '\0') /* mustn't hide what follows it: as agent/audit/text.h has it */
            ret[used++] = '\xC0';
        ret[used++] = text.data[i] ? (char)text.data[i] : '\x80';
    }
    ret[used] = '\0';
}

static int64_t number(const struct pfx_entry *entry, enum pfx_field field)
{
    return pfx_entry_has(entry, field) ? pfx_entry_int(entry, field) : -1;
}

void pfx_facts_of(const struct pfx_entry *entry, struct pfx_facts *ret)
{
    const struct {
        enum pfx_field field;
        char *to;
        size_t size;
    } texts[] = {
        {PFX_F_EVENT, ret->event, sizeof(ret->event)},
        {PFX_F_BOOT, ret->boot, sizeof(ret->boot)},
        {PFX_F_OP, ret->op, sizeof(ret->op)},
        {PFX_F_ACTOR_ROLE, ret->role, sizeof(ret->role)},
        {PFX_F_TARGET_USER, ret->user, sizeof(ret->user)},
        {PFX_F_KEY_ID, ret->key_id, sizeof(ret->key_id)},
        {PFX_F_KEY_SPKI, ret->spki, sizeof(ret->spki)},
        {PFX_F_CERT_SHA256, ret->cert, sizeof(ret->cert)},
        {PFX_F_TARGET_NAME, ret->name, sizeof(ret->name)},
        {PFX_F_TARGET_TRANSACTION, ret->transaction, sizeof(ret->transaction)},
        {PFX_F_TARGET_THUMBPRINT, ret->thumbprint, sizeof(ret->thumbprint)},
        {PFX_F_TIER, ret->tier, sizeof(ret->tier)},
        {PFX_F_OUT_SHA256, ret->out, sizeof(ret->out)},
        {PFX_F_FAIL_OP, ret->fail_op, sizeof(ret->fail_op)},
        {PFX_F_FAIL_CODE, ret->fail_code, sizeof(ret->fail_code)},
        {PFX_F_RV, ret->rv, sizeof(ret->rv)},
    };
    *ret = (struct pfx_facts){.src = (enum pfx_src)pfx_entry_int(entry, PFX_F_SRC),
                              .phase = (enum pfx_phase)pfx_entry_int(entry, PFX_F_PHASE),
                              .outcome = (enum pfx_outcome)pfx_entry_int(entry, PFX_F_OUTCOME)};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        copy(entry, texts[i].field, texts[i].to, texts[i].size);
    ret->time = pfx_entry_time(entry, PFX_F_TIME);
    ret->at = pfx_entry_has(entry, PFX_F_AT) ? pfx_entry_time(entry, PFX_F_AT) : -1;
    ret->up = pfx_entry_int(entry, PFX_F_UP);
    ret->uid = number(entry, PFX_F_ACTOR_UID);
    ret->ref = number(entry, PFX_F_REF);
    ret->order = number(entry, PFX_F_TARGET_ORDER);
    ret->enrolment = number(entry, PFX_F_TARGET_ENROLMENT);
    ret->attempt = number(entry, PFX_F_TARGET_ATTEMPT);
    ret->generation =
        number(entry, pfx_entry_has(entry, PFX_F_SEAL_GENERATION) ? PFX_F_SEAL_GENERATION
                                                                  : PFX_F_PIN_GENERATION);
    ret->count = number(entry, PFX_F_COUNT);
    ret->weak = pfx_entry_int(entry, PFX_F_WEAK) == 1;
}

void pfx_facts_inherit(struct pfx_facts *facts, const struct pfx_facts *intent)
{
    const struct {
        char *to;
        const char *from;
        size_t size;
    } texts[] = {
        {facts->user, intent->user, sizeof(facts->user)},
        {facts->key_id, intent->key_id, sizeof(facts->key_id)},
        {facts->spki, intent->spki, sizeof(facts->spki)},
        {facts->cert, intent->cert, sizeof(facts->cert)},
        {facts->name, intent->name, sizeof(facts->name)},
        {facts->transaction, intent->transaction, sizeof(facts->transaction)},
        {facts->thumbprint, intent->thumbprint, sizeof(facts->thumbprint)},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (!texts[i].to[0])
            memcpy(texts[i].to, texts[i].from, texts[i].size);
    if (!facts->ref_event[0])
        memcpy(facts->ref_event, intent->event, sizeof(facts->ref_event));
    if (facts->order < 0)
        facts->order = intent->order;
    if (facts->enrolment < 0)
        facts->enrolment = intent->enrolment;
    if (facts->attempt < 0)
        facts->attempt = intent->attempt;
    if (facts->generation < 0)
        facts->generation = intent->generation;
}

const char *pfx_facts_time(int64_t ms, char *buf)
{
    (void)pfx_time_format(ms, false, buf);
    if (strlen(buf) > 19) { /* "2026-11-22T08:00:00Z" */
        buf[10] = ' ';
        buf[19] = '\0';
    }
    return buf;
}

void pfx_facts_who(const struct pfx_facts *facts, struct pfx_buf *out)
{
    /* Services are known by their role; of a person only the uid is known. */
    static const char *const services[] = {"self", "agentd", "uploader"};
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
        if (strcmp(facts->role, services[i]) == 0 || facts->uid < 0) {
            pfx_text_show_str(facts->role, out);
            return;
        }
    (void)pfx_buf_addf(out, "uid %lld", (long long)facts->uid);
}

static void space(struct pfx_buf *out, size_t start)
{
    if (out->len > start)
        (void)pfx_buf_add(out, " ", 1);
}

static void add(struct pfx_buf *out, size_t start, const char *label, const char *text, size_t most)
{
    if (!*text)
        return;
    space(out, start);
    (void)pfx_buf_add_str(out, label);
    size_t len = strnlen(text, most);
    pfx_text_show((struct pfx_bytes){(const uint8_t *)text, len}, out);
}

void pfx_facts_what(const struct pfx_facts *facts, bool with_enrolment, struct pfx_buf *out)
{
    size_t start = out->len;
    if (with_enrolment && facts->enrolment >= 0) {
        (void)pfx_buf_addf(out, "e%lld", (long long)facts->enrolment);
        if (facts->attempt >= 0)
            (void)pfx_buf_addf(out, ".%lld", (long long)facts->attempt);
    }
    /* Intune's record ids are two hashes. */
    struct pfx_buf name PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(PFX_FACT_TEXT);
    pfx_hex_shorten(facts->name, &name);
    add(out, start, "", pfx_buf_str(&name), name.len);
    if (facts->order >= 0) {
        space(out, start);
        (void)pfx_buf_addf(out, "order %lld", (long long)facts->order);
    }
    add(out, start, "transaction ", facts->transaction, sizeof(facts->transaction));
    add(out, start, "", facts->tier, sizeof(facts->tier));
    if (facts->generation >= 0) {
        space(out, start);
        (void)pfx_buf_addf(out, "gen %lld", (long long)facts->generation);
    }
    if (facts->fail_code[0])
        add(out, start, "", facts->fail_code, sizeof(facts->fail_code));
    else if (strcmp(facts->rv, "CKR_OK") != 0)
        add(out, start, "", facts->rv, sizeof(facts->rv));
    add(out, start, "in ", facts->fail_op, sizeof(facts->fail_op));
    add(out, start, "key ", facts->key_id, SHORT);
    if (facts->count >= 0) {
        space(out, start);
        (void)pfx_buf_addf(out, "count %lld", (long long)facts->count);
    }
    if (facts->weak)
        add(out, start, "", "weak", 4);
}

void pfx_facts_user(const struct pfx_facts *facts, struct pfx_names *names, struct pfx_buf *out)
{
    struct pfx_name name;
    if (!facts->user[0])
        return;
    struct pfx_bytes user = {(const uint8_t *)facts->user, strlen(facts->user)};
    if (names && pfx_names_by_user(names, user, &name) && name.upn[0])
        pfx_text_show_str(name.upn, out);
    else
        (void)pfx_buf_addf(out, "user %.*s", SHORT, facts->user);
}
