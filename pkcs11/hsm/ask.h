/* What the jobs about a user have in common: their members' meaning checked, and the ticket. */
#ifndef PFX_HSM_ASK_H
#define PFX_HSM_ASK_H

#include "crypto/ticket.h"
#include "pkcs11/hsm/op.h"

struct pfx_ask { /* borrows from the message */
    int64_t enrolment;
    char user[37]; /* object id, lower case */
    struct pfx_bytes salt;
    const char *const *addresses;
    size_t n_addresses;
    enum pfx_purpose purpose;
};
/* REFUSED for an object id that is no GUID, addresses that aren't ASCII with one '@', doubled ones,
 * those whose domain the policy hasn't, an unknown purpose. policy NULL: any domain. */
PFX_MUST_USE pfx_result pfx_ask_read(const struct pfx_hsm_policy *policy,
                                     const struct pfx_msg *body, struct pfx_ask *ret_ask,
                                     struct pfx_error *err);
bool pfx_guid_valid(const char *text);
/* The ticket of this user and key: HMAC in the users token. */
PFX_MUST_USE pfx_result pfx_ask_ticket(const struct pfx_ask *ask, struct pfx_session *users,
                                       struct pfx_key *mac, const struct pfx_key_id *id,
                                       struct pfx_bytes spki, uint8_t ret_ticket[32],
                                       struct pfx_error *err);

#endif
