/* Client certificates of the app registrations: public, kept beside the pins, compared with the key
 * in the token each time they are read. */
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/roles.h"

#define MAX_FILE (64 * 1024)

char *pfx_app_certificate_path(const struct pfx_hsm *hsm, size_t app)
{
    char *name PFX_AUTOFREE = pfx_asprintf("client-%s.crt", hsm->policy->apps[app].name);
    return pfx_hsm_path(hsm, name);
}

pfx_result pfx_app_certificate_read(struct pfx_hsm *hsm, size_t app, struct pfx_bytes spki,
                                    struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_app_certificate_path(hsm, app);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf pem = pfx_buf_make(MAX_FILE);
    struct pfx_error why = PFX_ERROR_NONE;
    if (pfx_failed(pfx_file_read(path, MAX_FILE, &pem, &why)))
        return pfx_fail(err, PFX_CLASS_REFUSED, "read client certificate", path, why.code,
                        "%s Run pfx-agent init, which makes it, or restore it from a backup.",
                        why.text);
    struct pfx_certs *certs PFX_AUTOCERTS = NULL;
    PFX_TRY(pfx_reclass(pfx_certs_parse(pfx_buf_bytes(&pem), &certs, err), PFX_CLASS_REFUSED,
                        PFX_CLASS_INTEGRITY, err));
    PFX_CLEANUP(pfx_cert_facts_done) struct pfx_cert_facts facts = {0};
    if (pfx_certs_count(certs) != 1)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read client certificate", path, "",
                        "It must hold exactly one certificate.");
    struct pfx_bytes der = pfx_certs_at(certs, 0);
    PFX_TRY(pfx_cert_facts_read(der, &facts, err));
    if (facts.spki.len != spki.len || memcmp(facts.spki.data, spki.data, spki.len) != 0)
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "read client certificate", path, "",
                        "It isn't the certificate of the client key on the service token: restore "
                        "the right one from a backup, or move it away and run pfx-agent init.");
    struct pfx_app *entry = &hsm->apps[app];
    free(entry->pem);
    entry->pem = pfx_strdup(pfx_buf_str(&pem));
    entry->not_after_ms = facts.not_after_ms;
    memcpy(entry->x5t_s256, facts.sha256, sizeof entry->x5t_s256);
    return PFX_OK;
}
