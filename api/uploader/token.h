/*
 * Access tokens: pfx-hsm signs an assertion and Entra gives a token for it, or the machine's
 * managed identity gives one. One token for each distinct pair of app registration and resource,
 * got when somebody wants it.
 */
#ifndef PFX_UPLOADER_TOKEN_H
#define PFX_UPLOADER_TOKEN_H

#include "api/uploader/broker.h"
#include "api/uploader/task.h"

struct pfx_tokens;
/* up's configuration, services and HTTP engine, and broker, are borrowed and outlive it. */
struct pfx_tokens *pfx_tokens_new(struct pfx_up *up, struct pfx_broker *broker);
void pfx_tokens_free(struct pfx_tokens *tokens);
/* The credential with which app (its name in hsm-policy.yaml) calls the service at url; the
 * resource is url's scheme and host. Equal ones share a credential; a managed identity is one for
 * all apps. */
struct pfx_cred *pfx_tokens_cred(struct pfx_tokens *tokens, const char *app, const char *url);
/* Sends the requests for tokens that there are to send and room for. */
void pfx_tokens_step(struct pfx_tokens *tokens);

/* Of a credential from pfx_tokens_cred: the app's name, and its client id as pfx-hsm named it; ""
 * before the first assertion, and for a managed identity. */
const char *pfx_token_app(const struct pfx_cred *cred);
const char *pfx_token_client_id(const struct pfx_cred *cred);

/* An API key: pfx-hsm opens the service secret of this name. */
struct pfx_apikey;
struct pfx_apikey *pfx_apikey_new(struct pfx_broker *broker, const char *secret,
                                  const char *header);
void pfx_apikey_free(struct pfx_apikey *apikey);
struct pfx_cred *pfx_apikey_cred(struct pfx_apikey *apikey);

#endif
