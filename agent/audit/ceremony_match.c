/*
 * An entry of the log against the sections of a record: the operation that the record names for a
 * key, done well; the newest entry about a generation, and the state that it left it in; and the
 * approvals in an intent, verified once more.
 */
#include <string.h>

#include "agent/audit/ceremony.h"
#include "crypto/approval.h"
#include "crypto/canon.h"
#include "crypto/encode.h"
#include "crypto/lines.h"
#include "crypto/overlap.h"

static bool shown_text(const char *text, const char *value)
{
    struct pfx_minutes tmp PFX_CLEANUP(pfx_minutes_done) = {0};
    (void)pfx_minutes_add(&tmp, PFX_MK_HEAD, "");
    struct pfx_minutes_section *s = pfx_minutes_add(&tmp, PFX_MK_ROLE, "-");
    pfx_minutes_set(s, PFX_MF_TOKEN, *text ? text : "-");
    return strcmp(pfx_minutes_get(s, PFX_MF_TOKEN), value) == 0;
}

/* As the record would have it: what a page can't show was replaced there. */
static bool shown_same(const struct pfx_entry *entry, enum pfx_field field, const char *value)
{
    struct pfx_buf plain PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    return pfx_entry_plain(entry, field, &plain) &&
           shown_text(plain.len > 0 ? pfx_buf_str(&plain) : "", value);
}

static bool same_if_there(const struct pfx_entry *entry, enum pfx_field field, const char *value)
{
    return !pfx_entry_has(entry, field) || pfx_entry_is(entry, field, value);
}

static bool is(const struct pfx_minutes_section *s, enum pfx_minutes_field field, const char *value)
{
    return strcmp(pfx_minutes_get(s, field), value) == 0;
}

static bool among(const struct pfx_entry *entry, const char *const *events)
{
    while (*events && !pfx_entry_is(entry, PFX_F_EVENT, *events))
        events++;
    return *events != NULL;
}

static bool brings_key(const struct pfx_entry *entry)
{
    static const char *const events[] = {"ceremony.key", "key.rotate", "standing.rotate", NULL};
    return among(entry, events);
}

static void settle(struct pfx_ceremony_found *found, uint64_t seq, const char *differs)
{
    found->match = differs ? PFX_PAGE_DIFFERS : PFX_PAGE_AGREES;
    found->what = differs;
    found->seq = seq;
}

/* --- keys and certificates -------------------------------------------------------------------- */

/* What became of the key: has the operation that event, and did it find what the page says? */
static bool event_fits(const struct pfx_minutes_section *s, const struct pfx_entry *entry)
{
    static const char *const ends[] = {"key.destroy", "standing.destroy", NULL};
    if (is(s, PFX_MF_HOW, "pinned"))
        return pfx_entry_is(entry, PFX_F_EVENT, "key.export");
    if (is(s, PFX_MF_HOW, "destroyed"))
        return among(entry, ends) && pfx_entry_is(entry, PFX_F_FOUND, "key");
    if (is(s, PFX_MF_HOW, "gone"))
        return among(entry, ends) && pfx_entry_is(entry, PFX_F_FOUND, "nothing");
    if (is(s, PFX_MF_HOW, "cut-off"))
        return among(entry, ends) || brings_key(entry);
    /* made is what wasn't there */
    return brings_key(entry) &&
           !(is(s, PFX_MF_HOW, "made") && pfx_entry_is(entry, PFX_F_FOUND, "key"));
}

static const char *key_differs(const struct pfx_ceremony *c, const struct pfx_minutes_section *s,
                               const struct pfx_entry *entry)
{
    const char *spki = pfx_minutes_get(s, PFX_MF_SPKI);
    const char *intent = pfx_minutes_get(s, PFX_MF_INTENT);
    char ref[24];
    if (!event_fits(s, entry))
        return "its operation";
    if (!shown_same(entry, PFX_F_TARGET_NAME, s->name))
        return "its name";
    (void)snprintf(ref, sizeof ref, "%lld", (long long)pfx_entry_int(entry, PFX_F_REF));
    if (*intent && (!pfx_entry_has(entry, PFX_F_REF) || strcmp(ref, intent) != 0))
        return "the entry of its intent";
    if (is(s, PFX_MF_HOW, "pinned")) /* its public half went out */
        return pfx_entry_is(entry, PFX_F_OUT_SHA256, spki) ? NULL : "its public key";
    if (!pfx_entry_is(entry, PFX_F_KEY_ID, pfx_minutes_get(s, PFX_MF_ID)))
        return "its CKA_ID";
    if (*spki ? !pfx_entry_is(entry, PFX_F_KEY_SPKI, spki) : pfx_entry_has(entry, PFX_F_KEY_SPKI))
        return "its public key";
    if (!same_if_there(entry, PFX_F_KEY_ALG, pfx_minutes_get(s, PFX_MF_ALGORITHM)))
        return "its algorithm";
    const struct pfx_minutes_section *role = pfx_minutes_find(
        &c->page.record, PFX_MK_ROLE, pfx_minutes_get(s, PFX_MF_ROLE));
    if (role && (!shown_same(entry, PFX_F_TOKEN_LABEL, pfx_minutes_get(role, PFX_MF_TOKEN)) ||
                 !shown_same(entry, PFX_F_TOKEN_SERIAL, pfx_minutes_get(role, PFX_MF_SERIAL))))
        return "its token";
    return NULL;
}

/* The log has an operation's beginning, and no good end. */
static void take_cut_off(struct pfx_ceremony *c, size_t i, uint64_t seq,
                         const struct pfx_entry *entry)
{
    const struct pfx_minutes_section *s = &c->page.record.list[i];
    bool intent = pfx_entry_int(entry, PFX_F_PHASE) == PFX_PHASE_INTENT;
    if (!pfx_entry_is(entry, PFX_F_OP, pfx_minutes_get(s, PFX_MF_OPERATION)))
        return;
    if (intent)
        settle(&c->found[i], seq,
               !event_fits(s, entry)                                        ? "its operation"
               : !shown_same(entry, PFX_F_TARGET_NAME, s->name)             ? "its name"
               : !same_if_there(entry, PFX_F_KEY_ID, pfx_minutes_get(s, PFX_MF_ID)) ? "its CKA_ID"
                                                                            : NULL);
    else if (pfx_entry_int(entry, PFX_F_OUTCOME) == PFX_OUTCOME_OK)
        settle(&c->found[i], seq, "its end: it was done");
}

static const char *certificate_differs(const struct pfx_minutes_section *s,
                                       const struct pfx_entry *entry)
{
    static const char *const events[] = {"ceremony.certificate", "standing.rotate", NULL};
    return !among(entry, events) ? "its operation"
           : !pfx_entry_is(entry, PFX_F_CERT_SHA256, pfx_minutes_get(s, PFX_MF_SHA256))
               ? "the certificate"
               : NULL;
}

static void take_key(struct pfx_ceremony *c, size_t i, uint64_t seq, const struct pfx_entry *entry)
{
    const struct pfx_minutes_section *s = &c->page.record.list[i];
    struct pfx_ceremony_found *found = &c->found[i];
    if (s->kind == PFX_MK_KEY && brings_key(entry) && found->since == UINT64_MAX &&
        pfx_entry_is(entry, PFX_F_KEY_ID, pfx_minutes_get(s, PFX_MF_ID)) &&
        same_if_there(entry, PFX_F_KEY_SPKI, pfx_minutes_get(s, PFX_MF_SPKI))) {
        found->since = seq;
        found->since_ms = pfx_entry_time(entry, PFX_F_TIME);
    }
    if (pfx_entry_is(entry, PFX_F_OP, pfx_minutes_get(s, PFX_MF_OPERATION)))
        settle(found, seq,
               s->kind == PFX_MK_KEY ? key_differs(c, s, entry) : certificate_differs(s, entry));
}

/* --- generations ------------------------------------------------------------------------------ */

/* The entry left the generation in this state; "" where it doesn't say. */
static void state_now(struct pfx_ceremony_found *found, uint64_t seq, const char *state)
{
    found->seq = seq;
    found->maybe[0] = '\0';
    (void)snprintf(found->state, sizeof found->state, "%s", state);
}

/* An intent says in which state its operation leaves a generation. Where it was cut off, the file of
 * the states may be written or not, and the next page tells what the file says. */
static void state_maybe(struct pfx_ceremony_found *found, uint64_t seq, const char *state)
{
    found->maybe_seq = seq;
    (void)snprintf(found->maybe, sizeof found->maybe, "%s", state);
}

/* It failed, and what it began counts for nothing. */
static void state_failed(struct pfx_ceremony_found *found, const struct pfx_entry *entry)
{
    bool result = pfx_entry_int(entry, PFX_F_PHASE) == PFX_PHASE_RESULT;
    if (result && found->maybe[0] && pfx_entry_int(entry, PFX_F_OUTCOME) != PFX_OUTCOME_UNKNOWN &&
        pfx_entry_int(entry, PFX_F_REF) == (int64_t)found->maybe_seq)
        found->maybe[0] = '\0';
}

/* done: else it is an intent. */
static void take_pin(struct pfx_ceremony *c, size_t i, uint64_t seq, bool done,
                     const struct pfx_entry *entry)
{
    const struct pfx_minutes_section *s = &c->page.record.list[i];
    struct pfx_ceremony_found *found = &c->found[i];
    struct pfx_buf state PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64);
    char generation[24];
    if (!pfx_entry_plain(entry, PFX_F_PIN_STATE, &state) || state.len == 0)
        return;
    (void)snprintf(generation, sizeof generation, "%lld",
                   (long long)pfx_entry_int(entry, PFX_F_PIN_GENERATION));
    if (!done) {
        if (is(s, PFX_MF_GENERATION, generation))
            state_maybe(found, seq, pfx_buf_str(&state));
        return;
    }
    if (!pfx_entry_has(entry, PFX_F_PIN_SPKI))
        return;
    if (is(s, PFX_MF_GENERATION, generation)) {
        settle(found, seq,
               pfx_entry_is(entry, PFX_F_PIN_SPKI, pfx_minutes_get(s, PFX_MF_SPKI))
                   ? NULL
                   : "its public key");
        state_now(found, seq, pfx_buf_str(&state));
    } else if (strcmp(pfx_buf_str(&state), "active") == 0 && strcmp(found->state, "active") == 0) {
        state_now(found, seq, pfx_key_state_name(PFX_STATE_SUSPENDED)); /* another one took over */
    }
}

/* The pins' file as a start found it: what became of an operation that was cut off shows there. */
struct listed {
    const struct pfx_minutes_section *s;
    char generation[24], spki[65], state[16];
    bool found, same;
};

static bool take_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                        const struct pfx_canon_value *value)
{
    struct listed *listed = ctx;
    (void)group;
    if (pfx_bytes_equal(key, "generation"))
        (void)snprintf(listed->generation, sizeof listed->generation, "%lld",
                       (long long)value->number);
    else if (pfx_bytes_equal(key, "spki") && value->text.len < sizeof listed->spki)
        (void)snprintf(listed->spki, sizeof listed->spki, "%.*s", (int)value->text.len,
                       (const char *)value->text.data);
    else if (pfx_bytes_equal(key, "state") && value->text.len < sizeof listed->state)
        (void)snprintf(listed->state, sizeof listed->state, "%.*s", (int)value->text.len,
                       (const char *)value->text.data);
    return true;
}

static bool take_listed(void *ctx, const struct pfx_canon_value *value)
{
    struct listed *listed = ctx, one = {.s = listed->s};
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_canon_scan(value->raw, take_member, &one, &why)))
        return false;
    if (!one.spki[0] || !is(one.s, PFX_MF_GENERATION, one.generation))
        return true;
    one.found = true;
    one.same = is(one.s, PFX_MF_SPKI, one.spki);
    *listed = one;
    return true;
}

static void take_pins(struct pfx_ceremony *c, size_t i, uint64_t seq, const struct pfx_entry *entry)
{
    struct listed listed = {.s = &c->page.record.list[i]};
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_bytes array = pfx_entry_text(entry, PFX_F_PINS);
    if (array.len == 0 || pfx_failed(pfx_canon_elements(array, take_listed, &listed, &why)) ||
        !listed.found)
        return;
    settle(&c->found[i], seq, listed.same ? NULL : "its public key");
    state_now(&c->found[i], seq, listed.state);
}

/* "client-main-2" and "client-main-1" are generations of one key. */
static bool same_key(const char *name, const char *other)
{
    const char *dash = strrchr(name, '-');
    size_t len = dash ? (size_t)(dash - name) + 1 : 0;
    return len > 0 && strncmp(name, other, len) == 0 && strrchr(other, '-') == other + len - 1;
}

static void take_standing(struct pfx_ceremony *c, size_t i, uint64_t seq, bool done,
                          const struct pfx_entry *entry)
{
    const struct pfx_minutes_section *s = &c->page.record.list[i];
    struct pfx_ceremony_found *found = &c->found[i];
    struct pfx_buf name PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(256);
    struct pfx_buf state PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(64);
    static const char *const active = "active";
    bool first = pfx_entry_is(entry, PFX_F_EVENT, "ceremony.key"); /* init finds what is in force */
    if (!pfx_entry_plain(entry, PFX_F_TARGET_NAME, &name) || name.len == 0 ||
        (!first && (!pfx_entry_plain(entry, PFX_F_STANDING_STATE, &state) || state.len == 0)))
        return;
    const char *now = first ? active : pfx_buf_str(&state);
    bool own = strcmp(pfx_buf_str(&name), s->name) == 0;
    bool replaced = !first && strcmp(now, active) == 0 && strcmp(found->state, active) == 0 &&
                    same_key(s->name, pfx_buf_str(&name));
    if (!done) {
        if (!first && (own || replaced))
            state_maybe(found, seq, own ? now : pfx_overlap_state_name(PFX_OVERLAP_PREVIOUS));
    } else if (own) {
        if (first && found->state[0])
            return;
        settle(found, seq, NULL);
        state_now(found, seq, now);
    } else if (replaced) {
        state_now(found, seq, pfx_overlap_state_name(PFX_OVERLAP_PREVIOUS));
    }
}

/* --- people ----------------------------------------------------------------------------------- */

struct people {
    const struct pfx_minutes_section *s;
    const char *differs;
    int64_t at_ms; /* of the entry */
    bool found;
};

static const char *given_differs(const struct pfx_minutes_section *s,
                                 const struct pfx_approval *approval,
                                 const struct pfx_given *given)
{
    char signer[PFX_SIGNER_SIZE], uid[24], at[PFX_TIME_SIZE];
    (void)snprintf(uid, sizeof uid, "%lld", (long long)approval->uid);
    return !is(s, PFX_MF_COMMAND, approval->statement.command)           ? "the command"
           : !is(s, PFX_MF_MODE, approval->by_uid ? "uid" : "ssh")       ? "the mode"
           : !is(s, PFX_MF_TIME, pfx_time_format(given->at_ms, true, at)) ? "its time"
           : !shown_text(approval->asker, pfx_minutes_get(s, PFX_MF_ASKER)) ||
                   !is(s, PFX_MF_UID, uid)
               ? "who asked"
           : !is(s, PFX_MF_NONCE, approval->statement.nonce)            ? "the nonce"
           : !is(s, PFX_MF_SIGNER, pfx_given_signer(given, signer))     ? "the key that signed"
                                                                        : NULL;
}

static bool take_record(void *ctx, const struct pfx_canon_value *value)
{
    struct people *people = ctx;
    struct pfx_error why = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_approval_done) struct pfx_approval approval;
    pfx_approval_init(&approval);
    if (pfx_failed(pfx_approval_parse(value->raw, &approval, &why)))
        return false;
    for (size_t i = 0; i < approval.n_given && !people->found; i++) {
        if (!shown_text(approval.given[i].principal, people->s->name))
            continue;
        people->found = true;
        people->differs = given_differs(people->s, &approval, &approval.given[i]);
        if (!people->differs && pfx_failed(pfx_approval_check(&approval, people->at_ms, &why)))
            people->differs = "what holds: the approvals there don't";
    }
    return true;
}

/* They stand in the intent; those of a log's successor in its first entry. */
static void take_approval(struct pfx_ceremony *c, size_t i, uint64_t seq,
                          const struct pfx_entry *entry)
{
    const struct pfx_minutes_section *s = &c->page.record.list[i];
    const char *op = pfx_minutes_get(s, PFX_MF_OPERATION);
    struct pfx_error why = PFX_ERROR_NONE;
    struct pfx_bytes array = pfx_entry_text(entry, PFX_F_APPROVALS);
    if (array.len == 0 || (*op ? !pfx_entry_is(entry, PFX_F_OP, op)
                               : !pfx_entry_is(entry, PFX_F_EVENT, "log.reopen")))
        return;
    struct people people = {.s = s, .at_ms = pfx_entry_time(entry, PFX_F_TIME)};
    if (pfx_failed(pfx_canon_elements(array, take_record, &people, &why)))
        settle(&c->found[i], seq, "the form of its approvals");
    else
        settle(&c->found[i], seq, people.found ? people.differs : "who approved it");
}

/* --- all of them ------------------------------------------------------------------------------ */

void pfx_ceremony_take(struct pfx_ceremony *c, uint64_t seq, const struct pfx_entry *entry)
{
    bool intent = pfx_entry_int(entry, PFX_F_PHASE) == PFX_PHASE_INTENT;
    bool done = !intent && pfx_entry_int(entry, PFX_F_OUTCOME) == PFX_OUTCOME_OK;
    for (size_t i = 0; i < c->page.record.n; i++) {
        enum pfx_minutes_kind kind = c->page.record.list[i].kind;
        bool pin = kind == PFX_MK_PIN, standing = kind == PFX_MK_STANDING;
        if (kind == PFX_MK_APPROVAL)
            take_approval(c, i, seq, entry);
        else if (kind == PFX_MK_KEY && is(&c->page.record.list[i], PFX_MF_HOW, "cut-off"))
            take_cut_off(c, i, seq, entry);
        else if (done && (kind == PFX_MK_KEY || kind == PFX_MK_CERTIFICATE))
            take_key(c, i, seq, entry);
        else if (pin && pfx_entry_is(entry, PFX_F_EVENT, "token.ready"))
            take_pins(c, i, seq, entry);
        else if (pin && (done || intent))
            take_pin(c, i, seq, done, entry);
        else if (standing && (done || intent))
            take_standing(c, i, seq, done, entry);
        else if (pin || standing)
            state_failed(&c->found[i], entry);
    }
}

void pfx_ceremony_judge(struct pfx_ceremony *c)
{
    for (size_t i = 0; i < c->page.record.n; i++) {
        const struct pfx_minutes_section *s = &c->page.record.list[i];
        struct pfx_ceremony_found *found = &c->found[i];
        bool logged = s->kind == PFX_MK_KEY || s->kind == PFX_MK_CERTIFICATE ||
                      s->kind == PFX_MK_PIN || s->kind == PFX_MK_STANDING ||
                      s->kind == PFX_MK_APPROVAL;
        bool maybe = found->maybe[0] && is(s, PFX_MF_STATE, found->maybe);
        if (maybe && found->match == PFX_PAGE_NONE)
            settle(found, found->maybe_seq, NULL);
        else if (logged && found->match == PFX_PAGE_NONE)
            found->match = c->presented > 0 ? PFX_PAGE_UNSEEN : PFX_PAGE_ABSENT;
        if (found->match == PFX_PAGE_AGREES && found->state[0] && !maybe &&
            !is(s, PFX_MF_STATE, found->state))
            settle(found, found->seq, "its state");
    }
}
