/*
 * Certificates as a CA sends them: bundles in each of their forms, requests, public keys,
 * signatures. The input is the bytes; how many line feeds are at its end says which purpose is
 * asked for, which certificate is looked at, and what the accepted roots are.
 */
#include "crypto/cert.h"
#include "crypto/csr.h"
#include "crypto/key.h"
#include "crypto/pbe.h"
#include "fuzz.h"

#define DAY_MS INT64_C(86400000)

/* Each certificate alone, in DER and in PEM, is read as the same bytes again. */
static void must_come_back(struct pfx_bytes der)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pem = pfx_buf_make(4 * der.len + 200);
    must(pfx_pem_encode("CERTIFICATE", der, &pem));
    const struct pfx_bytes forms[] = {der, pfx_buf_bytes(&pem)};
    for (size_t i = 0; i < 2; i++) {
        PFX_CLEANUP(pfx_certs_freep) struct pfx_certs *again = NULL;
        struct pfx_error err = PFX_ERROR_NONE;
        must(pfx_ok(pfx_certs_parse(forms[i], &again, &err)));
        must(pfx_certs_count(again) == 1 && same(pfx_certs_at(again, 0), der));
    }
}

static void try_order(const struct pfx_certs *certs, size_t leaf)
{
    PFX_CLEANUP(pfx_certs_freep) struct pfx_certs *chain = NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_cert_order_chain(pfx_certs_at(certs, leaf), certs, &chain, &err))) {
        must_say(&err);
        return;
    }
    must(pfx_certs_count(chain) <= pfx_certs_count(certs));
    must(same(pfx_certs_at(chain, 0), pfx_certs_at(certs, leaf)));
    for (size_t i = 1; i < pfx_certs_count(chain); i++) {
        bool known = false;
        must(!same(pfx_certs_at(chain, i), pfx_certs_at(certs, leaf)));
        for (size_t k = 0; k < pfx_certs_count(certs); k++)
            known = known || same(pfx_certs_at(chain, i), pfx_certs_at(certs, k));
        must(known);
    }
}

/* What is asked for is what stands in it, so only purpose, chain and usages may refuse. */
static void try_check(const struct pfx_certs *certs, size_t leaf,
                      const struct pfx_cert_facts *facts, size_t choice)
{
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_certs_freep) struct pfx_certs *none = pfx_certs_new();
    struct pfx_cert_expect expect = {
        .spki = pfx_buf_bytes(&facts->spki),
        .emails = (const char *const *)facts->emails,
        .n_emails = facts->n_emails,
        .purpose = (enum pfx_purpose)(choice % 3),
        .now_ms = facts->not_before_ms + (choice / 3 == 3 ? -DAY_MS / 48 : DAY_MS),
        .max_days = choice % 2 ? 825 : 0,
        .roots = choice / 3 == 1   ? none
                 : choice / 3 == 2 ? NULL
                                   : certs,
    };
    pfx_result r = pfx_cert_check(pfx_certs_at(certs, leaf), certs, &expect, &err);
    if (pfx_failed(r)) {
        must(r.cls == PFX_CLASS_REFUSED && err.code[0]);
        must_say(&err);
        return;
    }
    /* The same with another address, key or day doesn't fit. */
    static const char *const other[] = {"mallory@example.com"};
    struct pfx_cert_expect wrong = expect;
    wrong.emails = other;
    wrong.n_emails = 1;
    if (facts->n_emails != 1 || strcasecmp(facts->emails[0], other[0]) != 0)
        must(pfx_failed(pfx_cert_check(pfx_certs_at(certs, leaf), certs, &wrong, NULL)));
    wrong = expect;
    wrong.spki.len--;
    must(pfx_failed(pfx_cert_check(pfx_certs_at(certs, leaf), certs, &wrong, NULL)));
    wrong = expect;
    wrong.now_ms = facts->not_after_ms;
    must(pfx_failed(pfx_cert_check(pfx_certs_at(certs, leaf), certs, &wrong, NULL)));
}

static void try_bundle(struct pfx_bytes bytes)
{
    PFX_CLEANUP(pfx_certs_freep) struct pfx_certs *certs = NULL;
    struct pfx_error err = PFX_ERROR_NONE;
    if (pfx_failed(pfx_certs_parse(bytes, &certs, &err))) {
        must(err.cls == PFX_CLASS_REFUSED);
        must_say(&err);
        return;
    }
    size_t n = pfx_certs_count(certs);
    must(n > 0 && n <= 32);
    size_t ends = 0;
    while (ends < bytes.len && bytes.data[bytes.len - 1 - ends] == '\n')
        ends++;
    size_t choice = ends % 12;
    size_t i = choice / 3 == 3 ? n - 1 : 0; /* one is enough: signatures take their time */
    struct pfx_cert_facts facts;
    must_come_back(pfx_certs_at(certs, i));
    try_order(certs, i);
    if (pfx_failed(pfx_cert_facts_read(pfx_certs_at(certs, i), &facts, &err))) {
        must_say(&err);
        return;
    }
    must(pfx_utf8_valid(facts.subject, strlen(facts.subject)));
    must(pfx_utf8_valid(facts.issuer, strlen(facts.issuer)));
    must(strspn(facts.serial, "0123456789abcdef") == strlen(facts.serial));
    must(strlen(facts.thumbprint) == 40);
    for (size_t k = 0; k < facts.n_emails; k++)
        must(pfx_ascii_printable(facts.emails[k], strlen(facts.emails[k])));
    size_t index;
    if (pfx_ok(pfx_certs_pick(certs, pfx_buf_bytes(&facts.spki), &index, NULL)))
        must(index == i);
    try_check(certs, i, &facts, choice);
    pfx_cert_facts_done(&facts);
}

static void try_key(struct pfx_bytes spki)
{
    enum pfx_key_type type;
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf any = pfx_buf_make(65536);
    if (pfx_failed(pfx_spki_cng(spki, &any, NULL)))
        must(any.len == 0);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf modulus = pfx_buf_make(1024);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf exponent = pfx_buf_make(1024);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf again = pfx_buf_make(spki.len + 64);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf blob = pfx_buf_make(4096);
    if (pfx_failed(pfx_spki_type(spki, &type, &err))) {
        must_say(&err);
        return;
    }
    must(type < PFX_KEY_TYPE_COUNT);
    bool rsa = pfx_key_type_is_rsa(type);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf tiny = pfx_buf_make(3);
    must(pfx_failed(pfx_spki_rsa_parts(spki, &tiny, &exponent, NULL)) && tiny.len == 0);
    must(pfx_failed(pfx_spki_cng(spki, &tiny, NULL)) && tiny.len == 0 && exponent.len == 0);
    must(rsa == pfx_ok(pfx_spki_rsa_parts(spki, &modulus, &exponent, NULL)));
    must(pfx_spki_pem(spki, &blob));
    pfx_buf_reset(&blob);
    must(rsa == pfx_ok(pfx_spki_cng(spki, &blob, NULL)));
    if (!rsa)
        return;
    must(modulus.len * 8 == pfx_key_type_bits(type));
    /* OpenSSL reads one with even numbers as well; a token's is refused. */
    bool odd = (modulus.data[modulus.len - 1] & 1) && exponent.len > 0 &&
               (exponent.data[exponent.len - 1] & 1);
    bool made =
        pfx_ok(pfx_spki_from_rsa(pfx_buf_bytes(&modulus), pfx_buf_bytes(&exponent), &again, &err));
    must(odd || !made);
    must(made || !odd || exponent.len == 1 || exponent.len > 32); /* an exponent of 1, a long one */
}

static void try_csr(struct pfx_bytes der)
{
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf spki = pfx_buf_make(8192);
    if (pfx_failed(pfx_csr_spki(der, &spki, &err))) {
        must(spki.len == 0);
        must_say(&err);
        return;
    }
    try_key(pfx_buf_bytes(&spki));
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf tiny = pfx_buf_make(3);
    must(!pfx_csr_pem(der, true, &tiny) && tiny.len == 0);
    for (int one_line = 0; one_line < 2; one_line++) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf pem = pfx_buf_make(2 * der.len + 200);
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf back = pfx_buf_make(der.len);
        must(pfx_csr_pem(der, one_line, &pem));
        must(pfx_ok(pfx_csr_from_pem(pfx_buf_str(&pem), &back, &err)));
        must(same(pfx_buf_bytes(&back), der));
        must(pfx_failed(pfx_csr_from_pem(pfx_buf_str(&pem), &tiny, NULL)) && tiny.len == 0);
    }
}

static void try_pem(struct pfx_bytes bytes)
{
    char label[PFX_PEM_LABEL_SIZE];
    size_t pos = 0, before = 0;
    for (;;) {
        PFX_CLEANUP(pfx_buf_done) struct pfx_buf der = pfx_buf_make(bytes.len);
        enum pfx_pem got = pfx_pem_next(bytes, &pos, label, &der);
        if (got == PFX_PEM_NONE)
            return;
        must(pos > before && pos <= bytes.len);
        before = pos;
        must((got == PFX_PEM_BLOCK) == (der.len > 0));
        if (got == PFX_PEM_BLOCK && strcmp(label, "PUBLIC KEY") == 0)
            try_key(pfx_buf_bytes(&der));
    }
}

static void try_rest(struct pfx_bytes bytes)
{
    struct pfx_error err = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(bytes.len + 64);
    if (pfx_failed(pfx_ecdsa_to_der(bytes, &out, &err)))
        must_say(&err);
    must(pfx_der_trim(bytes.data, bytes.len) <= bytes.len);
    PFX_AUTOFREE char *text = text_of(bytes);
    pfx_buf_reset(&out);
    err = (struct pfx_error)PFX_ERROR_NONE;
    if (pfx_failed(pfx_csr_from_pem(text, &out, &err)))
        must_say(&err);
    else
        try_csr(pfx_buf_bytes(&out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfx_bytes bytes = {data, size};
    try_bundle(bytes);
    try_csr(bytes);
    try_key(bytes);
    try_pem(bytes);
    try_rest(bytes);
    return 0;
}
