/* Members of a user's job, checked for what they mean. */
#include "pkcs11/hsm/ask.h"

#include <string.h>
#include <strings.h>

#include "crypto/encode.h"

#define MAX_TICKET_BYTES (64 * 1024)

bool pfx_guid_valid(const char *text)
{
    if (strlen(text) != 36)
        return false;
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !strchr("0123456789abcdefABCDEF", text[i]))
            return false;
    }
    return true;
}

static pfx_result address_check(const char *address, struct pfx_error *err)
{
    size_t len = strlen(address);
    const char *at = strchr(address, '@');
    if (len > 254 || !pfx_ascii_printable(address, len) || !at || at == address || !at[1] ||
        strchr(at + 1, '@') || strpbrk(address, " \"<>,;()[]\\:"))
        return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "addresses", "",
                        "An address isn't printable ASCII of the form name@domain with at most 254 "
                        "characters: correct it in the directory.");
    return PFX_OK;
}

static pfx_result domain_check(const struct pfx_hsm_policy *policy, const char *address,
                               struct pfx_error *err)
{
    const char *domain = strchr(address, '@') + 1;
    for (size_t i = 0; i < policy->n_domains; i++)
        if (strcasecmp(domain, policy->domains[i].domain) == 0)
            return PFX_OK;
    if (policy->n_domains == 0)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "addresses", "",
                    "The domain %s isn't among users.domains of hsm-policy.yaml: correct the "
                    "address in the directory, or add the domain there.",
                    domain);
}

pfx_result pfx_ask_read(const struct pfx_hsm_policy *policy, const struct pfx_msg *body,
                        struct pfx_ask *ret_ask, struct pfx_error *err)
{
    struct pfx_ask ask = {.enrolment = pfx_msg_int(body, "enrolment"),
                          .salt = pfx_msg_blob(body, "salt"),
                          .addresses = pfx_msg_strs(body, "addresses"),
                          .n_addresses = pfx_msg_count(body, "addresses")};
    const char *user = pfx_msg_str(body, "user");
    if (!pfx_guid_valid(user))
        return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "user", "", "It isn't an object id.");
    for (size_t i = 0; i < 36; i++)
        ask.user[i] = (char)(user[i] >= 'A' && user[i] <= 'F' ? user[i] - 'A' + 'a' : user[i]);
    if (!pfx_purpose_parse(pfx_msg_str(body, "purpose"), &ask.purpose))
        return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "purpose", "",
                        "It must be signing, encryption or dual.");
    if (ask.n_addresses == 0)
        return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "addresses", "", "There is none.");
    for (size_t i = 0; i < ask.n_addresses; i++) {
        PFX_TRY(address_check(ask.addresses[i], err));
        if (policy)
            PFX_TRY(domain_check(policy, ask.addresses[i], err));
        for (size_t k = 0; k < i; k++)
            if (strcasecmp(ask.addresses[i], ask.addresses[k]) == 0)
                return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "addresses", "",
                                "The same address stands there twice.");
    }
    *ret_ask = ask;
    return PFX_OK;
}

pfx_result pfx_ask_ticket(const struct pfx_ask *ask, struct pfx_session *users, struct pfx_key *mac,
                          const struct pfx_key_id *id, struct pfx_bytes spki,
                          uint8_t ret_ticket[32], struct pfx_error *err)
{
    struct pfx_ticket ticket = {.user_id = ask->user,
                                .addresses = ask->addresses,
                                .n_addresses = ask->n_addresses,
                                .purpose = ask->purpose,
                                .key_id = {id->bytes, sizeof id->bytes},
                                .spki = spki};
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(MAX_TICKET_BYTES);
    if (ask->salt.len != sizeof ticket.salt)
        return pfx_fail(err, PFX_CLASS_REFUSED, "read job", "salt", "", "It must have 16 bytes.");
    memcpy(ticket.salt, ask->salt.data, sizeof ticket.salt);
    if (!pfx_ticket_bytes(&ticket, &bytes))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "make ticket", "", "", "It is too long.");
    return pfx_key_mac(users, mac, pfx_buf_bytes(&bytes), ret_ticket, err);
}
