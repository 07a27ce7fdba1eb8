#include <stdio.h>
#include <string.h>

#include <openssl/cmp.h>

#include "api/uploader/cmp.h"
#include "api/uploader/text.h"
#include "api/uploader/url.h"

#define SECRET_ADVICE                                                                              \
    "Reference or shared secret differ from those at the CA: check cmp.reference in "              \
    "uploader.yaml, and give the secret again with `pfx-agent secret set cmp`."
#define PROFILE_ADVICE                                                                             \
    "The CA's profile has to take addresses, key usage and emailProtection from the request."

/* PKIFailureInfo of RFC 4210 section 5.2.3. Without advice: the CA's log knows more. */
static const struct word {
    const char *name;
    int bit;
    enum pfx_class cls;
    const char *advice;
} words[] = {
#define ROW(name, cls, advice) {#name, OSSL_CMP_PKIFAILUREINFO_##name, cls, advice}
#define NO(name, advice) ROW(name, PFX_CLASS_REFUSED, advice)
#define NOT_NOW(name) ROW(name, PFX_CLASS_TRANSIENT, "It is tried again.")
#define BEFORE(name, advice) ROW(name, PFX_CLASS_INTEGRITY, advice)
    NO(badMessageCheck, SECRET_ADVICE),
    NO(wrongIntegrity, SECRET_ADVICE),
    NO(signerNotTrusted, SECRET_ADVICE),
    NO(notAuthorized, "The CA doesn't let this reference have such a certificate: allow it there, "
                      "or check cmp.reference in uploader.yaml and `pfx-agent secret set cmp`."),
    NO(badTime, "The clocks of this host and of the CA differ: check both."),
    NO(wrongAuthority, "The request is for another CA: check cmp.recipient and cmp.url in "
                       "uploader.yaml."),
    BEFORE(transactionIdInUse, "The CA still holds the earlier copy of this request: look there "
                               "what became of it, end that transaction, then: pfx-agent enrolment "
                               "retry."),
    BEFORE(duplicateCertReq, "The CA has issued for this key already: find that certificate there, "
                             "and let the CA issue again for a key."),
    NO(unacceptedExtension, PROFILE_ADVICE),
    NO(badCertTemplate, PROFILE_ADVICE),
    NO(badPOP, "The CA has to take the PKCS#10 request's own signature as proof of possession."),
    NO(badAlg, "The CA has to take PasswordBasedMac with SHA-256, and the rule's key type."),
    NO(badRequest, "The CA has to take p10cr requests."),
    NOT_NOW(systemUnavail),
    NOT_NOW(systemFailure),
    NOT_NOW(timeNotAvailable),
    NO(badCertId, NULL),
    NO(badDataFormat, NULL),
    NO(incorrectData, NULL),
    NO(missingTimeStamp, NULL),
    NO(certRevoked, NULL),
    NO(certConfirmed, NULL),
    NO(badRecipientNonce, NULL),
    NO(unacceptedPolicy, NULL),
    NO(addInfoNotAvailable, NULL),
    NO(badSenderNonce, NULL),
    NO(unsupportedVersion, NULL),
};

/* Several bits may stand: the first row of the table counts. */
static const struct word *find(int fail_info)
{
    if (fail_info < 0) /* OpenSSL's word for "none" */
        return NULL;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (fail_info & (1 << words[i].bit))
            return &words[i];
    return NULL;
}

pfx_result pfx_cmp_refusal(const char *op, const char *url, int fail_info, const char *said,
                           struct pfx_error *err)
{
    const struct word *word = find(fail_info);
    char object[160];
    char clean[240];
    pfx_url_show(url, object, sizeof object);
    pfx_text_clean_str(clean, sizeof clean, said);
    size_t len = strlen(clean);
    bool open = len > 0 && !strchr(".!?", clean[len - 1]);
    return pfx_fail(err, word ? word->cls : PFX_CLASS_REFUSED, op, object,
                    word ? word->name : "rejection", "The CA says no%s%s%s %s",
                    len > 0 ? ": " : ".", clean, open ? "." : "",
                    word && word->advice ? word->advice : "Its log says more.");
}
