/* Notes: of the process, its tokens and the log itself. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "crypto/canon.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/journal_form.h"

#define MAX_MODULES 4096
#define LAST_MS INT64_C(253402300799999) /* 9999-12-31: what RFC 3339 can say */
#define MOST_PINS 32                     /* the newest ones; a draft has room for a few KB */

static struct pfx_bytes text_of(const char *text)
{
    return (struct pfx_bytes){(const uint8_t *)text, strlen(text)};
}

/* False: it can't be read. */
static bool file_sha256(const char *path, uint8_t ret[32])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;
    char *block PFX_AUTOFREE = pfx_alloc(65536);
    while (ok) {
        ssize_t got = read(fd, block, 65536);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            break;
        ok = got > 0 && EVP_DigestUpdate(ctx, block, (size_t)got) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(ctx, ret, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    close(fd);
    return ok;
}

/* firmware and version may be NULL: before the module is loaded nobody knows them. */
static void add_module(struct pfx_canon *canon, const char *role, const char *sha256,
                       const char *firmware, const char *version)
{
    pfx_canon_open(canon, NULL, '{');
    if (firmware && pfx_ascii_printable(firmware, strlen(firmware)))
        pfx_canon_str(canon, "firmware", text_of(firmware));
    pfx_canon_str(canon, "role", text_of(role));
    if (sha256)
        pfx_canon_str(canon, "sha256", text_of(sha256));
    if (version && pfx_ascii_printable(version, strlen(version)))
        pfx_canon_str(canon, "version", text_of(version));
    pfx_canon_close(canon, '}');
}

void pfx_journal_software_read(const struct pfx_hsm_policy *policy,
                               struct pfx_journal_software *ret_software)
{
    struct pfx_journal_software software = {.modules = pfx_buf_make(MAX_MODULES)};
    software.has_exe = file_sha256("/proc/self/exe", software.exe);
    struct pfx_canon canon = pfx_canon_make(&software.modules);
    pfx_canon_open(&canon, NULL, '[');
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        uint8_t digest[32];
        char hex[65];
        bool found = file_sha256(policy->roles[role].module, digest);
        add_module(&canon, pfx_role_name(role), found ? pfx_hex(digest, sizeof digest, hex) : NULL,
                   NULL, NULL);
    }
    pfx_canon_close(&canon, ']');
    *ret_software = software;
}

void pfx_journal_software_done(struct pfx_journal_software *software)
{
    pfx_buf_done(&software->modules);
}

static void software_of(const struct pfx_hsm_policy *policy,
                        const struct pfx_journal_software *software, struct pfx_draft *draft)
{
    if (software->has_exe)
        pfx_draft_hex(draft, PFX_F_SOFTWARE_EXE, software->exe, sizeof software->exe);
    pfx_draft_str(draft, PFX_F_SOFTWARE_VERSION, PFX_VERSION);
    pfx_draft_raw(draft, PFX_F_SOFTWARE_MODULES, pfx_buf_bytes(&software->modules));
    pfx_draft_hex(draft, PFX_F_POLICY_SHA256, policy->sha256, sizeof policy->sha256);
}

void pfx_journal_start(const struct pfx_hsm_policy *policy,
                       const struct pfx_journal_software *software, struct pfx_draft *draft)
{
    pfx_journal_own("start", PFX_OUTCOME_OK, draft);
    software_of(policy, software, draft);
}

void pfx_journal_stop(struct pfx_draft *draft)
{
    pfx_journal_own("stop", PFX_OUTCOME_OK, draft);
}

void pfx_journal_policy_changed(const struct pfx_hsm_policy *policy, struct pfx_draft *draft)
{
    pfx_journal_own("policy.changed", PFX_OUTCOME_OK, draft);
    pfx_draft_hex(draft, PFX_F_POLICY_SHA256, policy->sha256, sizeof policy->sha256);
    pfx_draft_bool(draft, PFX_F_WEAK, true); /* nobody approved it but whoever may write the file */
}

void pfx_journal_clock(int64_t step_ms, struct pfx_draft *draft)
{
    pfx_journal_own("clock.step", PFX_OUTCOME_OK, draft);
    pfx_draft_int(draft, PFX_F_CLOCK_STEP, step_ms);
}

void pfx_journal_quota(const char *what, uint64_t count, struct pfx_draft *draft)
{
    pfx_journal_own("log.quota", PFX_OUTCOME_REFUSED, draft);
    pfx_draft_str(draft, PFX_F_TARGET_NAME, what);
    pfx_draft_int(draft, PFX_F_COUNT, (int64_t)count);
}

/* A refused PIN and a token that is away are told apart. */
static enum pfx_outcome login_outcome(CK_RV rv)
{
    return rv == CKR_OK         ? PFX_OUTCOME_OK
           : pfx_ckr_passes(rv) ? PFX_OUTCOME_DEVICE
                                : PFX_OUTCOME_REFUSED;
}

void pfx_journal_login(const struct pfx_token_facts *facts, unsigned roles, CK_RV rv,
                       struct pfx_draft *draft)
{
    char names[64] = "";
    for (enum pfx_role role = 0; role < PFX_ROLE_COUNT; role++) {
        size_t len = strlen(names);
        if (roles & PFX_NEEDS(role))
            snprintf(names + len, sizeof names - len, "%s%s", len ? "+" : "", pfx_role_name(role));
    }
    pfx_journal_own("token.login", login_outcome(rv), draft);
    pfx_draft_str(draft, PFX_F_TARGET_NAME, names);
    pfx_draft_str(draft, PFX_F_RV, pfx_ckr_name(rv));
    pfx_journal_token(facts, draft);
}

void pfx_journal_ready(enum pfx_role role, const struct pfx_token_facts *facts,
                       struct pfx_bytes pins, int64_t serial, int64_t standing,
                       struct pfx_draft *draft)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf module = pfx_buf_make(MAX_MODULES);
    struct pfx_canon canon = pfx_canon_make(&module);
    pfx_canon_open(&canon, NULL, '[');
    add_module(&canon, pfx_role_name(role), facts->module_sha256, facts->firmware,
               facts->module_version);
    pfx_canon_close(&canon, ']');
    pfx_journal_own("token.ready", PFX_OUTCOME_OK, draft);
    pfx_draft_str(draft, PFX_F_TARGET_NAME, pfx_role_name(role));
    pfx_journal_token(facts, draft);
    pfx_draft_raw(draft, PFX_F_SOFTWARE_MODULES, pfx_buf_bytes(&module));
    if (role == PFX_ROLE_USERS && standing > 0)
        pfx_draft_int(draft, PFX_F_STANDING_SERIAL, standing);
    if (role != PFX_ROLE_USERS || pins.len == 0)
        return;
    if (serial > 0)
        pfx_draft_int(draft, PFX_F_PIN_SERIAL, serial);
    pfx_draft_raw(draft, PFX_F_PINS, pins);
}

void pfx_journal_pins(const struct pfx_pins *pins, struct pfx_buf *out)
{
    struct pfx_canon canon = pfx_canon_make(out);
    pfx_canon_open(&canon, NULL, '[');
    for (size_t i = pins->n > MOST_PINS ? pins->n - MOST_PINS : 0; i < pins->n; i++) {
        const struct pfx_pinned *pin = &pins->list[i];
        uint8_t digest[32];
        char hex[65];
        pfx_canon_open(&canon, NULL, '{');
        pfx_canon_int(&canon, "generation", pin->generation);
        if (pin->spki.len > 0 && pfx_sha256(pin->spki.data, pin->spki.len, digest))
            pfx_canon_str(&canon, "spki", text_of(pfx_hex(digest, sizeof digest, hex)));
        pfx_canon_str(&canon, "state", text_of(pfx_key_state_name(pin->state)));
        pfx_canon_close(&canon, '}');
    }
    pfx_canon_close(&canon, ']');
}

void pfx_journal_segment(struct pfx_bytes pins, struct pfx_draft *draft)
{
    if (pins.len > 0)
        pfx_draft_raw(draft, PFX_F_PINS, pins);
}

static void key_lines(const struct pfx_signer *signer, struct pfx_draft *draft)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf lines = pfx_buf_make(MAX_MODULES);
    struct pfx_canon canon = pfx_canon_make(&lines);
    pfx_canon_open(&canon, NULL, '[');
    for (size_t i = 0; i < signer->n_keys; i++) {
        char line[PFX_VKEY_LINE_SIZE];
        pfx_canon_str(&canon, NULL, text_of(pfx_vkey_line(&signer->keys[i], line)));
    }
    pfx_canon_close(&canon, ']');
    pfx_draft_raw(draft, PFX_F_LOG_KEYS, pfx_buf_bytes(&lines));
}

void pfx_journal_begin(const struct pfx_journal_begin *begin, struct pfx_draft *draft)
{
    pfx_draft_init(draft, PFX_SRC_HSM, begin->reopened ? "log.reopen" : "log.begin", PFX_PHASE_NOTE,
                   PFX_OUTCOME_OK);
    pfx_journal_actor(begin->actor, draft);
    pfx_draft_str(draft, PFX_F_LOG_ORIGIN, begin->origin);
    key_lines(begin->signer, draft);
    software_of(begin->policy, begin->software, draft);
    pfx_journal_token(begin->token, draft);
    if (!begin->reopened)
        return;
    if (begin->before.len > 0) {
        char *note PFX_AUTOFREE = pfx_strndup((const char *)begin->before.data, begin->before.len);
        pfx_draft_str(draft, PFX_F_LOG_BEFORE, note);
    }
    if (begin->has_anchor)
        pfx_draft_int(draft, PFX_F_LOG_ANCHOR, (int64_t)begin->anchor);
    pfx_draft_int(draft, PFX_F_LOG_RESTORED, (int64_t)begin->restored);
    if (begin->approved->record.len > 0)
        pfx_draft_raw(draft, PFX_F_APPROVALS, pfx_buf_bytes(&begin->approved->record));
    if (begin->approved->weak) /* its uid is all that is known of who wanted it */
        pfx_draft_bool(draft, PFX_F_WEAK, true);
}

void pfx_journal_rotate(const struct pfx_actor *actor, const struct pfx_signer *fresh,
                        struct pfx_draft *draft)
{
    pfx_draft_init(draft, PFX_SRC_HSM, "log.rotate-key", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_journal_actor(actor, draft);
    key_lines(fresh, draft);
    pfx_draft_hex(draft, PFX_F_KEY_SPKI, fresh->keys[0].spki_sha256,
                  sizeof fresh->keys[0].spki_sha256);
}

void pfx_journal_mended(uint64_t tail, uint64_t first, const char *code, struct pfx_draft *draft)
{
    pfx_journal_own("log.recovered", PFX_OUTCOME_OK, draft);
    pfx_draft_int(draft, PFX_F_COUNT, (int64_t)tail);
    pfx_draft_int(draft, PFX_F_LOG_SIZE, (int64_t)first);
    pfx_draft_str(draft, PFX_F_FAIL_CODE, code);
}

void pfx_journal_recovered(uint64_t ahead, uint64_t anchor, struct pfx_draft *draft)
{
    pfx_journal_own("log.recovered", PFX_OUTCOME_OK, draft);
    pfx_draft_int(draft, PFX_F_COUNT, (int64_t)ahead);
    pfx_draft_int(draft, PFX_F_LOG_ANCHOR, (int64_t)anchor);
}

/* --- what pfx-agentd decided or saw --- */

/* Nothing but these: an event of pfx-hsm's own under pfx-agentd's name would still be a lie. */
static const char *const agentd_events[] = {
    "agentd.start",     "agentd.stop",     "command",          "order.placed",
    "order.lost",       "order.cancelled", "order.revoked",    "certificate.received",
    "upload.confirmed", "enrolment.held",  "enrolment.failed", "enrolment.ended",
    "record.removed",   "log.dropped",     "request.refused",
    "backup.restored",  NULL};

static const char *event_of(const char *name)
{
    for (const char *const *event = agentd_events; *event; event++)
        if (strcmp(*event, name) == 0)
            return *event;
    return NULL;
}

static bool outcome_parse(const char *name, enum pfx_outcome *ret_outcome)
{
    /* pending belongs to an intent, unknown to a process that ended: neither is pfx-agentd's. */
    static const enum pfx_outcome possible[] = {
        PFX_OUTCOME_OK,     PFX_OUTCOME_USAGE,     PFX_OUTCOME_REFUSED,  PFX_OUTCOME_TRANSIENT,
        PFX_OUTCOME_DEVICE, PFX_OUTCOME_INTEGRITY, PFX_OUTCOME_INTERNAL, PFX_OUTCOME_LOST};
    for (size_t i = 0; i < sizeof possible / sizeof *possible; i++) {
        if (strcmp(pfx_outcome_name(possible[i]), name) == 0) {
            *ret_outcome = possible[i];
            return true;
        }
    }
    return false;
}

static const struct member {
    const char *name;
    enum pfx_field field;
    enum { INT, STR, BLOB } type;
} members[] = {
    {"uid", PFX_F_ACTOR_UID, INT},
    {"enrolment", PFX_F_TARGET_ENROLMENT, INT},
    {"attempt", PFX_F_TARGET_ATTEMPT, INT},
    {"user", PFX_F_TARGET_USER, BLOB},
    {"name", PFX_F_TARGET_NAME, STR},
    {"order_id", PFX_F_TARGET_ORDER, INT},
    {"transaction", PFX_F_TARGET_TRANSACTION, STR},
    {"thumbprint", PFX_F_TARGET_THUMBPRINT, BLOB},
    {"certificate", PFX_F_CERT_SHA256, BLOB},
    {"key_id", PFX_F_KEY_ID, BLOB},
    {"pfx", PFX_F_OUT_SHA256, BLOB},
    {"generation", PFX_F_SEAL_GENERATION, INT},
    {"count", PFX_F_COUNT, INT},
    {"fail_op", PFX_F_FAIL_OP, STR},
    {"fail_code", PFX_F_FAIL_CODE, STR},
};

static pfx_result foreign(struct pfx_error *err, const char *member, const char *text)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, "take note", member, "", "%s", text);
}

pfx_result pfx_journal_note(const struct pfx_msg *note, struct pfx_draft *draft,
                            struct pfx_error *err)
{
    const char *event = event_of(pfx_msg_str(note, "event"));
    const char *actor = pfx_msg_str(note, "actor");
    enum pfx_outcome outcome;
    if (!event)
        return foreign(err, "event", "This isn't an event that pfx-agentd may note.");
    if (!outcome_parse(pfx_msg_str(note, "outcome"), &outcome))
        return foreign(err, "outcome", "This isn't an outcome of anything pfx-agentd does.");
    bool by_person = strcmp(actor, pfx_actor_name(PFX_ACTOR_OPERATOR)) == 0;
    if (!by_person && strcmp(actor, pfx_actor_name(PFX_ACTOR_SELF)) != 0)
        return foreign(err, "actor", "It must be self or operator.");
    if (pfx_msg_int(note, "at") > LAST_MS)
        return foreign(err, "at", "No calendar has this time.");
    pfx_draft_init(draft, PFX_SRC_AGENTD, event, PFX_PHASE_NOTE, outcome);
    pfx_draft_str(draft, PFX_F_ACTOR_ROLE, actor);
    pfx_draft_int(draft, PFX_F_N, pfx_msg_int(note, "n"));
    pfx_draft_time(draft, PFX_F_AT, pfx_msg_int(note, "at"));
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const struct member *m = &members[i];
        if (!pfx_msg_has(note, m->name))
            continue;
        if (m->type == INT) {
            pfx_draft_int(draft, m->field, pfx_msg_int(note, m->name));
        } else if (m->type == STR) {
            pfx_draft_str(draft, m->field, pfx_msg_str(note, m->name));
        } else {
            struct pfx_bytes bytes = pfx_msg_blob(note, m->name);
            pfx_draft_hex(draft, m->field, bytes.data, bytes.len);
        }
    }
    return PFX_OK;
}
