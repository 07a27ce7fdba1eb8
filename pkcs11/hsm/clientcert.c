/* Client certificates of the app registrations: public, kept beside the pins, compared with the key
 * in the token each time they are read. */
#include <stdio.h>
#include <string.h>

#include "api/conf/process.h"
#include "crypto/encode.h"
#include "pkcs11/hsm/roles.h"

#define MAX_FILE (64 * 1024)

#define DAY_MS (INT64_C(24) * 3600 * 1000)
#define CERTIFICATE_DAYS (3 * 365)
#define CLOCK_SLACK_MS (INT64_C(5) * 60 * 1000) /* Entra's clock may be behind ours */

char *pfx_app_certificate_name(const struct pfx_hsm *hsm, size_t app, unsigned generation)
{
    const char *name = hsm->policy->apps[app].name;
    return generation == 1 ? pfx_asprintf("client-%s.crt", name)
                           : pfx_asprintf("client-%s-%u.crt", name, generation);
}

char *pfx_app_certificate_path(const struct pfx_hsm *hsm, size_t app)
{
    char *name PFX_AUTOFREE =
        pfx_app_certificate_name(hsm, app, hsm->generations[PFX_STANDING_CLIENT + app]);
    return pfx_hsm_path(hsm, name);
}

pfx_result pfx_app_certificate_make(struct pfx_hsm *hsm, size_t app, unsigned generation,
                                    struct pfx_session *session, struct pfx_key *key,
                                    struct pfx_buf *out, struct pfx_error *err)
{
    char *file PFX_AUTOFREE = pfx_app_certificate_name(hsm, app, generation);
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, file);
    char name[65]; /* ub-common-name */
    int64_t now = pfx_now_ms();
    snprintf(name, sizeof name, "pfx-agent %.*s %s",
             (int)(sizeof name - 12 - strnlen(hsm->policy->apps[app].name, 40)),
             hsm->policy->host_id, hsm->policy->apps[app].name);
    PFX_TRY(pfx_client_certificate(session, key, name, now - CLOCK_SLACK_MS,
                                   now + CERTIFICATE_DAYS * DAY_MS, out, err));
    /* Nobody else reads it before its result is under a checkpoint. */
    return pfx_file_replace(path, out->data, out->len, 0600, err);
}

pfx_result pfx_app_certificate_read(struct pfx_hsm *hsm, size_t app, struct pfx_bytes spki,
                                    struct pfx_error *err)
{
    struct pfx_app found = {.pem = NULL}, *entry = &hsm->apps[app];
    PFX_TRY(pfx_app_certificate_load(hsm, app, hsm->generations[PFX_STANDING_CLIENT + app], spki,
                                     &found, err));
    free(entry->pem);
    *entry = found;
    return PFX_OK;
}

pfx_result pfx_app_certificate_load(const struct pfx_hsm *hsm, size_t app, unsigned generation,
                                    struct pfx_bytes spki, struct pfx_app *ret_app,
                                    struct pfx_error *err)
{
    char *file PFX_AUTOFREE = pfx_app_certificate_name(hsm, app, generation);
    char *path PFX_AUTOFREE = pfx_hsm_path(hsm, file);
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
    *ret_app =
        (struct pfx_app){.not_after_ms = facts.not_after_ms, .pem = pfx_strdup(pfx_buf_str(&pem))};
    memcpy(ret_app->x5t_s256, facts.sha256, sizeof ret_app->x5t_s256);
    return PFX_OK;
}
