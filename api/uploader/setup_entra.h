/*
 * `setup entra`: looks whether the app registrations, the groups, Intune and Exchange are ready,
 * and says what mends it. It changes nothing.
 */
#ifndef PFX_UPLOADER_SETUP_ENTRA_H
#define PFX_UPLOADER_SETUP_ENTRA_H

#include "api/uploader/ca.h"

extern const struct pfx_kind pfx_setup_entra_kinds[];

/* --- setup_roles.c: what a token says, and the commands of Azure's CLI; pure --- */

struct pfx_claims { /* of an access token */
    char oid[37];    /* object id of the app's service principal; "" if it isn't there */
    char tenant[37]; /* "" if it isn't there */
    char **roles;    /* n_roles names, cleaned */
    size_t n_roles;
};
/* Reads the payload of a JWT, whose signature isn't ours to check. False: it can't be read; *ret is
 * untouched. */
PFX_MUST_USE bool pfx_claims_read(const struct pfx_secret *token, struct pfx_claims *ret);
void pfx_claims_done(struct pfx_claims *claims); /* usable as cleanup */
bool pfx_claims_have(const struct pfx_claims *claims, const char *role);
/* Could a role do harm in the wrong hands? (It writes, or reads mail or files.) */
bool pfx_role_is_dangerous(const char *role);

struct pfx_setup_app { /* whom a command is about */
    const struct pfx_uploader_conf *conf;
    const char *name;      /* in hsm-policy.yaml */
    const char *client_id; /* "" if it isn't known */
    const char *oid;       /* "" if it isn't known */
};
/* Appends the command that gives the app this application role; nothing where neither id is known
 * or the role isn't one of ours. */
void pfx_setup_grant(const struct pfx_setup_app *app, const char *role, struct pfx_buf *out);
/* The directory role Global Reader. */
void pfx_setup_grant_reader(const struct pfx_setup_app *app, struct pfx_buf *out);
/* What mends a sign-in that was refused with this code ("AADSTS700027"); nothing for another. */
void pfx_setup_sign_in(const struct pfx_setup_app *app, const char *code, struct pfx_buf *out);
/* Lists the roles that the app has. */
void pfx_setup_list_roles(const struct pfx_setup_app *app, struct pfx_buf *out);
/* What has to come before the commands in another cloud than the global one; "" there. */
const char *pfx_setup_cloud(const struct pfx_uploader_conf *conf);

#endif
