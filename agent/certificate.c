#include "agent/certificate.h"

#include <stdio.h>

#include "agent/note.h"
#include "agent/timing.h"
#include "crypto/cert.h"

struct taking {
    struct pfx_agent *agent;
    const struct pfx_enrolment *e;
    const struct pfx_msg *body;
    int64_t now_ms;
    char *note;
    size_t size;
    struct pfx_error *bad;
};

/* A CA may round and cut, so the length is compared with room for that: a twelfth, two days at
 * least. */
static void check_validity(struct taking *t, const struct pfx_cert_facts *facts)
{
    int64_t ordered = t->e->years ? t->e->years * 365 : t->e->days;
    int64_t got = (facts->not_after_ms - facts->not_before_ms) / PFX_DAY;
    int64_t room = ordered / 12 > 2 ? ordered / 12 : 2;
    if (got < ordered - room || got > ordered + room) {
        pfx_result r = pfx_fail(t->bad, PFX_CLASS_REFUSED, "check certificate", facts->subject,
                                "validity", "it is valid for %lld days, and %lld were ordered",
                                (long long)got, (long long)ordered);
        (void)r;
    }
}

static pfx_result keep_certificate(struct taking *t, const struct pfx_cert_facts *facts,
                                   struct pfx_error *err)
{
    struct pfx_buf chain PFX_CLEANUP(pfx_buf_done) = pfx_buf_make((size_t)1 << 20);
    for (size_t i = 0; i < pfx_msg_count(t->body, "chain"); i++)
        pfx_chain_add(&chain, pfx_msg_blob_at(t->body, "chain", i));
    char hex[33];
    size_t n = 0;
    for (const char *p = t->e->user; *p && n < 32; p++)
        if (*p != '-')
            hex[n++] = *p;
    hex[n] = '\0';
    char *record PFX_AUTOFREE = pfx_asprintf("%s-%s", hex, facts->thumbprint);
    snprintf(t->note, t->size, "certificate %s", facts->thumbprint);
    PFX_TRY(pfx_note_certificate(t->agent->store, t->e, pfx_msg_blob(t->body, "leaf"),
                                 facts->thumbprint, t->now_ms, err));
    return pfx_db_exec(t->agent->store->db, err, NULL,
                       "UPDATE enrolment SET cert = ?, chain = ?, thumbprint = ?, starts = ?,"
                       " expires = ?, record_id = ? WHERE id = ?",
                       PFX_PARAMS(P_BLOB(pfx_msg_blob(t->body, "leaf")),
                                  P_BLOB(pfx_buf_bytes(&chain)), P_TEXT(facts->thumbprint),
                                  P_INT(facts->not_before_ms), P_INT(facts->not_after_ms),
                                  P_TEXT(record), P_INT(t->e->id)));
}

pfx_result pfx_certificate_take(struct pfx_agent *agent, const struct pfx_enrolment *e,
                                const struct pfx_msg *body, int64_t now_ms, char *note, size_t size,
                                struct pfx_error *bad, struct pfx_error *err)
{
    struct taking taking = {agent, e, body, now_ms, note, size, bad}, *t = &taking;
    struct pfx_bytes leaf = pfx_msg_blob(t->body, "leaf");
    PFX_AUTOSTRINGS struct pfx_strings emails = {0};
    enum pfx_purpose purpose;
    if (!pfx_strings_parse(t->e->addresses, &emails) ||
        !pfx_purpose_parse(t->e->purpose, &purpose)) {
        pfx_result r = pfx_fail(t->bad, PFX_CLASS_INTEGRITY, "check certificate", t->e->user, "",
                                "its row in the store is damaged; restore the store from a backup");
        (void)r;
        return PFX_OK;
    }
    PFX_AUTOCERTS struct pfx_certs *chain = pfx_certs_new();
    for (size_t i = 0; i < pfx_msg_count(t->body, "chain"); i++)
        if (pfx_failed(pfx_certs_add(chain, pfx_msg_blob_at(t->body, "chain", i), t->bad)))
            return PFX_OK;
    struct pfx_cert_expect expect = {
        .spki = pfx_buf_bytes(&t->e->spki),
        .emails = (const char *const *)emails.v,
        .n_emails = emails.n,
        .purpose = purpose,
        .now_ms = t->now_ms,
        .roots = NULL, /* pfx-hsm has the roots and checks the chain */
    };
    struct pfx_cert_facts facts PFX_CLEANUP(pfx_cert_facts_done) = {0};
    if (pfx_failed(pfx_cert_check(leaf, chain, &expect, t->bad)) ||
        pfx_failed(pfx_cert_facts_read(leaf, &facts, t->bad)))
        return PFX_OK;
    check_validity(t, &facts);
    return t->bad->cls == PFX_CLASS_OK ? keep_certificate(t, &facts, err) : PFX_OK;
}
