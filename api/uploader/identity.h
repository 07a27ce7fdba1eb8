/*
 * Tokens of a managed identity: an Azure machine's instance metadata service, or the agent of an
 * Azure Arc server. Two fixed addresses, reached without TLS, since both are this machine itself.
 * What depends on nothing but its arguments; the exchange is in token.c.
 */
#ifndef PFX_UPLOADER_IDENTITY_H
#define PFX_UPLOADER_IDENTITY_H

#include "api/uploader/trouble.h"
#include "crypto/secret.h"

#define PFX_IDENTITY_VM "http://169.254.169.254/metadata/identity/oauth2/token"
#define PFX_IDENTITY_ARC "http://127.0.0.1:40342/metadata/identity/oauth2/token"
/* Where the Arc agent puts the files that show that we may read what only its group may. */
#define PFX_IDENTITY_KEYS "/var/opt/azcmagent/tokens"

/* Is it one of the two addresses, with a query? Nothing else may be asked without TLS. */
bool pfx_identity_is_url(const char *url);
/* The request for a token for resource; free() it. sign_in isn't ASSERTION. */
char *pfx_identity_url(const struct pfx_uploader_conf *conf, const char *resource);
/* The name of the file in PFX_IDENTITY_KEYS that a WWW-Authenticate header of the Arc agent points
 * to; free() it. REFUSED unless the file would lie directly there and its name ends in ".key". */
PFX_MUST_USE pfx_result pfx_identity_challenge(const char *header, char **ret_name,
                                               struct pfx_error *err);
/* Reads that file: a regular one, no link, of at most 4,096 bytes that can stand in a header. */
PFX_MUST_USE pfx_result pfx_identity_key(const char *name, struct pfx_secret **ret_key,
                                         struct pfx_error *err);
/* What an answer with this status comes to: TRANSIENT for those that the service wants repeated
 * (404, 410, 429, 5xx), else judged. */
enum pfx_class pfx_identity_class(const struct pfx_answer *answer, enum pfx_class judged);
void pfx_identity_explain(const struct pfx_answer *answer, struct pfx_told *told);

#endif
