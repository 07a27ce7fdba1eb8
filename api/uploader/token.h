/* The access token for Graph: pfx-hsm signs an assertion, Entra gives a token for it. */
#ifndef PFX_UPLOADER_TOKEN_H
#define PFX_UPLOADER_TOKEN_H

#include "api/uploader/broker.h"
#include "api/uploader/task.h"

struct pfx_token;
/* up's services and HTTP engine, and broker, are borrowed and outlive it. */
struct pfx_token *pfx_token_new(struct pfx_up *up, struct pfx_broker *broker);
void pfx_token_free(struct pfx_token *token);
struct pfx_cred *pfx_token_cred(struct pfx_token *token);
/* Sends the request for a token when there is one to send and room for it. */
void pfx_token_step(struct pfx_token *token);

/* An API key: pfx-hsm opens the service secret of this name. */
struct pfx_apikey;
struct pfx_apikey *pfx_apikey_new(struct pfx_broker *broker, const char *secret,
                                  const char *header);
void pfx_apikey_free(struct pfx_apikey *apikey);
struct pfx_cred *pfx_apikey_cred(struct pfx_apikey *apikey);

#endif
