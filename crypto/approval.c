/* Statements and records of approvals. */
#include "crypto/approval.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "crypto/canon_scan.h"
#include "crypto/encode.h"
#include "crypto/lines.h"

#define GIVEN_LINE_MAX 4096

static const struct pfx_dangerous dangerous[] = {
    {"key.compromise", "key.compromise", PFX_DANGEROUS, false},
    {"key.destroy", "key.destroy", PFX_DANGEROUS, false},
    {"key.rotate", "key.rotate", PFX_DANGEROUS_ADOPTED, false},
    {"log.reopen", "log.reopen", PFX_DANGEROUS, true},
    {"policy.change", "policy.changed", PFX_DANGEROUS, true},
    {"standing.destroy", "standing.destroy", PFX_DANGEROUS_READ, false},
};

const struct pfx_dangerous *pfx_dangerous_command(const char *command)
{
    for (size_t i = 0; i < sizeof dangerous / sizeof *dangerous; i++)
        if (strcmp(dangerous[i].command, command) == 0)
            return &dangerous[i];
    return NULL;
}

const struct pfx_dangerous *pfx_dangerous_event(const char *event, size_t len)
{
    for (size_t i = 0; i < sizeof dangerous / sizeof *dangerous; i++)
        if (strlen(dangerous[i].event) == len && memcmp(dangerous[i].event, event, len) == 0)
            return &dangerous[i];
    return NULL;
}

static struct pfx_bytes text_of(const char *text)
{
    return (struct pfx_bytes){(const uint8_t *)text, strlen(text)};
}

static pfx_result bad(struct pfx_error *err, const char *what)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, "read approval", "", "form", "%s", what);
}

static bool is_hash(const char *text)
{
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

/* A string member into a fixed field; false: doubled, another type or too long. */
static bool take_str(const struct pfx_canon_value *value, char *field, size_t size)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(size - 1);
    if (!pfx_canon_unescape(value, &text) || (text.len > 0 && memchr(text.data, 0, text.len)))
        return false;
    memcpy(field, pfx_buf_str(&text), text.len + 1);
    return true;
}

static bool take_time(const struct pfx_canon_value *value, int64_t *ret_ms)
{
    char text[PFX_TIME_SIZE], again[PFX_TIME_SIZE];
    return take_str(value, text, sizeof text) && pfx_time_parse(text, ret_ms) &&
           strcmp(pfx_time_format(*ret_ms, true, again), text) == 0;
}

/* --- the statement --- */

bool pfx_statement_write(const struct pfx_statement *statement, struct pfx_buf *out)
{
    char expiry[PFX_TIME_SIZE];
    const char *origin = statement->origin, *command = statement->command;
    if (!is_hash(statement->args_hash) || !is_hash(statement->nonce) || !*command ||
        !pfx_ascii_printable(command, strlen(command)) || !*origin ||
        !pfx_utf8_valid(origin, strlen(origin)))
        return false;
    struct pfx_canon canon = pfx_canon_make(out);
    pfx_canon_open(&canon, NULL, '{');
    pfx_canon_str(&canon, "args_hash", text_of(statement->args_hash));
    pfx_canon_str(&canon, "command", text_of(command));
    pfx_canon_str(&canon, "expiry", text_of(pfx_time_format(statement->expiry_ms, true, expiry)));
    pfx_canon_str(&canon, "nonce", text_of(statement->nonce));
    pfx_canon_str(&canon, "origin", text_of(origin));
    pfx_canon_close(&canon, '}');
    return !out->over;
}

static bool statement_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                             const struct pfx_canon_value *value)
{
    struct pfx_statement *s = ctx;
    if (group.data)
        return false;
    if (pfx_bytes_equal(key, "args_hash"))
        return take_str(value, s->args_hash, sizeof s->args_hash);
    if (pfx_bytes_equal(key, "command"))
        return take_str(value, s->command, sizeof s->command);
    if (pfx_bytes_equal(key, "expiry"))
        return take_time(value, &s->expiry_ms);
    if (pfx_bytes_equal(key, "nonce"))
        return take_str(value, s->nonce, sizeof s->nonce);
    return pfx_bytes_equal(key, "origin") && take_str(value, s->origin, sizeof s->origin);
}

pfx_result pfx_statement_parse(struct pfx_bytes text, struct pfx_statement *ret,
                               struct pfx_error *err)
{
    struct pfx_statement statement = {.expiry_ms = 0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_STATEMENT_MAX);
    struct pfx_error why = PFX_ERROR_NONE;
    if (text.len > PFX_STATEMENT_MAX ||
        pfx_failed(pfx_canon_scan(text, statement_member, &statement, &why)) ||
        !pfx_statement_write(&statement, &again) || again.len != text.len ||
        memcmp(again.data, text.data, text.len) != 0)
        return bad(err, "The statement isn't canonical JSON with args_hash, command, expiry, nonce "
                        "and origin.");
    *ret = statement;
    return PFX_OK;
}

pfx_result pfx_approval_args(struct pfx_bytes args, char ret_hash[65], struct pfx_error *err)
{
    uint8_t digest[32];
    struct pfx_error why = PFX_ERROR_NONE;
    if (args.len > PFX_APPROVAL_ARGS_MAX || pfx_failed(pfx_canon_scan(args, NULL, NULL, &why)))
        return pfx_fail(err, PFX_CLASS_USAGE, "hash arguments", "", "",
                        "They aren't one canonical JSON object of at most %d bytes.",
                        PFX_APPROVAL_ARGS_MAX);
    if (!pfx_sha256(args.data, args.len, digest))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "hash arguments", "", "", "SHA-256 failed.");
    pfx_hex(digest, sizeof digest, ret_hash);
    return PFX_OK;
}

/* --- the record --- */

void pfx_approval_init(struct pfx_approval *approval)
{
    memset(approval, 0, sizeof *approval);
    approval->args = pfx_buf_make(PFX_APPROVAL_ARGS_MAX);
}

void pfx_approval_done(struct pfx_approval *approval)
{
    for (size_t i = 0; i < approval->n_given; i++) {
        free(approval->given[i].line);
        free(approval->given[i].signature);
    }
    approval->n_given = 0;
    pfx_buf_done(&approval->args);
}

static void write_given(struct pfx_canon *canon, const struct pfx_given *given)
{
    char at[PFX_TIME_SIZE];
    pfx_canon_open(canon, NULL, '{');
    pfx_canon_str(canon, "at", text_of(pfx_time_format(given->at_ms, true, at)));
    if (given->line)
        pfx_canon_str(canon, "line", text_of(given->line));
    pfx_canon_str(canon, "principal", text_of(given->principal));
    if (given->signature)
        pfx_canon_str(canon, "signature", text_of(given->signature));
    if (given->uid >= 0)
        pfx_canon_int(canon, "uid", given->uid);
    pfx_canon_close(canon, '}');
}

bool pfx_approval_write(const struct pfx_approval *approval, struct pfx_buf *out)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf statement = pfx_buf_make(PFX_STATEMENT_MAX);
    if (!pfx_statement_write(&approval->statement, &statement))
        return false;
    struct pfx_canon canon = pfx_canon_make(out);
    pfx_canon_open(&canon, NULL, '{');
    pfx_canon_str(&canon, "args", pfx_buf_bytes(&approval->args));
    pfx_canon_str(&canon, "asker", text_of(approval->asker));
    pfx_canon_open(&canon, "given", '[');
    for (size_t i = 0; i < approval->n_given; i++)
        write_given(&canon, &approval->given[i]);
    pfx_canon_close(&canon, ']');
    pfx_canon_str(&canon, "mode", text_of(approval->by_uid ? "uid" : "ssh"));
    pfx_canon_int(&canon, "needed", approval->needed);
    pfx_canon_str(&canon, "statement", pfx_buf_bytes(&statement));
    pfx_canon_int(&canon, "uid", approval->uid);
    pfx_canon_close(&canon, '}');
    return !out->over;
}

static bool take_owned(const struct pfx_canon_value *value, size_t max, char **field)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(max);
    if (*field || !pfx_canon_unescape(value, &text) || text.len == 0 ||
        memchr(text.data, 0, text.len))
        return false;
    *field = pfx_strndup(pfx_buf_str(&text), text.len);
    return true;
}

static bool given_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                         const struct pfx_canon_value *value)
{
    struct pfx_given *given = ctx;
    if (group.data)
        return false;
    if (pfx_bytes_equal(key, "at"))
        return take_time(value, &given->at_ms);
    if (pfx_bytes_equal(key, "line"))
        return take_owned(value, GIVEN_LINE_MAX, &given->line);
    if (pfx_bytes_equal(key, "principal"))
        return take_str(value, given->principal, sizeof given->principal);
    if (pfx_bytes_equal(key, "signature"))
        return take_owned(value, PFX_SSHSIG_TEXT_MAX, &given->signature);
    if (!pfx_bytes_equal(key, "uid") || value->kind != PFX_CANON_INT || value->number < 0)
        return false;
    given->uid = value->number;
    return true;
}

static bool take_given(void *ctx, const struct pfx_canon_value *value)
{
    struct pfx_approval *approval = ctx;
    struct pfx_error why = PFX_ERROR_NONE;
    if (approval->n_given == PFX_APPROVERS_MOST || value->kind != PFX_CANON_OBJ)
        return false;
    struct pfx_given *given = &approval->given[approval->n_given++];
    *given = (struct pfx_given){.uid = -1};
    return pfx_ok(pfx_canon_scan(value->raw, given_member, given, &why)) && given->principal[0];
}

static bool take_statement(const struct pfx_canon_value *value, struct pfx_statement *ret)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(PFX_STATEMENT_MAX);
    struct pfx_error why = PFX_ERROR_NONE;
    return pfx_canon_unescape(value, &text) &&
           pfx_ok(pfx_statement_parse(pfx_buf_bytes(&text), ret, &why));
}

static bool take_int(const struct pfx_canon_value *value, int64_t most, int64_t *ret)
{
    if (value->kind != PFX_CANON_INT || value->number < 0 || value->number > most)
        return false;
    *ret = value->number;
    return true;
}

static bool record_member(void *ctx, struct pfx_bytes group, struct pfx_bytes key,
                          const struct pfx_canon_value *value)
{
    struct pfx_approval *a = ctx;
    struct pfx_error why = PFX_ERROR_NONE;
    char mode[4];
    int64_t needed;
    if (group.data)
        return false;
    if (pfx_bytes_equal(key, "args"))
        return pfx_canon_unescape(value, &a->args);
    if (pfx_bytes_equal(key, "asker"))
        return take_str(value, a->asker, sizeof a->asker);
    if (pfx_bytes_equal(key, "given"))
        return value->kind == PFX_CANON_ARR &&
               pfx_ok(pfx_canon_elements(value->raw, take_given, a, &why));
    if (pfx_bytes_equal(key, "mode")) {
        bool known = take_str(value, mode, sizeof mode);
        a->by_uid = known && strcmp(mode, "uid") == 0;
        return known && (a->by_uid || strcmp(mode, "ssh") == 0);
    }
    if (pfx_bytes_equal(key, "needed")) {
        bool known = take_int(value, PFX_APPROVERS_MOST, &needed);
        a->needed = known ? (unsigned)needed : 0;
        return known;
    }
    if (pfx_bytes_equal(key, "statement"))
        return take_statement(value, &a->statement);
    return pfx_bytes_equal(key, "uid") && take_int(value, PFX_CANON_INT_MAX, &a->uid);
}

pfx_result pfx_approval_parse(struct pfx_bytes json, struct pfx_approval *ret,
                              struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(PFX_APPROVAL_RECORD_MAX);
    struct pfx_error why = PFX_ERROR_NONE;
    /* Written again it must be the same: so nothing was missing, and nothing else was there. */
    if (json.len > PFX_APPROVAL_RECORD_MAX ||
        pfx_failed(pfx_canon_scan(json, record_member, ret, &why)) ||
        !pfx_approval_write(ret, &again) || again.len != json.len ||
        memcmp(again.data, json.data, json.len) != 0)
        return bad(err, "The record of the approvals isn't one that pfx-hsm writes.");
    return PFX_OK;
}

/* --- the rules --- */

char *pfx_roster_text(const struct pfx_roster_line *line)
{
    char when[PFX_TIME_SIZE];
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(GIVEN_LINE_MAX);
    const char *comma = " ";
    bool ok = pfx_buf_add_str(&text, line->principal);
    if (line->namespaces) {
        ok = ok && pfx_buf_addf(&text, "%snamespaces=\"%s\"", comma, line->namespaces);
        comma = ",";
    }
    const struct {
        const char *name;
        int64_t ms;
    } times[] = {{"valid-after", line->after_ms}, {"valid-before", line->before_ms}};
    for (size_t i = 0; i < 2; i++) {
        if (times[i].ms == 0)
            continue;
        pfx_time_format(times[i].ms, false, when); /* 2026-11-23T08:00:00Z, without its marks */
        ok = ok && pfx_buf_addf(&text, "%s%s=\"%.4s%.2s%.2s%.2s%.2s%.2sZ\"", comma, times[i].name,
                                when, when + 5, when + 8, when + 11, when + 14, when + 17);
        comma = ",";
    }
    ok = ok && pfx_buf_addf(&text, " %s ", pfx_ssh_type_name(line->type)) &&
         pfx_base64_encode(line->key, line->key_len, &text);
    return ok ? pfx_strndup(pfx_buf_str(&text), text.len) : NULL;
}

char *pfx_given_signer(const struct pfx_given *given, char buf[PFX_SIGNER_SIZE])
{
    PFX_CLEANUP(pfx_roster_done) struct pfx_roster roster = {NULL, 0};
    struct pfx_error ignored = PFX_ERROR_NONE;
    char print[PFX_SSH_FINGERPRINT_SIZE];
    buf[0] = '\0';
    if (!given->line || pfx_failed(pfx_roster_parse(text_of(given->line), &roster, &ignored)) ||
        roster.n != 1)
        return buf;
    struct pfx_bytes key = {roster.lines[0].key, roster.lines[0].key_len};
    snprintf(buf, PFX_SIGNER_SIZE, "%s %s", pfx_ssh_type_name(roster.lines[0].type),
             pfx_ssh_fingerprint(key, print));
    return buf;
}

static pfx_result no(struct pfx_error *err, const char *who, const char *code, const char *text)
{
    return pfx_fail(err, PFX_CLASS_REFUSED, "check approval", who, code, "%s", text);
}

/* The signature, by the key of the roster's line that stands beside it. */
static pfx_result signature_check(const struct pfx_approval *approval,
                                  const struct pfx_given *given, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_roster_done) struct pfx_roster roster = {NULL, 0};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(PFX_SSHSIG_MAX);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf statement = pfx_buf_make(PFX_STATEMENT_MAX);
    struct pfx_sshsig sig;
    if (given->uid >= 0 || !given->line || !given->signature)
        return no(err, given->principal, "form", "It has no signature.");
    PFX_TRY(pfx_roster_parse(text_of(given->line), &roster, err));
    PFX_TRY(pfx_sshsig_unarmor(text_of(given->signature), &blob, err));
    PFX_TRY(pfx_sshsig_parse(pfx_buf_bytes(&blob), &sig, err));
    if (roster.n != 1 || strcmp(roster.lines[0].principal, given->principal) != 0 ||
        pfx_roster_find(&roster, sig.key) == NULL)
        return no(err, given->principal, "form",
                  "The roster's line beside it is of another person or another key.");
    PFX_TRY(pfx_roster_allows(&roster.lines[0], PFX_APPROVAL_NAMESPACE, given->at_ms, err));
    if (!pfx_statement_write(&approval->statement, &statement))
        return no(err, given->principal, "form", "There is no statement.");
    return pfx_sshsig_verify(&sig, PFX_APPROVAL_NAMESPACE, pfx_buf_bytes(&statement), err);
}

pfx_result pfx_given_check(const struct pfx_approval *approval, size_t n,
                           const struct pfx_given *given, struct pfx_error *err)
{
    if (given->at_ms > approval->statement.expiry_ms)
        return no(err, given->principal, "expired", "It came after the time that it was good for.");
    if (strcasecmp(given->principal, approval->asker) == 0 ||
        (given->uid >= 0 && given->uid == approval->uid))
        return no(err, given->principal, "self",
                  "Who asked for the command can't approve it, too: somebody else has to.");
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(given->principal, approval->given[i].principal) == 0 ||
            (given->uid >= 0 && given->uid == approval->given[i].uid))
            return no(err, given->principal, "same person",
                      "This person has approved it already: another one has to, and a second key of "
                      "the same person doesn't count.");
    if (!approval->by_uid)
        return signature_check(approval, given, err);
    char name[PFX_PRINCIPAL_SIZE];
    snprintf(name, sizeof name, "uid:%lld", (long long)given->uid);
    if (given->uid < 0 || given->line || given->signature || strcmp(name, given->principal) != 0)
        return no(err, given->principal, "form", "It isn't one of mode uid.");
    return PFX_OK;
}

pfx_result pfx_approval_check(const struct pfx_approval *approval, int64_t at_ms,
                              struct pfx_error *err)
{
    char hash[65];
    PFX_TRY(pfx_approval_args(pfx_buf_bytes(&approval->args), hash, err));
    if (strcmp(hash, approval->statement.args_hash) != 0)
        return no(err, approval->statement.command, "arguments",
                  "The arguments aren't those that were approved.");
    if (at_ms > approval->statement.expiry_ms)
        return no(err, approval->statement.command, "expired",
                  "The approvals were good until their expiry only.");
    if (approval->needed < PFX_APPROVERS_LEAST || approval->n_given < approval->needed)
        return no(err, approval->statement.command, "too few", "There are too few approvals.");
    for (size_t i = 0; i < approval->n_given; i++)
        PFX_TRY(pfx_given_check(approval, i, &approval->given[i], err));
    return PFX_OK;
}
